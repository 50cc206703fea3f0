//! Bodies on their way through: unbuffered, whole, of any size, in both directions.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use longshore_tests::raw::Raw;
use longshore_tests::{Backend, Cluster, PATIENCE, Setup, both, client, digest, each, eventually, process};
use sha2::{Digest as _, Sha256};

/// Of a large transfer.
const LARGE: usize = 100 << 20;

/// Most memory of the proxy while it passes one on.
const MEMORY: u64 = 64 << 20;

async fn cluster(backend: Backend) -> Cluster {
    Setup::new(backend).model("calc", "calculator", "").start().await
}

/// An empty request body, for [`longshore_tests::Client::open`].
fn nothing() -> impl hyper::body::Body<Data = Bytes, Error = std::io::Error> {
    Empty::new().map_err(|never| match never {})
}

async fn a_stream_reaches_the_client_while_it_is_made(backend: Backend) {
    let cluster = cluster(backend).await;
    for (path, kind) in [
        ("/stream?chunks=6&interval_ms=200&size=50", "application/octet-stream"),
        ("/stream?sse=1&chunks=6&interval_ms=200", "text/event-stream"),
    ] {
        let begun = Instant::now();
        let (response, _connection) =
            cluster.client().open(Request::get(path), nothing()).await.expect("an answer begins");
        assert_eq!(response.headers()["content-type"], kind);
        let mut body = response.into_body();
        let mut times = Vec::new();
        while let Some(frame) = body.frame().await {
            if frame.expect("the stream is whole").is_data() {
                times.push(begun.elapsed());
            }
        }
        let (first, last) = (times[0], times[times.len() - 1]);
        assert!(times.len() >= 6 && last >= Duration::from_millis(950), "{times:?}");
        assert!(first < last - Duration::from_millis(600), "the first part came with the last: {times:?}");
    }
    cluster.admin().works_on("calc", 0).await;
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

async fn a_request_reaches_the_instance_while_it_is_sent() {
    let cluster = cluster(Backend::Process).await;
    let mut raw = Raw::connect(cluster.address()).await;
    raw.send(
        "POST /reflect HTTP/1.1\r\nHost: calc\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\nTE: trailers\r\n\
         Connection: TE, close\r\n\r\n",
    )
    .await;
    for word in ["first", "second", "third"] {
        raw.send(format!("{:x}\r\n{word}\r\n", word.len())).await;
        // It comes back before the next one is sent.
        raw.until(word).await;
    }
    raw.send("0\r\nx-sum: 42\r\n\r\n").await;
    let answer = raw.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.trim_end().ends_with("x-sum: 42"), "the trailer is lost: {answer}");
    cluster.admin().works_on("calc", 0).await;
    cluster.stop().await;
}

async fn an_upgraded_connection_is_a_pipe_in_both_directions(backend: Backend) {
    let cluster = cluster(backend).await;
    let mut raw = Raw::connect(cluster.address()).await;
    raw.send(
        "GET /upgrade HTTP/1.1\r\nHost: calc\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\n",
    )
    .await;
    let head = raw.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.to_lowercase().contains("upgrade: echo"), "{head}");
    for word in ["ping", "\u{0}\u{1}", "POST / HTTP/1.1\r\n\r\n"] {
        raw.send(word).await;
        raw.until(word).await;
    }
    assert_eq!(cluster.admin().in_flight("calc").await, 1, "it holds its slot");
    raw.finish().await;
    raw.rest().await;
    cluster.admin().works_on("calc", 0).await;
    // One that is not taken up is an ordinary request.
    let refused = Request::get("/add/3/4").header("connection", "upgrade").header("upgrade", "websocket");
    assert_eq!(cluster.client().send(refused, Bytes::new()).await.text(), "7");
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

