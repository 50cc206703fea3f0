//! The names of fields as they are written, both ways: their case and their order, which mean nothing, and which some
//! programs look at all the same. A case is one row.

use std::sync::atomic::{AtomicBool, Ordering};

use longshore_tests::raw::exchange;
use longshore_tests::strict::Message;
use longshore_tests::tap::{Answered, Tap};
use longshore_tests::{Backend, Setup, each};

/// What a client sends, what of it the instance sees, and what the client sees of the answer: lines, without those that
/// Longshore adds.
type Case = (&'static str, &'static [&'static str], &'static [&'static str]);

const CASES: &[Case] = &[
    (
        "GET /plain HTTP/1.1\r\nHOST: tap\r\nuser-AGENT: x\r\nX-a: 1\r\nAccept: */*\r\nx-A: 2\r\nConnection: close\r\n\r\n",
        &["GET /plain HTTP/1.1", "HOST: tap", "user-AGENT: x", "X-a: 1", "Accept: */*", "x-A: 2"],
        &["HTTP/1.1 200 OK", "ETag: \"1\"", "X-b: 1", "CONTENT-length: 2", "x-B: 2"],
    ),
    (
        "POST /plain HTTP/1.1\r\nhost: tap\r\nX-A: 1\r\nContent-LENGTH: 3\r\nConnection: close\r\nX-B: 2\r\n\r\nabc",
        &["POST /plain HTTP/1.1", "host: tap", "X-A: 1", "X-B: 2", "Content-LENGTH: 3"],
        &["HTTP/1.1 200 OK", "ETag: \"1\"", "X-b: 1", "CONTENT-length: 2", "x-B: 2"],
    ),
    // Both sent and answered in chunks.
    (
        "POST /stream HTTP/1.1\r\nHost: tap\r\nX-a: 1\r\nTransfer-ENCODING: chunked\r\nConnection: close\r\nx-A: 2\r\nX-End: 3\r\n\
         \r\n3\r\nabc\r\n0\r\n\r\n",
        &["POST /stream HTTP/1.1", "Host: tap", "X-a: 1", "Transfer-ENCODING: chunked", "x-A: 2", "X-End: 3"],
        &["HTTP/1.1 200 OK", "Content-Type: text/plain", "x-ONE: 1", "TRANSFER-encoding: chunked"],
    ),
    (
        "GET /stream HTTP/1.1\r\nHost: tap\r\nX-ONE: 1\r\nConnection: close\r\n\r\n",
        &["GET /stream HTTP/1.1", "Host: tap", "X-ONE: 1"],
        &["HTTP/1.1 200 OK", "Content-Type: text/plain", "x-ONE: 1", "TRANSFER-encoding: chunked"],
    ),
    // The first instance dies of it.
    (
        "GET /dies HTTP/1.1\r\nHost: tap\r\nX-ONE: 1\r\nConnection: close\r\n\r\n",
        &["GET /dies HTTP/1.1", "Host: tap", "X-ONE: 1"],
        &["HTTP/1.1 200 OK", "ETag: \"1\"", "X-b: 1", "CONTENT-length: 2", "x-B: 2"],
    ),
    (
        "GET /switch HTTP/1.1\r\nHost: tap\r\nX-ONE: 1\r\nConnection: Upgrade\r\nUPGRADE: own\r\n\r\n",
        &["GET /switch HTTP/1.1", "Host: tap", "X-ONE: 1", "Connection: upgrade", "UPGRADE: own"],
        &["HTTP/1.1 101 Switching Protocols", "X-Two: 2", "Connection: upgrade", "UPGrade: own"],
    ),
];

const PLAIN: &str = "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nX-b: 1\r\nCONTENT-length: 2\r\nx-B: 2\r\nKeep-Alive: timeout=5\r\n\r\nhi";

fn answer(message: &Message, asked: &AtomicBool) -> Answered {
    match message.target.as_str() {
        "/dies" if !asked.swap(true, Ordering::Relaxed) => Answered::raw("").closing(),
        "/stream" => Answered::raw(
            "HTTP/1.1 103 Early Hints\r\nLINK: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nx-ONE: 1\r\n\
             TRANSFER-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        ),
        "/switch" => Answered::raw(
            "HTTP/1.1 101 Switching Protocols\r\nX-Two: 2\r\nConnection: Upgrade\r\nUPGrade: own\r\n\r\n",
        )
        .closing(),
        _ => Answered::raw(PLAIN),
    }
}

/// The lines of a head that neither Longshore adds nor the connection's end.
fn lines(head: &str) -> Vec<String> {
    let head = head.split("\r\n\r\n").next().unwrap_or_default();
    let own = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default();
        let forwarding = name.starts_with("x-forwarded-") || ["forwarded", "via"].contains(&name);
        let told = name.starts_with("longshore-")
            || ["server-timing", "x-request-id", "traceparent"].contains(&name);
        forwarding || told || *line == "connection: close"
    };
    head.split("\r\n").filter(|line| !own(line)).map(str::to_owned).collect()
}

async fn fields_are_written_as_they_came() {
    let asked = AtomicBool::new(false);
    let tap = Tap::answering(move |message| answer(message, &asked)).await;
    let cluster = Setup::new(Backend::Process).service(&tap.service("tap", "default = true")).start().await;
    // The second time on connections that have seen the first.
    for round in 0..2 {
        for (sent, seen, got) in CASES {
            let answers = exchange(cluster.address(), sent).await;
            let answer = answers.strip_prefix("HTTP/1.1 103 Early Hints\r\nLINK: </a>\r\n\r\n");
            assert_eq!(
                answer.is_some(),
                sent.contains("/stream"),
                "interim answers are passed on: {answers}"
            );
            assert_eq!(lines(answer.unwrap_or(&answers)), *got, "{sent:?} in round {round}");
            let messages = tap.take();
            assert!(!messages.is_empty(), "{sent:?}");
            for message in messages {
                assert_eq!(lines(&message.head), *seen, "{sent:?} in round {round}");
            }
        }
    }
    cluster.admin().lost_nothing("tap").await;
    cluster.stop().await;
}

async fn an_answer_that_is_kept_is_written_as_it_came() {
    let tap = Tap::answering(|_| Answered::raw(PLAIN)).await;
    let service = tap.service("tap", "cache = { ttl = \"60s\" }");
    let cluster = Setup::new(Backend::Process).service(&service).start().await;
    for hit in [false, true] {
        let request = "GET /kept HTTP/1.1\r\nHost: tap\r\nConnection: close\r\n\r\n";
        let answer = exchange(cluster.address(), request).await;
        assert_eq!(tap.take().is_empty(), hit, "{answer}");
        for line in ["ETag: \"1\"\r\n", "X-b: 1\r\n", "x-B: 2\r\n", "CONTENT-length: 2\r\n"] {
            assert!(answer.contains(line), "{line:?} in {answer}");
        }
    }
    cluster.stop().await;
}

each!(light 60: fields_are_written_as_they_came, an_answer_that_is_kept_is_written_as_it_came);
