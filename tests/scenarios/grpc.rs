//! gRPC, and HTTP/2 to instances (`protocol = "h2c"`).

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use longshore_tests::http2::{Http2, frame, grpc, messages, status};
use longshore_tests::load::{Payload, at_rate};
use longshore_tests::{Backend, Cluster, Setup, both, client, digest, each};

async fn cluster(backend: Backend, keys: &str) -> Cluster {
    let keys = format!("protocol = \"h2c\"\n{keys}");
    let cluster = Setup::new(backend).model("calc", "calculator", &keys).start().await;
    cluster.settled().await;
    cluster
}

/// The name by which the model server of an instance knows itself.
async fn somebody(cluster: &Cluster) -> String {
    cluster.client().get("/stats").await.json()["instance"].as_str().expect("it has a name").to_owned()
}

/// What is sent, framed; the messages of the answer that are wanted; the status.
type Call = (&'static str, &'static [&'static str], Vec<String>, &'static str);

async fn calls_of_every_kind_are_answered_with_their_trailers(backend: Backend) {
    let cluster = cluster(backend, "size = 2\nconcurrency = 4").await;
    let client = Http2::connect(cluster.address()).await;
    let sum = |sent: &[&str]| {
        let body: Vec<u8> = sent.iter().flat_map(|message| frame(message.as_bytes())).collect();
        vec![format!("{{\"length\":{},\"sha256\":\"{}\"}}", body.len(), digest::hex(&body))]
    };
    let numbers = (0..10).map(|number: u8| number.to_string()).collect();
    let rows: [Call; 6] = [
        ("Sum", &["one"], sum(&["one"]), "0"),
        ("Sum", &["one", "two", "three"], sum(&["one", "two", "three"]), "0"),
        ("Count", &[""], numbers, "0"),
        ("Chat", &["a", "b", "c"], vec!["a".to_owned(), "b".to_owned(), "c".to_owned()], "0"),
        ("Chat", &[], vec![], "0"),
        ("Nothing", &["x"], vec![], "12"),
    ];
    for (method, sent, wanted, code) in rows {
        let body: Vec<u8> = sent.iter().flat_map(|message| frame(message.as_bytes())).collect();
        let reply = client.send(grpc(method), body).await;
        assert_eq!((reply.status, reply.header("content-type")), (200, "application/grpc"), "{method}");
        assert_eq!((messages(&reply.body), status(&reply).as_str()), (wanted, code), "{method} {sent:?}");
        assert_eq!(
            reply.trailers.contains_key("grpc-status"),
            code == "0",
            "{method}: trailers are trailers"
        );
        assert!(reply.header("longshore-instance").starts_with("calc-"), "{method}");
    }
    cluster.admin().works_on("calc", 0).await;
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

async fn a_chat_flows_both_ways_at_once(backend: Backend) {
    let cluster = cluster(backend, "concurrency = 2").await;
    let client = Http2::connect(cluster.address()).await;
    let (sender, body) = client::channel();
    sender.send(frame(b"first")).await.expect("it is taken");
    let response = client.open(grpc("Chat"), body).await.expect("an answer");
    let mut answer = response.into_body();
    for word in ["first", "second", "third"] {
        let data = answer.frame().await.expect("more").expect("it is whole").into_data().expect("a message");
        assert_eq!(messages(&data), [word], "each comes back before the next one is sent");
        let next = if word == "first" { "second" } else { "third" };
        if word != "third" {
            sender.send(frame(next.as_bytes())).await.expect("it is taken");
        }
    }
    assert_eq!(cluster.admin().in_flight("calc").await, 1, "it holds its slot");
    drop(sender);
    let trailers = answer.frame().await.expect("more").expect("whole").into_trailers().expect("trailers");
    assert_eq!(trailers["grpc-status"], "0");
    // One whose client leaves in the middle gives its slot back.
    let (sender, body) = client::channel();
    sender.send(frame(b"x")).await.expect("it is taken");
    let leaving = client.open(grpc("Chat"), body).await.expect("an answer");
    cluster.admin().works_on("calc", 1).await;
    drop((leaving, sender));
    cluster.admin().works_on("calc", 0).await;
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

async fn a_call_whose_instance_dies_before_it_answers_is_sent_again(backend: Backend) {
    let cluster = cluster(backend, "size = 1\nconcurrency = 4").await;
    let client = Http2::connect(cluster.address()).await;
    let large = digest::body(3, 3 << 20);
    for (method, fault, message) in [
        ("Sum", "crash", &b"hello"[..]),
        ("Sum", "crash; after=arrival", &b"hello"[..]),
        ("Sum", "crash; after=body", &large[..]),
        ("Chat", "crash; after=arrival", &b"hello"[..]),
        ("Count", "crash; after=arrival", &b""[..]),
    ] {
        let fault = format!("{fault}; only={}", somebody(&cluster).await);
        let reply = client.call(grpc(method).header("fault", &fault), message).await;
        assert_eq!(
            (status(&reply).as_str(), reply.header("longshore-attempts")),
            ("0", "2"),
            "{method} {fault}"
        );
        match method {
            "Sum" => assert!(messages(&reply.body)[0].contains(&digest::hex(&frame(message))), "{fault}"),
            "Chat" => assert_eq!(messages(&reply.body), ["hello"]),
            _ => assert_eq!(messages(&reply.body).len(), 10),
        }
        cluster.settled().await;
    }
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

async fn longshore_tells_grpc_clients_of_errors_in_their_own_way(backend: Backend) {
    let cluster = cluster(backend, "queue.limit = 1\nhosts = [\"calc\"]").await;
    let client = Http2::connect(cluster.address()).await;
    // Its deadline, long before the service's.
    let begun = Instant::now();
    let late = grpc("Sum").header("fault", "latency=20s").header("grpc-timeout", "300m");
    let reply = client.call(late, b"x").await;
    assert_eq!((reply.status, status(&reply).as_str()), (200, "4"), "{}", reply.text());
    assert_eq!(reply.header("content-type"), "application/grpc");
    assert!(begun.elapsed() < Duration::from_secs(10) && reply.body.is_empty());
    // Its instances die of it.
    let reply = client.call(grpc("Sum").header("fault", "crash"), b"x").await;
    assert_eq!((reply.status, status(&reply).as_str()), (200, "14"));
    assert!(reply.header("grpc-message").contains("lost on 3 instances"), "{}", reply.header("grpc-message"));
    // Its instance dies in the middle of an answer.
    let reply = client.call(grpc("Count").header("fault", "crash; bytes=20"), b"").await;
    assert_eq!((reply.status, status(&reply).as_str()), (200, "14"));
    assert_eq!(reply.trailers["grpc-status"], "14");
    // Others are told as ever.
    let reply = client.send(Request::get("http://calc/add/3/4").header("fault", "crash"), "").await;
    assert_eq!((reply.status, reply.problem().as_str()), (502, "attempts-exhausted"));
    let reply = client.call(grpc("Sum").header("grpc-timeout", "soon"), b"x").await;
    assert_eq!(status(&reply), "3");
    cluster.stop().await;
}

async fn one_connection_carries_many_calls_and_never_more_than_the_instance_takes() {
    let setup = Setup::new(Backend::Process);
    let keys = "protocol = \"h2c\"\nconcurrency = 8\nreplay.busy = []";
    let cluster = setup.model("calc", "sleep --concurrency 8", keys).start().await;
    let client = Http2::connect(cluster.address()).await;
    let calls = (0..100).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.send(Request::get("http://calc/sleep/30ms"), "").await.status })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.expect("no panic"), 200);
    }
    let stats = cluster.client().get("/stats").await.json();
    assert_eq!((&stats["violations"], &stats["most_at_work"]), (&0.into(), &8.into()), "{stats}");
    cluster.stop().await;
}

