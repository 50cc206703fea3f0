//! Replacing instances that are well: nothing is lost, nothing is asked of them that they do not take.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use longshore_tests::load::{Payload, at_rate};
use longshore_tests::server::Recorder;
use longshore_tests::{Backend, Cluster, PATIENCE, Setup, both, each, eventually};
use tokio::task::JoinSet;

async fn ids(cluster: &Cluster) -> BTreeSet<String> {
    cluster.admin().has("calc", 3).await.into_iter().map(|instance| instance.id).collect()
}

async fn a_restart_under_load_changes_every_instance_and_loses_nothing(backend: Backend) {
    let keys = "size = 3\nconcurrency = 1";
    let cluster =
        Setup::new(backend).model("calc", "calculator --exclusive --fault-latency 20ms", keys).start().await;
    let before = ids(&cluster).await;
    let load = tokio::spawn(at_rate(cluster.client(), Payload::post(64 << 10), 60.0, Duration::from_secs(8)));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let reply = cluster.admin().post("/services/calc/restart").await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    eventually(PATIENCE, "all three are new", async || {
        let now = cluster.admin().ready("calc").await;
        (now.len() == 3 && now.iter().all(|one| !before.contains(&one.id))).then_some(())
    })
    .await;
    let tally = load.await.expect("no panic");
    tally.lost_nothing();
    assert_eq!(tally.replayed, 0, "a drained instance finishes its work");
    assert!(tally.slowest < Duration::from_secs(8), "somebody waited {:?}", tally.slowest);
    cluster.admin().lost_nothing("calc").await;
    assert!(ids(&cluster).await.is_disjoint(&before));
    cluster.stop().await;
}

async fn one_instance_can_be_replaced_or_killed_by_name(backend: Backend) {
    let cluster = Setup::new(backend).model("calc", "calculator", "size = 3").start().await;
    let admin = cluster.admin();
    let before = ids(&cluster).await;
    let one = before.first().cloned().expect("there are three");
    let path = format!("/services/calc/instances/{one}");
    let reply = admin.client().send(Request::delete(&path), Bytes::new()).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    let replaced = eventually(PATIENCE, "it is replaced", async || {
        let now = ids(&cluster).await;
        (!now.contains(&one)).then_some(now)
    })
    .await;
    assert_eq!(replaced.intersection(&before).count(), 2, "the others stay");
    let two = replaced.last().cloned().expect("there are three");
    let reply = admin.post(&format!("/services/calc/instances/{two}/kill")).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    eventually(PATIENCE, "it is replaced", async || (!ids(&cluster).await.contains(&two)).then_some(()))
        .await;
    let logs = ids(&cluster).await.first().cloned().expect("there are three");
    let logs = admin.client().get(&format!("/services/calc/instances/{logs}/logs")).await;
    assert!(logs.status == 200 && logs.text().contains("listen"), "{}", logs.text());
    for path in
        [format!("/services/calc/instances/{one}/kill"), "/services/calc/instances/calc-99-1/kill".to_owned()]
    {
        assert_eq!(admin.post(&path).await.status, 404, "{path}");
    }
    cluster.stop().await;
    let cluster = Setup::new(backend).model("calc", "calculator", "restart.policy = \"never\"").start().await;
    let admin = cluster.admin();
    let only = admin.has("calc", 1).await.remove(0).id;
    let kill = format!("/services/calc/instances/{only}/kill");
    assert_eq!(admin.post(&kill).await.status, 202);
    eventually(PATIENCE, "it has ended", async || {
        (admin.service("calc").await["instances"][0]["state"] == "exited").then_some(())
    })
    .await;
    let again = admin.post(&kill).await;
    assert_eq!((again.status, again.problem().as_str()), (409, "conflict"), "{}", again.text());
    assert!(again.detail().contains("has ended already: it is exited"), "{}", again.detail());
    cluster.stop().await;
}

async fn servers_that_already_run_are_not_restarted() {
    let server = Recorder::start().await.address;
    let listed = format!("[services.listed]\naddresses = [\"{server}\"]\nhealth.path = \"/healthz\"\n");
    let cluster = Setup::new(Backend::Process).service(&listed).start().await;
    let before = cluster.admin().has("listed", 1).await.remove(0).id;
    let reply = cluster.admin().post("/services/listed/restart").await;
    assert_eq!((reply.status, reply.problem().as_str()), (409, "conflict"), "{}", reply.text());
    assert!(reply.detail().contains("not Longshore's to restart"), "{}", reply.detail());
    assert_eq!(cluster.admin().has("listed", 1).await.remove(0).id, before);
    cluster.stop().await;
}

async fn no_instance_ever_gets_more_than_it_takes(backend: Backend) {
    let keys = "size = 3\nconcurrency = 2\nreplay.busy = []";
    let arguments = "calculator --concurrency 2 --fault-latency 5ms";
    let cluster = Setup::new(backend).model("calc", arguments, keys).start().await;
    let mut clients = JoinSet::new();
    for _ in 0..30 {
        let client = cluster.client();
        clients.spawn(async move {
            for number in 0..50_u32 {
                let reply = client.get(&format!("/add/{number}/1")).await;
                // One too many is told 503 by the instance itself, which passes through here.
                assert_eq!((reply.status, reply.text()), (200, (number + 1).to_string()));
            }
        });
    }
    clients.join_all().await;
    let mut most = 0;
    for _ in 0..20 {
        let stats = cluster.client().get("/stats").await.json();
        assert_eq!(stats["violations"], 0, "{stats}");
        most = most.max(stats["most_at_work"].as_u64().unwrap_or_default());
    }
    assert_eq!(most, 2, "and they are used to the full");
    cluster.stop().await;
}

async fn requests_spread_over_instances_that_are_equally_busy() {
    let keys = "size = 4\nconcurrency = 0";
    let cluster =
        Setup::new(Backend::Process).model("calc", "calculator --fault-latency 10ms", keys).start().await;
    let mut counts = std::collections::BTreeMap::<String, u32>::new();
    let mut open = JoinSet::new();
    for _ in 0..400 {
        let client = cluster.client();
        open.spawn(async move { client.get("/add/1/1").await.header("longshore-instance").to_owned() });
    }
    for instance in open.join_all().await {
        *counts.entry(instance).or_default() += 1;
    }
    assert_eq!(counts.len(), 4, "{counts:?}");
    assert!(counts.values().all(|&count| count > 40), "{counts:?}");
    cluster.stop().await;
}

both!(heavy 90: a_restart_under_load_changes_every_instance_and_loses_nothing);
both!(light 60: no_instance_ever_gets_more_than_it_takes);
both!(light 60: one_instance_can_be_replaced_or_killed_by_name);
each!(light 60: requests_spread_over_instances_that_are_equally_busy);
each!(light 60: servers_that_already_run_are_not_restarted);
