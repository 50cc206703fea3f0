//! The scaler's claims, in virtual time.

use std::time::Duration;

use super::*;
use crate::config::PoolConfig;

mod advised;
mod concurrency;
mod dry_run;
mod queue;

struct Says(Vec<u32>);

impl ScalingPolicy for Says {
    fn name(&self) -> &'static str {
        "says"
    }

    fn recommend(&mut self, _load: &Load, _traffic: &Traffic, _now: Time) -> Recommendation {
        let size = if self.0.len() > 1 { self.0.remove(0) } else { self.0[0] };
        Recommendation::new(size, format!("policy said {size}"))
    }
}

fn at(seconds: f64) -> Time {
    Time::ZERO + Duration::from_secs_f64(seconds)
}

fn decide(scaler: &mut Scaler, config: &PoolConfig, load: Load, now: Time) -> u32 {
    scaler.decide(config, load, &Traffic::new(Time::ZERO), now)
}

fn sizes(said: &[u32], config: &PoolConfig) -> (Vec<u32>, String) {
    let mut scaler = Scaler::new(Box::new(Says(said.to_vec())), Time::ZERO);
    let sizes = (0..said.len())
        .map(|second| decide(&mut scaler, config, Load::default(), at(second as f64)))
        .collect();
    (sizes, scaler.decisions().back().unwrap().reason.to_string())
}

#[test]
fn whatever_a_policy_says_stays_between_min_and_max() {
    let config = PoolConfig { min: 2, max: 8, down_delay: Duration::ZERO, ..PoolConfig::default() };
    assert_eq!(sizes(&[0], &config), (vec![2], "policy said 0; raised to min 2".into()));
    assert_eq!(sizes(&[u32::MAX], &config), (vec![8], "policy said 4294967295; held to max 8".into()));
}

#[test]
fn the_size_falls_only_to_the_highest_recommendation_of_the_window() {
    let config = PoolConfig { down_delay: Duration::from_secs(2), ..PoolConfig::default() };
    let (sizes, reason) = sizes(&[5, 1, 3, 1, 1, 1], &config);
    assert_eq!(sizes, [5, 5, 5, 3, 3, 1]);
    assert_eq!(reason, "policy said 1");
}

#[test]
fn the_size_rises_by_the_step_at_the_most() {
    let config = PoolConfig { up_step: 2, ..PoolConfig::default() };
    let (sizes, reason) = sizes(&[5, 5], &config);
    assert_eq!(sizes, [2, 4]);
    assert_eq!(reason, "policy said 5; 2 more at once at the most");
}

#[test]
fn a_fixed_size_is_obeyed_at_once_and_asks_for_no_wake_up() {
    let config = PoolConfig { up_step: 1, ..PoolConfig::default() };
    let mut scaler = Scaler::new(Box::new(Fixed(9)), Time::ZERO);
    assert_eq!(scaler.next(), Some(Time::ZERO));
    assert_eq!(decide(&mut scaler, &config, Load::default(), Time::ZERO), 9);
    assert_eq!(scaler.next(), None);
    scaler.set_policy(Box::new(Fixed(0)));
    assert_eq!(decide(&mut scaler, &config, Load::default(), Time::ZERO), 0);
    assert!(scaler.stopped());
    assert_eq!(&*scaler.decisions().back().unwrap().reason, "fixed size 0");
}

#[test]
fn another_policy_is_not_held_to_what_the_one_before_it_said() {
    let config = PoolConfig::default();
    let mut scaler = Scaler::new(Box::new(Says(vec![9, 3])), Time::ZERO);
    decide(&mut scaler, &config, Load::default(), Time::ZERO);
    assert_eq!(decide(&mut scaler, &config, Load::default(), at(1.0)), 9, "within the same policy it is");
    scaler.set_policy(Box::new(Says(vec![2, 1])));
    assert_eq!(decide(&mut scaler, &config, Load::default(), at(2.0)), 2);
    assert_eq!(&*scaler.decisions().back().unwrap().reason, "policy said 2");
    assert_eq!(decide(&mut scaler, &config, Load::default(), at(3.0)), 2, "a window of its own has begun");
}

