//! What the models answer.

use std::io::{Read, Write};

use serde_json::{Value, json};

use crate::support::{Outcome, Server, receive};

const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const ABC_DIGEST: &str = "sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:";

fn json_of(outcome: Outcome) -> Value {
    serde_json::from_slice(&outcome.whole().body).unwrap()
}

#[test]
fn the_calculator_adds() {
    let server = Server::start(&["calculator"]);
    let answer = server.get("/add/3/4");
    assert_eq!((answer.status, answer.text()), (200, "7"));
    assert_eq!(
        answer.header("content-digest"),
        Some("sha-256=:eQJpm+Qsio5G+7tFAXJlF+hrIsVqGJ92JabaSQgbJFE=:")
    );
    assert_eq!(answer.header("model-instance"), Some(&*server.instance));
    assert_eq!(server.get("/div/7/2").text(), "3.5");
    assert_eq!((server.get("/div/1/0").status, server.get("/add/1/x").status), (400, 400));
    assert_eq!((server.get("/pow/1/2").status, server.get("/add/1").status), (404, 404));
    assert_eq!((server.get("/").status, server.get("/healthz").status), (200, 200));
}

#[test]
fn a_body_is_added_up_and_compared() {
    let server = Server::start(&["calculator"]);
    assert_eq!(json_of(server.send("POST", "/", "", b"abc")), json!({ "length": 3, "sha256": ABC }));
    let field = format!("Content-Digest: {ABC_DIGEST}\r\n");
    assert_eq!(server.send("POST", "/", &field, b"abc").whole().status, 200);
    for path in ["/", "/add/3/4", "/bytes/7"] {
        assert_eq!(server.send("POST", path, &field, b"abd").whole().status, 400, "{path}");
    }
    let large = vec![7_u8; 5 << 20];
    assert_eq!(json_of(server.send("PUT", "/", "", &large))["length"], 5 << 20);
}

#[test]
fn the_echo_tells_what_arrived() {
    let server = Server::start(&["echo"]);
    let echo = json_of(server.send("PATCH", "/a/%20b?q=1&q=2", "X-A: 1\r\nX-B: 2\r\nX-A: 3\r\n", b"abc"));
    assert_eq!(echo["method"], "PATCH");
    assert_eq!((&echo["path"], &echo["query"]), (&json!("/a/%20b"), &json!("q=1&q=2")));
    assert_eq!(echo["body"], json!({ "length": 3, "sha256": ABC }));
    let headers = echo["headers"].as_array().unwrap();
    let of_a: Vec<&Value> = headers.iter().filter(|pair| pair[0] == "x-a").map(|pair| &pair[1]).collect();
    assert_eq!(of_a, ["1", "3"]);
    assert_eq!(json_of(server.send("GET", "/", "", b""))["path"], "/");
}

#[test]
fn the_echo_tells_trailers() {
    let server = Server::start(&["echo"]);
    let mut stream = server.connect();
    let request = "POST / HTTP/1.1\r\nHost: test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                   3\r\nabc\r\n0\r\nX-Sum: 9\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    assert_eq!(json_of(receive(stream))["trailers"], json!([["x-sum", "9"]]));
}

#[test]
fn sleep_sleeps() {
    let server = Server::start(&["sleep"]);
    for path in ["/sleep/30ms", "/30", "/sleep/30"] {
        let begun = std::time::Instant::now();
        assert_eq!(server.get(path).text(), "slept 30ms\n");
        assert!(begun.elapsed().as_millis() >= 30);
    }
    assert_eq!(server.get("/sleep/long").status, 404);
}

#[test]
fn bodies_of_any_size_have_a_digest_and_streams_have_none() {
    let server = Server::start(&["echo"]);
    let answer = server.get("/bytes/200000");
    assert_eq!(answer.body.len(), 200_000);
    let again = server.send("POST", "/", "", &answer.body);
    let field = format!("Content-Digest: {}\r\n", answer.header("content-digest").unwrap());
    assert_eq!(json_of(again)["body"]["length"], 200_000);
    assert_eq!(server.send("POST", "/", &field, &answer.body).whole().status, 200);
    let stream = server.get("/stream?chunks=3&interval_ms=1&size=100");
    assert_eq!((stream.body.len(), stream.header("content-digest")), (300, None));
    assert_eq!(server.get("/stream?sse=1&chunks=1").text(), "id: 0\ndata: 0\n\n");
    let varied = server.get("/stream?sse=1&chunks=2&interval_ms=1&vary=1");
    let name = varied.header("model-instance").expect("every answer has it").to_owned();
    assert_eq!(varied.text(), format!("id: 0\ndata: 0\n\nid: 1\ndata: 1 {name}\n\n"));
    let varied = server.get("/stream?chunks=3&interval_ms=1&size=100&vary=1");
    let plain = stream.body;
    assert_eq!((varied.body.len(), &varied.body[..100]), (300, &plain[..100]));
    assert!(varied.body[100..].starts_with(name.as_bytes()) && varied.body[200..] == plain[200..]);
    assert_eq!(server.send("POST", "/reflect", "", b"abc").whole().text(), "abc");
}

#[test]
fn a_body_is_reflected_while_it_arrives() {
    let server = Server::start(&["calculator"]);
    let mut stream = server.connect();
    let head = "POST /reflect HTTP/1.1\r\nHost: test\r\nConnection: close\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\
                Trailer: X-Sum\r\n\r\n3\r\nabc\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut received = String::new();
    while !received.contains("abc") {
        let mut part = [0; 1024];
        let count = stream.read(&mut part).unwrap();
        received.push_str(std::str::from_utf8(&part[..count]).unwrap());
    }
    stream.write_all(b"2\r\nde\r\n0\r\nX-Sum: 9\r\n\r\n").unwrap();
    stream.read_to_string(&mut received).unwrap();
    assert!(received.ends_with("3\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 9\r\n\r\n"), "{received:?}");
}

#[test]
fn an_upgraded_connection_echoes() {
    let server = Server::start(&["calculator"]);
    let mut stream = server.connect();
    let head = b"GET /upgrade HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nping";
    stream.write_all(head).unwrap();
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n\r\nping") {
        let mut part = [0; 1024];
        let count = stream.read(&mut part).unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&received));
        received.extend_from_slice(&part[..count]);
    }
    assert!(received.starts_with(b"HTTP/1.1 101 "));
    assert_eq!(json_of(server.send("GET", "/stats", "", b""))["at_work"], 1);
    drop(stream);
    while json_of(server.send("GET", "/stats", "", b""))["at_work"] != 0 {}
    assert_eq!(server.get("/upgrade").status, 404);
}

#[test]
fn a_second_request_at_once_is_refused_where_it_is_forbidden() {
    for (argument, status) in [("--concurrency=1", 503), ("--exclusive", 500)] {
        let server = Server::start(&["sleep", argument]);
        let mut first = server.connect();
        first.write_all(b"GET /sleep/300ms HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
        let stats = || json_of(server.send("GET", "/stats", "", b""));
        while stats()["at_work"] == 0 {}
        assert_eq!(server.get("/sleep/0").status, status);
        assert_eq!(receive(first).whole().status, 200);
        assert_eq!(server.get("/sleep/0").status, 200);
        let stats = stats();
        assert_eq!((&stats["violations"], &stats["at_work"]), (&json!(1), &json!(0)));
    }
}
