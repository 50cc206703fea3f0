//! Answers that identical requests share: how many runs they cost, and who gets what when somebody dies or leaves.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use longshore_tests::{Backend, Client, Cluster, PATIENCE, Reply, Setup, both, each, eventually};
use serde_json::Value;
use tokio::task::JoinSet;

async fn cluster(backend: Backend, arguments: &str, keys: &str) -> Cluster {
    let keys = format!("concurrency = 4\n{keys}\n[services.calc.cache]\nttl = \"20s\"");
    Setup::new(backend).model("calc", arguments, &keys).start().await
}

/// So many clients ask for the same at once.
fn together(client: &Client, count: usize, request: impl Fn() -> http::request::Builder) -> JoinSet<Reply> {
    let mut open = JoinSet::new();
    for _ in 0..count {
        let (client, request) = (Client::new(client.address()), request());
        open.spawn(async move { client.send(request, Bytes::new()).await });
    }
    open
}

/// Requests that instances have answered, but for those that ask this.
async fn runs(cluster: &Cluster) -> u64 {
    let mut sum = 0;
    for instance in cluster.admin().ready("calc").await {
        let stats: Value = Client::new(instance.address.expect("it listens")).get("/stats").await.json();
        sum += stats["served"].as_u64().expect("a number");
    }
    sum
}

async fn counted(cluster: &Cluster, result: &str) -> f64 {
    let metrics = cluster.admin().metrics().await;
    metrics.sum("longshore_cache_requests_total", &[("service", "calc"), ("result", result)])
}

async fn identical_requests_share_one_run_and_then_one_answer(backend: Backend) {
    let cluster = cluster(backend, "calculator --fault-latency 700ms", "").await;
    let before = runs(&cluster).await;
    let replies = together(&cluster.client(), 20, || Request::get("/add/3/4")).join_all().await;
    assert_eq!(runs(&cluster).await, before + 1, "one run for all of them");
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.text() == "7" && reply.is_intact()));
    let has = |text: &str| replies.iter().filter(|reply| reply.header("cache-status") == text).count();
    assert_eq!(has("longshore; fwd=miss"), 1);
    let late = replies.iter().filter(|reply| reply.header("cache-status").contains("hit")).count();
    assert_eq!(has("longshore; fwd=miss; collapsed") + late, 19, "{replies:?}");
    let ids: std::collections::BTreeSet<&str> =
        replies.iter().map(|reply| reply.header("x-request-id")).collect();
    assert_eq!(ids.len(), 20, "each has its own id");
    let begun = Instant::now();
    let hit = cluster.client().get("/add/3/4").await;
    assert!(begun.elapsed() < Duration::from_millis(600), "{:?}", begun.elapsed());
    assert!(hit.header("cache-status").starts_with("longshore; hit; ttl=1"), "{:?}", hit.headers);
    assert!(hit.header("age").parse::<u64>().is_ok() && hit.is_intact());
    assert_eq!((counted(&cluster, "miss").await, counted(&cluster, "hit").await), (1.0, 1.0 + late as f64));
    assert!(cluster.admin().metrics().await.sum("longshore_cache_bytes", &[("service", "calc")]) > 0.0);
    // Another query is another request, and so is another body.
    assert_eq!(cluster.client().get("/add/3/4?x").await.header("cache-status"), "longshore; fwd=miss");
    for (body, status) in [("one", "fwd=miss"), ("two", "fwd=miss"), ("one", "hit")] {
        let reply = cluster.client().post("/", body).await;
        assert!(reply.header("cache-status").contains(status), "{body}: {:?}", reply.headers);
        assert_eq!(reply.json()["sha256"], longshore_tests::digest::hex(body.as_bytes()));
    }
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

async fn what_may_not_be_shared_is_not() {
    let cluster = cluster(Backend::Process, "echo", "").await;
    for fields in [
        &[("authorization", "Basic x")][..],
        &[("cache-control", "no-store")],
        &[("range", "bytes=0-1")],
        &[("fault", "busy; status=418")],
    ] {
        for _ in 0..2 {
            let request = fields
                .iter()
                .fold(Request::get("/x"), |request, (name, value)| request.header(*name, *value));
            let reply = cluster.client().send(request, Bytes::new()).await;
            assert!(!reply.header("cache-status").contains("hit"), "{fields:?}: {:?}", reply.headers);
            assert!(reply.header("cache-status").contains("fwd="), "{fields:?}: {:?}", reply.headers);
        }
    }
    for (method, hit) in [("GET", false), ("GET", true), ("HEAD", true), ("DELETE", false), ("GET", false)] {
        let reply = cluster.client().send(Request::builder().method(method).uri("/y"), Bytes::new()).await;
        assert_eq!(reply.header("cache-status").contains("hit"), hit, "{method}: {:?}", reply.headers);
        assert_eq!(reply.body.is_empty(), method == "HEAD");
        assert!(
            method != "HEAD" || reply.header("content-length").parse::<u64>().is_ok_and(|length| length > 0)
        );
    }
    let only = Request::get("/z").header("cache-control", "only-if-cached");
    let none = cluster.client().send(only, Bytes::new()).await;
    assert_eq!((none.status, none.problem().as_str()), (504, "timeout"));
    cluster.stop().await;
}

