//! The forms of `size` over the API; those of the file are in `config/tests`.

use serde_json::json;

use super::*;

fn size(value: &Json) -> ServiceSize {
    parse_size(value).unwrap_or_else(|error| panic!("{value}: {error}"))
}

#[test]
fn every_form_of_the_interface_is_understood() {
    assert_eq!(size(&json!(0)), ServiceSize::fixed(0));
    assert_eq!(size(&json!(1000)).number(), Some(1_000));
    assert_eq!(size(&json!({"policy": "fixed", "size": 4})), ServiceSize::fixed(4));
    let expression = size(&json!("if queue > 7 { 2 } else { 1 }"));
    assert_eq!(expression.policy.name(), "expression");
    let concurrency = size(&json!({"policy": "concurrency", "min": 0, "max": 8, "target": 1.0}));
    let settings = ConcurrencySettings { target: Some(1.0), ..ConcurrencySettings::default() };
    assert_eq!(concurrency, ServiceSize { max: 8, ..ServiceSize::of(Policy::Concurrency(settings)) });
    let wait = size(&json!({
        "policy": "wait", "objective": "2s", "min": 1, "interval": "500ms", "up_step": 3, "down_delay": "1m",
        "dry_run": true, "standby": 2
    }));
    let settings = WaitSettings { objective: Duration::from_secs(2), ..WaitSettings::default() };
    let expected = ServiceSize {
        min: 1,
        interval: Duration::from_millis(500),
        up_step: 3,
        down_delay: Duration::from_secs(60),
        dry_run: true,
        standby: 2,
        ..ServiceSize::of(Policy::Wait(settings))
    };
    assert_eq!(wait, expected);
}

#[test]
fn the_defaults_are_those_of_the_interface_and_of_the_rules() {
    let usual = |name: &str| {
        let it = typed_size(name, &ServiceSize::default()).unwrap();
        (it.min, it.max, it.interval.as_secs(), it.up_step, it.down_delay.as_secs(), it.dry_run)
    };
    assert_eq!(usual("concurrency"), (0, 1_000, 1, u32::MAX, 60, false));
    assert_eq!(usual("queue"), (1, 5, 1, u32::MAX, 60, false));
    // It holds instances for itself.
    assert_eq!(usual("wait"), (0, 1_000, 1, u32::MAX, 0, false));
    let many = size(&json!({"policy": "queue", "min": 7}));
    assert_eq!((many.min, many.max), (7, 7), "a default gives way to what is written");
}

#[test]
fn a_size_is_written_so_that_it_is_read_as_the_same() {
    for form in [
        json!(3),
        json!({"policy": "fixed", "size": 3, "max": 5}),
        json!({"policy": "fixed", "size": 3, "standby": 2}),
        json!("if queue > 7 { 2 } else { 1 }"),
        json!({"policy": "queue", "max": 9, "first": 2, "every": "1m 30s"}),
        json!({"policy": "concurrency", "target": 2.5, "stable_window": "2m"}),
        json!({"policy": "wait", "objective": "250ms", "dry_run": true, "up_step": 2}),
        json!({"policy": "webhook", "url": "http://127.0.0.1:9/x", "timeout": "3s"}),
        json!({"policy": "schedule", "timezone": "Europe/Paris", "lines": {"0 8 * * *": 3, "30 20 * * *": 1}}),
    ] {
        let meant = size(&form);
        assert_eq!(size(&meant.form()), meant, "{form}");
        // And in the file.
        let text = format!("[services.a]\nimage = \"x\"\n{}\n", meant.line());
        let config = crate::config::Config::parse(&text, "cluster.toml", &|_| None);
        let config = config.unwrap_or_else(|mistakes| panic!("{text}\n{mistakes}"));
        assert_eq!(config.services[0].size, meant, "{text}");
    }
    assert_eq!(size(&json!(3)).form(), json!(3));
    assert_eq!(ServiceSize::fixed(3).line(), "size = 3");
    assert_eq!(size(&json!("queue")).line(), "size = \"queue\"");
    let wait = size(&json!({"policy": "wait", "max": 8, "objective": "2s", "late": 0.05}));
    assert_eq!(wait.line(), "size = { policy = \"wait\", max = 8, objective = \"2s\" }");
}

#[test]
fn a_wrong_size_is_told_what_is_allowed_and_what_was_sent() {
    let cases = [
        (json!(-1), "", "size must be an integer from 0 to 1000, got -1"),
        (json!(1e9), "", "size must be an integer from 0 to 1000, got 1000000000.0"),
        (json!(1001), "", "size must be an integer from 0 to 1000, got 1001"),
        (json!(u64::MAX), "", "size must be an integer from 0 to 1000, got 18446744073709551615"),
        (json!("x"), "", "this is no expression, got \"x\": "),
        (json!(2.5), "", "size must be an integer from 0 to 1000, got 2.5"),
        (json!(null), "", "size must be an integer from 0 to 1000, got null"),
        (json!([1]), "", "size must be an integer from 0 to 1000, got [1]"),
        (json!({"policy": "fixed", "size": -2}), "/size", "from 0 to 1000, got -2"),
        (json!({"policy": "magic"}), "/policy", "policy must be one of fixed, queue, concurrency"),
        (json!({"policy": "magic"}), "/policy", "got \"magic\""),
        (json!({"size": 2}), "", "\"policy\" is missing"),
        (json!({"policy": "fixed"}), "", "needs \"size\""),
        (json!({"policy": "fixed", "size": 1, "a/b": 1}), "/a~1b", "unknown key \"a/b\""),
        (json!({"policy": "wait", "target": 1}), "/target", "unknown key \"target\""),
        (json!({"policy": "wait", "standby": -1}), "/standby", "an integer from 0 to 1000, got -1"),
        (json!({"policy": "wait", "objective": 1}), "/objective", "a duration such as \"30s\", got 1"),
        (json!({"policy": "wait", "min": 3, "max": 2}), "/max", "`max` is 2 and below `min`, which is 3"),
        (json!({"policy": "wait", "late": 0.9}), "/late", "a number from 0.0001 to 0.5, got 0.9"),
        (json!({"policy": "wait", "dry_run": 1}), "/dry_run", "true or false, got 1"),
        (json!({"policy": "expression", "expression": "x"}), "/expression", "this is no expression"),
        (json!({"policy": "expression"}), "", "needs `expression`"),
        (json!({"policy": "webhook", "url": "ftp://a"}), "/url", "reached by http://"),
        (json!({"policy": "webhook", "url": "http://a", "timeout": "0s"}), "/timeout", "above 0"),
        (json!({"policy": "schedule"}), "", "needs `lines`"),
        (json!({"policy": "schedule", "lines": {"x": 1}}), "/lines", "\"x\" is no cron line"),
        (json!({"policy": "schedule", "lines": {}, "timezone": "Mars"}), "/timezone", "\"Mars\""),
    ];
    for (value, pointer, message) in cases {
        let error = parse_size(&value).expect_err("wrong");
        assert_eq!(error.pointer, pointer, "{value}");
        assert!(error.message.contains(message), "{value}: {error}");
    }
    let error = typed_size("fixed", &ServiceSize::default()).expect_err("it has no number");
    assert!(error.message.contains("needs \"size\""), "{error}");
    assert!(parse_size(&json!("x".repeat(1_000_000))).expect_err("wrong").message.len() < 400);
}
