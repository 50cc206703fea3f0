//! The plainest exchange with an instance, and the most frequent one: a request of which every byte is here, answered by
//! a head with a Content-Length and so many bytes that they are held until they are complete.
//!
//! Between a client and an instance hyper reads and writes every message twice, in halves that talk over channels; for
//! such an exchange that is most of what a request costs (gateway design F). Here its head is written, and the answer's
//! is read by httparse, hyper's own parser. Whatever is not plain is not understood here: it is handed to hyper as it came.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use http::{HeaderMap, HeaderValue, Method, Response, Uri};
use tokio::net::TcpStream;
use tokio_util::io::{poll_read_buf, poll_write_buf};

mod encode;
mod handed;
mod lines;
mod parse;
#[cfg(test)]
mod tests;
mod unsent;

pub use handed::{Handed, Progress};
pub use parse::MAX_FIELDS;
use parse::{Head, Parsed};
use unsent::Unsent;

use super::body::Chunks;
use super::buffers::Buffer;
use super::downstream::Asker;
use super::interim;
use super::spelling::Spelling;

/// The memory that an idle connection keeps for the next head is not larger than this, in bytes.
const KEPT: usize = 64 * 1024;

/// A connection to an instance, and its buffers.
pub struct Plain {
    stream: TcpStream,
    /// The socket under a second descriptor, by which its link can shut it down.
    socket: Arc<OwnedFd>,
    /// The beginning of a head.
    received: Vec<u8>,
    head: Vec<u8>,
}

/// A request of which every byte is here.
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// Path and query.
    pub target: &'a Uri,
    /// Fields, without those of framing.
    pub headers: &'a HeaderMap,
    /// How the client spelled them.
    pub spelling: &'a Spelling,
    /// In place of the one among them.
    pub traceparent: Option<&'a HeaderValue>,
    /// The body, if there is one.
    pub body: Option<&'a Arc<Chunks>>,
    /// The longest answer that is plain, in bytes: it is held in memory that nobody counts.
    pub hold: u64,
    /// Whether the client takes the lines of the answer as they come.
    pub as_it_comes: bool,
    /// Who is told what comes before the answer.
    pub interim: Option<&'a Asker>,
}

/// How an answer has begun.
pub enum Begun {
    /// As plain as can be: [`Plain::content`] has the rest.
    Plain(Expected),
    /// Not quite as plain.
    Other(Handed),
}

/// A plain answer, of which the head is here.
pub struct Expected {
    connection: Box<Plain>,
    unsent: Unsent,
    head: Head,
    content: Vec<u8>,
    /// Whether something came behind it, which nobody has asked for.
    excess: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub struct Broken {
    /// What happened.
    pub why: Why,
    /// Whether the instance may have seen any of the request.
    pub sent: bool,
}

/// What can go wrong on the way.
#[derive(Debug)]
pub enum Why {
    /// The instance closed the connection.
    Closed,
    /// The connection broke.
    Io(io::Error),
    /// What came was no HTTP.
    NotHttp(String),
}

impl Plain {
    /// Over a socket that is connected.
    ///
    /// # Errors
    /// Where there are no more file descriptors.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        let socket = Arc::new(stream.as_fd().try_clone_to_owned()?);
        Ok(Self::over(stream, socket))
    }

    /// Over a socket whose second descriptor is there already.
    pub const fn over(stream: TcpStream, socket: Arc<OwnedFd>) -> Self {
        Self { stream, socket, received: Vec::new(), head: Vec::new() }
    }

