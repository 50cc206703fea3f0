//! Clients that keep their connection for as long as the server lets them, and never ask anything twice: whoever closes a
//! connection on them without having said so costs them an answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Version, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::client::{AnyBody, Reply};
use crate::load::Tally;
use crate::tls::Authority;

/// How they speak.
#[derive(Clone, Debug)]
pub enum Speech {
    /// HTTP/1.1 in the clear.
    Http1,
    /// HTTP/2 in the clear.
    Http2,
    /// HTTP/1.1 over TLS.
    Tls(Arc<Authority>),
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Loyal {
    /// The answers.
    pub tally: Tally,
    /// Connections that were opened.
    pub connections: u64,
    /// Answers of HTTP/1.1 that said that they were the last of their connection.
    pub farewells: u64,
}

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Socket for S {}

enum Sender {
    Http1(http1::SendRequest<AnyBody>),
    Http2(http2::SendRequest<AnyBody>),
}

/// So many clients ask a calculator for so long. Each waits for its answer, and for a moment after it, another one each
/// time.
pub async fn ask(address: SocketAddr, speech: Speech, clients: u64, time: Duration) -> Loyal {
    let mut all = JoinSet::new();
    for number in 0..clients {
        all.spawn(one(address, speech.clone(), number, time));
    }
    let mut sum = Loyal::default();
    while let Some(one) = all.join_next().await {
        let one = one.expect("no panic");
        sum.tally.sent += one.tally.sent;
        sum.tally.answered += one.tally.answered;
        sum.tally.slowest = sum.tally.slowest.max(one.tally.slowest);
        for (what, count) in one.tally.wrong {
            *sum.tally.wrong.entry(what).or_default() += count;
        }
        sum.connections += one.connections;
        sum.farewells += one.farewells;
    }
    sum
}

async fn one(address: SocketAddr, speech: Speech, number: u64, time: Duration) -> Loyal {
    let (mut told, mut sender, mut chance) = (Loyal::default(), None, number + 1);
    let begun = Instant::now();
    while begun.elapsed() < time {
        let mut present = match sender.take() {
            Some(present) => present,
            None => {
                told.connections += 1;
                connect(address, &speech).await
            }
        };
        told.tally.sent += 1;
        let asked = Instant::now();
        match present.add(told.tally.sent).await {
            Ok(Some(last)) => {
                told.tally.answered += 1;
                told.farewells += u64::from(last);
                sender = (!last).then_some(present);
            }
            // Nothing was sent on it: it is as if it had been closed before.
            Ok(None) => told.tally.sent -= 1,
            Err(error) => *told.tally.wrong.entry(error).or_default() += 1,
        }
        told.tally.slowest = told.tally.slowest.max(asked.elapsed());
        // Between nothing and 60 ms.
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_millis((chance >> 33) % 60)).await;
    }
    told
}

async fn connect(address: SocketAddr, speech: &Speech) -> Sender {
    let stream = TcpStream::connect(address).await.expect("the server listens");
    stream.set_nodelay(true).expect("a socket has that option");
    let stream: Box<dyn Socket> = match speech {
        Speech::Http1 | Speech::Http2 => Box::new(stream),
        Speech::Tls(authority) => {
            drop(stream);
            Box::new(authority.connect(address, &["http/1.1"]).await.expect("a handshake"))
        }
    };
    // What fails of a connection is the failure of an answer.
    match speech {
        Speech::Http1 | Speech::Tls(_) => {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("it is open");
            tokio::spawn(connection);
            Sender::Http1(sender)
        }
        Speech::Http2 => {
            let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
            let (sender, connection) = handshake.await.expect("it is open");
            tokio::spawn(connection);
            Sender::Http2(sender)
        }
    }
}

impl Sender {
    /// Asks for a sum. Whether it was the last answer; none when the connection had said before that it takes no more
    /// requests, which only HTTP/2 can.
    async fn add(&mut self, number: u64) -> Result<Option<bool>, String> {
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = |target: String| Request::get(target).header(header::HOST, "calc");
        let response = match self {
            Self::Http1(sender) => {
                let request = request(format!("/add/{number}/1")).body(body).expect("a request");
                sender.send_request(request).await.map_err(|error| format!("{error:?}"))?
            }
            Self::Http2(sender) => {
                let request =
                    Request::get(format!("http://calc/add/{number}/1")).body(body).expect("a request");
                match sender.send_request(request).await {
                    Ok(response) => response,
                    Err(error) if error.is_canceled() || error.is_closed() => return Ok(None),
                    Err(error) => return Err(format!("{error:?}")),
                }
            }
        };
        let is_last = response.version() != Version::HTTP_2
            && response.headers().get(header::CONNECTION).is_some_and(|value| value == "close");
        let reply = Reply::collect(response).await?;
        match (reply.status, reply.text()) {
            (200, text) if text == (number + 1).to_string() => Ok(Some(is_last)),
            (status, text) => Err(format!("{status} {}", text.trim())),
        }
    }
}