async fn nobody_is_lost_when_the_one_who_asked_first_leaves(backend: Backend) {
    let cluster = cluster(backend, "calculator --fault-latency 800ms", "").await;
    let first = tokio::spawn({
        let client = cluster.client();
        async move { client.get("/add/5/6").await }
    });
    cluster.admin().works_on("calc", 1).await;
    let mut others = together(&cluster.client(), 8, || Request::get("/add/5/6"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    first.abort();
    while let Some(reply) = others.join_next().await {
        let reply = reply.expect("no panic");
        assert_eq!((reply.status, reply.text().as_str()), (200, "11"));
    }
    assert!(counted(&cluster, "miss").await <= 2.0, "one of the others asked for all of them");
    assert!(counted(&cluster, "collapsed").await >= 1.0);
    cluster.admin().works_on("calc", 0).await;
    cluster.stop().await;
}

async fn a_run_whose_instance_dies_is_everybody_s_and_goes_on(backend: Backend) {
    let cluster = cluster(backend, "calculator --fault-latency 1500ms", "size = 2").await;
    let open = together(&cluster.client(), 10, || Request::get("/mul/6/7"));
    let busy = eventually(PATIENCE, "somebody works on it", async || {
        cluster.admin().ready("calc").await.into_iter().find(|one| one.json["in_flight"] == 1)
    })
    .await;
    cluster.kill_instance(&busy).await;
    for reply in open.join_all().await {
        assert_eq!((reply.status, reply.text().as_str()), (200, "42"));
        assert_eq!(reply.header("longshore-attempts"), "2", "{:?}", reply.headers);
    }
    assert_eq!(counted(&cluster, "miss").await, 1.0);
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

async fn a_request_that_kills_is_tried_for_one_of_them_only(backend: Backend) {
    let cluster = cluster(backend, "calculator", "replay.attempts = 2\nsize = 2").await;
    let poison = || Request::get("/add/1/1").header("fault", "crash; after=arrival");
    let open = together(&cluster.client(), 6, poison);
    let mut refused = 0;
    for reply in open.join_all().await {
        assert_eq!((reply.status, reply.problem().as_str()), (502, "attempts-exhausted"));
        refused += 1;
    }
    assert_eq!(refused, 6);
    let misses = counted(&cluster, "miss").await;
    assert!(misses < 6.0, "{misses} of them were tried");
    cluster.stop().await;
}

async fn a_stream_is_kept_as_it_passes_unless_it_is_too_large() {
    let keys = "concurrency = 4\n[services.calc.cache]\nttl = \"20s\"\nmax_entry = \"4KiB\"";
    let cluster = Setup::new(Backend::Process).model("calc", "calculator", keys).start().await;
    let small = "/stream?chunks=5&interval_ms=100&size=50";
    let large = "/stream?chunks=10&interval_ms=50&size=1000";
    for (path, runs_of_it, length) in [(small, 1.0, 250), (large, 3.0, 10_000)] {
        let before = counted(&cluster, "miss").await;
        let replies = together(&cluster.client(), 3, || Request::get(path)).join_all().await;
        assert!(
            replies.iter().all(|reply| reply.status == 200 && reply.body == replies[0].body),
            "{replies:?}"
        );
        assert!(replies[0].body.len() >= length, "{}", replies[0].body.len());
        assert_eq!(counted(&cluster, "miss").await - before, runs_of_it, "{path}");
    }
    assert!(cluster.client().get(small).await.header("cache-status").contains("hit"));
    assert!(!cluster.client().get(large).await.header("cache-status").contains("hit"));
    cluster.admin().works_on("calc", 0).await;
    cluster.stop().await;
}

both!(light 60: identical_requests_share_one_run_and_then_one_answer);
both!(light 60: a_run_whose_instance_dies_is_everybody_s_and_goes_on);
both!(light 60: nobody_is_lost_when_the_one_who_asked_first_leaves);
each!(light 60: what_may_not_be_shared_is_not);
both!(light 60: a_request_that_kills_is_tried_for_one_of_them_only);
each!(light 60: a_stream_is_kept_as_it_passes_unless_it_is_too_large);
