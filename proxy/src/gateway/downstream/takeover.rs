//! A client's connection that another protocol takes over.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use http::Extensions;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio_util::either::Either;

use super::socket::{ClientStream, Shared, Socket};

/// Where a connection comes from once its client has been told that it is taken over.
pub enum Taking {
    /// Over HTTP/2, from hyper: one stream of it.
    Hyper(OnUpgrade),
    /// Over HTTP/1.1, as it is.
    Socket(oneshot::Receiver<TakenOver>),
}

/// A connection, and what had been received of it before.
pub struct TakenOver {
    before: Bytes,
    stream: Box<dyn ClientStream>,
}

/// The same, in the extensions of a request.
#[derive(Clone)]
struct Promise(Arc<Mutex<Option<oneshot::Receiver<TakenOver>>>>);

/// Promises a request that it may take its connection over. Returns how that is kept.
pub fn promise(extensions: &mut Extensions) -> oneshot::Sender<TakenOver> {
    let (sender, receiver) = oneshot::channel();
    extensions.insert(Promise(Arc::new(Mutex::new(Some(receiver)))));
    sender
}

impl Taking {
    /// What a request was promised.
    pub fn of(extensions: &mut Extensions) -> Option<Self> {
        if let Some(Promise(receiver)) = extensions.remove() {
            return receiver.lock().take().map(Self::Socket);
        }
        extensions.remove().map(Self::Hyper)
    }

    /// The connection, or nothing where it has ended.
    pub async fn taken(self) -> Option<Either<TokioIo<Upgraded>, TakenOver>> {
        match self {
            Self::Hyper(upgrade) => Some(Either::Left(TokioIo::new(upgrade.await.ok()?))),
            Self::Socket(receiver) => Some(Either::Right(receiver.await.ok()?)),
        }
    }
}

impl TakenOver {
    /// From now on it is nobody else's.
    pub fn of(socket: &Shared) -> Option<Self> {
        let (stream, before) = socket.with(Socket::take)?;
        Some(Self { before, stream })
    }
}

impl AsyncRead for TakenOver {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut *self.stream).poll_read(cx, out);
        }
        let count = self.before.len().min(out.remaining());
        out.put_slice(self.before.get(..count).unwrap_or_default());
        self.before.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TakenOver {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}
