//! Clients that leave, and clients that speak HTTP/2.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use longshore_tests::raw::Raw;
use longshore_tests::{Backend, Cluster, Reply, Setup, digest, each};
use tokio::net::TcpStream;

async fn one_slot() -> Cluster {
    Setup::new(Backend::Process).model("sleep", "sleep", "concurrency = 1").start().await
}

async fn gone(cluster: &Cluster, count: f64) {
    cluster.admin().counts("longshore_client_gone_total", &[("service", "sleep")], count).await;
}

async fn a_client_that_leaves_the_queue_gives_up_its_place_and_nothing_else() {
    let cluster = one_slot().await;
    let admin = cluster.admin();
    let ask = |path: &'static str| {
        let client = cluster.client();
        tokio::spawn(async move { client.get(path).await.status })
    };
    let working = ask("/sleep/2s");
    admin.works_on("sleep", 1).await;
    let mut leaving = Raw::connect(cluster.address()).await;
    leaving.send("GET /sleep/9s HTTP/1.1\r\nHost: sleep\r\n\r\n").await;
    admin.queues("sleep", 1).await;
    let staying = ask("/sleep/1ms");
    admin.queues("sleep", 2).await;
    drop(leaving);
    admin.queues("sleep", 1).await;
    assert_eq!(admin.in_flight("sleep").await, 1);
    gone(&cluster, 1.0).await;
    assert_eq!((working.await.expect("no panic"), staying.await.expect("no panic")), (200, 200));
    gone(&cluster, 1.0).await;
    admin.lost_nothing("sleep").await;
    cluster.stop().await;
}

async fn a_client_that_leaves_its_instance_frees_the_slot_at_once() {
    let cluster = one_slot().await;
    let admin = cluster.admin();
    let mut leaving = Raw::connect(cluster.address()).await;
    leaving.send("GET /sleep/30s HTTP/1.1\r\nHost: sleep\r\n\r\n").await;
    admin.works_on("sleep", 1).await;
    let client = cluster.client();
    let waiting = tokio::spawn(async move { client.get("/sleep/1ms").await.status });
    admin.queues("sleep", 1).await;
    let begun = Instant::now();
    drop(leaving);
    assert_eq!(waiting.await.expect("no panic"), 200);
    assert!(begun.elapsed() < Duration::from_secs(2), "the slot was freed after {:?}", begun.elapsed());
    gone(&cluster, 1.0).await;
    let stats = cluster.client().get("/stats").await.json();
    assert_eq!(stats["at_work"], 0, "the instance works on for nobody: {stats}");
    admin.lost_nothing("sleep").await;
    cluster.stop().await;
}

async fn a_client_that_leaves_in_the_middle_of_its_answer_frees_the_slot() {
    let cluster = one_slot().await;
    let mut leaving = Raw::connect(cluster.address()).await;
    leaving.send("GET /stream?chunks=1000&interval_ms=50 HTTP/1.1\r\nHost: sleep\r\n\r\n").await;
    leaving.until("\r\n\r\n").await;
    assert_eq!(cluster.admin().in_flight("sleep").await, 1);
    drop(leaving);
    cluster.admin().works_on("sleep", 0).await;
    gone(&cluster, 1.0).await;
    assert_eq!(cluster.client().get("/sleep/1ms").await.status, 200);
    cluster.admin().lost_nothing("sleep").await;
    cluster.stop().await;
}

async fn a_client_that_leaves_in_the_middle_of_its_request_frees_the_slot() {
    let cluster = one_slot().await;
    let mut leaving = Raw::connect(cluster.address()).await;
    leaving.send("POST / HTTP/1.1\r\nHost: sleep\r\nContent-Length: 100000000\r\n\r\nxxx").await;
    // A client that has sent next to nothing yet holds no slot.
    assert_eq!(cluster.client().get("/sleep/1ms").await.status, 200);
    leaving.send(&"x".repeat(300_000)).await;
    cluster.admin().works_on("sleep", 1).await;
    drop(leaving);
    cluster.admin().works_on("sleep", 0).await;
    let reply = cluster.client().get("/sleep/1ms").await;
    assert_eq!((reply.status, reply.header("longshore-attempts")), (200, "1"));
    assert_eq!(cluster.admin().has("sleep", 1).await[0].json["restarts"], 0);
    cluster.admin().lost_nothing("sleep").await;
    cluster.stop().await;
}

