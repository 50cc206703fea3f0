//! What the model makes of traffic.

use super::*;
use crate::simulate::Job;

fn answered(service: Duration) -> Job {
    Job { arrival: Time::ZERO, service, client: 0 }
}

fn at(seconds: f64) -> Time {
    Time::ZERO + Duration::from_secs_f64(seconds)
}

/// So many arrivals in each second, evenly; each answered after half a second; a start takes so long.
fn traffic(per_second: impl Fn(u32) -> u32, seconds: u32, start: u64) -> (Traffic, Time) {
    let mut traffic = Traffic::new(Time::ZERO);
    traffic.note_start(Duration::from_secs(start));
    for second in 0..seconds {
        for _ in 0..per_second(second) {
            traffic.note_arrival(at(f64::from(second) + 0.5));
            traffic.note_answer(answered(Duration::from_millis(500)));
        }
    }
    let now = at(f64::from(seconds));
    traffic.note_level(1, at(0.5));
    traffic.look(Vec::new(), 0.0, now);
    (traffic, now)
}

fn demand(per_second: impl Fn(u32) -> u32, seconds: u32, start: u32) -> Demand {
    Demand::measure(&traffic(per_second, seconds, start.into()).0, 0.5, start.into())
}

#[test]
fn a_steady_rate_is_measured_over_the_longest_window() {
    let demand = demand(|_| 10, 400, 5);
    assert_eq!(demand, Demand { rate: 10.0, over: 320.0, burstiness: 1.0, usual: 10.0, rising: false });
}

#[test]
fn a_step_shortens_the_window_and_is_not_taken_for_a_trend() {
    let demand = demand(|second| if second < 375 { 10 } else { 40 }, 400, 5);
    assert_eq!((demand.rate, demand.over, demand.rising), (40.0, 20.0, false));
}

#[test]
fn a_rise_is_foreseen() {
    let demand = demand(|second| 20 + second / 4, 200, 60);
    // 70 a second at the end, one more every four seconds: 85 when a start is done.
    assert!(demand.rising && (84.0..86.0).contains(&demand.rate), "{demand:?}");
}

#[test]
fn bursts_are_told_from_even_arrivals() {
    let demand = demand(|second| if second % 10 == 0 { 100 } else { 0 }, 320, 5);
    assert_eq!(demand.burstiness, 10.0);
}

fn size(per_second: impl Fn(u32) -> u32, start: u64, load: Load) -> (u32, Recommendation) {
    let (traffic, now) = traffic(per_second, 400, start);
    let load = Load { concurrency: 1, ..load };
    let said = Wait::default().recommend(&load, &traffic, now);
    (said.size, said)
}

#[test]
fn the_margin_is_that_of_a_queue_not_a_fixed_share() {
    let load = |rate: usize| Load { in_flight: rate / 2, ready: rate as u32, ..Load::default() };
    let (small, _) = size(|_| 4, 5, load(4));
    let (large, said) = size(|_| 100, 5, load(100));
    // Loads of 2 and 50 instances: the larger one needs a smaller share beyond that.
    assert!((3..=4).contains(&small), "{small}");
    assert!((46..=62).contains(&large), "{large}");
    assert!(said.reason.starts_with("100.000 requests/s of 0.500 s each"), "{}", said.reason);
    assert!(said.inputs.contains(&("burstiness", 1.0)), "{said:?}");
}

#[test]
fn what_is_started_already_is_not_wanted_again() {
    let (mut traffic, now) = traffic(|_| 10, 400, 60);
    let backlog = |starting: u32| Load {
        queue: 120,
        in_flight: 5,
        ready: 5,
        starting,
        concurrency: 1,
        ..Load::default()
    };
    let alone = Wait::default().recommend(&backlog(0), &traffic, now).size;
    traffic.look(vec![now - Duration::from_secs(59); 10], 0.0, now);
    let coming = Wait::default().recommend(&backlog(10), &traffic, now).size;
    assert!(coming < alone, "{coming} {alone}");
}

#[test]
fn without_requests_nothing_is_wanted_and_with_one_at_least_one() {
    let mut traffic = Traffic::new(Time::ZERO);
    let idle = Load { concurrency: 1, ..Load::default() };
    for concurrency in [0, 1, 8] {
        let idle = Load { concurrency, ..idle };
        assert_eq!(Wait::default().recommend(&idle, &traffic, at(5.0)).size, 0, "{concurrency}");
    }
    traffic.note_level(1, at(5.0));
    let one = Load { queue: 1, ..idle };
    assert_eq!(Wait::default().recommend(&one, &traffic, at(5.0)).size, 1);
}