async fn an_open_stream_pins_its_instance_until_the_grace_of_a_stop(backend: Backend) {
    let keys = "concurrency = 1\nsize = 1\nstop_grace = \"3s\"";
    let cluster = Setup::new(backend).model("calc", "calculator", keys).start().await;
    let admin = cluster.admin();
    for (cut, upgrade, head) in [
        (1, true, "GET /upgrade HTTP/1.1\r\nHost: calc\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"),
        (2, false, "GET /stream?sse=1&chunks=1000&interval_ms=100 HTTP/1.1\r\nHost: calc\r\n\r\n"),
    ] {
        let mut raw = Raw::connect(cluster.address()).await;
        raw.send(head).await;
        raw.until("\r\n\r\n").await;
        assert_eq!(admin.in_flight("calc").await, 1, "it holds its slot");
        let begun = Instant::now();
        admin.set_size("calc", 0).await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        if upgrade {
            raw.send("still there?").await;
            raw.until("still there?").await;
        } else {
            raw.until("data: 12\n").await;
        }
        assert_eq!(admin.instances("calc").await[0].state, "draining");
        raw.rest().await;
        let pinned = begun.elapsed();
        eventually(PATIENCE, "it is said what to do", async || {
            let advice = |line: &&String| line.contains("raise services.calc.stop_grace");
            (cluster.log().iter().filter(advice).count() == cut).then_some(())
        })
        .await;
        admin.counts("longshore_requests_lost_total", &[("service", "calc")], cut as f64).await;
        assert!(pinned > Duration::from_millis(2_900) && pinned < Duration::from_secs(15), "{pinned:?}");
        admin.has("calc", 0).await;
        admin.set_size("calc", 1).await;
        admin.has("calc", 1).await;
    }
    // One that ends in time is not cut, nor is a request, however long it takes.
    for (path, fault, events) in
        [("/stream?sse=1&chunks=20&interval_ms=100", "latency=0", 20), ("/bytes/1000", "latency=5s", 0)]
    {
        let client = cluster.client();
        let asked = tokio::spawn(async move { client.get_with_fault(path, fault).await });
        admin.works_on("calc", 1).await;
        admin.set_size("calc", 0).await;
        let reply = asked.await.expect("no panic");
        assert_eq!((reply.status, reply.header("longshore-attempts")), (200, "1"), "{path}");
        assert_eq!(reply.text().matches("data:").count(), events, "{path}");
        admin.set_size("calc", 1).await;
        admin.has("calc", 1).await;
    }
    cluster.stop().await;
}

async fn a_stream_that_outlasts_the_grace_of_a_stop_goes_on_elsewhere_with_resume(backend: Backend) {
    const EVENTS: usize = 60;
    let keys = "concurrency = 2\nsize = 2\nstop_grace = \"1s\"\nreplay.resume = true";
    let cluster = Setup::new(backend).model("calc", "calculator", keys).start().await;
    let path = format!("/stream?sse=1&chunks={EVENTS}&interval_ms=100");
    let streams: Vec<_> = (0..2)
        .map(|_| {
            let (client, path) = (cluster.client(), path.clone());
            tokio::spawn(async move { client.get(&path).await })
        })
        .collect();
    cluster.admin().works_on("calc", 2).await;
    let busy = cluster.admin().instances("calc").await;
    assert!(busy.iter().all(|one| one.json["in_flight"] == 1), "one each: {busy:?}");
    assert_eq!(cluster.admin().set_size("calc", 1).await.status, 200);
    for stream in streams {
        let reply = stream.await.expect("no panic");
        assert_eq!(reply.status, 200);
        assert_eq!(reply.text().matches("data:").count(), EVENTS, "each event once");
    }
    cluster.admin().has("calc", 1).await;
    cluster.admin().lost_nothing("calc").await;
    let resumed =
        cluster.log().iter().filter(|line| line.contains("an answer goes on where it broke off")).count();
    assert_eq!(resumed, 1, "that of the instance that went");
    cluster.stop().await;
}

