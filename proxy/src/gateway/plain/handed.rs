//! A connection on which the request has been sent and the answer has begun, as hyper is to see it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::io::poll_write_buf;

use super::unsent::Unsent;

/// hyper sends the request and reads the answer. Here the former has happened: what hyper writes goes nowhere, and what
/// was left to be sent is sent meanwhile. From the next request on it is a connection like any other.
pub struct Handed {
    stream: TcpStream,
    received: Bytes,
    unsent: Unsent,
    progress: Arc<Progress>,
    reader: Option<Waker>,
}

/// How far the exchange is that was handed over.
#[derive(Debug)]
pub struct Progress(AtomicU8);

/// hyper takes an answer only once it believes that it has asked; before, whoever reads waits.
const BEGUN: u8 = 0;
const ASKED: u8 = 1;
const OVER: u8 = 2;

impl Progress {
    /// hyper has read the answer to its end, and written all of the request: what it writes now is another.
    pub fn end(&self) {
        self.0.store(OVER, Ordering::Relaxed);
    }
}

impl Handed {
    pub(super) fn new(stream: TcpStream, received: Bytes, unsent: Unsent) -> Self {
        Self { stream, received, unsent, progress: Arc::new(Progress(AtomicU8::new(BEGUN))), reader: None }
    }

    /// Nothing has happened on it that hyper does not know of.
    pub fn idle(stream: TcpStream) -> Self {
        let (received, progress) = (Bytes::new(), Arc::new(Progress(AtomicU8::new(OVER))));
        Self { stream, received, unsent: Unsent::new(Vec::new(), None), progress, reader: None }
    }

    /// The connection, if nothing is left of what hyper does not know of.
    pub fn into_stream(self) -> Option<TcpStream> {
        let over = self.progress.0.load(Ordering::Relaxed) == OVER;
        let left = !self.received.is_empty() || self.unsent.has_remaining() || self.unsent.has_failed();
        (over && !left).then_some(self.stream)
    }

    /// To be told when the exchange is over; `None` if there must be no other after it, because some of the request is
    /// still to be sent.
    pub fn progress(&self) -> Option<Arc<Progress>> {
        (!self.unsent.has_remaining() && !self.unsent.has_failed()).then(|| self.progress.clone())
    }

    /// Whether what is written is the request that was sent already.
    fn swallows(&mut self) -> bool {
        let state = self.progress.0.load(Ordering::Relaxed);
        if state == BEGUN {
            self.progress.0.store(ASKED, Ordering::Relaxed);
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
        }
        state != OVER || self.unsent.has_failed()
    }

    /// A server that does not want the rest of a request may have closed the connection behind its answer: hyper is to go on
    /// to that answer, and what it writes meanwhile goes nowhere. If there is none, that is when it learns why.
    fn listens_on(&mut self, written: Poll<io::Result<usize>>, length: usize) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(error)) => {
                self.unsent.fail(error);
                Poll::Ready(Ok(length))
            }
            written => written,
        }
    }

    /// Sends what is left. A server that does not want it says so in its answer.
    fn send_on(&mut self, cx: &mut Context<'_>) {
        while self.unsent.has_remaining() {
            match poll_write_buf(Pin::new(&mut self.stream), cx, &mut self.unsent) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => self.unsent.fail(error),
                Poll::Pending => return,
            }
        }
    }
}

impl AsyncRead for Handed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.progress.0.load(Ordering::Relaxed) == BEGUN {
            this.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        this.send_on(cx);
        if this.received.is_empty() {
            let before = out.filled().len();
            let read = ready!(Pin::new(&mut this.stream).poll_read(cx, out));
            let failure = if out.filled().len() == before { this.unsent.take_failure() } else { None };
            return Poll::Ready(failure.map_or(read, Err));
        }
        let part = this.received.split_to(this.received.len().min(out.remaining()));
        out.put_slice(&part);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Handed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.swallows() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.listens_on(written, bytes.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let all = pieces.iter().map(|piece| piece.len()).sum();
        if this.swallows() {
            return Poll::Ready(Ok(all));
        }
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, pieces);
        this.listens_on(written, all)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
