//! The commands that talk to a running proxy: what they print, and how they end.

use std::time::Duration;

use longshore_tests::{Backend, Setup, both, command, digest, each};

async fn ps_scale_restart_and_logs_do_what_they_say(backend: Backend) {
    let cluster = Setup::new(backend).model("calc", "calculator", "size = 2").start().await;
    let scaled = cluster.command(&["scale", "calc=4"]).await;
    assert_eq!(scaled.code, 0, "{}", scaled.stderr);
    assert!(scaled.stdout.starts_with("calc: 4 wanted"), "{}", scaled.stdout);
    cluster.admin().has("calc", 4).await;
    let table = cluster.command(&["ps"]).await;
    assert_eq!(table.code, 0, "{}", table.stderr);
    let row = table.stdout.lines().find(|line| line.trim_start().starts_with("calc ")).unwrap_or_default();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells[..4], ["calc", "4", "4", "0"], "{}", table.stdout);
    assert_eq!(table.stdout.matches(" ready ").count(), 4, "{}", table.stdout);
    let json = cluster.command(&["ps", "--json"]).await;
    let parsed: serde_json::Value = serde_json::from_str(&json.stdout).expect("it is JSON");
    assert_eq!((&parsed["cluster"], &parsed["backend"]), (&cluster.name().into(), &backend.name().into()));
    assert_eq!(parsed["services"][0]["size"]["ready"], 4);
    let before = cluster.admin().has("calc", 4).await;
    let restarted = cluster.command(&["restart", "calc"]).await;
    assert_eq!(restarted.code, 0, "{}", restarted.stderr);
    assert!(restarted.stdout.contains("restarting 4 instances"), "{}", restarted.stdout);
    longshore_tests::eventually(longshore_tests::PATIENCE, "all are new", async || {
        let now = cluster.admin().ready("calc").await;
        (now.len() == 4 && now.iter().all(|one| before.iter().all(|old| old.id != one.id))).then_some(())
    })
    .await;
    let instances = cluster.admin().has("calc", 4).await;
    let logs = cluster.command(&["logs", "calc"]).await;
    assert_eq!(logs.code, 0, "{}", logs.stderr);
    for instance in instances {
        let said = logs.stdout.lines().any(|line| line.starts_with(&instance.id) && line.contains("listen"));
        assert!(said, "nothing of {}: {}", instance.id, logs.stdout);
    }
    cluster.stop().await;
}

