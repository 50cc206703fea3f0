//! The balancers by themselves, on candidates that are listed by hand.

use super::*;

/// A balancer, and its candidates as it was told of them.
struct Bench {
    balancer: Box<dyn Balancer>,
    all: Vec<Option<Candidate>>,
    turn: u64,
}

impl Bench {
    fn new(policy: BalancePolicy, slots: u32) -> Self {
        let mut bench = Self { balancer: balancer(policy, 7), all: Vec::new(), turn: 0 };
        for slot in 0..slots {
            bench.all.push(None);
            bench.set(slot, Some(Candidate { slot, in_flight: 0, free: true, turn: 0 }));
        }
        bench
    }

    fn set(&mut self, slot: u32, now: Option<Candidate>) {
        let before = std::mem::replace(&mut self.all[slot as usize], now);
        self.balancer.change(before.as_ref(), now.as_ref());
    }

    fn change(&mut self, slot: u32, change: impl FnOnce(&mut Candidate)) {
        let mut now = self.all[slot as usize].expect("it is a candidate");
        change(&mut now);
        self.set(slot, Some(now));
    }

    fn choose(&mut self, key: u64) -> Option<u32> {
        self.balancer.choose(NonZeroU64::new(key), &mut |_| true)
    }

    /// Chooses and dispatches.
    fn send(&mut self, key: u64) -> Option<u32> {
        let slot = self.choose(key)?;
        self.turn += 1;
        let turn = self.turn;
        self.change(slot, |it| (it.in_flight, it.turn) = (it.in_flight + 1, turn));
        Some(slot)
    }

    fn answer(&mut self, slot: u32, took: Duration, now: Time) {
        self.change(slot, |it| it.in_flight -= 1);
        self.balancer.ended(slot, took, true, now);
    }
}

fn at(ms: u64) -> Time {
    Time::ZERO + Duration::from_millis(ms)
}

const ALL: [BalancePolicy; 5] = [
    BalancePolicy::LeastBusy,
    BalancePolicy::RoundRobin,
    BalancePolicy::Random,
    BalancePolicy::PeakEwma,
    BalancePolicy::Hash,
];

#[test]
fn every_balancer_chooses_only_what_is_free_and_allowed() {
    for policy in ALL {
        let mut bench = Bench::new(policy, 4);
        bench.change(0, |it| it.free = false);
        bench.set(1, None);
        for key in 0..50 {
            let slot = bench.choose(key).expect("two are free");
            assert!([2, 3].contains(&slot), "{policy:?} chose {slot}");
            let other = bench.balancer.choose(NonZeroU64::new(key), &mut |it| it != slot);
            assert_eq!(other, Some(5 - slot), "{policy:?}");
            assert_eq!(bench.balancer.choose(NonZeroU64::new(key), &mut |_| false), None);
        }
        (2..4).for_each(|slot| bench.set(slot, None));
        assert_eq!(bench.choose(1), None);
        bench.set(1, Some(Candidate { slot: 1, in_flight: 3, free: true, turn: 9 }));
        assert_eq!(bench.choose(1), Some(1), "{policy:?}");
    }
}

#[test]
fn least_busy_comes_first_and_ties_rotate() {
    let mut bench = Bench::new(BalancePolicy::LeastBusy, 3);
    let sent: Vec<_> = (0..6).filter_map(|_| bench.send(0)).collect();
    assert_eq!(sent, [0, 1, 2, 0, 1, 2]);
    bench.change(1, |it| it.in_flight -= 1);
    assert_eq!([bench.send(0), bench.send(0)], [Some(1), Some(0)]);
}

#[test]
fn round_robin_takes_turns_however_busy() {
    let mut bench = Bench::new(BalancePolicy::RoundRobin, 3);
    let sent: Vec<_> = (0..3).filter_map(|_| bench.send(0)).collect();
    assert_eq!(sent, [0, 1, 2]);
    bench.change(0, |it| it.in_flight = 40);
    bench.change(1, |it| it.free = false);
    let sent: Vec<_> = (0..4).filter_map(|_| bench.send(0)).collect();
    assert_eq!(sent, [0, 2, 0, 2]);
    bench.change(1, |it| it.free = true);
    assert_eq!(bench.send(0), Some(1), "its turn is overdue");
}

