//! What HTTP leaves to a proxy: methods, versions, expectations, requests one after the other. A case is one row.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Request;
use longshore_tests::http2::Http2;
use longshore_tests::raw::Raw;
use longshore_tests::strict::Message;
use longshore_tests::tap::{Answered, Tap};
use longshore_tests::{Backend, Cluster, Setup, each};

/// Comes after each case on its connection, which then ends.
const AFTER: &str = "GET /after HTTP/1.1\r\nHost: tap\r\nConnection: close\r\n\r\n";
/// What is answered to it.
const OVER: &str = "HTTP/1.1 200 OK|connection: close|content-length: 6||/after";

/// What a client sends, and all that it gets until the connection ends: of the fields, those of framing, in the order of
/// their names; lines divided by `|`.
struct Case {
    sent: &'static str,
    got: &'static [&'static str],
}

const fn case(sent: &'static str, got: &'static [&'static str]) -> Case {
    Case { sent, got }
}

const CASES: &[Case] = &[
    // Methods.
    case("OPTIONS * HTTP/1.1\r\nHost: tap\r\n\r\n", &["HTTP/1.1 200 OK|content-length: 1||*", OVER]),
    case("OPTIONS /a HTTP/1.1\r\nHost: tap\r\n\r\n", &["HTTP/1.1 200 OK|content-length: 2||/a", OVER]),
    case(
        "OPTIONS /a HTTP/1.1\r\nHost: tap\r\nMax-Forwards: 1\r\n\r\n",
        &["HTTP/1.1 200 OK|content-length: 2||/a", OVER],
    ),
    // The last one that is asked is the proxy.
    case(
        "OPTIONS * HTTP/1.1\r\nHost: tap\r\nMax-Forwards: 0\r\n\r\n",
        &["HTTP/1.1 200 OK|content-length: 0||", OVER],
    ),
    case("BREW /a HTTP/1.1\r\nHost: tap\r\n\r\n", &["HTTP/1.1 200 OK|content-length: 2||/a", OVER]),
    case(
        "TRACE /a HTTP/1.1\r\nHost: tap\r\n\r\n",
        &["HTTP/1.1 405 Method Not Allowed|method-not-allowed", OVER],
    ),
    case(
        "CONNECT tap:80 HTTP/1.1\r\nHost: tap:80\r\n\r\n",
        &["HTTP/1.1 400 Bad Request|connection: close|bad-request"],
    ),
    // HEAD: whatever the instance says of a length is passed on, and no byte follows.
    case("HEAD /a HTTP/1.1\r\nHost: tap\r\n\r\n", &["HTTP/1.1 200 OK|content-length: 12345||", OVER]),
    case("HEAD /chunked HTTP/1.1\r\nHost: tap\r\n\r\n", &["HTTP/1.1 200 OK||", OVER]),
    case("HEAD /bare HTTP/1.1\r\nHost: tap\r\n\r\n", &["HTTP/1.1 200 OK||", OVER]),
    case("HEAD /a HTTP/1.0\r\nHost: tap\r\n\r\n", &["HTTP/1.0 200 OK|content-length: 12345||"]),
    case(
        "HEAD /a HTTP/1.1\r\nHost: tap\r\nLongshore-Service: none\r\n\r\n",
        &["HTTP/1.1 404 Not Found|no-service", OVER],
    ),
    // Clients of HTTP/1.0 get no chunks, and are kept only where they ask for it and the length is known.
    case("GET /a HTTP/1.0\r\nHost: tap\r\n\r\n", &["HTTP/1.0 200 OK|content-length: 2||/a"]),
    case("GET /a HTTP/1.0\r\n\r\n", &["HTTP/1.0 200 OK|content-length: 2||/a"]),
    case(
        "GET /a HTTP/1.0\r\nHost: tap\r\nConnection: keep-alive\r\n\r\n",
        &["HTTP/1.0 200 OK|connection: keep-alive|content-length: 2||/a", OVER],
    ),
    case("GET /chunked HTTP/1.0\r\nHost: tap\r\n\r\n", &["HTTP/1.0 200 OK||abcdef"]),
    case(
        "GET /chunked HTTP/1.0\r\nHost: tap\r\nConnection: keep-alive\r\n\r\n",
        &["HTTP/1.0 200 OK||abcdef"],
    ),
    case(
        "GET /chunked HTTP/1.1\r\nHost: tap\r\n\r\n",
        &["HTTP/1.1 200 OK|transfer-encoding: chunked||3|abc|3|def|0||", OVER],
    ),
    // Answers before the answer are for who understands them.
    case(
        "GET /hints HTTP/1.1\r\nHost: tap\r\n\r\n",
        &[
            "HTTP/1.1 103 Early Hints||",
            "HTTP/1.1 102 Processing||",
            "HTTP/1.1 200 OK|content-length: 6||/hints",
            OVER,
        ],
    ),
    case("GET /hints HTTP/1.0\r\nHost: tap\r\n\r\n", &["HTTP/1.0 200 OK|content-length: 6||/hints"]),
    // Expectations.
    case(
        "POST /a HTTP/1.1\r\nHost: tap\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        &["HTTP/1.1 100 Continue||", "HTTP/1.1 200 OK|content-length: 2||/a", OVER],
    ),
    case(
        "POST /a HTTP/1.1\r\nHost: tap\r\nExpect: 100-Continue\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        &["HTTP/1.1 100 Continue||", "HTTP/1.1 200 OK|content-length: 2||/a", OVER],
    ),
    case(
        "POST /a HTTP/1.0\r\nHost: tap\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        &["HTTP/1.0 200 OK|content-length: 2||/a"],
    ),
    case(
        "GET /a HTTP/1.1\r\nHost: tap\r\nExpect: 100-continue\r\n\r\n",
        &["HTTP/1.1 200 OK|content-length: 2||/a", OVER],
    ),
    case(
        "POST /a HTTP/1.1\r\nHost: tap\r\nExpect: the-unexpected\r\nContent-Length: 3\r\n\r\n",
        &["HTTP/1.1 417 Expectation Failed|connection: close|expectation-failed"],
    ),
    case(
        "POST /a HTTP/1.1\r\nHost: tap\r\nExpect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n",
        &["HTTP/1.1 413 Payload Too Large|connection: close|body-too-large"],
    ),
    case(
        "POST /a HTTP/1.1\r\nHost: tap\r\nLongshore-Service: none\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        &["HTTP/1.1 404 Not Found|connection: close|no-service"],
    ),
    // One after the other on one connection, without waiting: answered in their order.
    case(
        "GET /slow HTTP/1.1\r\nHost: tap\r\n\r\nGET /chunked HTTP/1.1\r\nHost: tap\r\n\r\nPOST /b HTTP/1.1\r\nHost: tap\r\n\
         Content-Length: 3\r\n\r\nabcHEAD /c HTTP/1.1\r\nHost: tap\r\n\r\nGET /d HTTP/1.1\r\nHost: tap\r\n\r\n",
        &[
            "HTTP/1.1 200 OK|content-length: 5||/slow",
            "HTTP/1.1 200 OK|transfer-encoding: chunked||3|abc|3|def|0||",
            "HTTP/1.1 200 OK|content-length: 2||/b",
            "HTTP/1.1 200 OK|content-length: 12345||",
            "HTTP/1.1 200 OK|content-length: 2||/d",
            OVER,
        ],
    ),
    case(
        "GET /a HTTP/1.1\r\nHost: tap\r\n\r\nGET /dies HTTP/1.1\r\nHost: tap\r\n\r\nGET /b HTTP/1.1\r\nHost: tap\r\n\r\n",
        &[
            "HTTP/1.1 200 OK|content-length: 2||/a",
            "HTTP/1.1 200 OK|content-length: 5||/dies",
            "HTTP/1.1 200 OK|content-length: 2||/b",
            OVER,
        ],
    ),
];

/// By the target: chunked, without a length, with interim answers before it, or only when it is asked a second time.
fn answer(message: &Message, asked: &AtomicBool) -> Answered {
    match (message.method.as_str(), message.target.as_str()) {
        ("HEAD", "/chunked") => Answered::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", "/bare") => Answered::raw("HTTP/1.1 200 OK\r\n\r\n"),
        ("HEAD", _) => Answered::raw("HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"),
        (_, "/chunked") => Answered::raw(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
        ),
        (_, "/dies") if !asked.swap(true, Ordering::Relaxed) => Answered::raw("").closing(),
        (_, "/hints") => Answered {
            bytes: [
                &b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"[..],
                &Answered::ok("/hints").bytes,
            ]
            .concat(),
            close: false,
        },
        (_, target) => Answered::ok(target),
    }
}

async fn cluster(tap: &Tap, line: &str) -> Cluster {
    Setup::new(Backend::Process).proxy(line).service(&tap.service("tap", "default = true")).start().await
}

/// What a client gets, as [`Case`] has it.
fn shown(answers: &str) -> Vec<String> {
    let mut starts: Vec<usize> = answers.match_indices("HTTP/1.").map(|(at, _)| at).collect();
    starts.push(answers.len());
    starts.windows(2).map(|pair| show(&answers[pair[0]..pair[1]])).collect()
}

fn show(answer: &str) -> String {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let mut lines = head.split("\r\n");
    let mut shown = vec![lines.next().unwrap_or_default().to_owned()];
    let problem = head.contains("application/problem+json");
    let mut fields: Vec<String> = lines
        .filter(|line| {
            let name = line.split(':').next().unwrap_or_default().to_lowercase();
            ["connection", "transfer-encoding"].contains(&name.as_str())
                || (name == "content-length" && !problem)
        })
        .map(str::to_lowercase)
        .collect();
    fields.sort();
    shown.append(&mut fields);
    if problem {
        // A HEAD has none to show.
        let kind = body.split("urn:longshore:").nth(1).and_then(|rest| rest.split('"').next());
        shown.push(kind.unwrap_or("no-service").to_owned());
        return shown.join("|");
    }
    format!("{}||{}", shown.join("|"), body.replace("\r\n", "|"))
}

async fn what_http_leaves_to_a_proxy_is_as_the_standard_has_it() {
    let asked = AtomicBool::new(false);
    let tap = Tap::answering(move |message| answer(message, &asked)).await;
    let cluster = cluster(&tap, "").await;
    let mut wrong = Vec::new();
    for Case { sent, got } in CASES {
        let mut raw = Raw::connect(cluster.address()).await;
        raw.send(format!("{sent}{AFTER}")).await;
        let answers = shown(&raw.rest().await);
        if answers != *got {
            wrong.push(format!("{sent:?}\nshould be {got:#?}\nand not   {answers:#?}"));
        }
        for message in tap.take() {
            assert!(message.values("expect").is_empty(), "an instance is not asked to go on: {message:?}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    cluster.admin().lost_nothing("tap").await;
    cluster.stop().await;
}

async fn a_client_is_asked_for_its_body_only_when_it_is_wanted() {
    let tap = Tap::start().await;
    let cluster = cluster(&tap, "").await;
    let mut raw = Raw::connect(cluster.address()).await;
    raw.send("POST /a HTTP/1.1\r\nHost: tap\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
    assert_eq!(raw.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    assert!(tap.take().is_empty(), "there is no request yet");
    raw.send("abc").await;
    raw.until("\r\n\r\n/a").await;
    // Refused: no sign, nothing read, and the connection ends.
    let mut raw = Raw::connect(cluster.address()).await;
    raw.send("POST /a HTTP/1.1\r\nHost: tap\r\nLongshore-Service: none\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        .await;
    let refused = raw.rest().await;
    assert!(refused.starts_with("HTTP/1.1 404 ") && !refused.contains(" 100 "), "{refused}");
    cluster.stop().await;
}

async fn trace_is_passed_on_where_that_is_wanted() {
    let tap = Tap::start().await;
    let cluster = cluster(&tap, "trace = true").await;
    let reply =
        cluster.client().send(Request::builder().method("TRACE").uri("/a"), bytes::Bytes::new()).await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "/a"));
    assert_eq!(tap.take()[0].method, "TRACE");
    cluster.stop().await;
}

async fn a_head_over_http2_is_a_head() {
    let asked = AtomicBool::new(false);
    let tap = Tap::answering(move |message| answer(message, &asked)).await;
    let cluster = cluster(&tap, "").await;
    let client = Http2::connect(cluster.address()).await;
    for (target, length) in [("/a", "12345"), ("/chunked", ""), ("/bare", "")] {
        let reply = client.send(Request::head(format!("http://tap{target}")), "").await;
        assert_eq!(
            (reply.status, reply.header("content-length"), reply.body.len()),
            (200, length, 0),
            "{target}"
        );
    }
    let trace = client.send(Request::builder().method("TRACE").uri("http://tap/a"), "").await;
    assert_eq!((trace.status, trace.problem().as_str()), (405, "method-not-allowed"));
    assert!(trace.header("allow").contains("PATCH") && !trace.header("allow").contains("TRACE"));
    let chunked = client.send(Request::get("http://tap/chunked"), "").await;
    assert_eq!(chunked.text(), "abcdef");
    cluster.stop().await;
}

async fn a_client_that_has_finished_sending_is_there_only_if_the_file_says_so() {
    for (line, expected) in [("", ""), ("half_close = false", ""), ("half_close = true", "HTTP/1.1 200 ")] {
        let setup = Setup::new(Backend::Process).proxy(line);
        let cluster = setup.model("sleep", "sleep", "default = true").start().await;
        let mut raw = Raw::connect(cluster.address()).await;
        raw.send("GET /sleep/700ms HTTP/1.1\r\nHost: sleep\r\nConnection: close\r\n\r\n").await;
        cluster.admin().works_on("sleep", 1).await;
        raw.finish().await;
        let answer = raw.rest().await;
        assert!(answer.starts_with(expected) && answer.is_empty() == expected.is_empty(), "{line}: {answer}");
        cluster.admin().works_on("sleep", 0).await;
        // One that is reset has left, either way.
        let mut raw = Raw::connect(cluster.address()).await;
        raw.send("GET /sleep/60s HTTP/1.1\r\nHost: sleep\r\n\r\n").await;
        cluster.admin().works_on("sleep", 1).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        raw.reset();
        cluster.admin().works_on("sleep", 0).await;
        cluster.stop().await;
    }
}

each!(light 60: what_http_leaves_to_a_proxy_is_as_the_standard_has_it);
each!(light 60: a_client_is_asked_for_its_body_only_when_it_is_wanted, trace_is_passed_on_where_that_is_wanted);
each!(light 60: a_head_over_http2_is_a_head);
each!(light 90: a_client_that_has_finished_sending_is_there_only_if_the_file_says_so);
