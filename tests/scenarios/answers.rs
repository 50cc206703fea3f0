//! Answers that two readers could take for two different things: what a client gets of them, and what the next one gets.

use http::Request;
use longshore_tests::raw::Raw;
use longshore_tests::tap::{Answered, Tap};
use longshore_tests::{Backend, Setup, each};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What becomes of an instance's bytes.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// Each attempt fails, and the client is told so.
    Fails,
    /// The client gets this status and body; the connection is not used again.
    Once(u16, &'static str),
    /// The same, and the connection is good for more.
    Again(u16, &'static str),
    /// The client's answer breaks off.
    Breaks,
}

use Expect::{Again, Breaks, Fails, Once};

/// Bytes of an instance, and what becomes of them.
const CASES: [(&str, Expect); 36] = [
    ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Again(200, "abc")),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Again(200, "abc")),
    ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", Once(200, "abc")),
    ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", Once(200, "abc")),
    ("HTTP/1.1 204 No Content\r\n\r\n", Again(204, "")),
    ("HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", Again(304, "")),
    ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", Again(200, "abc")),
    // Two ends.
    ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", Fails),
    ("HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabcd", Fails),
    ("HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc", Fails),
    ("HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc", Fails),
    ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nabc", Fails),
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Fails,
    ),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 50\r\n\r\n0\r\n\r\n", Fails),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc", Fails),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Fails),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", Fails),
    ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Fails),
    // More than was asked for.
    (
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nSMUGGLED",
        Once(200, "abc"),
    ),
    ("HTTP/1.1 204 No Content\r\nContent-Length: 8\r\n\r\nSMUGGLED", Once(204, "")),
    ("HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nSMUGGLED", Once(304, "")),
    (
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nSMUGGLED",
        Once(200, "abc"),
    ),
    // Lines that are none.
    ("HTTP/1.1 200 OK\r\nX: y\0z\r\nContent-Length: 3\r\n\r\nabc", Fails),
    ("HTTP/1.1 200 OK\r\nX: y\rz\r\nContent-Length: 3\r\n\r\nabc", Fails),
    ("HTTP/1.1 200 OK\r\nX: y\r\n folded\r\nContent-Length: 3\r\n\r\nabc", Fails),
    ("HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabc", Fails),
    ("HTTP/1.1 200 OK\r\n: y\r\nContent-Length: 3\r\n\r\nabc", Fails),
    ("HTTP/1.1 2000 OK\r\nContent-Length: 3\r\n\r\nabc", Fails),
    ("HTTP/2.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", Fails),
    ("hello\r\n\r\n", Fails),
    // Chunks that are none.
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", Breaks),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", Breaks),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n", Breaks),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n", Breaks),
    // What was not asked for.
    ("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nSMUGGLED", Fails),
    (
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        Again(200, "abc"),
    ),
];

