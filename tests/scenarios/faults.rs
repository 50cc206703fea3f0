//! The promise: whatever happens to the instances, every request is answered, and rightly.
//!
//! `LONGSHORE_FAULT_SECONDS` sets the length of each load.

use std::time::Duration;

use longshore_tests::load::{Payload, Tally, at_rate, capacity};
use longshore_tests::{Backend, Cluster, Setup, both, from_environment, process};

/// Most memory that the proxy may ever have.
const MEMORY: u64 = 64 << 20;

/// Time between two kills.
const KILL_EVERY: Duration = Duration::from_secs(3);

/// How long an instance is paused.
const PAUSE: Duration = Duration::from_secs(5);

/// Requests a second at the most: what three instances of 20 ms take, two thirds of it.
const RATE: f64 = 100.0;

async fn nothing_is_lost_while_instances_are_killed_and_paused(backend: Backend) {
    let arguments = "calculator --exclusive --fault-latency 20ms";
    let keys = "size = 3\nconcurrency = 1\nhealth.path = \"/healthz\"";
    let cluster = Setup::new(backend).model("calc", arguments, keys).start().await;
    let seconds = if backend == Backend::Docker { 30 } else { 12 };
    let mut replayed = 0;
    for (name, payload) in [
        ("GET", Payload::Get),
        ("POST of 256 KiB", Payload::post(256 << 10)),
        ("POST of 5 MiB", Payload::post(5 << 20)),
    ] {
        cluster.admin().has("calc", 3).await;
        let duration = Duration::from_secs(from_environment("LONGSHORE_FAULT_SECONDS", seconds));
        let rate = two_thirds(&cluster, &payload).await;
        let load = tokio::spawn(at_rate(cluster.client(), payload, rate, duration));
        let kills = faults(&cluster, duration).await;
        let tally = load.await.expect("no panic");
        report(name, rate, kills, &tally, &cluster);
        tally.lost_nothing();
        replayed += tally.replayed;
        cluster.admin().lost_nothing("calc").await;
        let memory = process::peak_memory(cluster.pid());
        assert!(memory < MEMORY, "the proxy had {} MiB after {name}", memory >> 20);
    }
    assert!(replayed > 0, "no fault hit a request: nothing is shown");
    cluster.admin().has("calc", 3).await;
    cluster.stop().await;
}

/// The first instance's death is not yet known when its request meets the next one that is dying.
async fn instances_that_die_together_take_no_request_with_them(backend: Backend) {
    // They die soon after their start, again and again: that is the test's doing, not theirs.
    let keys = "size = 3\nconcurrency = 1\nrestart.backoff = { initial = \"10ms\", max = \"50ms\" }";
    let arguments = "calculator --exclusive --fault-latency 20ms";
    let cluster = Setup::new(backend).model("calc", arguments, keys).start().await;
    for round in 0..12 {
        let load = tokio::spawn(at_rate(cluster.client(), Payload::Get, RATE, Duration::from_secs(1)));
        tokio::time::sleep(Duration::from_millis(300 + 7 * round)).await;
        let victims = cluster.admin().instances("calc").await;
        cluster.kill_instances(&victims).await;
        load.await.expect("no panic").lost_nothing();
        cluster.admin().has("calc", 3).await;
    }
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

/// Two thirds of what three instances can do here with this payload.
async fn two_thirds(cluster: &Cluster, payload: &Payload) -> f64 {
    let most = capacity(&cluster.client(), payload, 3, Duration::from_secs(1)).await;
    (most * 2.0 / 3.0).clamp(1.0, RATE)
}

/// One killed every few seconds; at six tenths all at once; at three quarters one paused. Returns the kills.
async fn faults(cluster: &Cluster, duration: Duration) -> usize {
    let begun = tokio::time::Instant::now();
    let (all, pause) = (begun + duration.mul_f64(0.6), begun + duration.mul_f64(0.75));
    let mut kills = 0;
    let mut next = begun + KILL_EVERY;
    while next < all {
        tokio::time::sleep_until(next).await;
        if let Some(victim) = cluster.admin().ready("calc").await.into_iter().next() {
            cluster.kill_instance(&victim).await;
            kills += 1;
        }
        next += KILL_EVERY;
    }
    tokio::time::sleep_until(all).await;
    let victims = cluster.admin().instances("calc").await;
    cluster.kill_instances(&victims).await;
    kills += victims.len();
    tokio::time::sleep_until(pause).await;
    if let Some(victim) = cluster.admin().ready("calc").await.into_iter().next() {
        cluster.freeze_instance(&victim).await;
        tokio::time::sleep(PAUSE).await;
        cluster.thaw_instance(&victim).await;
    }
    kills
}

fn report(name: &str, rate: f64, kills: usize, tally: &Tally, cluster: &Cluster) {
    eprintln!(
        "{name}: {} sent at {rate:.0}/s, {} answered, {} of them replayed, {kills} kills, slowest {:.2?}, peak memory {} KiB",
        tally.sent,
        tally.answered,
        tally.replayed,
        tally.slowest,
        process::peak_memory(cluster.pid()) >> 10,
    );
}

both!(heavy 300: nothing_is_lost_while_instances_are_killed_and_paused);
both!(heavy 120: instances_that_die_together_take_no_request_with_them);
