//! Connections that are taken over by another protocol, over HTTP/1.1 and over HTTP/2 (RFC 8441).

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use longshore_tests::http2::Http2;
use longshore_tests::raw::Raw;
use longshore_tests::{Backend, Cluster, Setup, both, each};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn cluster(backend: Backend, keys: &str) -> Cluster {
    let cluster = Setup::new(backend).model("calc", "calculator", keys).start().await;
    cluster.settled().await;
    cluster
}

/// An extended CONNECT.
fn connect(path: &str, protocol: &'static str, fault: &str) -> http::request::Builder {
    Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://calc{path}"))
        .header("fault", fault)
        .extension(Protocol::from_static(protocol))
}

fn nothing() -> impl hyper::body::Body<Data = Bytes, Error = std::io::Error> + Send + 'static {
    Empty::new().map_err(|never| match never {})
}

/// Sends every word, and waits for it to come back before the next.
async fn echoes(stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin)) {
    for word in ["ping", "\u{0}\u{1}", "GET / HTTP/1.1\r\n\r\n"] {
        stream.write_all(word.as_bytes()).await.expect("it is open");
        let mut back = vec![0; word.len()];
        stream.read_exact(&mut back).await.expect("it comes back");
        assert_eq!(back, word.as_bytes());
    }
}

async fn a_stream_of_http2_is_taken_over_like_a_connection(backend: Backend) {
    let cluster = cluster(backend, "concurrency = 4").await;
    let client = Http2::connect(cluster.address()).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let response =
            client.open(connect("/upgrade", "echo", "latency=0"), nothing()).await.expect("an answer");
        assert_eq!(response.status(), 200);
        for hidden in ["connection", "upgrade", "sec-websocket-accept"] {
            assert!(!response.headers().contains_key(hidden), "{hidden} is none of HTTP/2's");
        }
        open.push(TokioIo::new(hyper::upgrade::on(response).await.expect("it is taken over")));
    }
    for stream in &mut open {
        echoes(stream).await;
    }
    assert_eq!(cluster.admin().in_flight("calc").await, 3, "each holds its slot");
    // The end of one half reaches the instance, whose end comes back.
    let mut first = open.remove(0);
    first.shutdown().await.expect("it is open");
    assert_eq!(first.read(&mut [0]).await.expect("it ends as it should"), 0);
    cluster.admin().works_on("calc", 2).await;
    drop(open);
    cluster.admin().works_on("calc", 0).await;
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

async fn what_is_not_taken_over_does_not_look_as_if_it_were() {
    let cluster = cluster(Backend::Process, "").await;
    let client = Http2::connect(cluster.address()).await;
    for (path, status) in [("/add/3/4", 502), ("/status/403", 403), ("/status/404", 404)] {
        let response =
            client.open(connect(path, "websocket", "latency=0"), nothing()).await.expect("an answer");
        assert_eq!(response.status(), status, "{path}");
    }
    // A CONNECT without a protocol asks for a tunnel.
    let tunnel = Request::builder().method(Method::CONNECT).uri("calc:80");
    let refused = client.open(tunnel, nothing()).await;
    assert!(refused.as_ref().map_or(true, |response| response.status() == 400), "{refused:?}");
    assert_eq!(client.send(Request::get("http://calc/add/3/4"), "").await.text(), "7");
    cluster.admin().works_on("calc", 0).await;
    cluster.stop().await;
}

async fn a_handshake_whose_instance_dies_is_sent_again(backend: Backend) {
    let cluster = cluster(backend, "size = 1").await;
    let somebody = async || {
        cluster.client().get("/stats").await.json()["instance"].as_str().expect("it has a name").to_owned()
    };
    let fault = format!("crash; after=arrival; only={}", somebody().await);
    let client = Http2::connect(cluster.address()).await;
    let response = client.open(connect("/upgrade", "echo", &fault), nothing()).await.expect("an answer");
    assert_eq!(
        (response.status().as_u16(), &response.headers()["longshore-attempts"]),
        (200, &"2".parse().expect("a value"))
    );
    let mut stream = TokioIo::new(hyper::upgrade::on(response).await.expect("it is taken over"));
    echoes(&mut stream).await;
    drop(stream);
    cluster.settled().await;
    let fault = format!("crash; after=arrival; only={}", somebody().await);
    let mut raw = Raw::connect(cluster.address()).await;
    raw.send(format!(
        "GET /upgrade HTTP/1.1\r\nHost: calc\r\nConnection: Upgrade\r\nUpgrade: echo\r\nFault: {fault}\r\n\r\n"
    ))
    .await;
    let head = raw.until("\r\n\r\n").await.to_lowercase();
    assert!(head.starts_with("http/1.1 101 ") && head.contains("longshore-attempts: 2"), "{head}");
    raw.send("hello").await;
    raw.until("hello").await;
    cluster.admin().lost_nothing("calc").await;
    drop(raw);
    cluster.stop().await;
}

async fn an_open_connection_is_not_idle_and_sends_no_header() {
    let setup = Setup::new(Backend::Process).proxy("request_header_timeout = \"1s\"\nidle_timeout = \"1s\"");
    let cluster = setup.model("calc", "calculator", "").start().await;
    let mut raw = Raw::connect(cluster.address()).await;
    raw.send("GET /upgrade HTTP/1.1\r\nHost: calc\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n").await;
    raw.until("\r\n\r\n").await;
    raw.send("first").await;
    raw.until("first").await;
    assert!(raw.is_silent_for(Duration::from_millis(2_500)).await, "it was closed");
    raw.send("second").await;
    raw.until("second").await;
    cluster.stop().await;
}

async fn an_open_connection_is_waited_for_at_the_end() {
    let setup = Setup::new(Backend::Process).proxy("drain = \"20s\"");
    let mut cluster = setup.model("calc", "calculator", "").start().await;
    let mut raw = Raw::connect(cluster.address()).await;
    raw.send("GET /upgrade HTTP/1.1\r\nHost: calc\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n").await;
    raw.until("\r\n\r\n").await;
    cluster.signal(nix::sys::signal::Signal::SIGTERM);
    for word in ["first", "second", "third"] {
        tokio::time::sleep(Duration::from_millis(700)).await;
        raw.send(word).await;
        raw.until(word).await;
    }
    drop(raw);
    assert!(cluster.ended(Duration::from_secs(10)).await.success());
}

async fn no_handshake_is_lost() {
    const CLIENTS: usize = 10;
    const EACH: usize = 300;
    let cluster = cluster(Backend::Process, "size = 2\nconcurrency = 5").await;
    let address = cluster.address();
    let clients = (0..CLIENTS).map(|_| {
        tokio::spawn(async move {
            for number in 0..EACH {
                let mut raw = Raw::connect(address).await;
                let word = format!("word {number}.");
                // Its first bytes come with the handshake, as an eager client sends them.
                raw.send(format!(
                    "GET /upgrade HTTP/1.1\r\nHost: calc\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n{word}"
                ))
                .await;
                let all = raw.until(&word).await;
                assert!(all.starts_with("HTTP/1.1 101 "), "{all}");
                raw.finish().await;
                assert!(raw.rest().await.ends_with(&word));
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("no handshake is lost");
    }
    cluster.admin().works_on("calc", 0).await;
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

both!(light 60: a_stream_of_http2_is_taken_over_like_a_connection, a_handshake_whose_instance_dies_is_sent_again);
each!(light 60: an_open_connection_is_waited_for_at_the_end);
each!(light 60: what_is_not_taken_over_does_not_look_as_if_it_were, an_open_connection_is_not_idle_and_sends_no_header);
each!(heavy 120: no_handshake_is_lost);
