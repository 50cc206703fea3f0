//! Advice from outside.

use super::*;

#[test]
fn the_last_good_advice_is_kept_while_asking_fails() {
    let config = PoolConfig { down_delay: Duration::ZERO, ..PoolConfig::default() };
    let mut scaler = Scaler::new(Box::new(Advised::new("webhook")), Time::ZERO);
    let mut look = |advice: Option<Advice>| {
        if let Some(advice) = advice {
            scaler.advise(advice);
        }
        let size = decide(&mut scaler, &config, Load::default(), Time::ZERO);
        let last = scaler.decisions().back().unwrap();
        (size, last.failed, last.reason.to_string())
    };
    let failed = || Some(Advice::Failed { how: "connection refused".into() });
    assert_eq!(look(None), (0, false, "nothing was advised yet".into()));
    assert_eq!(look(failed()), (0, true, "kept as it is: connection refused".into()));
    let advice = Advice::Size { size: 4, reason: "because".into() };
    assert_eq!(look(Some(advice)), (4, false, "because".into()));
    assert_eq!(look(failed()), (4, true, "kept at the last advice, 4: connection refused".into()));
    assert_eq!(look(Some(Advice::Size { size: 2, reason: "less".into() })), (2, false, "less".into()));
    assert_eq!(scaler.tally().get(&("webhook", "failed")), Some(&2));
}