/// Sends each case's bytes as the answer to a request of `/NUMBER`, and asks for something else afterwards.
async fn an_ambiguous_answer_ends_where_it_is_and_the_next_one_is_its_own() {
    let tap = Tap::answering(|message| {
        let number = message.target.strip_prefix('/').and_then(|number| number.parse::<usize>().ok());
        number.map_or_else(|| Answered::ok(&message.target), |number| Answered::raw(CASES[number].0))
    })
    .await;
    let cluster = Setup::new(Backend::Process).service(&tap.service("tap", "")).start().await;
    let mut wrong = Vec::new();
    for (number, (bytes, expect)) in CASES.iter().enumerate() {
        let client = cluster.client();
        let got = client.try_send(Request::get(format!("/{number}")), bytes::Bytes::new()).await;
        let got = got.map(|reply| (reply.status, reply.text()));
        let mut connections: Vec<usize> =
            tap.take_with_connections().into_iter().map(|(connection, _)| connection).collect();
        let next = client.get("/next").await;
        let last = tap.take_with_connections()[0].0;
        let reused = connections.pop() == Some(last);
        let met = match (expect, &got) {
            (Fails, Ok((status, text))) => *status == 502 && text.contains("attempts-exhausted") && !reused,
            (Once(status, body), Ok((got, text))) => (got, text.as_str()) == (status, *body) && !reused,
            (Again(status, body), Ok((got, text))) => (got, text.as_str()) == (status, *body) && reused,
            (Breaks, Err(_)) => !reused,
            (Fails | Once(..) | Again(..), Err(_)) | (Breaks, Ok(_)) => false,
        };
        if !met || (next.status, next.text().as_str()) != (200, "/next") {
            wrong.push(format!(
                "{bytes:?} is not {expect:?}: {got:?}, then (reused: {reused}) {:?}",
                next.text()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    cluster.admin().works_on("tap", 0).await;
    cluster.stop().await;
}

/// However an answer ends, it may have as many fields as a request may, and some more.
async fn an_answer_may_have_many_fields_and_its_server_too_when_it_is_probed() {
    let tap = Tap::answering(|message| {
        let (path, count) = message.target.rsplit_once('/').unwrap_or_default();
        let count = count.parse::<usize>().unwrap_or(200);
        let fields: String = (1..count).map(|number| format!("X-{number}: {number}\r\n")).collect();
        let end = if path == "/chunked" {
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        } else {
            "Content-Length: 3\r\n\r\nabc"
        };
        Answered::raw(&format!("HTTP/1.1 200 OK\r\n{fields}{end}"))
    })
    .await;
    let service = tap.service("tap", "").replace("/healthz", "/probe/200");
    let cluster = Setup::new(Backend::Process).service(&service).start().await;
    for path in ["/plain", "/chunked"] {
        for count in [150, 200, 256] {
            let reply = cluster.client().get(&format!("{path}/{count}")).await;
            assert_eq!((reply.status, reply.text().as_str()), (200, "abc"), "{path}/{count}");
            assert_eq!(reply.header("x-149"), "149");
        }
        let reply = cluster.client().get(&format!("{path}/257")).await;
        assert_eq!((reply.status, reply.problem().as_str()), (502, "attempts-exhausted"));
        assert!(reply.detail().contains("more than 256 fields"), "{}", reply.detail());
    }
    cluster.stop().await;
}

async fn a_head_without_end_and_a_flood_of_interim_answers_are_not_waited_for_for_ever() {
    let tap = Tap::answering(|message| match message.target.as_str() {
        "/large" => Answered::raw(&format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(4 << 20))),
        "/many" => Answered::raw(&format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(20_000))),
        "/interim" => Answered::raw(&"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(10_000)),
        "/silent" => Answered::raw("HTTP/1.1 200 OK\r\nX: y\r\n"),
        other => Answered::ok(other),
    })
    .await;
    let service = tap.service("tap", "concurrency = 0");
    let cluster = Setup::new(Backend::Process).service(&service).start().await;
    for (target, limit, status) in
        [("/large", "30s", 502), ("/many", "30s", 502), ("/interim", "30s", 502), ("/silent", "1s", 504)]
    {
        let client = cluster.client();
        let request = Request::get(target).header("longshore-timeout", limit);
        let (reply, other) = tokio::join!(client.send(request, bytes::Bytes::new()), client.get("/other"));
        assert_eq!(reply.status, status, "{target}: {}", reply.text());
        if target == "/interim" {
            assert!(reply.text().contains("more than 64 interim answers"), "{}", reply.text());
        }
        assert_eq!(other.text(), "/other", "beside {target}");
        assert_eq!(client.get("/next").await.text(), "/next", "after {target}");
    }
    cluster.stop().await;
}

/// Answers as soon as it has a head, and closes the connection with the body unread: its client gets a reset.
async fn impatient(mut stream: TcpStream) {
    let mut received = Vec::new();
    while !received.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read_buf(&mut received).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let status = if received.starts_with(b"GET /healthz ") { "200 OK" } else { "413 Content Too Large" };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
    // Nobody may listen.
    let _ = stream.write_all(answer.as_bytes()).await;
}

async fn an_answer_of_a_server_that_does_not_read_on_is_its_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(impatient(stream));
        }
    });
    let service = format!("[services.impatient]\naddresses = [\"{address}\"]\nhealth.path = \"/healthz\"\n");
    let cluster = Setup::new(Backend::Process).service(&service).start().await;
    for size in [1_000, 200_000, 3_000_000] {
        let body = bytes::Bytes::from(vec![b'x'; size]);
        for round in 0..20 {
            let reply = cluster.client().send(Request::post("/"), body.clone()).await;
            assert_eq!((reply.status, reply.text().as_str()), (413, "no"), "{size} bytes, round {round}");
            assert_eq!(reply.headers["longshore-attempts"], "1", "{size} bytes, round {round}");
        }
    }
    cluster.stop().await;
}

async fn fields_after_an_answer_reach_its_client() {
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 42\r\ncontent-length: 9\r\n\r\n";
    let tap = Tap::answering(|_| Answered::raw(chunks)).await;
    let cluster = Setup::new(Backend::Process).service(&tap.service("tap", "")).start().await;
    let mut raw = Raw::connect(cluster.address()).await;
    raw.send("GET / HTTP/1.1\r\nHost: tap\r\nConnection: close\r\n\r\n").await;
    let answer = raw.rest().await;
    assert!(answer.ends_with("\r\n3\r\nabc\r\n0\r\nx-sum: 42\r\n\r\n"), "{answer}");
    cluster.stop().await;
}

each!(light 60: fields_after_an_answer_reach_its_client);
each!(light 60: an_answer_of_a_server_that_does_not_read_on_is_its_answer);
each!(light 60: an_ambiguous_answer_ends_where_it_is_and_the_next_one_is_its_own);
each!(light 60: a_head_without_end_and_a_flood_of_interim_answers_are_not_waited_for_for_ever);
each!(light 60: an_answer_may_have_many_fields_and_its_server_too_when_it_is_probed);
