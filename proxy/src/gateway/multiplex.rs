//! HTTP/2 to an instance (`protocol = "h2c"`): one connection, spoken without asking first, that carries many requests
//! at once, each on a stream of its own. A task drives it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::body::AttemptBody;
use super::spool::SpoolError;
use super::wire::{Fate, SendError};

/// Bytes of an answer that an instance may send ahead of a client that does not read it.
const STREAM_WINDOW: u32 = 256 * 1024;

/// Slow readers up to so many leave the other streams of a connection alone; together they take 32 MiB at the most.
const WINDOWS: u32 = 128;

/// An answer's header section may be so large.
const MAX_HEADER_BYTES: u32 = 256 * 1024;

/// The one connection to an instance, when there is one.
#[derive(Default)]
pub struct Multiplex {
    current: Mutex<Option<Shared>>,
    /// Held by the one who connects; the others wait for what comes of it.
    opening: tokio::sync::Mutex<Option<io::ErrorKind>>,
    /// How often somebody has connected, or tried to.
    tries: AtomicU64,
}

#[derive(Clone)]
struct Shared {
    sender: http2::SendRequest<Revocable>,
    /// It takes no more requests, though some may still be under way.
    ending: Arc<AtomicBool>,
}

/// A stream of the connection, for one request.
pub struct Http2 {
    shared: Shared,
    /// While it is there, the request's body is sent.
    sending: Option<oneshot::Sender<()>>,
}

impl Multiplex {
    /// A stream of the connection that is open already.
    pub fn stream(&self) -> Option<Http2> {
        let current = self.current.lock();
        let shared =
            current.as_ref().filter(|one| !one.sender.is_closed() && !one.ending.load(Ordering::Relaxed))?;
        Some(Http2 { shared: shared.clone(), sending: None })
    }

    /// A stream of a connection that `connect` opens, unless somebody else does so meanwhile. Of many that come at once
    /// one connects, and all get what came of it.
    ///
    /// # Errors
    /// That of the connect, or of the handshake.
    pub async fn open<C: Future<Output = io::Result<TcpStream>>>(
        &self,
        connect: impl FnOnce() -> C,
        track: impl FnOnce(&Arc<OwnedFd>) -> io::Result<()>,
    ) -> io::Result<Http2> {
        let seen = self.tries.load(Ordering::Acquire);
        let mut failed = self.opening.lock().await;
        if self.tries.load(Ordering::Acquire) != seen {
            if let Some(stream) = self.stream() {
                return Ok(stream);
            }
            if let Some(kind) = *failed {
                return Err(kind.into());
            }
        }
        let opened = async { Shared::begin(connect().await?, track).await }.await;
        *failed = opened.as_ref().err().map(io::Error::kind);
        self.tries.fetch_add(1, Ordering::Release);
        let shared = opened?;
        *self.current.lock() = Some(shared.clone());
        Ok(Http2 { shared, sending: None })
    }

    /// Forgets the connection.
    pub fn close(&self) {
        *self.current.lock() = None;
    }
}

impl Shared {
    async fn begin(
        stream: TcpStream,
        track: impl FnOnce(&Arc<OwnedFd>) -> io::Result<()>,
    ) -> io::Result<Self> {
        let socket = Arc::new(stream.as_fd().try_clone_to_owned()?);
        track(&socket)?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(STREAM_WINDOW * WINDOWS)
            .max_header_list_size(MAX_HEADER_BYTES);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(async move {
            // Its failure is also the failure of the requests on it, which is where it is told.
            let _ = connection.await;
            drop(socket);
        });
        Ok(Self { sender, ending: Arc::default() })
    }
}

impl Http2 {
    /// Sends a request and waits for the head of its answer.
    pub async fn send(&mut self, request: Request<AttemptBody>) -> Result<Response<Incoming>, SendError> {
        let (sending, revoked) = oneshot::channel();
        self.sending = Some(sending);
        let request = as_http2(request).map(|body| Revocable { body, revoked });
        self.shared.sender.try_send_request(request).await.map_err(|mut error| {
            let unsent = error.take_message().is_some();
            let error = error.into_error();
            let fate = if unsent { Fate::Untouched } else { fate(&error) };
            if fate == Fate::Untouched {
                self.shared.ending.store(true, Ordering::Relaxed);
            }
            SendError { error: error.into(), fate }
        })
    }
}

/// What the instance says of a request that it does not answer (RFC 9113, 8.7).
fn fate(error: &hyper::Error) -> Fate {
    match std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>()) {
        Some(error) if error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM) => {
            Fate::Refused
        }
        // It only concerns streams that are younger than the last one that the instance takes.
        Some(error) if error.is_go_away() && error.is_remote() => Fate::Untouched,
        Some(_) | None => Fate::Unknown,
    }
}

/// The request as HTTP/2 has it: the host in its target, and no fields that only HTTP/1.1 knows.
fn as_http2(mut request: Request<AttemptBody>) -> Request<AttemptBody> {
    let headers = request.headers_mut();
    headers.remove(header::CONNECTION);
    headers.remove(header::UPGRADE);
    let host = headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = request.uri().path_and_query().cloned();
    if let Some(host) = host
        && parts.path_and_query.is_some()
    {
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(host);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
            request.headers_mut().remove(header::HOST);
        }
    }
    request
}

/// A body that ends with an error when nobody is interested in its request any more: its stream is reset.
struct Revocable {
    body: AttemptBody,
    revoked: oneshot::Receiver<()>,
}

impl Body for Revocable {
    type Data = Bytes;
    type Error = SpoolError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SpoolError>>> {
        if Pin::new(&mut self.revoked).poll(cx).is_ready() {
            return Poll::Ready(Some(Err(SpoolError::Superseded)));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
