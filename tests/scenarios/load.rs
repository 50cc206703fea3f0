//! Under load: a size that follows the queue, a queue that is fair, and sizes that cannot be told.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use longshore_tests::admin::Admin;
use longshore_tests::{Backend, Cluster, PATIENCE, Setup, both, eventually};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The newest decision.
async fn decision(admin: &Admin) -> Value {
    admin.client().get("/services/calc/decisions").await.json()["decisions"][0].clone()
}

async fn a_size_follows_the_queue_up_and_down_and_says_why(backend: Backend) {
    let cluster = Setup::new(backend).model("calc", "sleep", "size = 1").start().await;
    let admin = cluster.admin();
    let size = json!({ "policy": "expression", "expression": "if queue > 7 { 2 } else { 1 }",
                       "interval": "100ms", "down_delay": "1s" });
    let reply = admin.put_size("calc", json!({ "size": size }).to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    admin.has("calc", 1).await;
    let mut open = JoinSet::new();
    for _ in 0..30 {
        let client = cluster.client();
        open.spawn(async move { client.get("/sleep/150ms").await });
    }
    let mut served = std::collections::BTreeSet::new();
    for reply in open.join_all().await {
        assert_eq!(reply.status, 200, "{}", reply.text());
        served.insert(reply.header("longshore-instance").to_owned());
    }
    assert_eq!(served.len(), 2, "{served:?}");
    admin.has("calc", 1).await;
    let explained = cluster.command(&["explain", "calc"]).await.stdout;
    let (up, down) = (explained.find("1 -> 2  (expression)"), explained.find("2 -> 1  (expression)"));
    assert!(up.is_some() && down < up, "the newest first: {explained}");
    assert!(explained.contains("recommended 2") && explained.contains("saw: queue "), "{explained}");
    admin.lost_nothing("calc").await;
    cluster.stop().await;
}

/// Work on one request.
const WORK: Duration = Duration::from_millis(100);

/// Sends one request after the other over so many connections until the end; how long each took.
async fn load(cluster: &Cluster, user: &'static str, connections: usize, end: Instant) -> Vec<Duration> {
    let mut all = JoinSet::new();
    for _ in 0..connections {
        let client = cluster.client();
        all.spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < end {
                let begun = Instant::now();
                let request = Request::get("/sleep/100ms").header("x-user", user);
                let reply = client.send(request, Bytes::new()).await;
                assert_eq!(reply.status, 200, "{}", reply.text());
                took.push(begun.elapsed());
            }
            took
        });
    }
    let mut took = all.join_all().await.concat();
    took.sort_unstable();
    took
}

async fn a_light_client_beside_a_heavy_one_waits_a_tenth_as_long(backend: Backend) {
    let keys = "queue = { order = \"fair\", fair_key = \"header:X-User\" }";
    let cluster = Setup::new(backend).model("calc", "sleep", keys).start().await;
    // A turn of the heavy one takes 38 s: each of its connections has two.
    let end = Instant::now() + Duration::from_secs(40);
    let (heavy, light) = tokio::join!(load(&cluster, "heavy", 190, end), load(&cluster, "light", 10, end));
    let median = |took: &[Duration]| took[took.len() / 2].saturating_sub(WORK);
    let (heavy, light) = (median(&heavy), median(&light));
    assert!(light * 10 <= heavy, "the light one waits {light:?}, the heavy one {heavy:?}");
    let rejected = cluster.admin().metrics().await.sum("longshore_rejected_total", &[("service", "calc")]);
    assert!(rejected.abs() < 0.5, "{rejected} were rejected");
    cluster.stop().await;
}