async fn answers_without_a_body_have_none() {
    let cluster = cluster(Backend::Process).await;
    let mut raw = Raw::connect(cluster.address()).await;
    // On one connection: what is no body must not be taken for one.
    raw.send("HEAD /bytes/1000 HTTP/1.1\r\nHost: calc\r\n\r\n").await;
    let head = raw.until("\r\n\r\n").await;
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.to_lowercase().contains("content-length: 1000\r\n"),
        "{head}"
    );
    assert!(raw.is_silent_for(Duration::from_millis(300)).await, "a HEAD has a body");
    raw.send("GET /status/204 HTTP/1.1\r\nHost: calc\r\n\r\n").await;
    let answer = raw.until("204 No Content\r\n").await;
    assert!(!answer.to_lowercase().contains("content-length: 4"), "{answer}");
    raw.send("GET /status/304 HTTP/1.1\r\nHost: calc\r\n\r\nGET /add/3/4 HTTP/1.1\r\nHost: calc\r\nConnection: close\r\n\r\n")
        .await;
    let rest = raw.rest().await;
    assert!(rest.contains(" 304 ") && rest.ends_with("\r\n\r\n7"), "{rest}");
    assert_eq!(rest.matches("HTTP/1.1 ").count(), 4, "{rest}");
    cluster.stop().await;
}

async fn a_client_that_expects_100_is_told_to_continue() {
    let cluster = cluster(Backend::Process).await;
    let mut raw = Raw::connect(cluster.address()).await;
    raw.send("POST / HTTP/1.1\r\nHost: calc\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n").await;
    raw.until("HTTP/1.1 100 Continue\r\n\r\n").await;
    raw.send("hello").await;
    let answer = raw.rest().await;
    assert!(answer.contains("HTTP/1.1 200 ") && answer.contains(&digest::hex(b"hello")), "{answer}");
    cluster.stop().await;
}

async fn a_large_upload_arrives_whole_and_takes_no_memory() {
    let cluster = cluster(Backend::Process).await;
    let part: Bytes = digest::body(7, 1 << 20).into();
    let mut sum = Sha256::new();
    for _ in 0..LARGE >> 20 {
        sum.update(&part);
    }
    let expected: String = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    for length_known in [true, false] {
        let (sender, body) = client::channel();
        let part = part.clone();
        let sending = tokio::spawn(async move {
            for _ in 0..LARGE >> 20 {
                sender.send(part.clone()).await.expect("it is taken");
            }
        });
        let mut request = Request::post("/");
        if length_known {
            request = request.header("content-length", LARGE);
        }
        let (response, _connection) = cluster.client().open(request, body).await.expect("an answer");
        let reply = longshore_tests::Reply::collect(response).await.expect("a whole answer");
        sending.await.expect("no panic");
        assert_eq!(
            (&reply.json()["length"], &reply.json()["sha256"]),
            (&LARGE.into(), &expected.as_str().into())
        );
    }
    bounded(&cluster);
    cluster.stop().await;
}

async fn a_large_download_arrives_whole_and_takes_no_memory(backend: Backend) {
    let cluster = cluster(backend).await;
    let request = Request::get(format!("/bytes/{LARGE}"));
    let (response, _connection) = cluster.client().open(request, nothing()).await.expect("an answer begins");
    assert_eq!(response.headers()["content-length"], LARGE.to_string());
    let field = response.headers()["content-digest"].to_str().expect("it is text").to_owned();
    let (mut body, mut sum, mut size) = (response.into_body(), Sha256::new(), 0);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.expect("it is whole").into_data() {
            sum.update(&data);
            size += data.len();
            if size < 2 << 20 {
                // A reader slower than the instance holds the instance back, not the proxy's memory up.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    assert_eq!((size, digest::field_of(&sum.finalize())), (LARGE, field));
    bounded(&cluster);
    cluster.stop().await;
}

fn bounded(cluster: &Cluster) {
    let memory = process::peak_memory(cluster.pid());
    eprintln!("the proxy had {} MiB at the most", memory >> 20);
    assert!(memory < MEMORY, "the proxy had {} MiB", memory >> 20);
}

both!(light 90: an_open_stream_pins_its_instance_until_the_grace_of_a_stop);
both!(light 90: a_stream_that_outlasts_the_grace_of_a_stop_goes_on_elsewhere_with_resume);
both!(light 60: a_stream_reaches_the_client_while_it_is_made, an_upgraded_connection_is_a_pipe_in_both_directions);
both!(heavy 60: a_large_download_arrives_whole_and_takes_no_memory);
each!(light 60: a_request_reaches_the_instance_while_it_is_sent, answers_without_a_body_have_none);
each!(light 60: a_client_that_expects_100_is_told_to_continue);
each!(heavy 90: a_large_upload_arrives_whole_and_takes_no_memory);
