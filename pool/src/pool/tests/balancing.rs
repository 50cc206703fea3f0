//! Which free instance gets a request.

use std::num::NonZeroU64;

use super::*;
use crate::balance::{Balancer, Candidate};
use crate::config::BalancePolicy;

fn balanced(balance: BalancePolicy, concurrency: u32) -> PoolConfig {
    PoolConfig { balance, concurrency, probe_interval: ms(1_000_000_000), ..PoolConfig::default() }
}

fn key(key: u64) -> Class {
    Class { affinity: NonZeroU64::new(key), ..Class::default() }
}

impl Story {
    /// Where a request went at once.
    fn sent(&mut self, request: u64, class: Class) -> u32 {
        dispatched(&self.arrive_as(request, class))[0].1
    }
}

#[test]
fn a_key_finds_its_instance_again_and_returns_after_a_restart() {
    let mut story = Story::ready(4, balanced(BalancePolicy::Hash, 0));
    let home = story.sent(1, key(42));
    story.finish(1, Outcome::Answered);
    story.pass(ms(10_000));
    assert_eq!(story.sent(2, key(42)), home);
    story.finish(2, Outcome::Answered);
    story.exit(story.id(home), killed());
    let stand_in = story.sent(3, key(42));
    assert_ne!(stand_in, home);
    story.finish(3, Outcome::Answered);
    story.start_all();
    assert_eq!(story.sent(4, key(42)), home, "the next incarnation has the slot and its share");
}

#[test]
fn a_free_slot_takes_whoever_waits_whatever_its_key() {
    let mut story = Story::ready(3, balanced(BalancePolicy::Hash, 1));
    (1..=3).for_each(|n| drop(story.arrive_as(n, key(42))));
    assert_eq!(story.pool.in_flight(), 3, "one on its first choice, the others where there is room");
    (4..=6).for_each(|n| assert_eq!(story.arrive_as(n, key(42)), []));
    for n in 1..=3 {
        assert_eq!(dispatched(&story.finish(n, Outcome::Answered)).len(), 1);
    }
}

#[test]
fn a_lost_request_goes_where_life_was_shown_whatever_its_key() {
    for balance in
        [BalancePolicy::Hash, BalancePolicy::Random, BalancePolicy::RoundRobin, BalancePolicy::PeakEwma]
    {
        let mut story = Story::ready(4, balanced(balance, 1));
        let first = story.sent(1, key(42));
        story.pass(ms(1));
        assert_eq!(dispatched(&story.finish(1, lost(true))), []);
        let alive = (first + 1) % 4;
        assert_eq!(dispatched(&story.probed(story.id(alive), Health::Ready)), [(1, alive)], "{balance:?}");
    }
}

#[test]
fn a_slow_instance_gets_less_than_a_fast_one_by_peak_ewma() {
    let mut story = Story::ready(2, balanced(BalancePolicy::PeakEwma, 0));
    let mut sent = [0, 0];
    let mut flying: Vec<(Time, u64)> = Vec::new();
    for n in 0..2_000 {
        story.pass(ms(2));
        let (done, still) = flying.into_iter().partition(|(at, _)| *at <= story.now);
        flying = still;
        let done: Vec<_> = done;
        done.iter().for_each(|(_, request)| drop(story.finish(*request, Outcome::Answered)));
        let slot = story.sent(n, Class::default());
        sent[slot as usize] += 1;
        flying.push((story.now + ms([50, 500][slot as usize]), n));
    }
    assert!(
        sent[1] > 9 && sent[0] > 20 * sent[1],
        "{sent:?}: one answers ten times as fast and bears ten times as many"
    );
}

/// The highest slot; then none at all; then one that there is not.
struct Contrary(u32);

impl Balancer for Contrary {
    fn name(&self) -> &'static str {
        "contrary"
    }

    fn change(&mut self, _before: Option<&Candidate>, _after: Option<&Candidate>) {}

    fn choose(&mut self, _key: Option<NonZeroU64>, allowed: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        self.0 += 1;
        match self.0 {
            1 => (0..3).rev().find(|slot| allowed(*slot)),
            2 => None,
            _ => Some(99),
        }
    }
}