#[test]
fn more_at_once_per_instance_needs_fewer_instances() {
    let (traffic, now) = traffic(|_| 100, 400, 5);
    let load = Load { in_flight: 50, ready: 60, concurrency: 8, ..Load::default() };
    assert!((6..=7).contains(&Wait::default().recommend(&load, &traffic, now).size));
    let unlimited = Load { concurrency: 0, ..load };
    assert_eq!(Wait::default().recommend(&unlimited, &traffic, now).size, 1);
}

#[test]
fn an_unknown_service_time_is_judged_by_those_at_work() {
    let policy = Wait::default();
    let mut traffic = Traffic::new(Time::ZERO);
    assert_eq!(policy.service(&traffic), (0.5, 1.0));
    traffic.look(Vec::new(), 40.0, at(20.0));
    assert_eq!(policy.service(&traffic), (40.0, 1.0));
    traffic.note_answer(answered(Duration::from_secs(2)));
    assert_eq!(policy.service(&traffic), (42.0, 1.0));
    (0..30).for_each(|_| traffic.note_answer(answered(Duration::from_secs(2))));
    assert_eq!(policy.service(&traffic), (2.0, 0.0));
}

#[test]
fn too_many_late_shrink_the_margin_and_few_restore_it() {
    let mut traffic = Traffic::new(Time::ZERO);
    traffic.call_late(Some(Duration::from_secs(1)));
    let mut caution = Caution::default();
    caution.look(0.05, &traffic, at(0.0));
    for n in 0..100 {
        traffic.note_dispatch(Duration::from_secs(if n < 10 { 2 } else { 0 }), at(1.0));
    }
    caution.look(0.05, &traffic, at(1.0));
    assert!(caution.missing && (caution.part - 0.99).abs() < 1e-12, "{caution:?}");
    caution.look(0.05, &traffic, at(900.0));
    assert_eq!(caution.part, 0.05);
    (0..1_000).for_each(|_| traffic.note_dispatch(Duration::ZERO, at(900.0)));
    caution.look(0.05, &traffic, at(901.0));
    assert!(!caution.missing && (caution.part - 0.0505).abs() < 1e-12, "{caution:?}");
}

#[test]
fn a_start_that_takes_longer_than_believed_is_expected_to_take_longer_still() {
    let policy = Wait::default();
    assert_eq!([0.0, 5.0, 6.0, 30.0].map(|oldest| policy.unknown_start(oldest)), [5.0, 5.0, 7.0, 55.0]);
    // A queue that grows behind a start of unknown length is not served any moment: it is more than its load of 5.
    let mut traffic = Traffic::new(Time::ZERO);
    (0..400).for_each(|n| traffic.note_arrival(at(f64::from(n) / 10.0)));
    traffic.look(vec![Time::ZERO], 0.0, at(40.0));
    let load = Load { queue: 400, starting: 1, concurrency: 1, ..Load::default() };
    let said = policy.clone().recommend(&load, &traffic, at(40.0));
    assert!(said.size > 20 && said.inputs.contains(&("start_time", 75.0)), "{said:?}");
}

#[test]
fn what_waits_for_sure_is_worked_off_and_what_a_spike_may_bring_is_not() {
    // Ten a second of half a second each, and 300 that wait already; a start takes a minute.
    let (steady, now) = traffic(|_| 10, 400, 60);
    let backlog = Load { queue: 300, in_flight: 5, ready: 5, concurrency: 1, ..Load::default() };
    let none = Load { queue: 0, ..backlog };
    let size = |load: &Load, traffic: &Traffic| Wait::default().recommend(load, traffic, now).size;
    // 150 s of work beyond what the five do, in a quarter of the time of a start: ten more.
    let (with, without) = (size(&backlog, &steady), size(&none, &steady));
    assert!(with >= without + 6, "{with} {without}");
    // The same rate, but for two seconds only: who knows whether they go on for a minute.
    let (spike, _) = traffic(|second| if second < 398 { 1 } else { 10 }, 400, 60);
    let (sure, maybe) = (size(&none, &steady), size(&none, &spike));
    assert!(maybe <= sure + 2, "{maybe} {sure}");
}