#[test]
fn random_gives_each_the_same_chance_also_where_some_are_not_allowed() {
    let mut bench = Bench::new(BalancePolicy::Random, 8);
    bench.set(2, None);
    bench.set(7, None);
    let (mut any, mut odd) = ([0.0; 8], [0.0; 8]);
    for _ in 0..12_000 {
        any[bench.choose(0).unwrap() as usize] += 1.0;
        let allowed = &mut |slot: u32| slot % 2 == 1;
        odd[bench.balancer.choose(None, allowed).unwrap() as usize] += 1.0;
    }
    let chi = |counts: &[f64], slots: &[usize], expected: f64| -> f64 {
        slots.iter().map(|slot| (counts[*slot] - expected).powi(2) / expected).sum()
    };
    // Five and two degrees of freedom: these are passed by one in a thousand.
    assert!(chi(&any, &[0, 1, 3, 4, 5, 6], 2_000.0) < 20.5, "{any:?}");
    assert!(chi(&odd, &[1, 3, 5], 4_000.0) < 13.8, "{odd:?}");
}

#[test]
fn one_that_is_eased_in_saves_up_no_more_than_two() {
    let mut ramps = Ramps::default();
    ramps.begin(3, Duration::from_secs(100), 0, at(0));
    assert!(ramps.has_share(3, 0, 4, at(0)), "it begins with one");
    assert!(ramps.has_share(7, 0, 4, at(0)), "others are not concerned");
    ramps.spend(3);
    assert!(!ramps.has_share(3, 0, 4, at(0)));
    let taken = (0..10).take_while(|_| {
        ramps.has_share(3, 1_000, 4, at(50_000)) && {
            ramps.spend(3);
            true
        }
    });
    assert_eq!(taken.count(), 2, "it could have had an eighth of a thousand, and did not take it");
    assert!(!ramps.are_over(at(99_999)));
    assert!(ramps.has_share(3, 1_000, 4, at(100_000)) && ramps.are_over(at(100_000)));
}

#[test]
fn peak_ewma_follows_a_peak_at_once_and_forgets_it_slowly() {
    let mut bench = Bench::new(BalancePolicy::PeakEwma, 2);
    let ms = Duration::from_millis;
    assert_eq!([bench.send(0), bench.send(0)], [Some(0), Some(1)], "each is tried once");
    bench.answer(0, ms(100), at(100));
    bench.answer(1, ms(100), at(100));
    for _ in 0..2 {
        bench.send(0);
    }
    bench.answer(0, ms(2_000), at(2_100));
    bench.answer(1, ms(100), at(2_100));
    // 2 s against 0.1 s: slot 1 until it has twenty.
    let sent: Vec<_> = (0..22).filter_map(|_| bench.send(0)).collect();
    assert_eq!(sent[..19], [1; 19]);
    assert_eq!(sent.iter().filter(|slot| **slot == 0).count(), 1, "{sent:?}");
    bench.change(0, |it| it.in_flight = 0);
    (0..21).for_each(|_| bench.answer(1, ms(100), at(2_200)));
    // Slot 1 answers every second, slot 0 decays by a factor of e each ten seconds: after thirty it is below.
    let mut first = None;
    for second in 3..60 {
        let slot = bench.send(0).unwrap();
        bench.answer(slot, ms(100), at(second * 1_000));
        if slot == 0 {
            first = Some(second);
            break;
        }
    }
    assert!((28..36).contains(&first.unwrap()), "{first:?}");
}