#[test]
fn a_balancer_of_ones_own_is_asked_and_never_keeps_a_request_waiting() {
    let mut story = Story::ready(3, balanced(BalancePolicy::LeastBusy, 1));
    story.pool.set_balancer(Box::new(Contrary(0)), story.now);
    let sent: Vec<u32> = (0..3).map(|n| story.sent(n, Class::default())).collect();
    assert_eq!(sent, [2, 0, 1]);
    assert_eq!(story.arrive(3), []);
    story.finish(1, lost(false));
    assert_eq!(dispatched(&story.finish(0, Outcome::Answered)), [(1, 2)], "a replay finds its place too");
    assert_eq!(dispatched(&story.finish(1, Outcome::Answered)), [(3, 2)]);
    assert_eq!(story.arrive(4), []);
    let config = Arc::new(PoolConfig { concurrency: 2, ..balanced(BalancePolicy::RoundRobin, 2) });
    let asked = story.event(Event::ConfigChanged { config, roll: false });
    assert_eq!(dispatched(&asked), [(4, 1)], "the one whose turn is the longest ago");
}

#[test]
fn a_newly_ready_instance_gets_its_share_little_by_little() {
    for balance in [BalancePolicy::LeastBusy, BalancePolicy::RoundRobin, BalancePolicy::Random] {
        let config = PoolConfig { slow_start: ms(100_000), ..balanced(balance, 0) };
        let mut story = Story::ready(3, config);
        story.pass(ms(100_000));
        story.event(Event::SizeSet { size: 4 });
        story.start_all();
        let mut shares = Vec::new();
        let mut request = 0;
        for _quarter in 0..5 {
            let mut newcomer = 0;
            for _ in 0..1_000 {
                story.pass(ms(25));
                request += 1;
                newcomer += u32::from(story.sent(request, Class::default()) == 3);
                story.finish(request, Outcome::Answered);
            }
            shares.push(newcomer);
        }
        // An eighth, three eighths, five and seven of its share; its share is a fourth, more or less by chance.
        for (share, expected) in shares.iter().zip([31, 94, 156, 219, 250]) {
            let slack = if balance == BalancePolicy::Random { 60 } else { 15 };
            assert!(share.abs_diff(expected) <= slack, "{balance:?}: {shares:?}");
        }
    }
}

#[test]
fn one_that_is_eased_in_saves_up_no_share_of_what_it_could_not_have_had() {
    let config = PoolConfig { slow_start: ms(100_000), ..balanced(BalancePolicy::RoundRobin, 0) };
    let mut story = Story::ready(2, config);
    story.pass(ms(100_000));
    story.event(Event::SizeSet { size: 3 });
    story.start_all();
    let sent = |story: &mut Story, requests: std::ops::Range<u64>| -> Vec<u64> {
        requests.filter(|n| story.sent(*n, Class::default()) == 2).collect()
    };
    let first = sent(&mut story, 0..9);
    assert_eq!(first.len(), 1, "it begins with one");
    story.pass(ms(40_000));
    story.finish(first[0], Outcome::Abandoned { broken: true });
    assert_eq!(story.state(2), StateView::Suspect);
    assert_eq!(sent(&mut story, 100..200), []);
    while story.state(2) == StateView::Suspect {
        story.probed(story.id(2), Health::Ready);
    }
    assert_eq!(sent(&mut story, 200..202), [], "the hundred were not for it");
}

#[test]
fn the_slots_of_a_newly_ready_instance_open_one_by_one() {
    let config = PoolConfig { slow_start: ms(4_000), ..balanced(BalancePolicy::LeastBusy, 4) };
    let mut story = Story::new(1, config);
    (0..6).for_each(|n| drop(story.arrive(n)));
    assert_eq!(dispatched(&story.start_all()), [(0, 0)], "one at least");
    assert_eq!(dispatched(&story.pass(ms(1_999))), []);
    assert_eq!(dispatched(&story.pass(ms(1))), [(1, 0)]);
    assert_eq!(dispatched(&story.finish(0, Outcome::Answered)), [(2, 0)], "each is used as before");
    assert_eq!(dispatched(&story.pass(ms(1_000))), [(3, 0)]);
    assert_eq!(dispatched(&story.pass(ms(1_000))), [(4, 0)]);
    assert_eq!(dispatched(&story.pass(ms(100_000))), [], "four is the limit");
}
