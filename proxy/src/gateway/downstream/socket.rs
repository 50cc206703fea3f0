//! A client's socket and what has been received of it. Whoever reads the content of a request and whoever answers it share
//! it: each moves what it waits for itself, so that no other task has to be woken for it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use http_body::Frame;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::{poll_read_buf, poll_write_buf};

use super::decode::{Decoder, Piece};
use super::head::{self, Head};
use crate::config::Limits;
use crate::gateway::buffers::Buffer;
use crate::problem::Problem;

/// What the client of a request that waits for a word is told.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A piece of content shorter than this is copied, in bytes: the buffer that it came in is much larger.
const SHORT: usize = 16 * 1024;

/// Bytes of a content that nobody wants are read and dropped up to this, so that its connection stays good.
const DRAINED: u64 = 64 * 1024;

/// A stream of bytes from and to a client.
pub trait ClientStream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Ready when a client of whom nothing is read has gone.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;
    /// Nothing but its end is to come, and that is not to look like the end of an answer.
    fn abort(&mut self);
}

/// Why there is no more of a request's content.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// hyper's word for it.
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The client finished in the middle of it.
    #[error("the connection ended in the middle of the body")]
    Ended,
    /// It is not framed as its head says.
    #[error("{0}")]
    Framing(&'static str),
    /// The request has been answered, and its connection is another one's by now.
    #[error("the request is over")]
    Over,
}

/// A socket that a request's content and its answer share.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Socket>>);

/// A client's socket.
pub struct Socket {
    /// Until another protocol takes it over.
    stream: Option<Box<dyn ClientStream>>,
    /// What was received and not taken yet.
    received: Bytes,
    /// Whether that lies in a buffer much larger than itself.
    roomy: bool,
    /// So many bytes of it are the beginning of a head, and have been looked at.
    seen: usize,
    /// Nothing more comes.
    ended: bool,
    /// Which request is under way, counted.
    turn: u64,
    content: Decoder,
    /// Its client waits for a word before it sends the content.
    expects: bool,
    /// Nobody wants the content any more.
    unwanted: bool,
    /// Its answer has begun: nothing may go before it.
    answered: bool,
    /// Interim answers that are on their way.
    interim: Vec<u8>,
    /// Who answers the request.
    answering: Option<Waker>,
}

/// What comes next on a connection.
#[expect(clippy::large_enum_variant, reason = "it is moved once a request, and a box would be made for each")]
pub enum Next {
    /// A request.
    Request(Head),
    /// Something that is none: the connection ends with this answer.
    Refused(Problem),
    /// Its end.
    Over,
}

impl Shared {
    /// Nothing has been received yet.
    pub fn new(stream: Box<dyn ClientStream>) -> Self {
        Self(Arc::new(Mutex::new(Socket {
            stream: Some(stream),
            received: Bytes::new(),
            roomy: false,
            seen: 0,
            ended: false,
            turn: 0,
            content: Decoder::Over,
            expects: false,
            unwanted: false,
            answered: false,
            interim: Vec::new(),
            answering: None,
        })))
    }

    /// The socket, for a moment.
    pub fn with<T>(&self, work: impl FnOnce(&mut Socket) -> T) -> T {
        work(&mut self.0.lock())
    }

