//! What comes over a socket, however it is cut into pieces.

use std::future::poll_fn;
use std::task::{Context, Poll};

use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::content::Content;
use super::socket::{ClientStream, LOOKS, Next, Shared};
use crate::config::Limits;

impl ClientStream for DuplexStream {
    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    fn abort(&mut self) {}
}

/// Method, target and content of each request, and then how it ended.
async fn read(socket: &Shared) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        match poll_fn(|cx| socket.with(|socket| socket.poll_next(cx, &Limits::default()))).await {
            Next::Request(head) => {
                let left = head.content.left();
                let turn = socket.with(|socket| socket.begin(head.content, head.expects));
                let content = Content::of(socket, turn, left).collect().await;
                let content = content.map(|content| String::from_utf8(content.to_bytes().to_vec()).unwrap());
                seen.push(format!("{} {} {content:?}", head.parts.method, head.parts.uri));
            }
            Next::Refused(problem) => seen.push(problem.kind().to_owned()),
            Next::Over => return seen,
        }
        if seen.last().is_some_and(|last| !last.contains("Ok(")) {
            return seen;
        }
    }
}

#[tokio::test]
async fn requests_are_the_same_however_they_are_cut_into_pieces() {
    let text = "GET /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc\
                PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nde\r\n1\r\nf\r\n0\r\nt: 1\r\n\r\n\
                \r\nGET /d HTTP/1.0\n\nDELETE /e HTTP/1.1\r\nHost: a\r\n\r\n";
    let expected = [
        "GET /a Ok(\"\")",
        "POST /b Ok(\"abc\")",
        "PUT /c Ok(\"def\")",
        "GET /d Ok(\"\")",
        "DELETE /e Ok(\"\")",
    ];
    for seed in 0..50 {
        let (near, mut far) = duplex(4096);
        let socket = Shared::new(Box::new(near));
        let writing = tokio::spawn(async move {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut rest = text.as_bytes();
            while !rest.is_empty() {
                let most = rest.len().min(1 << rng.u32(0..9));
                let (piece, more) = rest.split_at(rng.usize(1..=most));
                far.write_all(piece).await.unwrap();
                rest = more;
                tokio::task::yield_now().await;
            }
        });
        assert_eq!(read(&socket).await, expected, "seed {seed}");
        writing.await.unwrap();
    }
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_not_read_anew_for_each() {
    let head = format!("GET /a HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(1000));
    let (near, mut far) = duplex(1);
    let socket = Shared::new(Box::new(near));
    let writing = tokio::spawn(async move { far.write_all(head.repeat(3).as_bytes()).await });
    assert_eq!(read(&socket).await, ["GET /a Ok(\"\")"; 3]);
    writing.await.unwrap().unwrap();
    // Once for its first byte and once for its last.
    assert_eq!(LOOKS.get(), 6);
}

#[tokio::test]
async fn what_breaks_off_is_no_whole_request_and_what_is_wrong_ends_it() {
    for (text, expected) in [
        ("GET /a HTTP/1.1\r\nHost", &[][..]),
        ("POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab", &["POST /b Err(Ended)"]),
        (
            "PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
            &["PUT /c Err(Framing(\"a chunk is longer than it says\"))"],
        ),
        ("nonsense\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", &["bad-request"]),
    ] {
        let (near, mut far) = duplex(4096);
        far.write_all(text.as_bytes()).await.unwrap();
        drop(far);
        assert_eq!(read(&Shared::new(Box::new(near))).await, expected, "{text:?}");
    }
}

#[tokio::test]
async fn a_client_that_waits_for_a_word_gets_one_when_its_content_is_wanted() {
    let (near, mut far) = duplex(4096);
    far.write_all(b"POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        .await
        .unwrap();
    let socket = Shared::new(Box::new(near));
    let reading = tokio::spawn(async move { read(&socket).await });
    let mut word = [0; 25];
    far.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
    far.write_all(b"abc").await.unwrap();
    drop(far);
    assert_eq!(reading.await.unwrap(), ["POST /a Ok(\"abc\")"]);
}

#[tokio::test]
async fn content_that_nobody_wants_is_dropped_if_it_is_short() {
    for (text, drained) in [
        ("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET", true),
        ("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\nabc", false),
        ("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false),
        ("POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", false),
    ] {
        let (near, mut far) = duplex(4096);
        far.write_all(text.as_bytes()).await.unwrap();
        let socket = Shared::new(Box::new(near));
        let next = poll_fn(|cx| socket.with(|socket| socket.poll_next(cx, &Limits::default()))).await;
        let Next::Request(head) = next else { panic!("{text:?}") };
        let left = head.content.left();
        let turn = socket.with(|socket| socket.begin(head.content, head.expects));
        drop(Content::of(&socket, turn, left));
        assert_eq!(socket.with(|socket| socket.may_go_on()), drained, "{text:?}");
        assert_eq!(poll_fn(|cx| socket.with(|socket| socket.poll_drain(cx))).await, drained, "{text:?}");
    }
}

#[tokio::test]
async fn content_of_a_request_that_is_over_is_nobody_s() {
    let (near, mut far) = duplex(4096);
    far.write_all(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").await.unwrap();
    let socket = Shared::new(Box::new(near));
    let Next::Request(head) =
        poll_fn(|cx| socket.with(|socket| socket.poll_next(cx, &Limits::default()))).await
    else {
        panic!("a request")
    };
    let turn = socket.with(|socket| socket.begin(head.content, false));
    let late = Content::of(&socket, turn, Some(3));
    socket.with(|socket| socket.begin(super::decode::Decoder::Length(3), false));
    let error = late.collect().await.map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "the request is over");
}