async fn a_size_that_cannot_be_told_is_pointed_at_or_kept(backend: Backend) {
    let keys = "size = { policy = \"fixed\", size = 2, max = 4 }";
    let cluster = Setup::new(backend).model("calc", "calculator", keys).start().await;
    let admin = cluster.admin();
    let put = async |size: &Value| admin.put_size("calc", json!({ "size": size }).to_string()).await;
    // What can be seen at once is answered with its place.
    for (wrong, said) in [
        (json!("if queue > 7 { 2 } else {"), "line 1"),
        (json!("1 + quue"), "quue"),
        (json!({"policy": "expression", "expression": "1 +"}), "/size/expression"),
    ] {
        let reply = put(&wrong).await;
        assert_eq!(reply.status, 400, "{wrong}: {}", reply.text());
        assert!(reply.text().contains(said), "{wrong}: {}", reply.detail());
    }
    // What shows only when it is reckoned keeps the size, and is counted. No request has come: the queue is empty.
    for (wrong, said) in [
        ("1 / queue", "division by zero"),
        ("0.0 / 0.0", "NaN"),
        ("let n = 0; while n >= 0 { n += 1 } n", "is there a loop without end"),
        ("\"two\"", "number"),
    ] {
        let before = admin.metrics().await.sum("longshore_policy_errors_total", &[("service", "calc")]);
        let form = json!({ "policy": "expression", "expression": wrong, "interval": "100ms" });
        let reply = put(&form).await;
        if reply.status == 400 {
            assert!(reply.text().contains("/size/expression"), "{wrong}: {}", reply.detail());
            continue;
        }
        assert_eq!(reply.status, 200, "{wrong}: {}", reply.text());
        let failed = eventually(PATIENCE, "the failure is recorded", async || {
            let decision = decision(&admin).await;
            (decision["failed"] == true).then_some(decision)
        })
        .await;
        let reason = failed["reason"].to_string();
        assert!(failed["size"] == 2, "{wrong}: {reason}");
        let worded = reason.to_lowercase().contains(&said.to_lowercase());
        assert!(worded, "{wrong}: {said} is not in {reason}");
        let counted = admin.metrics().await.sum("longshore_policy_errors_total", &[("service", "calc")]);
        assert!(counted > before, "{wrong}");
    }
    admin.has("calc", 2).await;
    assert_eq!(cluster.client().get("/add/3/4").await.text(), "7");
    cluster.stop().await;
}

/// A server that answers every connection so, or never.
async fn decider(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/decide", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            if let Some(answer) = answer {
                let _ = stream.read(&mut [0; 4_096]).await;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
                let _ = stream.write_all(head.as_bytes()).await;
            }
            open.push(stream);
        }
    });
    url
}

async fn a_webhook_that_is_down_slow_or_lying_keeps_the_size(backend: Backend) {
    let cluster = Setup::new(backend).model("calc", "calculator", "size = 2").start().await;
    let admin = cluster.admin();
    let down = "http://127.0.0.1:1/decide".to_owned();
    for (url, said) in [
        (down, "connection refused"),
        (decider(None).await, "no answer within 300ms"),
        (decider(Some("{\"size\": -1}")).await, "its answer is not"),
        (decider(Some("{\"size\": \"many\"}")).await, "its answer is not"),
    ] {
        let size = json!({ "policy": "webhook", "url": url, "timeout": "300ms", "interval": "100ms" });
        let reply = admin.put_size("calc", json!({ "size": size }).to_string()).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let reason = eventually(PATIENCE, said, async || {
            let decision = decision(&admin).await;
            let reason = decision["reason"].to_string();
            (decision["failed"] == true && reason.contains(said))
                .then_some((reason, decision["size"].clone()))
        })
        .await;
        assert_eq!(reason.1, 2, "{}", reason.0);
    }
    // One that says far too much is held to the bounds.
    let url = decider(Some("{\"size\": 4000000000}")).await;
    let size = json!({ "policy": "webhook", "url": url, "interval": "100ms", "max": 3 });
    admin.put_size("calc", json!({ "size": size }).to_string()).await;
    admin.has("calc", 3).await;
    assert!(admin.metrics().await.sum("longshore_policy_errors_total", &[("service", "calc")]) >= 4.0);
    cluster.stop().await;
}

both!(light 120: a_size_follows_the_queue_up_and_down_and_says_why);
both!(light 180: a_light_client_beside_a_heavy_one_waits_a_tenth_as_long);
both!(light 120: a_size_that_cannot_be_told_is_pointed_at_or_kept);
both!(light 120: a_webhook_that_is_down_slow_or_lying_keeps_the_size);
