//! Instances that accept connections and then say nothing: found, and replaced.

use std::time::{Duration, Instant};

use longshore_tests::{Backend, PATIENCE, Setup, both, each, eventually};

/// Within which a hung instance is replaced with the default probes: three failures, a second each, two apart, and a
/// new start, on a busy machine.
const REPLACED: Duration = Duration::from_secs(12);

/// A pause that ends before three failures could have told of it, but not before two looks at a frozen instance.
const PAUSE: Duration = Duration::from_secs(5);

async fn a_paused_idle_instance_is_replaced(backend: Backend) {
    let cluster = Setup::new(backend).model("calc", "calculator", "size = 2").start().await;
    let victim = cluster.admin().has("calc", 2).await.remove(0);
    cluster.freeze_instance(&victim).await;
    let begun = Instant::now();
    let ready = eventually(PATIENCE, "it is replaced", async || {
        let ready = cluster.admin().ready("calc").await;
        (ready.len() == 2 && ready.iter().all(|one| one.id != victim.id)).then_some(ready)
    })
    .await;
    assert!(begun.elapsed() < REPLACED, "replaced after {:?}", begun.elapsed());
    assert!(
        ready.iter().any(|one| one.json["last_death"].as_str().is_some_and(|death| death.contains("hung")))
    );
    cluster.admin().counts("longshore_instance_deaths_total", &[("cause", "hung")], 1.0).await;
    if backend == Backend::Docker {
        eventually(PATIENCE, "the paused container is removed", async || {
            (cluster.docker().containers(cluster.name()).len() == 2).then_some(())
        })
        .await;
    }
    cluster.stop().await;
}

async fn the_request_of_a_paused_instance_is_answered_by_another(backend: Backend) {
    let cluster = Setup::new(backend).model("sleep", "sleep", "size = 2\nconcurrency = 1").start().await;
    let client = cluster.client();
    let asked = tokio::spawn(async move { client.get("/sleep/1500ms").await });
    let victim = eventually(PATIENCE, "one works on it", async || {
        let instances = cluster.admin().ready("sleep").await;
        instances.into_iter().find(|instance| instance.json["in_flight"] == 1)
    })
    .await;
    cluster.freeze_instance(&victim).await;
    let begun = Instant::now();
    let reply = asked.await.expect("no panic");
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_ne!(reply.header("longshore-instance"), victim.id);
    assert_eq!(reply.header("longshore-attempts"), "2");
    assert!(begun.elapsed() < REPLACED + Duration::from_secs(2), "answered after {:?}", begun.elapsed());
    cluster.admin().lost_nothing("sleep").await;
    cluster.admin().has("sleep", 2).await;
    cluster.stop().await;
}

async fn a_request_does_not_wait_for_the_end_of_a_pause(backend: Backend) {
    let cluster = Setup::new(backend).model("sleep", "sleep", "size = 2\nconcurrency = 1").start().await;
    let client = cluster.client();
    let asked = tokio::spawn(async move { (client.get("/sleep/1500ms").await, Instant::now()) });
    let victim = eventually(PATIENCE, "one works on it", async || {
        let instances = cluster.admin().ready("sleep").await;
        instances.into_iter().find(|instance| instance.json["in_flight"] == 1)
    })
    .await;
    cluster.freeze_instance(&victim).await;
    let begun = Instant::now();
    tokio::time::sleep(PAUSE).await;
    cluster.thaw_instance(&victim).await;
    let (reply, at) = asked.await.expect("no panic");
    eprintln!("answered {:.1?} after the pause began", at - begun);
    assert_eq!((reply.status, reply.header("longshore-attempts")), (200, "2"), "{}", reply.text());
    assert_ne!(reply.header("longshore-instance"), victim.id);
    cluster.admin().counts("longshore_instance_deaths_total", &[("cause", "hung")], 1.0).await;
    cluster.admin().lost_nothing("sleep").await;
    cluster.stop().await;
}

async fn a_request_that_meets_a_paused_instance_is_answered_by_another() {
    let keys = "size = 2\nconcurrency = 1\nfirst_byte_timeout = \"1s\"";
    let cluster = Setup::new(Backend::Process).model("calc", "calculator", keys).start().await;
    let victim = cluster.admin().has("calc", 2).await.remove(0);
    cluster.freeze_instance(&victim).await;
    let begun = Instant::now();
    for number in 0..6 {
        let reply = cluster.client().get(&format!("/add/{number}/1")).await;
        assert_eq!(reply.text(), (number + 1).to_string());
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    cluster.admin().lost_nothing("calc").await;
    cluster.admin().has("calc", 2).await;
    cluster.stop().await;
}

async fn a_pause_for_a_moment_is_forgiven(backend: Backend) {
    let cluster = Setup::new(backend).model("calc", "calculator", "").start().await;
    let before = cluster.admin().has("calc", 1).await;
    cluster.freeze_instance(&before[0]).await;
    let client = cluster.client();
    let asked = tokio::spawn(async move { client.get("/add/3/4").await });
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    cluster.thaw_instance(&before[0]).await;
    assert_eq!(asked.await.expect("no panic").text(), "7");
    tokio::time::sleep(Duration::from_secs(4)).await;
    let now = cluster.admin().has("calc", 1).await;
    assert_eq!(now[0].id, before[0].id);
    cluster.stop().await;
}

async fn a_server_whose_health_fails_is_replaced() {
    let keys = "size = 2\nhealth = { path = \"/healthz\", interval = \"300ms\" }";
    let cluster = Setup::new(Backend::Process).model("calc", "calculator", keys).start().await;
    let reply = cluster.client().get_with_fault("/add/3/4", "unhealthy").await;
    assert_eq!(reply.text(), "7");
    let victim = reply.header("longshore-instance").to_owned();
    eventually(REPLACED, "the unhealthy one is replaced", async || {
        let ready = cluster.admin().ready("calc").await;
        (ready.len() == 2 && ready.iter().all(|one| one.id != victim)).then_some(())
    })
    .await;
    cluster.stop().await;
}

async fn a_slow_server_that_is_only_busy_is_left_alone() {
    // Its one thread stands still for longer than three probes would wait: that is what work does to it.
    let keys = "health = { path = \"/healthz\", interval = \"200ms\", timeout = \"200ms\" }";
    let cluster = Setup::new(Backend::Process).model("calc", "calculator", keys).start().await;
    let before = cluster.admin().has("calc", 1).await;
    let reply = cluster.client().get_with_fault("/add/3/4", "freeze; for=3s").await;
    assert_eq!((reply.text().as_str(), reply.header("longshore-attempts")), ("7", "1"));
    let now = cluster.admin().has("calc", 1).await;
    assert_eq!(now[0].id, before[0].id);
    cluster.stop().await;
}

both!(light 90: a_paused_idle_instance_is_replaced, the_request_of_a_paused_instance_is_answered_by_another);
both!(light 90: a_pause_for_a_moment_is_forgiven, a_request_does_not_wait_for_the_end_of_a_pause);
each!(light 90: a_request_that_meets_a_paused_instance_is_answered_by_another, a_server_whose_health_fails_is_replaced);
each!(light 90: a_slow_server_that_is_only_busy_is_left_alone);
