//! HTTP/2 requests that are none, or that an instance's HTTP/1.1 could take for something else.

use std::time::Duration;

use longshore_tests::frames::{End, Frames};
use longshore_tests::tap::Tap;
use longshore_tests::{Backend, Setup, each};

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// Nothing reaches the instance: the stream is reset, answered 400, or the connection ends.
    Refused,
    /// The instance gets this target, Host and body.
    Reaches(&'static str, &'static str, &'static str),
}

use Expect::{Reaches, Refused};

type Fields = &'static [(&'static str, &'static str)];

/// Fields, DATA frames, and what becomes of them.
type Case = (Fields, &'static [&'static str], Expect);

macro_rules! fields {
    ($($name:literal: $value:literal),* $(,)?) => { &[$(($name, $value)),*] };
}

const CASES: &[Case] = &[
    (
        fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a"),
        &[],
        Reaches("/a", "tap", ""),
    ),
    (
        fields!(":method": "POST", ":scheme": "http", ":authority": "tap", ":path": "/a"),
        &["abc", "def"],
        Reaches("/a", "tap", "abcdef"),
    ),
    (
        fields!(":method": "POST", ":scheme": "http", ":authority": "tap", ":path": "/a", "content-length": "6"),
        &["abc", "def"],
        Reaches("/a", "tap", "abcdef"),
    ),
    (
        fields!(":method": "GET", ":scheme": "http", ":path": "/a", "host": "tap"),
        &[],
        Reaches("/a", "tap", ""),
    ),
    (fields!(":method": "GET", ":scheme": "http", ":path": "/a"), &[], Reaches("/a", "tap", "")),
    (
        fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a", "host": "TAP"),
        &[],
        Reaches("/a", "tap", ""),
    ),
    // Length and DATA differ.
    (
        fields!(":method": "POST", ":scheme": "http", ":authority": "tap", ":path": "/a", "content-length": "3"),
        &["abcdef"],
        Refused,
    ),
    (
        fields!(":method": "POST", ":scheme": "http", ":authority": "tap", ":path": "/a", "content-length": "9"),
        &["abcdef"],
        Refused,
    ),
    (
        fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a", "content-length": "3"),
        &[],
        Refused,
    ),
    (
        fields!(":method": "POST", ":scheme": "http", ":authority": "tap", ":path": "/a", "content-length": "3", "content-length": "6"),
        &["abcdef"],
        Refused,
    ),
    (
        fields!(":method": "POST", ":scheme": "http", ":authority": "tap", ":path": "/a", "content-length": "x"),
        &["abc"],
        Refused,
    ),
    // Fields of a connection (RFC 9113, 8.2.2).
    (
        fields!(":method": "POST", ":scheme": "http", ":authority": "tap", ":path": "/a", "transfer-encoding": "chunked"),
        &["0\r\n\r\nGET /b HTTP/1.1\r\nHost: tap\r\n\r\n"],
        Refused,
    ),
    (
        fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a", "connection": "close"),
        &[],
        Refused,
    ),
    (
        fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a", "upgrade": "websocket"),
        &[],
        Refused,
    ),
    (
        fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a", "keep-alive": "5"),
        &[],
        Refused,
    ),
    (
        fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a", "proxy-connection": "x"),
        &[],
        Refused,
    ),
    (
        fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a", "te": "gzip"),
        &[],
        Refused,
    ),
    // Lines within values and names.
    (
        fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a", "x": "y\r\nhost: other"),
        &[],
        Refused,
    ),
    (
        fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a", "x": "y\nz"),
        &[],
        Refused,
    ),
    (
        fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a", "x": "y\0z"),
        &[],
        Refused,
    ),
    (
        fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a", "x: y\r\nz": "1"),
        &[],
        Refused,
    ),
    (
        fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a", "x y": "1"),
        &[],
        Refused,
    ),
    (fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a", "": "1"), &[], Refused),
    (
        fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a", "X-Upper": "1"),
        &[],
        Refused,
    ),
    (
        fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a HTTP/1.1\r\nx: y"),
        &[],
        Refused,
    ),
    (fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a b"), &[], Refused),
    (
        fields!(":method": "GET /b HTTP/1.1\r\nx:", ":scheme": "http", ":authority": "tap", ":path": "/a"),
        &[],
        Refused,
    ),
    (fields!(":method": "GE T", ":scheme": "http", ":authority": "tap", ":path": "/a"), &[], Refused),
    // Pseudo-fields.
    (fields!(":method": "GET", ":scheme": "http", ":authority": "tap"), &[], Refused),
    (fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": ""), &[], Refused),
    (fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "a"), &[], Refused),
    (fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "*"), &[], Refused),
    (
        fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "http://other/a"),
        &[],
        Refused,
    ),
    (fields!(":scheme": "http", ":authority": "tap", ":path": "/a"), &[], Refused),
    (
        fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a", ":path": "/b"),
        &[],
        Refused,
    ),
    (
        fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a", ":other": "x"),
        &[],
        Refused,
    ),
    (
        fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a", ":status": "200"),
        &[],
        Refused,
    ),
    (
        fields!(":method": "GET", ":scheme": "http", "x": "y", ":authority": "tap", ":path": "/a"),
        &[],
        Refused,
    ),
    (fields!(":method": "GET", ":scheme": "ftp", ":authority": "tap", ":path": "/a"), &[], Refused),
    (fields!(":method": "GET", ":scheme": "http", ":authority": "user@tap", ":path": "/a"), &[], Refused),
    (fields!(":method": "GET", ":scheme": "http", ":authority": "tap/b", ":path": "/a"), &[], Refused),
    (
        fields!(":method": "GET", ":scheme": "http", ":authority": "tap", ":path": "/a", "host": "other"),
        &[],
        Refused,
    ),
    (
        fields!(":method": "GET", ":scheme": "http", ":path": "/a", "host": "tap", "host": "other"),
        &[],
        Refused,
    ),
    (fields!(":method": "CONNECT", ":authority": "tap:80"), &[], Refused),
];