    /// The content of the request whose turn it is; its next piece.
    pub fn poll_content(
        &self,
        turn: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ContentError>>> {
        let mut socket = self.0.lock();
        if socket.turn != turn {
            return Poll::Ready(Some(Err(ContentError::Over)));
        }
        let polled = socket.poll_content(cx);
        if socket.content.is_over()
            && let Some(answering) = socket.answering.take()
            && !answering.will_wake(cx.waker())
        {
            // From now on it is who answers that looks after the client.
            answering.wake();
        }
        polled
    }

    /// Nobody wants the rest of that content.
    pub fn drop_content(&self, turn: u64) {
        let mut socket = self.0.lock();
        if socket.turn == turn {
            socket.unwanted = true;
        }
    }
}

impl Socket {
    /// Waits for the next request.
    pub fn poll_next(&mut self, cx: &mut Context<'_>, limits: &Limits) -> Poll<Next> {
        if let Some(next) = self.look(limits) {
            return Poll::Ready(next);
        }
        loop {
            let mut buffer = Buffer::after(&self.received);
            match poll_read_buf(stream(&mut self.stream), cx, &mut buffer.room()) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Next::Over),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => {
                    self.fit();
                    return Poll::Pending;
                }
            }
            match self.look_at(buffer, limits) {
                Some(next) => return Poll::Ready(next),
                // Most of a buffer would be empty.
                None => self.fit(),
            }
        }
    }

    /// Looks for a request in what came along with the last one.
    fn look(&mut self, limits: &Limits) -> Option<Next> {
        // What has been looked at is not, until more has come.
        if self.received.is_empty() || self.seen > 0 {
            return None;
        }
        let next = parsed(&self.received, limits);
        match &next {
            Some((_, length)) => self.taken(*length),
            None => self.seen = self.received.len(),
        }
        next.map(|(next, _)| next)
    }

    /// Looks for one in what has just come. Few are longer than what comes at once, and nothing is left of the buffer.
    fn look_at(&mut self, buffer: Buffer, limits: &Limits) -> Option<Next> {
        let received = buffer.filled();
        if !is_worth(received, self.seen, limits) {
            (self.received, self.roomy) = (buffer.share(), true);
            return None;
        }
        let next = parsed(received, limits);
        let length = next.as_ref().map_or(0, |(_, length)| *length);
        self.seen = if next.is_some() { 0 } else { received.len() };
        if length == received.len() {
            (self.received, self.roomy) = (Bytes::new(), false);
        } else {
            (self.received, self.roomy) = (buffer.share().slice(length..), true);
        }
        next.map(|(next, _)| next)
    }

    /// A request is under way. Returns whose turn it is.
    pub fn begin(&mut self, content: Decoder, expects: bool) -> u64 {
        self.turn += 1;
        (self.content, self.expects) = (content, expects);
        (self.unwanted, self.answered) = (false, false);
        if self.content.is_over() {
            // It is the next request's, and that may be long.
            self.fit();
        }
        self.turn
    }

    /// Whether nothing of a next request is here.
    pub fn is_idle(&self) -> bool {
        self.received.is_empty()
    }

    /// Whether the client has finished sending.
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether another request can come after the one under way, as far as its content tells so far.
    pub fn may_go_on(&self) -> bool {
        let short = self.content.left().is_some_and(|left| left <= DRAINED);
        self.content.is_over() || !self.unwanted || short && !self.expects
    }

    /// Looks whether the client has left, as far as nobody else does.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>, half_close: bool) -> Poll<()> {
        if !self.answering.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.answering = Some(cx.waker().clone());
        }
        while self.content.is_over() && self.received.is_empty() && !self.ended {
            match self.poll_receive(cx) {
                Poll::Ready(Ok(0)) if half_close => self.ended = true,
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        stream(&mut self.stream).poll_gone(cx)
    }

    /// Whether all of the content has been taken.
    pub const fn is_whole(&self) -> bool {
        self.content.is_over()
    }

    /// The answer to the request under way begins.
    pub const fn begin_answer(&mut self) {
        self.answered = true;
    }

    /// Tells the client something before its answer.
    pub fn say(&mut self, interim: &[u8]) {
        if self.answered {
            return;
        }
        self.interim.extend_from_slice(interim);
        if let Some(answering) = &self.answering {
            answering.wake_by_ref();
        }
    }

    /// Sends interim answers on. What cannot be sent at once goes before the answer.
    ///
    /// # Errors
    /// Where the connection is broken.
    pub fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.interim.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while !self.interim.is_empty() {
            let written = ready!(stream(&mut self.stream).poll_write(cx, &self.interim))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim.drain(..written);
        }
        stream(&mut self.stream).poll_flush(cx)
    }

    /// Sends what is to be sent, as far as the client takes it.
    ///
    /// # Errors
    /// Where the connection is broken.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &mut impl Buf) -> Poll<io::Result<()>> {
        ready!(self.poll_interim(cx))?;
        while bytes.has_remaining() {
            if ready!(poll_write_buf(stream(&mut self.stream), cx, bytes))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        stream(&mut self.stream).poll_flush(cx)
    }

    /// The stream and what has been received of it, for another protocol; once.
    pub fn take(&mut self) -> Option<(Box<dyn ClientStream>, Bytes)> {
        Some((self.stream.take()?, std::mem::take(&mut self.received)))
    }

    /// Reads and drops the rest of a content that nobody wants: ready when it is over, or with false when there is too much
    /// of it.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            if self.content.is_over() {
                return Poll::Ready(true);
            }
            if self.expects || self.content.left().is_none_or(|left| left > DRAINED) {
                return Poll::Ready(false);
            }
            match ready!(self.poll_content(cx)) {
                Some(Ok(_)) | None => {}
                Some(Err(_)) => return Poll::Ready(false),
            }
        }
    }

    /// Ends the connection: what the client still sends is heard out for a moment.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.received = Bytes::new();
        stream(&mut self.stream).poll_shutdown(cx)
    }

    /// Ends it so that nobody takes that for the end of an answer.
    pub fn abort(&mut self) {
        stream(&mut self.stream).abort();
    }

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ContentError>>> {
        if std::mem::take(&mut self.expects) && !self.answered {
            self.interim.extend_from_slice(CONTINUE);
        }
        // A connection that is broken is seen by reading, too.
        let _ = self.poll_interim(cx);
        loop {
            match self.content.decode(&mut self.received) {
                Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(fitting(data))))),
                Ok(Piece::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Ok(Piece::End) => return Poll::Ready(None),
                Ok(Piece::None) => {}
                Err(why) => return Poll::Ready(Some(Err(ContentError::Framing(why)))),
            }
            match ready!(self.poll_receive(cx)) {
                Ok(0) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(ContentError::Ended)));
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// So many bytes of what was received are done with; a buffer of which nothing is left goes back.
    fn taken(&mut self, count: usize) {
        self.received.advance(count);
        self.seen = 0;
        if self.received.is_empty() {
            self.received = Bytes::new();
        }
    }

    /// What was received and not taken takes no more memory than it is long.
    fn fit(&mut self) {
        if std::mem::take(&mut self.roomy) {
            self.received = Bytes::copy_from_slice(&self.received);
        }
    }

    /// Receives something behind what has been; nothing is the end of it.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = Buffer::after(&self.received);
        let received = poll_read_buf(stream(&mut self.stream), cx, &mut buffer.room());
        match &received {
            Poll::Ready(Ok(1..)) => (self.received, self.roomy) = (buffer.share(), true),
            Poll::Ready(Ok(0) | Err(_)) => {}
            // It may be long until the rest of it comes.
            Poll::Pending => self.fit(),
        }
        received
    }
}