async fn many_clients_that_leave_leave_nothing_behind() {
    let cluster = one_slot().await;
    let client = cluster.client();
    let working = tokio::spawn(async move { client.get("/sleep/3s").await.status });
    cluster.admin().works_on("sleep", 1).await;
    let mut leaving = Vec::new();
    for _ in 0..500 {
        let mut raw = Raw::connect(cluster.address()).await;
        raw.send("GET /sleep/9s HTTP/1.1\r\nHost: sleep\r\n\r\n").await;
        leaving.push(raw);
    }
    cluster.admin().queues("sleep", 500).await;
    drop(leaving);
    cluster.admin().queues("sleep", 0).await;
    gone(&cluster, 500.0).await;
    assert_eq!(working.await.expect("no panic"), 200);
    assert_eq!(cluster.client().get("/sleep/1ms").await.status, 200);
    cluster.stop().await;
}

/// A connection that speaks HTTP/2 from its first byte.
async fn h2c(cluster: &Cluster) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(cluster.address()).await.expect("it listens");
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &mut SendRequest<Full<Bytes>>, request: http::request::Builder, body: Bytes) -> Reply {
    let response = sender.send_request(request.body(Full::new(body)).expect("a request")).await;
    Reply::collect(response.expect("an answer")).await.expect("a whole answer")
}

async fn http_2_without_tls_is_spoken() {
    let setup = Setup::new(Backend::Process).model("calc", "calculator", "size = 2\ndefault = true");
    let cluster = setup.model("echo", "echo", "").start().await;
    let mut sender = h2c(&cluster).await;
    let reply = ask(&mut sender, Request::get("http://calc/add/3/4"), Bytes::new()).await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "7"));
    assert!(reply.header("longshore-instance").starts_with("calc-"));
    for size in [0, 10, 300_000, 5 << 20] {
        let body = digest::body(size as u64, size);
        let request = Request::post("http://echo/x?y=1").header("content-digest", digest::field(&body));
        let reply = ask(&mut sender, request, body.clone().into()).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["body"]["sha256"], digest::hex(&body));
        assert_eq!(reply.json()["path"], "/x");
    }
    let reply = ask(&mut sender, Request::get("http://nobody/nonsense"), Bytes::new()).await;
    assert_eq!(reply.status, 404, "the default service answers");
    let request = Request::get("http://nobody/").header("longshore-service", "clac");
    let reply = ask(&mut sender, request, Bytes::new()).await;
    assert_eq!((reply.status, reply.problem().as_str()), (404, "no-service"));
    let large =
        Request::get("http://calc/add/3/4").header("fault", format!("crash; only={}", "x".repeat(100)));
    assert_eq!(ask(&mut sender, large, Bytes::new()).await.text(), "7");
    cluster.stop().await;
}

async fn streams_of_one_connection_share_all_instances() {
    let setup = Setup::new(Backend::Process);
    let cluster = setup.model("sleep", "sleep", "size = 4\nconcurrency = 1").start().await;
    let sender = h2c(&cluster).await;
    let begun = Instant::now();
    let mut open = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut sender = sender.clone();
        open.spawn(async move {
            ask(&mut sender, Request::get("http://sleep/sleep/300ms"), Bytes::new()).await.status
        });
    }
    assert_eq!(open.join_all().await, [200; 8]);
    assert!(begun.elapsed() < Duration::from_millis(1_500), "one after the other: {:?}", begun.elapsed());
    cluster.stop().await;
}

async fn a_stream_that_is_cancelled_frees_its_slot() {
    let cluster = one_slot().await;
    let mut sender = h2c(&cluster).await;
    for wait in [true, false] {
        let request =
            Request::get("http://sleep/sleep/30s").body(Full::new(Bytes::new())).expect("a request");
        let asked = tokio::spawn(sender.send_request(request));
        if wait {
            cluster.admin().works_on("sleep", 1).await;
        }
        asked.abort();
        cluster.admin().works_on("sleep", 0).await;
        cluster.admin().queues("sleep", 0).await;
        let reply = ask(&mut sender, Request::get("http://sleep/sleep/1ms"), Bytes::new()).await;
        assert_eq!(reply.status, 200, "the connection goes on");
    }
    cluster.stop().await;
}

each!(light 60: a_client_that_leaves_the_queue_gives_up_its_place_and_nothing_else);
each!(light 60: a_client_that_leaves_its_instance_frees_the_slot_at_once);
each!(light 60: a_client_that_leaves_in_the_middle_of_its_answer_frees_the_slot);
each!(light 60: a_client_that_leaves_in_the_middle_of_its_request_frees_the_slot);
each!(light 60: many_clients_that_leave_leave_nothing_behind, http_2_without_tls_is_spoken);
each!(light 60: streams_of_one_connection_share_all_instances, a_stream_that_is_cancelled_frees_its_slot);
