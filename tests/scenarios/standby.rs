//! Instances kept paused: resumed when they are needed, without a start; replaced when they die in their sleep.

use std::time::{Duration, Instant};

use longshore_tests::{Backend, Cluster, PATIENCE, Setup, both, each, eventually};
use serde_json::json;
use tokio::task::JoinSet;

/// Waits until so many are ready and so many in standby, and no instance is in any other state; the ids of the latter.
async fn settles(cluster: &Cluster, ready: usize, standby: usize) -> Vec<String> {
    let what = format!("calc has {ready} ready and {standby} in standby");
    eventually(PATIENCE, &what, async || {
        let instances = cluster.admin().instances("calc").await;
        let of = |state: &str| -> Vec<String> {
            instances.iter().filter(|it| it.state == state).map(|it| it.id.clone()).collect()
        };
        let settled = instances.len() == ready + standby && of("ready").len() == ready;
        (settled && of("standby").len() == standby).then(|| of("standby"))
    })
    .await
}

async fn a_burst_is_served_by_resumed_instances_without_a_start(backend: Backend) {
    let keys = "size = { policy = \"expression\", expression = \"if queue > 2 { 3 } else { 1 }\", standby = 2, \
                interval = \"100ms\", down_delay = \"1s\" }";
    let service = "sleep --fault-start-delay 1s";
    let cluster = Setup::new(backend).model("calc", service, keys).serve().await;
    let asleep = settles(&cluster, 1, 2).await;
    let there: Vec<String> = cluster.admin().instances("calc").await.into_iter().map(|it| it.id).collect();
    let mut open = JoinSet::new();
    for _ in 0..12 {
        let client = cluster.client();
        open.spawn(async move {
            let reply = client.get("/sleep/400ms").await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            reply.header("longshore-instance").to_owned()
        });
    }
    let served = open.join_all().await;
    for id in &asleep {
        assert!(served.contains(id), "{id} was not resumed in time: {served:?}");
    }
    assert!(served.iter().all(|id| there.contains(id)), "{served:?} were not all there before: {there:?}");
    let page = cluster.command(&["explain", "calc"]).await;
    assert!(page.stdout.contains("1 -> 3  (expression)"), "{}", page.stdout);
    assert!(page.stdout.contains("standby 2"), "{}", page.stdout);
    settles(&cluster, 1, 2).await;
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

async fn one_that_is_killed_in_standby_is_replaced(backend: Backend) {
    let keys = "size = { policy = \"fixed\", size = 1, standby = 1 }";
    let cluster = Setup::new(backend).model("calc", "calculator", keys).serve().await;
    let asleep = settles(&cluster, 1, 1).await.remove(0);
    let labels = [("service", "calc"), ("state", "standby")];
    cluster.admin().counts("longshore_instances", &labels, 1.0).await;
    let listed = cluster.command(&["ps"]).await;
    assert!(listed.stdout.contains("STANDBY") && listed.stdout.contains("standby"), "{}", listed.stdout);
    cluster.admin().post(&format!("/services/calc/instances/{asleep}/kill")).await;
    let after = eventually(PATIENCE, "another one is in standby", async || {
        let instances = cluster.admin().instances("calc").await;
        instances.into_iter().find(|it| it.state == "standby" && it.id != asleep)
    })
    .await;
    let cause = after.json["last_death"].as_str().unwrap_or_default();
    assert!(cause.contains("signal 9"), "{cause}");
    assert_eq!(cluster.client().get("/add/3/4").await.text(), "7");
    cluster.stop().await;
}

async fn from_zero_a_request_wakes_a_paused_instance(backend: Backend) {
    let keys = "size = { policy = \"concurrency\", max = 2, standby = 1, stable_window = \"1s\", \
                interval = \"100ms\", down_delay = \"1s\" }";
    let service = "calculator --fault-start-delay 2s";
    let cluster = Setup::new(backend).model("calc", service, keys).serve().await;
    let asleep = settles(&cluster, 0, 1).await;
    let begun = Instant::now();
    let reply = cluster.client().get("/add/3/4").await;
    let took = begun.elapsed();
    assert_eq!((reply.text(), reply.header("longshore-instance")), ("7".to_owned(), &*asleep[0]));
    assert!(took < Duration::from_secs(2), "{took:?} is as long as a start");
    settles(&cluster, 0, 1).await;
    cluster.stop().await;
}

async fn the_size_changes_by_resuming_and_pausing_and_all_end_with_the_cluster(backend: Backend) {
    let keys = "size = { policy = \"fixed\", size = 1, standby = 2 }";
    let cluster = Setup::new(backend).model("calc", "calculator", keys).serve().await;
    settles(&cluster, 1, 2).await;
    let reply = cluster.admin().set_size("calc", 3).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    settles(&cluster, 3, 2).await;
    cluster
        .admin()
        .put_size("calc", json!({"size": {"policy": "fixed", "size": 2, "standby": 0}}).to_string())
        .await;
    cluster.admin().has("calc", 2).await;
    cluster
        .admin()
        .put_size("calc", json!({"size": {"policy": "fixed", "size": 1, "standby": 1}}).to_string())
        .await;
    settles(&cluster, 1, 1).await;
    cluster.admin().post("/services/calc/restart").await;
    eventually(PATIENCE, "all are replaced", async || {
        let instances = cluster.admin().instances("calc").await;
        let new = |it: &longshore_tests::admin::Instance| it.json["outdated"] == false;
        (instances.len() == 2 && instances.iter().all(new)).then_some(())
    })
    .await;
    settles(&cluster, 1, 1).await;
    cluster.stop().await;
}

async fn paused_containers_are_found_again_as_standby() {
    let keys = "size = { policy = \"fixed\", size = 1, standby = 1 }";
    let mut cluster = Setup::new(Backend::Docker).model("calc", "calculator", keys).serve().await;
    let asleep = settles(&cluster, 1, 1).await;
    cluster.kill().await;
    cluster.again().await;
    assert_eq!(settles(&cluster, 1, 1).await, asleep);
    cluster.admin().set_size("calc", 2).await;
    settles(&cluster, 2, 1).await;
    let ready: Vec<String> = cluster.admin().ready("calc").await.into_iter().map(|it| it.id).collect();
    assert!(ready.contains(&asleep[0]), "{ready:?}");
    cluster.stop().await;
}

both!(light 120: a_burst_is_served_by_resumed_instances_without_a_start);
both!(light 90: one_that_is_killed_in_standby_is_replaced, from_zero_a_request_wakes_a_paused_instance);
both!(light 120: the_size_changes_by_resuming_and_pausing_and_all_end_with_the_cluster);
each!(light 90: paused_containers_are_found_again_as_standby);
