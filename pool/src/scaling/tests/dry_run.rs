//! A dry run decides and records, and changes nothing.

use super::*;

#[test]
fn the_size_stays_and_the_decisions_tell_what_it_would_be() {
    let wet = PoolConfig { max: 8, down_delay: Duration::ZERO, up_step: 3, ..PoolConfig::default() };
    let dry = PoolConfig { dry_run: true, ..wet.clone() };
    let mut scaler = Scaler::new(Box::new(Fixed(2)), Time::ZERO);
    assert_eq!(decide(&mut scaler, &wet, Load::default(), at(0.0)), 2);
    scaler.set_policy(Box::new(Says(vec![9, 9, 1])));
    for second in 1..4 {
        assert_eq!(decide(&mut scaler, &dry, Load::default(), at(f64::from(second))), 2);
    }
    let would: Vec<_> =
        scaler.decisions().iter().skip(1).map(|it| (it.dry_run, it.before, it.size)).collect();
    assert_eq!(would, [(true, 2, 5), (true, 5, 8), (true, 8, 1)]);
    assert_eq!(scaler.wanted(), Some(2));
}

#[test]
fn it_begins_with_the_fewest() {
    let config = PoolConfig { min: 1, dry_run: true, ..PoolConfig::default() };
    let mut scaler = Scaler::new(Box::new(Says(vec![5])), Time::ZERO);
    assert_eq!(decide(&mut scaler, &config, Load::default(), Time::ZERO), 1);
    assert_eq!(scaler.decisions()[0].size, 5);
}
