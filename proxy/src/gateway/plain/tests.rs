//! Exchanges with servers that answer in every way there is.

use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// More than the sockets' buffers take, in bytes.
const LARGE: usize = 32 << 20;

/// The longest answer that these exchanges hold, in bytes.
const HOLD: u64 = 64;

/// A connection, and its other end.
async fn pair() -> (Box<Plain>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (Box::new(Plain::new(near).unwrap()), listener.accept().await.unwrap().0)
}

async fn ask(plain: Box<Plain>, method: Method, body: Option<&Arc<Chunks>>) -> Result<Begun, Broken> {
    let (target, headers) = (Uri::from_static("/"), HeaderMap::new());
    plain
        .ask(&Request {
            method: &method,
            target: &target,
            headers: &headers,
            spelling: &Spelling::default(),
            interim: None,
            as_it_comes: false,
            traceparent: None,
            body,
            hold: HOLD,
        })
        .await
}

/// What is answered to a GET by a server that reads it and writes this, piece by piece, and then closes or not.
async fn answered(
    pieces: &'static [&'static str],
    closes: bool,
) -> (Result<Begun, Broken>, Option<TcpStream>) {
    let (plain, mut far) = pair().await;
    let server = tokio::spawn(async move {
        let mut request = [0; 1024];
        assert!(far.read(&mut request).await.unwrap() > 0);
        for piece in pieces {
            far.write_all(piece.as_bytes()).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        if closes { None } else { Some(far) }
    });
    let begun = ask(plain, Method::GET, None).await;
    (begun, server.await.unwrap())
}

#[tokio::test]
async fn an_answer_is_complete_however_it_is_cut_into_pieces() {
    for (pieces, content, again) in [
        (&["HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"][..], "abc", true),
        (&["HTTP/1.1 200 OK\r\nContent-Le", "ngth: 3\r\n\r\na", "b", "c"], "abc", true),
        (&["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], "", true),
        (&["HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"], "abc", false),
        // What nobody asked for is nobody's answer.
        (&["HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n"], "abc", false),
    ] {
        let (begun, _far) = answered(pieces, false).await;
        let Ok(Begun::Plain(expected)) = begun else { panic!("{pieces:?} is plain") };
        let (response, plain) = expected.content().await.unwrap();
        assert_eq!((response.status().as_u16(), response.body().as_ref()), (200, content.as_bytes()));
        assert_eq!(plain.is_some(), again, "{pieces:?}");
    }
}

#[tokio::test]
async fn a_connection_carries_one_exchange_after_another() {
    let (mut plain, mut far) = pair().await;
    let server = tokio::spawn(async move {
        for round in 0..3 {
            let mut request = [0; 1024];
            let read = far.read(&mut request).await.unwrap();
            assert_eq!(&request[..read], b"GET / HTTP/1.1\r\n\r\n");
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nnr {round} ");
            far.write_all(answer.as_bytes()).await.unwrap();
        }
        far
    });
    for round in 0..3 {
        assert!(plain.is_alive());
        let Ok(Begun::Plain(expected)) = ask(plain, Method::GET, None).await else { panic!("plain") };
        let (response, idle) = expected.content().await.unwrap();
        assert_eq!(response.body(), format!("nr {round} ").as_bytes());
        plain = idle.unwrap();
    }
    drop(server.await.unwrap());
    let closed = async || {
        while plain.is_alive() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), closed())
        .await
        .expect("a closed one is not alive");
}

#[tokio::test]
async fn a_large_body_is_sent_whole_and_an_early_answer_is_taken() {
    let body = Arc::new(Chunks::of(vec![Bytes::from(vec![b'a'; LARGE]), Bytes::from_static(b"end")]));
    for reads in [true, false] {
        let (plain, mut far) = pair().await;
        let server = tokio::spawn(async move {
            let mut received = 0;
            let mut buffer = vec![0; 64 * 1024];
            while reads && received < LARGE + 3 {
                received += far.read(&mut buffer).await.unwrap();
            }
            far.write_all(b"HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
            far
        });
        let Ok(Begun::Plain(expected)) = ask(plain, Method::POST, Some(&body)).await else { panic!("plain") };
        let (response, plain) = expected.content().await.unwrap();
        assert_eq!((response.status().as_u16(), response.body().as_ref()), (413, &b"no"[..]));
        assert_eq!(plain.is_some(), reads, "a connection with half a request on it is not used again");
        drop(server.await.unwrap());
    }
}

#[tokio::test]
async fn what_is_not_plain_is_read_by_hyper_from_its_start() {
    for (pieces, content) in [
        (&["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", "c\r\n0\r\n\r\n"][..], "abc"),
        (
            &[
                "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
                "c\r\n0\r\n\r\n",
            ],
            "abc",
        ),
        (
            &[
                "HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\n0123456789012345678901234567890123456789",
                "012345678901234567890123456789",
            ],
            "0123456789012345678901234567890123456789012345678901234567890123456789",
        ),
        (&["HTTP/1.1 200 OK\r\n\r\nto the ", "end"], "to the end"),
    ] {
        let (begun, _) = answered(pieces, true).await;
        let Ok(Begun::Other(handed)) = begun else { panic!("{pieces:?} is not plain") };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(handed)).await.unwrap();
        let driven = tokio::spawn(connection);
        let request = http::Request::get("/").body(http_body_util::Empty::<Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), content);
        driven.abort();
    }
}

#[tokio::test]
async fn interim_answers_are_passed_over_and_a_flood_of_them_is_none() {
    const LAST: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
    for (count, passes) in [(1, true), (64, true), (65, false)] {
        let flood: &'static str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(count).leak();
        let (first, second) = flood.split_at(flood.len() / 2);
        let (begun, _) = answered(vec![first, second, LAST].leak(), true).await;
        match begun {
            Ok(Begun::Plain(expected)) if passes => assert_eq!(expected.head().status(), 200),
            Err(broken) if !passes => assert!(format!("{broken:?}").contains("interim"), "{broken:?}"),
            Ok(_) | Err(_) => panic!("{count} interim answers"),
        }
    }
}

#[tokio::test]
async fn what_breaks_says_how() {
    for (pieces, why) in [
        (&[][..], "Closed"),
        (&["HTTP/1.1 200 OK\r\nContent-"], "Closed"),
        (&["SSH-2.0-server\r\n"], "NotHttp"),
    ] {
        let (begun, _) = answered(pieces, true).await;
        let Err(broken) = begun else { panic!("{pieces:?} is no answer") };
        assert!(format!("{:?}", broken.why).starts_with(why), "{pieces:?}: {broken:?}");
        assert!(broken.sent);
    }
    let (begun, _) = answered(&["HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na"], true).await;
    let Ok(Begun::Plain(expected)) = begun else { panic!("it begins well") };
    assert!(!expected.is_complete());
    assert!(matches!(expected.content().await.err().unwrap().why, Why::Closed));
}