#[test]
fn peak_ewma_waits_for_the_first_answer_of_one_that_is_new() {
    let mut bench = Bench::new(BalancePolicy::PeakEwma, 2);
    bench.send(0);
    bench.answer(0, Duration::from_secs(5), at(5_000));
    assert_eq!(bench.send(0), Some(1), "not measured and idle");
    let sent: Vec<_> = (0..5).filter_map(|_| bench.send(0)).collect();
    assert_eq!(sent, [0; 5], "however slow the other is");
    bench.balancer.ended(1, Duration::from_millis(1), false, at(6_000));
    assert_eq!(bench.choose(0), Some(0), "no answer is no measure");
    bench.answer(1, Duration::from_millis(10), at(6_000));
    assert_eq!(bench.choose(0), Some(1));
    bench.balancer.ended(1, Duration::from_secs(60), false, at(7_000));
    assert_eq!(bench.choose(0), Some(0), "an attempt that came to nothing took at least so long");
}

/// The home of each of a thousand keys.
fn homes(bench: &mut Bench) -> Vec<u32> {
    (1..=1_000).filter_map(|key| bench.choose(key * 7_919)).collect()
}

#[test]
fn when_an_instance_leaves_only_its_share_moves_and_it_comes_back() {
    let mut bench = Bench::new(BalancePolicy::Hash, 10);
    let before = homes(&mut bench);
    for slot in 0..10 {
        let share = before.iter().filter(|home| **home == slot).count();
        assert!((65..135).contains(&share), "slot {slot} has {share} of 1000 keys");
    }
    let gone = bench.all[3];
    bench.set(3, None);
    let without = homes(&mut bench);
    let moved: Vec<_> = before.iter().zip(&without).filter(|(from, to)| from != to).collect();
    assert!(moved.iter().all(|(from, _)| **from == 3));
    assert_eq!(moved.len(), before.iter().filter(|home| **home == 3).count());
    for slot in (0..10).filter(|slot| *slot != 3) {
        let taken = moved.iter().filter(|(_, to)| **to == slot).count();
        assert!(taken > 0 && taken < 30, "slot {slot} took over {taken} of {}", moved.len());
    }
    bench.set(3, gone);
    assert_eq!(homes(&mut bench), before);
}

#[test]
fn a_key_stays_while_its_instance_is_within_the_bound_and_goes_on_to_its_next_choice() {
    let mut bench = Bench::new(BalancePolicy::Hash, 4);
    let home = bench.choose(42).unwrap();
    let next = bench.balancer.choose(NonZeroU64::new(42), &mut |slot| slot != home).unwrap();
    // 8 in flight, 4 instances: the bound is 1.25 * 9 / 4, rounded up: 3.
    for slot in 0..4 {
        bench.change(slot, |it| it.in_flight = 2);
    }
    assert_eq!(bench.send(42), Some(home), "two are below three");
    assert_eq!(bench.send(42), Some(home), "1.25 * 10 / 4 is above three: three are below four");
    assert_eq!(bench.send(42), Some(next), "1.25 * 11 / 4 is not above four");
}

#[test]
fn one_hot_key_overloads_nobody() {
    let mut bench = Bench::new(BalancePolicy::Hash, 10);
    for sent in 1..=1_000_u64 {
        let slot = bench.send(42).unwrap();
        let load = u64::from(bench.all[slot as usize].unwrap().in_flight);
        assert!(load <= (5 * sent).div_ceil(40), "{load} of {sent}");
    }
    let others =
        (1..=100).map(|key| bench.choose(key * 7_919).unwrap()).collect::<std::collections::BTreeSet<_>>();
    assert!(others.len() > 1);
}

#[test]
fn without_a_key_or_beyond_the_bound_a_request_still_goes_somewhere() {
    let mut bench = Bench::new(BalancePolicy::Hash, 3);
    bench.change(0, |it| it.in_flight = 2);
    bench.change(1, |it| it.in_flight = 1);
    bench.change(2, |it| it.turn = 99);
    assert_eq!(bench.choose(0), Some(2), "the least busy, whenever its last turn was");
    bench.change(1, |it| it.free = false);
    bench.change(2, |it| it.free = false);
    for key in 0..20 {
        assert_eq!(bench.choose(key), Some(0), "its two are more than 1.25 * 4 / 3, but it is the only one");
    }
}
