//! `GET /events` and `longshore events`: what happens is told to whoever listens.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use longshore_tests::command::Running;
use longshore_tests::news::News;
use longshore_tests::{Backend, Setup, both, each, model};

fn calc(keys: &str) -> String {
    model("calc", "calculator", &format!("concurrency = 1\n{keys}"))
}

async fn what_happens_to_instances_and_requests_is_told(backend: Backend) {
    let mut cluster = Setup::new(backend).service(&calc("size = 1\nreplay.attempts = 2")).start().await;
    let admin = cluster.admin();
    let news = News::listen(&admin, "?tail=100", None).await;
    let first = admin.has("calc", 1).await.remove(0);
    // What was before it listened is told first.
    assert_eq!(news.hears("instance-starting", &first.id).await["service"], "calc");
    let ready = news.hears("instance-ready", &first.id).await;
    assert!(ready["details"]["took_ms"].as_u64().is_some(), "{ready}");
    // A request that outlives its instance.
    let client = cluster.client();
    let slow = tokio::spawn(async move { client.get_with_fault("/add/3/4", "latency=2s").await.text() });
    admin.works_on("calc", 1).await;
    cluster.kill_instance(&first).await;
    let died = news.hears("instance-died", &first.id).await;
    assert_eq!(
        (&died["details"]["cause"], &died["details"]["before_ready"]),
        (&"killed".into(), &false.into())
    );
    assert_eq!(news.hears("request-replayed", &first.id).await["service"], "calc");
    assert_eq!(slow.await.expect("no panic"), "7");
    // One that outlives too many.
    let client = cluster.client();
    let deadly = tokio::spawn(async move {
        let request = Request::get("/add/3/4").header("fault", "crash").header("x-request-id", "deadly");
        client.send(request, Bytes::new()).await.problem()
    });
    assert_eq!(deadly.await.expect("no panic"), "attempts-exhausted");
    let given_up = news.hears("request-quarantined", "calc").await;
    assert_eq!(given_up["request_id"], "deadly", "{given_up}");
    // Sizes.
    assert_eq!(admin.set_size("calc", 2).await.status, 200);
    let resized = news.hears("size-changed", "1 -> 2").await;
    assert_eq!((&resized["details"]["before"], &resized["details"]["size"]), (&1.into(), &2.into()));
    let both = admin.has("calc", 2).await;
    let place = |kind: &str, about: &str| {
        let all = news.heard();
        let is_it = |one: &serde_json::Value| one["kind"] == kind && one.to_string().contains(about);
        all.iter().position(is_it).unwrap_or_else(|| panic!("no {kind} of {about:?}: {all:#?}"))
    };
    let second = both.iter().find(|one| one.id.starts_with("calc-1-")).expect("the second place");
    news.hears("instance-starting", &second.id).await;
    let (why, what) = (place("size-changed", "1 -> 2"), place("instance-starting", &second.id));
    assert!(why < what, "the reason comes before what is done");
    assert_eq!(admin.set_size("calc", 1).await.status, 200);
    news.hears("size-changed", "2 -> 1").await;
    let left = admin.has("calc", 1).await.remove(0);
    let gone = both.into_iter().find(|one| one.id != left.id).expect("one of two");
    news.hears("instance-stopped", &gone.id).await;
    // Configurations.
    cluster.expect_error("the new configuration is refused");
    for (keys, status, kind, about) in [
        ("queue.limit = 7", 200, "config-applied", "changed calc (queue)"),
        ("sice = 7", 400, "config-refused", "sice"),
    ] {
        cluster.setup_mut().replace_services(&calc(&format!("size = 1\nreplay.attempts = 2\n{keys}")));
        cluster.setup_mut().write();
        assert_eq!(cluster.admin().post("/reload").await.status, status);
        news.hears(kind, about).await;
    }
    let ids: Vec<_> = news.heard().iter().map(|one| one["id"].as_str().map(str::to_owned)).collect();
    let mut sorted = ids.clone();
    sorted.sort_by_key(|id| id.as_ref().and_then(|id| id.split_once('-')?.1.parse::<u64>().ok()));
    assert_eq!(ids, sorted, "in their order");
    cluster.stop().await;
}

async fn a_listener_that_comes_back_misses_nothing_and_may_ask_for_one_service() {
    let setup = Setup::new(Backend::Process).service(&calc("size = 1")).model("echo", "echo", "");
    let cluster = setup.start().await;
    let admin = cluster.admin();
    let all = News::listen(&admin, "?tail=100&follow=false", None).await.ends().await;
    assert!(all.len() >= 4, "{all:#?}");
    let second = all[1]["id"].as_str().expect("an id").to_owned();
    let rest = News::listen(&admin, "?follow=false", Some(&second)).await.ends().await;
    assert_eq!(rest, all[2..]);
    let echo = News::listen(&admin, "?service=echo&tail=100&follow=false", None).await.ends().await;
    assert!(!echo.is_empty() && echo.iter().all(|one| one["service"] == "echo"), "{echo:#?}");
    let nobody = admin.client().get("/events?service=nobody").await;
    assert_eq!((nobody.status, nobody.problem().as_str()), (404, "no-service"));
    let wrong = admin.client().get("/events?tail=some").await;
    assert_eq!(wrong.status, 400, "{}", wrong.text());
    cluster.stop().await;
}

async fn the_command_follows_them_into_another_process() {
    let mut cluster = Setup::new(Backend::Process).service(&calc("size = 1")).start().await;
    let (first, url) = (cluster.admin().has("calc", 1).await.remove(0), cluster.admin().url());
    let shown = cluster.command(&["events", "calc"]).await;
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    let line = shown.stdout.lines().find(|line| line.contains("instance-ready")).expect("it is told");
    assert!(line.contains(&first.id) && line.contains("ready after"), "{line}");
    let shown = cluster.command(&["events", "--json", "--tail", "1"]).await;
    assert_eq!(shown.stdout.lines().count(), 1, "{}", shown.stdout);
    let last: serde_json::Value = serde_json::from_str(&shown.stdout).expect("JSON");
    assert_eq!(last["service"], "calc");
    assert_eq!(cluster.command(&["events", "nobody"]).await.code, 1);
    // To the end of the process, and on with the one that takes over.
    let mut following = Running::start(&["--admin", &url, "events", "-f"]);
    following.prints("instance-ready").await;
    let old = cluster.take_over().await;
    following.prints("taken-over").await;
    following.says("looking for the next one").await;
    // What the other process has told before it was found is told, too.
    following.prints("instance-ready").await;
    assert!(old.ended(Duration::from_secs(45)).await.success());
    cluster.stop().await;
}

both!(light 120: what_happens_to_instances_and_requests_is_told);
each!(light 60: a_listener_that_comes_back_misses_nothing_and_may_ask_for_one_service);
each!(light 90: the_command_follows_them_into_another_process);