    /// By which it can be shut down.
    pub const fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    /// For another way to speak over it. Only while it is idle.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Whether it can carry a request: idle, and neither closed nor with anything to read.
    pub fn is_alive(&self) -> bool {
        matches!(self.stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn ask(mut self: Box<Self>, request: &Request<'_>) -> Result<Begun, Broken> {
        self.head.clear();
        let length = request.body.map_or(0, |body| body.length());
        encode::head(&mut self.head, request, length);
        let mut unsent = Unsent::new(std::mem::take(&mut self.head), request.body.cloned());
        let mut interims = 0;
        loop {
            let buffer = std::future::poll_fn(|cx| self.poll_exchange(cx, &mut unsent))
                .await
                .map_err(|why| Broken { why, sent: unsent.has_begun() })?;
            let mut received = buffer.filled();
            loop {
                let parsed = parse::parse(received, request);
                let parsed = parsed.map_err(|what| Broken { why: Why::NotHttp(what), sent: true })?;
                match parsed {
                    Parsed::Plain(head, end) => {
                        let content = received.get(end..).unwrap_or_default();
                        return Ok(Begun::Plain(Expected::new(self, unsent, head, content)));
                    }
                    Parsed::Other => {
                        let received = Bytes::copy_from_slice(received);
                        return Ok(Begun::Other(Handed::new(self.stream, received, unsent)));
                    }
                    Parsed::Interim(interim, spelling, end) => {
                        interims += 1;
                        if let Some(why) = interim::flood(interims) {
                            return Err(Broken { why, sent: true });
                        }
                        if let Some(told) = request.interim {
                            told.tell(interim.status(), interim.headers(), &spelling);
                        }
                        received = received.get(end..).unwrap_or_default();
                    }
                    Parsed::Partial => break,
                }
            }
            self.received = received.to_vec();
        }
    }

    /// Sends on, and receives something. A server may answer before it has read everything, or instead of reading it:
    /// what it says counts, not that it would not listen.
    fn poll_exchange(&mut self, cx: &mut Context<'_>, unsent: &mut Unsent) -> Poll<Result<Buffer, Why>> {
        let mut buffer = Buffer::after(&self.received);
        let received = self.poll_both(cx, unsent, &mut buffer.room());
        received.map_ok(|()| buffer)
    }

    fn poll_both(
        &mut self,
        cx: &mut Context<'_>,
        unsent: &mut Unsent,
        room: &mut impl BufMut,
    ) -> Poll<Result<(), Why>> {
        while unsent.has_remaining() {
            match poll_write_buf(Pin::new(&mut self.stream), cx, unsent) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => unsent.fail(error),
                Poll::Pending => break,
            }
        }
        match poll_read_buf(Pin::new(&mut self.stream), cx, room) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(unsent.take_failure().map_or(Why::Closed, Why::Io))),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(Why::Io(unsent.take_failure().unwrap_or(error)))),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Ready for the next request; `None` where it is not.
    fn idle(mut self: Box<Self>, unsent: Unsent, reusable: bool) -> Option<Box<Self>> {
        if !reusable || unsent.has_remaining() || unsent.has_failed() {
            return None;
        }
        self.head = unsent.into_head();
        self.received = Vec::new();
        if self.head.capacity() > KEPT {
            self.head = Vec::new();
        }
        Some(self)
    }
}

impl Expected {
    fn new(connection: Box<Plain>, unsent: Unsent, head: Head, received: &[u8]) -> Self {
        // It is at most as long as what may be held.
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        let mut content = Vec::with_capacity(length);
        content.extend_from_slice(received.get(..length).unwrap_or(received));
        Self { connection, unsent, head, content, excess: received.len() > length }
    }

    /// Status and fields.
    pub const fn head(&self) -> &Response<()> {
        &self.head.response
    }

    /// How they were spelled.
    pub const fn spelling(&self) -> &Spelling {
        &self.head.spelling
    }

    /// Its fields as lines, where they are to be passed on as they came; then the head has none.
    pub const fn take_lines(&mut self) -> Option<Vec<u8>> {
        self.head.lines.take()
    }

    /// How many bytes of content there are.
    pub const fn length(&self) -> u64 {
        self.head.length
    }

    /// Whether they are all here.
    pub fn is_complete(&self) -> bool {
        self.content.len() as u64 >= self.head.length
    }

    /// Waits for the rest. Returns the connection too if it can carry another request.
    ///
    /// # Errors
    /// Where the rest does not come.
    pub async fn content(mut self) -> Result<(Response<Bytes>, Option<Box<Plain>>), Broken> {
        while !self.is_complete() {
            let Self { connection, unsent, content, .. } = &mut self;
            let rest = content.capacity() - content.len();
            std::future::poll_fn(|cx| connection.poll_both(cx, unsent, &mut (&mut *content).limit(rest)))
                .await
                .map_err(|why| Broken { why, sent: true })?;
        }
        Ok(self.finish())
    }

    /// The answer, if all of it is here, and the connection if it can carry another request.
    pub fn finish(self) -> (Response<Bytes>, Option<Box<Plain>>) {
        let connection = self.connection.idle(self.unsent, self.head.reusable && !self.excess);
        (self.head.response.map(|()| self.content.into()), connection)
    }
}