/// The same bytes, in memory of their own if they are few.
fn fitting(data: Bytes) -> Bytes {
    if data.len() < SHORT { Bytes::copy_from_slice(&data) } else { data }
}

#[cfg(test)]
thread_local! {
    /// How often a head was looked for.
    pub static LOOKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// A request, or what is no request, and how many bytes it has; `None` where not all of it is here.
fn parsed(received: &[u8], limits: &Limits) -> Option<(Next, usize)> {
    #[cfg(test)]
    LOOKS.set(LOOKS.get() + 1);
    match head::parse(received, limits) {
        Ok(whole) => whole.map(|(head, length)| (Next::Request(head), length)),
        Err(problem) => Some((Next::Refused(problem), received.len())),
    }
}

/// Whether it is worth a look for a whole head, after so many bytes have been `seen`. Each look reads it from its start:
/// whoever sends it byte by byte would cost much more than they send.
fn is_worth(received: &[u8], seen: usize, limits: &Limits) -> bool {
    let new = received.get(seen.saturating_sub(3)..).unwrap_or_default();
    let ends = || memchr::memmem::find(new, b"\n\r\n").or_else(|| memchr::memmem::find(new, b"\n\n"));
    seen == 0 || received.len() >= limits.header_bytes || ends().is_some()
}

/// The stream; one that is another protocol's by now is no more.
fn stream(stream: &mut Option<Box<dyn ClientStream>>) -> Pin<&mut dyn ClientStream> {
    Pin::new(&mut **stream.get_or_insert_with(|| Box::new(Ended)))
}

/// A stream that has ended.
struct Ended;

impl ClientStream for Ended {
    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn abort(&mut self) {}
}

impl AsyncRead for Ended {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Ended {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