async fn a_command_that_fails_says_why_and_ends_with_1_and_one_that_is_wrong_with_2() {
    let cluster = Setup::new(Backend::Process).model("calc", "calculator", "").start().await;
    for (arguments, code, said) in [
        (&["scale", "clac=3"][..], 1, "\"clac\""),
        (&["scale", "calc=2", "clac=3"], 1, "\"clac\""),
        (&["scale", "calc=2", "calc=3"], 2, "two sizes"),
        (&["run", "image", "--size", "-1"], 2, "invalid value '-1' for '--size"),
        (&["scale", "calc=-1"], 2, "from 0 to 1000"),
        (&["scale", "calc=1e9"], 2, "from 0 to 1000"),
        (&["scale", "calc=x"], 2, "\"x\""),
        (&["scale", "calc"], 2, "NAME=SIZE"),
        (&["restart", "clac"], 1, "\"clac\""),
        (&["logs", "clac"], 1, "\"clac\""),
        (&["verify", "clac"], 1, "clac"),
        (&["frobnicate"], 2, "frobnicate"),
    ] {
        let done = cluster.command(arguments).await;
        assert_eq!(done.code, code, "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains(said), "{arguments:?}: {}", done.stderr);
        assert!(done.stdout.is_empty(), "{arguments:?}: {}", done.stdout);
    }
    assert_eq!(cluster.admin().service("calc").await["size"]["wanted"], 1);
    let url = cluster.admin().url();
    cluster.stop().await;
    let done = command::run(Duration::from_secs(20), &["ps", "--admin", &url], &[]).await;
    assert_eq!(done.code, 1);
    assert!(
        done.stderr.contains("no Longshore answers at") && done.stderr.contains("longshore up"),
        "{}",
        done.stderr
    );
    let done = command::run(Duration::from_secs(20), &["ps"], &[("LONGSHORE_ADMIN", "no url")]).await;
    assert_eq!(done.code, 2, "{}", done.stderr);
}

async fn verify_kills_instances_and_finds_nothing_lost(backend: Backend) {
    let cluster = Setup::new(backend).model("calc", "calculator", "size = 3").start().await;
    // Where the proxy is, on a port that was picked, the admin API knows.
    let done = cluster.command(&["verify", "calc", "--duration", "6s", "--kill-every", "2s"]).await;
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    let row = |name: &str| done.row(name);
    assert_eq!(row("lost ")[0], "0", "{}", done.stdout);
    assert_eq!(row("lost, by the proxy's count")[0], "0", "{}", done.stdout);
    assert!(row("kills")[0].parse::<u32>().is_ok_and(|kills| kills >= 2), "{}", done.stdout);
    assert_eq!(row("sent")[0], row("answered")[0], "{}", done.stdout);
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

async fn verify_sends_to_the_proxy_whose_instances_it_kills_and_to_no_other() {
    let start = || Setup::new(Backend::Process).model("calc", "calculator", "").start();
    let (one, other) = (start().await, start().await);
    let first = one.admin().has("calc", 1).await.remove(0).id;
    let proxy = format!("http://{}", other.address());
    let done = one.command(&["verify", "calc", "--kill-every", "100ms", "--proxy", &proxy]).await;
    assert_eq!(done.code, 1, "{}{}", done.stdout, done.stderr);
    for said in [&*format!("{proxy} is not the proxy of"), &one.admin().url(), "--proxy", "--admin"] {
        assert!(done.stderr.contains(said), "{said} is not in: {}", done.stderr);
    }
    assert_eq!(one.admin().has("calc", 1).await.remove(0).id, first, "nothing was killed");
    one.stop().await;
    other.stop().await;
}

async fn verify_tells_what_is_refused_from_what_is_lost() {
    let setup = Setup::new(Backend::Process).proxy("api_keys_file = \"keys.txt\"");
    setup.file("keys.txt", &format!("ann:{}\n", digest::hex(b"secret")));
    let full = "queue.limit = 0\nconcurrency = 1";
    let cluster = setup.model("calc", "calculator", "").model("full", "sleep", full).start().await;
    let run = ["--duration", "2s", "--kill-every", "0s", "--body", "0"];
    let verify = async |name: &str, more: &[&str]| {
        cluster.command(&[&["verify", name][..], &run, more].concat()).await
    };
    let done = verify("calc", &[]).await;
    assert_eq!(done.code, 1, "{}{}", done.stdout, done.stderr);
    assert!(done.stderr.contains("unauthorized") && done.stderr.contains("LONGSHORE_KEY"), "{}", done.stderr);
    let done = verify("calc", &["--key", "secret"]).await;
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    // One request is at work, and no other may wait: told apart, and not sent as fast as it is refused.
    let done = verify("full", &["--key", "secret", "--path", "/300ms", "--clients", "4"]).await;
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    assert_eq!(done.row("lost ")[0], "0", "{}", done.stdout);
    let refused: u32 = done.row("refused")[0].parse().expect("a number");
    assert!((1..200).contains(&refused), "{}", done.stdout);
    assert!(done.stdout.contains(": queue-full") && !done.stdout.contains("LOST"), "{}", done.stdout);
    let stopped = cluster.command(&["scale", "calc=0"]).await;
    assert_eq!(stopped.code, 0, "{}", stopped.stderr);
    let done = verify("calc", &["--key", "secret"]).await;
    assert_eq!(done.code, 1, "{}{}", done.stdout, done.stderr);
    assert!(done.stderr.contains("longshore scale calc=1"), "{}", done.stderr);
    cluster.stop().await;
}

each!(light 60: verify_sends_to_the_proxy_whose_instances_it_kills_and_to_no_other);
each!(light 60: verify_tells_what_is_refused_from_what_is_lost);
both!(light 120: ps_scale_restart_and_logs_do_what_they_say);
both!(heavy 60: verify_kills_instances_and_finds_nothing_lost);
each!(light 60: a_command_that_fails_says_why_and_ends_with_1_and_one_that_is_wrong_with_2);