async fn clients_of_http1_are_served_by_instances_of_http2() {
    let cluster = cluster(Backend::Process, "size = 2").await;
    let client = cluster.client();
    assert_eq!(client.get("/add/3/4").await.text(), "7");
    let body = digest::body(9, 2 << 20);
    assert_eq!(client.post("/", body.clone()).await.json()["sha256"], digest::hex(&body));
    assert!(client.get("/bytes/3000000").await.is_intact());
    let head = client.send(Request::head("/bytes/1000"), Bytes::new()).await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "1000", 0));
    assert_eq!(client.send(Request::options("/status/204"), Bytes::new()).await.status, 204);
    let refused = Request::get("/add/3/4").header("connection", "upgrade").header("upgrade", "websocket");
    assert_eq!(
        client.send(refused, Bytes::new()).await.text(),
        "7",
        "an upgrade that cannot be is not asked for"
    );
    cluster.stop().await;
}

async fn nothing_is_lost_while_instances_of_http2_are_killed(backend: Backend) {
    let cluster = cluster(backend, "size = 3\nconcurrency = 2").await;
    let load = [Payload::Get, Payload::post(300_000)]
        .map(|payload| tokio::spawn(at_rate(cluster.client(), payload, 15.0, Duration::from_secs(6))));
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let instances = cluster.admin().has("calc", 3).await;
        if let Some(victim) = instances.first() {
            cluster.kill_instance(victim).await;
        }
    }
    for load in load {
        load.await.expect("no panic").lost_nothing();
    }
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

both!(light 60: calls_of_every_kind_are_answered_with_their_trailers);
both!(light 90: a_call_whose_instance_dies_before_it_answers_is_sent_again);
both!(heavy 90: nothing_is_lost_while_instances_of_http2_are_killed);
both!(light 60: longshore_tells_grpc_clients_of_errors_in_their_own_way);
both!(light 60: a_chat_flows_both_ways_at_once);
each!(light 60: one_connection_carries_many_calls_and_never_more_than_the_instance_takes);
each!(light 60: clients_of_http1_are_served_by_instances_of_http2);
