//! HTTP/2 frame by frame, for what no library sends.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// Longest wait for a frame.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was answered, with this status.
    Answered(u16),
    /// It was reset.
    Reset,
    /// The whole connection has ended.
    Closed,
}

/// A connection.
#[derive(Debug)]
pub struct Frames {
    stream: TcpStream,
    next: u32,
}

impl Frames {
    /// Connects and says that it is HTTP/2.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        let mut frames = Self { stream, next: 1 };
        frames.bytes(PREFACE).await;
        frames.frame(SETTINGS, 0, 0, &[]).await;
        frames
    }

    /// Sends a request: its fields as they are given, each chunk as a DATA frame. Its stream's number.
    pub async fn request(&mut self, fields: &[(&str, &str)], chunks: &[&str]) -> u32 {
        self.send(fields, chunks, true).await
    }

    /// The same, and its end is still to come.
    pub async fn request_open(&mut self, fields: &[(&str, &str)], chunks: &[&str]) -> u32 {
        self.send(fields, chunks, false).await
    }

    async fn send(&mut self, fields: &[(&str, &str)], chunks: &[&str], whole: bool) -> u32 {
        let number = self.next;
        self.next += 2;
        let end = |last: bool| if whole && last { END_STREAM } else { 0 };
        self.frame(HEADERS, END_HEADERS | end(chunks.is_empty()), number, &literal(fields)).await;
        for (index, chunk) in chunks.iter().enumerate() {
            self.frame(DATA, end(index + 1 == chunks.len()), number, chunk.as_bytes()).await;
        }
        number
    }

    /// Ends a stream's request with fields after its body.
    pub async fn trailers(&mut self, number: u32, fields: &[(&str, &str)]) {
        self.frame(HEADERS, END_HEADERS | END_STREAM, number, &literal(fields)).await;
    }

    /// Takes a request back.
    pub async fn reset(&mut self, number: u32) {
        const CANCEL: [u8; 4] = [0, 0, 0, 8];
        self.frame(RST_STREAM, 0, number, &CANCEL).await;
    }

    /// Waits for the head of a stream's answer, or its end.
    ///
    /// # Panics
    /// When there is neither for too long.
    pub async fn end(&mut self, number: u32) -> End {
        loop {
            let Some((kind, flags, of, payload)) = self.read().await else { return End::Closed };
            match kind {
                SETTINGS if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, &[]).await,
                GOAWAY => return End::Closed,
                RST_STREAM if of == number => return End::Reset,
                HEADERS if of == number => return End::Answered(status(&payload)),
                _ => {}
            }
        }
    }

    /// Says that it is there, and nothing else.
    pub async fn ping(&mut self) {
        self.frame(PING, 0, 0, &[0; 8]).await;
    }

    /// Begins a header section and never ends it.
    pub async fn dribble(&mut self) {
        self.frame(HEADERS, END_STREAM, self.next, &literal(&[(":method", "GET")])).await;
    }

    /// How long the connection stays open, and whether the server has said before that it ends. It may
    /// ping all the time, and never answers a ping.
    pub async fn lasts(mut self, pings: bool) -> (Duration, bool) {
        let (begun, mut told) = (Instant::now(), false);
        loop {
            if pings {
                self.ping().await;
            }
            match timeout(Duration::from_millis(200), self.stream.readable()).await {
                Err(_) => {}
                Ok(_) => match self.read().await {
                    None => return (begun.elapsed(), told),
                    Some((kind, ..)) => told |= kind == GOAWAY,
                },
            }
            assert!(begun.elapsed() < PATIENCE, "it is never closed");
        }
    }

    async fn read(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let whole = async {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload).await.ok()?;
            let number = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
            Some((head[3], head[4], number, payload))
        };
        timeout(PATIENCE, whole).await.expect("the server says something or closes")
    }

    async fn frame(&mut self, kind: u8, flags: u8, number: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("it is short").to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.extend_from_slice(payload);
        self.bytes(&bytes).await;
    }

    async fn bytes(&mut self, bytes: &[u8]) {
        // A server that has closed is not the sender's business.
        let _ = self.stream.write_all(bytes).await;
    }
}

/// Fields as HPACK literals that are not indexed and not compressed (RFC 7541, 6.2.2).
fn literal(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("it is short"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The status that a block of fields begins with, where it is one of the static table (RFC 7541, A); else 0.
fn status(block: &[u8]) -> u16 {
    match block.first() {
        Some(0x88) => 200,
        Some(0x89) => 204,
        Some(0x8c) => 400,
        Some(0x8d) => 404,
        Some(0x8e) => 500,
        Some(_) | None => 0,
    }
}
