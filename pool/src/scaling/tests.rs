//! The scaler's claims, in virtual time.

use std::time::Duration;

use super::*;
use crate::config::PoolConfig;

struct Says(Vec<u32>);

impl ScalingPolicy for Says {
    fn name(&self) -> &'static str {
        "says"
    }

    fn recommend(&mut self, _load: &Load, _now: Time) -> Recommendation {
        let size = if self.0.len() > 1 { self.0.remove(0) } else { self.0[0] };
        Recommendation { size, reason: format!("policy said {size}") }
    }
}

fn sizes(said: &[u32], config: &PoolConfig) -> (Vec<u32>, String) {
    let mut scaler = Scaler::new(Box::new(Says(said.to_vec())), Time::ZERO);
    let sizes = (0..said.len() as u64)
        .map(|second| scaler.decide(config, Load::default(), Time::ZERO + Duration::from_secs(second)))
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
    assert_eq!(sizes(&[5, 1, 3, 1, 1, 1], &config).0, [5, 5, 5, 3, 3, 1]);
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
    assert_eq!(scaler.decide(&config, Load::default(), Time::ZERO), 9);
    assert_eq!(scaler.next(), None);
    scaler.set_policy(Box::new(Fixed(0)), &config, Time::ZERO);
    assert_eq!(scaler.decide(&config, Load::default(), Time::ZERO), 0);
    assert!(scaler.stopped());
    assert_eq!(&*scaler.decisions().back().unwrap().reason, "fixed size 0");
}