#[test]
fn a_decision_holds_its_inputs_and_what_each_damper_did() {
    let config = PoolConfig { min: 1, max: 8, up_step: 2, ..PoolConfig::default() };
    let mut scaler = Scaler::new(Box::new(Says(vec![20, 20, 0])), Time::ZERO);
    let load = Load { queue: 7, ..Load::default() };
    for second in 0..3 {
        decide(&mut scaler, &config, load, at(f64::from(second)));
    }
    let decisions: Vec<_> = scaler.decisions().iter().collect();
    let dampers =
        |decision: &Decision| decision.damping.iter().map(|it| (it.by, it.from, it.to)).collect::<Vec<_>>();
    assert_eq!(decisions.len(), 3);
    assert_eq!(dampers(decisions[0]), [("max", 20, 8), ("up_step", 8, 3)]);
    assert_eq!(dampers(decisions[2]), [("min", 0, 1), ("down_delay", 1, 5)]);
    assert_eq!((decisions[2].recommended, decisions[2].before, decisions[2].size), (0, 5, 5));
    assert_eq!(decisions[2].load, Load { queue: 7, size: 5, ..Load::default() });
    assert_eq!(
        &*decisions[2].reason,
        "policy said 0; raised to min 1; kept at 5, recommended within the last 60 s"
    );
}

#[test]
fn looks_that_come_to_the_same_are_one_decision_with_the_newest_inputs() {
    let config = PoolConfig { down_delay: Duration::ZERO, ..PoolConfig::default() };
    let mut scaler = Scaler::new(Box::new(Says(vec![2, 2, 2, 2, 3])), Time::ZERO);
    for second in 0..5 {
        let load = Load { queue: second, ..Load::default() };
        decide(&mut scaler, &config, load, at(second as f64));
    }
    let seen: Vec<_> =
        scaler.decisions().iter().map(|it| (it.since, it.at, it.looks, it.size, it.load.queue)).collect();
    assert_eq!(seen, [(at(0.0), at(0.0), 1, 2, 0), (at(1.0), at(3.0), 3, 2, 3), (at(4.0), at(4.0), 1, 3, 4)]);
    assert_eq!(scaler.tally().get(&("says", "same")), Some(&3));
    assert_eq!(scaler.tally().get(&("says", "up")), Some(&2));
}

#[test]
fn a_waiting_request_hurries_an_eager_policy_and_one_at_zero_only() {
    struct Eager(bool);
    impl ScalingPolicy for Eager {
        fn name(&self) -> &'static str {
            "eager"
        }
        fn recommend(&mut self, load: &Load, _traffic: &Traffic, _now: Time) -> Recommendation {
            Recommendation::new(load.queue as u32, "as many as wait")
        }
        fn eager(&self) -> bool {
            self.0
        }
    }
    for (eager, size, hurries) in [(false, 0, true), (true, 0, true), (false, 1, false), (true, 1, true)] {
        let mut scaler = Scaler::new(Box::new(Eager(eager)), Time::ZERO);
        let load = Load { queue: size, ..Load::default() };
        decide(&mut scaler, &PoolConfig::default(), load, Time::ZERO);
        scaler.hurry(at(0.2));
        assert_eq!(scaler.next() == Some(at(0.2)), hurries, "{eager} {size}");
    }
}

#[test]
fn a_flood_hurries_at_most_ten_times_a_second() {
    let mut scaler = Scaler::new(Box::new(Says(vec![0])), Time::ZERO);
    decide(&mut scaler, &PoolConfig::default(), Load::default(), Time::ZERO);
    let mut looks = 0;
    for step in 1..=1_000 {
        let now = at(f64::from(step) / 1_000.0);
        scaler.hurry(now);
        if scaler.next().is_some_and(|next| next <= now) {
            decide(&mut scaler, &PoolConfig::default(), Load::default(), now);
            looks += 1;
        }
    }
    assert_eq!(looks, 10);
}

#[test]
fn a_closure_is_a_policy() {
    let policy = |load: &Load| if load.queue > 7 { 2 } else { 1 };
    let mut scaler = Scaler::new(Box::new(policy), Time::ZERO);
    let config = PoolConfig::default();
    assert_eq!(decide(&mut scaler, &config, Load { queue: 8, ..Load::default() }, Time::ZERO), 2);
    assert_eq!(&*scaler.decisions()[0].reason, "the function says 2");
    assert_eq!(scaler.decisions()[0].policy, "closure");
}
