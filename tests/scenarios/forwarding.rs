//! What an instance is told about the way of a request, and whose word is believed.

use bytes::Bytes;
use http::Request;
use longshore_tests::raw::exchange;
use longshore_tests::{Backend, Cluster, Setup, both, each};
use serde_json::Value;

/// The client's fields of every request here.
const CLAIMS: [(&str, &str); 5] = [
    ("x-forwarded-for", "203.0.113.9, 198.51.100.4"),
    ("x-forwarded-proto", "https"),
    ("forwarded", "for=203.0.113.9"),
    ("x-real-ip", "203.0.113.9"),
    ("via", "1.1 front"),
];

async fn seen(cluster: &Cluster) -> Vec<(String, String)> {
    let fields =
        CLAIMS.iter().fold(Request::get("/x").header("host", "echo:8000"), |request, (name, value)| {
            request.header(*name, *value)
        });
    fields_of(&cluster.client().send(fields, Bytes::new()).await.json())
}

/// The fields that the echo saw, in their order.
fn fields_of(answer: &Value) -> Vec<(String, String)> {
    let pairs = answer["headers"].as_array().expect("the echo answers").iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    pairs.map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

fn values<'f>(fields: &'f [(String, String)], name: &str) -> Vec<&'f str> {
    fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
}

async fn what_a_trusted_peer_says_of_the_way_is_continued(backend: Backend) {
    let cluster = Setup::new(backend).model("echo", "echo", "").start().await;
    let seen = seen(&cluster).await;
    for (name, value) in [
        ("x-forwarded-for", "203.0.113.9, 198.51.100.4, 127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "echo:8000"),
        ("x-forwarded-port", "8000"),
        ("forwarded", "for=203.0.113.9, for=127.0.0.1;proto=http;host=\"echo:8000\""),
        ("x-real-ip", "203.0.113.9"),
        ("via", "1.1 front, 1.1 longshore"),
    ] {
        assert_eq!(values(&seen, name), [value], "{name}: {seen:?}");
    }
    cluster.stop().await;
}

async fn what_any_other_peer_says_of_the_way_is_dropped() {
    let setup = Setup::new(Backend::Process).proxy("trusted = [\"198.51.100.0/24\"]");
    let cluster = setup.model("echo", "echo", "").start().await;
    let seen = seen(&cluster).await;
    for (name, value) in [
        ("x-forwarded-for", &["127.0.0.1"][..]),
        ("x-forwarded-proto", &["http"]),
        ("x-forwarded-host", &["echo:8000"]),
        ("x-forwarded-port", &["8000"]),
        ("forwarded", &["for=127.0.0.1;proto=http;host=\"echo:8000\""]),
        ("x-real-ip", &[]),
        ("via", &["1.1 front, 1.1 longshore"]),
    ] {
        assert_eq!(values(&seen, name), value, "{name}: {seen:?}");
    }
    cluster.stop().await;
}

async fn nothing_is_said_of_the_way_where_that_is_switched_off() {
    let setup = Setup::new(Backend::Process).proxy("forwarded = false\ntrusted = []");
    let cluster = setup.model("echo", "echo", "").start().await;
    let seen = seen(&cluster).await;
    for (name, value) in CLAIMS {
        assert_eq!(values(&seen, name), [value], "{name}: {seen:?}");
    }
    assert!(values(&seen, "x-forwarded-port").is_empty(), "{seen:?}");
    cluster.stop().await;
}

async fn fields_keep_their_order_and_those_of_the_hop_end_here() {
    let cluster = Setup::new(Backend::Process).model("echo", "echo", "").start().await;
    let request = "POST /x HTTP/1.1\r\nHost: echo\r\nA: 1\r\nContent-Length: 2\r\nB: 2\r\nA: 3\r\nX-Hop: no\r\n\
                   Keep-Alive: 5\r\nC: 4\r\nTE: deflate\r\nConnection: close, x-hop\r\nD: 5\r\nB: 6\r\n\
                   traceparent: nonsense\r\ntracestate: a=1\r\nE: 7\r\n\r\nhi";
    let answer = exchange(cluster.address(), request).await;
    let (_, body) = answer.split_once("\r\n\r\n").expect("an answer with a body");
    let seen = fields_of(&serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")));
    let shown: Vec<(&str, &str)> = seen
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| name.len() == 1 || ["x-hop", "keep-alive", "te", "tracestate"].contains(name))
        .collect();
    let expected = [("a", "1"), ("a", "3"), ("b", "2"), ("b", "6"), ("c", "4"), ("d", "5"), ("e", "7")];
    assert_eq!(shown, expected);
    let begun = values(&seen, "traceparent");
    assert!(begun.len() == 1 && begun[0].len() == 55 && begun[0].starts_with("00-"), "{begun:?}");
    cluster.stop().await;
}

both!(light 60: what_a_trusted_peer_says_of_the_way_is_continued);
each!(light 60: what_any_other_peer_says_of_the_way_is_dropped);
each!(light 60: nothing_is_said_of_the_way_where_that_is_switched_off);
each!(light 60: fields_keep_their_order_and_those_of_the_hop_end_here);
