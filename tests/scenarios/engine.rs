//! An engine that dies and comes back: requests are answered all the time.

use std::time::Duration;

use longshore_tests::load::{Payload, at_rate};
use longshore_tests::{Backend, Engine, PATIENCE, Setup, each, eventually};

async fn requests_go_on_being_answered_while_the_engine_is_killed_and_started_again() {
    let mut engine = Engine::start().await;
    let cluster = Setup::new(Backend::Docker)
        .environment("DOCKER_HOST", &engine.host())
        .model("calc", "calculator --exclusive --fault-latency 20ms", "size = 3\nconcurrency = 1")
        .start()
        .await;
    let client = cluster.client();
    let load = tokio::spawn(at_rate(client.clone(), Payload::Get, 60.0, Duration::from_secs(18)));
    tokio::time::sleep(Duration::from_secs(3)).await;
    engine.kill();
    // Published ports go with the engine's own proxy, the containers go on.
    for _ in 0..20 {
        let answer = tokio::time::timeout(Duration::from_secs(3), client.get("/add/3/4")).await;
        assert_eq!(answer.expect("an answer while the engine is away").text(), "7");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    engine.again().await;
    let tally = load.await.expect("no panic");
    eprintln!("{} sent, {} answered, slowest {:.2?}", tally.sent, tally.answered, tally.slowest);
    tally.lost_nothing();
    cluster.admin().lost_nothing("calc").await;
    // News flow again: a death is noticed and made good.
    let victim = cluster.admin().has("calc", 3).await.remove(0);
    cluster.kill_instance(&victim).await;
    eventually(PATIENCE, "a killed instance is replaced", async || {
        let ready = cluster.admin().ready("calc").await;
        (ready.len() == 3 && ready.iter().all(|one| one.id != victim.id)).then_some(())
    })
    .await;
    eventually(PATIENCE, "none is doubled", async || {
        (cluster.docker().containers(cluster.name()).len() == 3).then_some(())
    })
    .await;
    cluster.stop().await;
}

async fn a_service_resized_while_the_engine_is_away_follows_when_it_is_back() {
    let mut engine = Engine::start().await;
    let setup = Setup::new(Backend::Docker).environment("DOCKER_HOST", &engine.host());
    let cluster = setup.model("calc", "calculator", "size = 1").start().await;
    engine.kill();
    assert_eq!(cluster.admin().set_size("calc", 3).await.status, 200);
    tokio::time::sleep(Duration::from_secs(2)).await;
    engine.again().await;
    cluster.admin().has("calc", 3).await;
    assert_eq!(cluster.client().get("/add/3/4").await.text(), "7");
    cluster.stop().await;
}

each!(heavy 150: requests_go_on_being_answered_while_the_engine_is_killed_and_started_again);
each!(heavy 120: a_service_resized_while_the_engine_is_away_follows_when_it_is_back);
