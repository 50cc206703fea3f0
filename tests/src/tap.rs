//! A server that notes every byte that reaches it, and answers with bytes that a test chooses: for what only the wire
//! shows.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::strict::{self, Message, Next, Reader};

/// What is sent back for a request, and whether the connection is closed after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Every byte of it.
    pub bytes: Vec<u8>,
    /// Whether nothing more is read.
    pub close: bool,
}

/// How a request is answered.
type Answers = dyn Fn(&Message) -> Answered + Send + Sync;

/// The server. Its probes are requests of `/healthz`, which are answered and not noted.
#[derive(Clone, Debug)]
pub struct Tap {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    requests: Vec<(usize, Message)>,
    violations: Vec<String>,
    connections: usize,
}

impl Answered {
    /// A short answer that leaves the connection open.
    pub fn ok(body: &str) -> Self {
        Self::raw(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }

    /// These bytes, and the connection stays open.
    pub fn raw(text: &str) -> Self {
        Self { bytes: text.as_bytes().to_vec(), close: false }
    }

    /// And then no more.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }
}

impl Tap {
    /// Answers every request with its target.
    pub async fn start() -> Self {
        Self::answering(|message| Answered::ok(&message.target)).await
    }

    /// Answers as told.
    pub async fn answering(answers: impl Fn(&Message) -> Answered + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let tap = Self { address, seen: Arc::default() };
        let (seen, answers): (_, Arc<Answers>) = (tap.seen.clone(), Arc::new(answers));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, seen.clone(), answers.clone()));
            }
        });
        tap
    }

    /// A service whose only instance it is.
    pub fn service(&self, name: &str, keys: &str) -> String {
        format!(
            "[services.{name}]\naddresses = [\"{}\"]\nhealth = {{ path = \"/healthz\", interval = \"50ms\" }}\n{keys}\n",
            self.address
        )
    }

    /// The whole requests since the last look, in the order of their end.
    ///
    /// # Panics
    /// When anything came that no instance should have to understand.
    pub fn take(&self) -> Vec<Message> {
        self.take_with_connections().into_iter().map(|(_, message)| message).collect()
    }

    /// The same, each with the number of the connection on which it came.
    ///
    /// # Panics
    /// When anything came that no instance should have to understand.
    pub fn take_with_connections(&self) -> Vec<(usize, Message)> {
        let mut seen = self.seen.lock();
        assert!(seen.violations.is_empty(), "an instance got what is no request: {:#?}", seen.violations);
        std::mem::take(&mut seen.requests)
    }
}

async fn converse(mut stream: TcpStream, seen: Arc<Mutex<Seen>>, answers: Arc<Answers>) {
    let mut received = Vec::new();
    let mut number = None;
    loop {
        match strict::next(&received, Reader::Instance) {
            Next::Whole(message, length) => {
                received.drain(..length);
                let answer = if message.target == "/healthz" {
                    Answered::ok("")
                } else {
                    let mut seen = seen.lock();
                    let number = *number.get_or_insert_with(|| {
                        seen.connections += 1;
                        seen.connections
                    });
                    seen.requests.push((number, *message.clone()));
                    drop(seen);
                    answers(&message)
                };
                if stream.write_all(&answer.bytes).await.is_err() || answer.close {
                    return;
                }
            }
            Next::Incomplete => {
                let mut chunk = [0; 16 * 1024];
                match stream.read(&mut chunk).await {
                    Ok(0) | Err(_) => return,
                    Ok(size) => received.extend_from_slice(&chunk[..size]),
                }
            }
            Next::Violation(what) => {
                let bytes = String::from_utf8_lossy(&received).into_owned();
                seen.lock().violations.push(format!("{what}: {bytes:?}"));
                return;
            }
        }
    }
}
