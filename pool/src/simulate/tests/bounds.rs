//! The bounds hold, and are tight where that can be known.

use super::*;

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() <= 0.02 * other.max(1.0)
}

#[test]
fn one_request_costs_its_service_and_a_start() {
    let one = workload(&[(10.0, 3.0)]);
    let (wait, start) = (Duration::ZERO, seconds(5.0));
    assert!(close(bound(&one, wait, start), 8.0), "{}", bound(&one, wait, start));
    assert_eq!(greedy(&one, wait, start), 8.0);
}

#[test]
fn an_idle_time_costs_itself_or_a_start_whichever_is_less() {
    let start = seconds(5.0);
    for (gap, cost) in [(2.0, 2.0), (30.0, 5.0)] {
        let two = workload(&[(0.0, 3.0), (3.0 + gap, 3.0)]);
        let expected = 5.0 + 6.0 + cost;
        assert!(close(bound(&two, Duration::ZERO, start), expected), "{gap}");
        assert_eq!(greedy(&two, Duration::ZERO, start), expected);
    }
}

#[test]
fn waiting_makes_it_cheaper() {
    // Two at once: two instances, or one after the other when that is allowed.
    let two = workload(&[(0.0, 4.0), (0.0, 4.0)]);
    let start = seconds(5.0);
    assert!(close(bound(&two, Duration::ZERO, start), 18.0));
    assert!(close(bound(&two, seconds(4.0), start), 13.0), "{}", bound(&two, seconds(4.0), start));
    assert_eq!(greedy(&two, seconds(4.0), start), 13.0);
}

#[test]
fn no_policy_that_meets_the_objective_is_below_the_bound_and_greedy_is_above_it() {
    for seed in 0..6 {
        let load = steady(4.0, 900, seed);
        for start in [0.5, 5.0, 60.0] {
            let (wait, start) = (seconds(1.0), seconds(start));
            let (least, possible) = (bound(&load, wait, start), greedy(&load, wait, start));
            assert!(load.work() <= least * 1.001 && least <= possible * 1.001, "{least} {possible}");
            assert!(possible < 2.5 * least, "{least} {possible}");
        }
    }
}

#[test]
fn the_taut_string_is_the_least_of_all_courses() {
    // Small enough to try a lot: random courses between the bounds cost no less.
    let load = workload(&[(0.0, 2.0), (0.5, 1.0), (4.0, 1.0), (9.0, 3.0), (9.0, 2.0)]);
    let (wait, start, step) = (seconds(2.0), 3.0, 0.5);
    let most = super::bound::done_by(&load, Duration::ZERO, wait, step);
    let least = super::bound::done_by(&load, wait, wait, step);
    let best = super::bound::cost(&super::bound::taut_string(&least, &most, step), step, start);
    let mut rng = fastrand::Rng::with_seed(5);
    for _ in 0..20_000 {
        let mut done = 0.0;
        let mut slopes = Vec::new();
        let lean = rng.f64();
        for cell in 1..most.len() {
            let (low, high) = (least[cell].max(done), most[cell]);
            let part = if rng.u8(0..4) == 0 { rng.f64() } else { lean };
            let next = if cell + 1 == most.len() { high } else { low + (high - low) * part };
            slopes.push((next - done) / step);
            done = next;
        }
        let cost = super::bound::cost(&slopes, step, start);
        assert!(cost >= best - 1e-9, "{cost} {best}");
    }
}
