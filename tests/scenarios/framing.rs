//! Requests that are no requests, or too much of one.

use std::time::{Duration, Instant};

use longshore_tests::raw::{Raw, exchange};
use longshore_tests::{Backend, Cluster, Setup, digest, each};

async fn cluster(proxy: &str) -> Cluster {
    Setup::new(Backend::Process).proxy(proxy).model("echo", "echo", "").start().await
}

/// The status, the kind of problem, and whether the answer says that the connection ends.
fn problem(answer: &str) -> (&str, &str) {
    let status = answer.split(' ').nth(1).unwrap_or_default();
    let kind =
        answer.split("urn:longshore:").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default();
    assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    (status, kind)
}

async fn ambiguous_framing_is_refused_and_the_connection_closed() {
    let cluster = cluster("").await;
    for head in [
        "POST / HTTP/1.1\r\nHost: echo\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: echo\r\nContent-Length: 3, 4\r\n\r\nabcd",
        "POST / HTTP/1.1\r\nHost: echo\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: echo\r\nContent-Length: +3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: echo\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: echo\r\nTransfer-Encoding: gzip\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: echo\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: echo\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: echo\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: echo\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: echo\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: echo\r\nHost: other\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: echo\r\nBad Name: x\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: echo\r\n\r\n",
        "NONSENSE\r\n\r\n",
    ] {
        let answer = exchange(cluster.address(), head).await;
        assert_eq!(problem(&answer), ("400", "bad-request"), "{head:?}: {answer}");
        for named in ["x-request-id: ", "\"request_id\":\""] {
            assert!(answer.contains(named), "{head:?}: {answer}");
        }
    }
    cluster.stop().await;
}

async fn a_length_beside_chunked_is_never_passed_on() {
    let cluster = cluster("").await;
    let smuggled = "POST / HTTP/1.1\r\nHost: echo\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n\
                    0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: echo\r\nConnection: close\r\n\r\n";
    let answer = exchange(cluster.address(), smuggled).await;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    // RFC 9112 allows to refuse it, or to take it as chunked alone, without the length, and to close.
    match status {
        "400" => assert_eq!(problem(&answer).1, "bad-request"),
        _ => {
            assert_eq!(status, "200", "{answer}");
            assert!(!answer.contains("/smuggled"), "what follows is taken for a request: {answer}");
            assert!(!answer.contains("content-length\",\"60"), "{answer}");
        }
    }
    cluster.stop().await;
}

async fn a_header_of_100_kb_is_too_large() {
    let cluster = cluster("").await;
    let head = format!("GET / HTTP/1.1\r\nHost: echo\r\nX-Large: {}\r\n\r\n", "x".repeat(100_000));
    assert_eq!(problem(&exchange(cluster.address(), head).await), ("431", "headers-too-large"));
    let many: String = (0..5_000).map(|number| format!("X-{number}: y\r\n")).collect();
    let head = format!("GET / HTTP/1.1\r\nHost: echo\r\n{many}\r\n");
    assert_eq!(problem(&exchange(cluster.address(), head).await), ("431", "headers-too-large"));
    let large = format!(
        "GET / HTTP/1.1\r\nHost: echo\r\nConnection: close\r\nX-Large: {}\r\n\r\n",
        "x".repeat(30_000)
    );
    assert!(exchange(cluster.address(), large).await.starts_with("HTTP/1.1 200 "), "30 KB are not too large");
    cluster.stop().await;
}

async fn a_body_over_the_limit_is_refused_however_it_is_framed() {
    let cluster = cluster("max_body = \"1MiB\"").await;
    let client = cluster.client();
    let most = digest::body(1, 1 << 20);
    assert_eq!(client.post("/", most.clone()).await.status, 200);
    let head = "POST / HTTP/1.1\r\nHost: echo\r\nContent-Length: 1048577\r\n\r\n";
    let mut announced = Raw::connect(cluster.address()).await;
    announced.send(head).await;
    assert_eq!(problem(&announced.rest().await), ("413", "body-too-large"), "before a byte of it is sent");
    let mut chunked = Raw::connect(cluster.address()).await;
    chunked.send("POST / HTTP/1.1\r\nHost: echo\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..17 {
        chunked.send(format!("10000\r\n{}\r\n", "x".repeat(0x10000))).await;
    }
    assert_eq!(problem(&chunked.until("urn:longshore:").await), ("413", "body-too-large"));
    cluster.admin().counts("longshore_rejected_total", &[("kind", "body-too-large")], 2.0).await;
    cluster.stop().await;
}

async fn a_client_that_dribbles_its_header_is_cut_off() {
    let cluster = cluster("request_header_timeout = \"1s\"").await;
    let begun = Instant::now();
    let mut slow = Raw::connect(cluster.address()).await;
    slow.send("GET / HTTP/1.1\r\nHost: ec").await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    slow.send("ho\r\nX-More: ").await;
    slow.rest().await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(4), "cut off after {took:?}");
    let reply = cluster.client().get("/").await;
    assert_eq!(reply.status, 200, "others are served");
    cluster.stop().await;
}

async fn a_body_that_breaks_off_is_never_a_whole_request() {
    let cluster = cluster("").await;
    for request in [
        "POST / HTTP/1.1\r\nHost: echo\r\nContent-Length: 10\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: echo\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "POST / HTTP/1.1\r\nHost: echo\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
    ] {
        let mut raw = Raw::connect(cluster.address()).await;
        raw.send(request).await;
        raw.finish().await;
        let answer = raw.rest().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer}");
    }
    assert_eq!(cluster.client().get("/").await.status, 200);
    cluster.admin().works_on("echo", 0).await;
    cluster.admin().queues("echo", 0).await;
    cluster.admin().lost_nothing("echo").await;
    cluster.stop().await;
}

each!(light 60: ambiguous_framing_is_refused_and_the_connection_closed, a_length_beside_chunked_is_never_passed_on);
each!(light 60: a_header_of_100_kb_is_too_large, a_body_over_the_limit_is_refused_however_it_is_framed);
each!(light 60: a_client_that_dribbles_its_header_is_cut_off, a_body_that_breaks_off_is_never_a_whole_request);