async fn a_request_over_http_2_is_one_over_http_1_or_none() {
    let tap = Tap::start().await;
    let cluster = Setup::new(Backend::Process).service(&tap.service("tap", "")).start().await;
    let mut wrong = Vec::new();
    for (fields, chunks, expect) in CASES {
        let mut frames = Frames::connect(cluster.address()).await;
        let number = frames.request(fields, chunks).await;
        let end = frames.end(number).await;
        let seen = tap.take();
        let met = match expect {
            Refused => seen.is_empty() && matches!(end, End::Reset | End::Closed | End::Answered(400)),
            Reaches(target, host, body) => {
                end == End::Answered(200)
                    && matches!(&seen[..], [message] if message.target == *target
                        && message.values("host") == [*host] && message.body == body.as_bytes())
            }
        };
        if !met {
            wrong.push(format!(
                "{fields:?} {chunks:?} is not {expect:?}: {end:?}, the instance got {seen:#?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    // Trailers may not say again what the head has said.
    let mut frames = Frames::connect(cluster.address()).await;
    let head = fields!(":method": "POST", ":scheme": "http", ":authority": "tap", ":path": "/a", "te": "trailers", "trailer": "host, x");
    let number = frames.request_open(head, &["abc"]).await;
    frames.trailers(number, &[("host", "other"), ("content-length", "9"), ("x", "y")]).await;
    assert_eq!(frames.end(number).await, End::Answered(200));
    let [message] = &tap.take()[..] else { panic!("it did not arrive once") };
    assert!(message.trailers.iter().all(|(name, _)| name == "x"), "{message:?}");
    assert_eq!(message.body, b"abc");
    cluster.admin().works_on("tap", 0).await;
    cluster.stop().await;
}

/// The first is what a connection without a request has, the second one that had one.
async fn a_connection_that_asks_for_nothing_is_told_and_closed() {
    let setup = Setup::new(Backend::Process)
        .proxy("request_header_timeout = \"1s\"\nidle_timeout = \"4s\"")
        .model("echo", "echo", "");
    let cluster = setup.start().await;
    let silent = Frames::connect(cluster.address()).await;
    let mut dribbling = Frames::connect(cluster.address()).await;
    dribbling.dribble().await;
    let mut idle = Frames::connect(cluster.address()).await;
    let request =
        idle.request(fields!(":method": "GET", ":scheme": "http", ":authority": "echo", ":path": "/"), &[]);
    let request = request.await;
    assert_eq!(idle.end(request).await, End::Answered(200));
    let ((silent, told), (dribbling, _), (idle, idle_told)) =
        tokio::join!(silent.lasts(true), dribbling.lasts(false), idle.lasts(true));
    eprintln!("silent {silent:?}, dribbling {dribbling:?}, idle {idle:?}");
    assert!(told && idle_told, "it is told first");
    let (header, idle_timeout) = (Duration::from_millis(900), Duration::from_millis(3_900));
    assert!(silent >= header && silent < idle, "{silent:?}");
    assert!(dribbling >= header && dribbling < idle, "{dribbling:?}");
    assert!(
        idle >= idle_timeout && idle < idle_timeout * 5,
        "pings are no requests, and no reason to go: {idle:?}"
    );
    cluster.stop().await;
}

/// Streams that a flood opens, each of which it takes back at once.
const FLOOD: usize = 5_000;

async fn a_client_that_takes_back_all_that_it_asks_is_cut_off_and_others_are_not() {
    let setup = Setup::new(Backend::Process);
    let cluster = setup.model("sleep", "sleep", "concurrency = 4\nqueue.limit = 100").start().await;
    let fields = fields!(":method": "GET", ":scheme": "http", ":authority": "sleep", ":path": "/sleep/60s");
    for _ in 0..3 {
        let mut flood = Frames::connect(cluster.address()).await;
        let mut last = 0;
        for _ in 0..FLOOD {
            last = flood.request(fields, &[]).await;
            flood.reset(last).await;
        }
        assert_eq!(flood.end(last).await, End::Closed, "it goes on for ever");
        let begun = std::time::Instant::now();
        assert_eq!(cluster.client().get("/sleep/1ms").await.status, 200);
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    }
    cluster.admin().works_on("sleep", 0).await;
    cluster.admin().queues("sleep", 0).await;
    let stats = cluster.client().get("/stats").await.json();
    assert_eq!(stats["at_work"], 0, "the instance works for nobody: {stats}");
    cluster.admin().lost_nothing("sleep").await;
    cluster.stop().await;
}

each!(light 60: a_connection_that_asks_for_nothing_is_told_and_closed);
each!(light 60: a_request_over_http_2_is_one_over_http_1_or_none);
each!(light 60: a_client_that_takes_back_all_that_it_asks_is_cut_off_and_others_are_not);
