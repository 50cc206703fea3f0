//! A connection on which the request has been sent and the answer has begun, as hyper is to see it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::io::poll_write_buf;

use super::unsent::Unsent;

/// hyper sends the request and reads the answer. Here the former has happened: what hyper writes goes nowhere, and what
/// was left to be sent is sent meanwhile. It is good for this one exchange.
pub struct Handed {
    stream: TcpStream,
    received: BytesMut,
    unsent: Unsent,
    /// hyper takes an answer only once it believes that it has asked; before, whoever reads waits.
    asked: bool,
    reader: Option<Waker>,
}

impl Handed {
    pub(super) const fn new(stream: TcpStream, received: BytesMut, unsent: Unsent) -> Self {
        Self { stream, received, unsent, asked: false, reader: None }
    }

    fn swallow(&mut self) {
        self.asked = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
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
        if !this.asked {
            this.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        this.send_on(cx);
        if this.received.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, out);
        }
        let part = this.received.split_to(this.received.len().min(out.remaining()));
        out.put_slice(&part);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Handed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().swallow();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().swallow();
        Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
