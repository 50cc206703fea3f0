//! The end: what was accepted is answered, what was started is stopped.

use std::time::{Duration, Instant};

use longshore_tests::{Backend, Setup, both, each, process};
use nix::sys::signal::Signal;

async fn what_waits_and_what_is_at_work_is_answered_before_the_end(backend: Backend) {
    let keys = "concurrency = 1";
    let mut cluster = Setup::new(backend).model("sleep", "sleep", keys).start().await;
    let admin = cluster.admin();
    let asked: Vec<_> = (0..5)
        .map(|_| {
            let client = cluster.client();
            tokio::spawn(async move { client.get("/sleep/400ms").await })
        })
        .collect();
    admin.works_on("sleep", 1).await;
    admin.queues("sleep", 4).await;
    cluster.signal(Signal::SIGTERM);
    for asked in asked {
        let reply = asked.await.expect("no panic");
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let status = cluster.ended(Duration::from_secs(20)).await;
    assert!(status.success(), "{status}");
    cluster.nothing_is_left();
}

async fn nothing_new_is_accepted_while_the_rest_is_answered() {
    let mut cluster = Setup::new(Backend::Process).model("sleep", "sleep", "").start().await;
    let (early, late) = (cluster.client(), cluster.client());
    // An idle connection that the client keeps is no reason to wait.
    assert_eq!(late.get("/sleep/1ms").await.status, 200);
    let asked = tokio::spawn(async move { early.get("/sleep/2s").await });
    cluster.admin().works_on("sleep", 1).await;
    cluster.signal(Signal::SIGINT);
    tokio::time::sleep(Duration::from_millis(300)).await;
    // On the connection that it has kept, it is told so; there is no other.
    let refused = late.send(http::Request::get("/sleep/1ms"), bytes::Bytes::new()).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "shutting-down"));
    assert_eq!(refused.header("connection"), "close");
    let error =
        late.try_send(http::Request::get("/sleep/1ms"), bytes::Bytes::new()).await.expect_err("nobody");
    assert!(error.contains("connect"), "{error}");
    assert_eq!(asked.await.expect("no panic").status, 200);
    let begun = Instant::now();
    assert!(cluster.ended(Duration::from_secs(20)).await.success());
    assert!(begun.elapsed() < Duration::from_secs(3), "it ended {:?} later", begun.elapsed());
}

async fn what_takes_longer_than_the_drain_is_cut() {
    let setup =
        Setup::new(Backend::Process).proxy("drain = \"1s\"").model("sleep", "sleep", "stop_grace = \"1s\"");
    let mut cluster = setup.start().await;
    let client = cluster.client();
    let asked =
        tokio::spawn(
            async move { client.try_send(http::Request::get("/sleep/60s"), bytes::Bytes::new()).await },
        );
    cluster.admin().works_on("sleep", 1).await;
    let begun = Instant::now();
    cluster.signal(Signal::SIGTERM);
    assert!(cluster.ended(Duration::from_secs(20)).await.success());
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(6), "it ended after {took:?}");
    let cut = asked.await.expect("no panic");
    assert!(cut.as_ref().map_or(true, |reply| reply.status >= 500), "{cut:?}");
}

async fn a_second_signal_ends_it_at_once(backend: Backend) {
    let mut cluster = Setup::new(backend).model("sleep", "sleep", "").start().await;
    let client = cluster.client();
    let asked =
        tokio::spawn(
            async move { client.try_send(http::Request::get("/sleep/60s"), bytes::Bytes::new()).await },
        );
    cluster.admin().works_on("sleep", 1).await;
    let instance = cluster.admin().has("sleep", 1).await.remove(0);
    let child = cluster.instance_pid(&instance);
    cluster.signal(Signal::SIGTERM);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(process::lives(cluster.pid()), "it waits for what it has accepted");
    let begun = Instant::now();
    cluster.signal(Signal::SIGTERM);
    cluster.ended(Duration::from_secs(15)).await;
    // Time for a container to be stopped, none for the request to be answered.
    assert!(begun.elapsed() < Duration::from_secs(12), "it ended {:?} later", begun.elapsed());
    assert!(asked.await.expect("no panic").is_err());
    if let Some(child) = child {
        longshore_tests::eventually(Duration::from_secs(5), "its child is gone", async || {
            (!process::lives(child)).then_some(())
        })
        .await;
    }
}

async fn an_instance_that_ignores_the_request_to_stop_is_stopped_all_the_same() {
    let setup = Setup::new(Backend::Process).model("calc", "calculator", "stop_grace = \"1s\"");
    let cluster = setup.start().await;
    let instance = cluster.admin().has("calc", 1).await.remove(0);
    let child = cluster.instance_pid(&instance).expect("it is a child");
    cluster.freeze_instance(&instance).await;
    let begun = Instant::now();
    cluster.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(!process::lives(child));
}

async fn what_is_being_started_at_the_end_is_not_left_behind(backend: Backend) {
    // The end meets the starts at another moment each time.
    for pause in [0, 5, 40] {
        let cluster = Setup::new(backend).model("calc", "calculator", "").start().await;
        assert_eq!(cluster.admin().set_size("calc", 4).await.status, 200);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        cluster.stop().await;
    }
}

both!(light 90: what_is_being_started_at_the_end_is_not_left_behind);
both!(light 60: what_waits_and_what_is_at_work_is_answered_before_the_end, a_second_signal_ends_it_at_once);
each!(light 60: nothing_new_is_accepted_while_the_rest_is_answered, what_takes_longer_than_the_drain_is_cut);
each!(light 60: an_instance_that_ignores_the_request_to_stop_is_stopped_all_the_same);
