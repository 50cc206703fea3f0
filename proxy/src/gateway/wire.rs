//! What carries one request to an instance: an HTTP/1.1 connection of its own, or a stream of a shared HTTP/2 one.

use std::future::poll_fn;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::body::AttemptBody;
use super::multiplex::Http2;
use super::relay::Relay;

/// A connection that was just used and is not ready yet is about to be; one whose server still reads is not.
const READY_TIMEOUT: Duration = Duration::from_millis(20);

/// hyper's side of a connection.
type Driven = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// What carries one request.
pub enum Wire {
    /// A whole connection.
    Http1(Http1),
    /// A stream of a connection that others use, too.
    Http2(Http2),
}

/// An HTTP/1.1 connection. It does nothing unless it is polled: whoever waits for something that comes over it polls it
/// meanwhile, in the request's own task, so that no other task has to be woken.
pub struct Http1 {
    sender: http1::SendRequest<AttemptBody>,
    /// None when it has ended.
    connection: Option<Driven>,
    relay: Relay,
    /// The socket under a second descriptor, by which the link can shut it down.
    socket: Arc<OwnedFd>,
}

/// Why there is no answer.
pub struct SendError {
    /// hyper's word for it.
    pub error: hyper::Error,
    /// What is known of the request itself.
    pub fate: Fate,
}

/// How far a request came that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The instance has not seen it, or says that it did nothing with it: the connection was ending.
    Untouched,
    /// The instance says that it did nothing with it, because it has enough to do.
    Refused,
    /// The instance may have worked on it.
    Unknown,
}

/// A connection whose answer is passed on as it comes.
pub enum Carrier {
    /// Polled along with the answer, and used again after it.
    Wire(Wire),
    /// Driven by a task of its own, because the request is still being sent, and must go on being sent while the client
    /// does not read its answer. Not used again.
    Task(AbortOnDropHandle<()>),
}

impl Wire {
    /// Polls something that comes over it, and moves meanwhile what can be moved in both directions.
    pub fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut awaited: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        match self {
            Self::Http1(wire) => wire.poll(cx, awaited),
            Self::Http2(_) => awaited(cx),
        }
    }

    /// Waits for something that comes over it.
    pub async fn driving<F: Future>(&mut self, awaited: F) -> F::Output {
        let mut awaited = pin!(awaited);
        poll_fn(|cx| self.poll(cx, |cx| awaited.as_mut().poll(cx))).await
    }

    /// Sends a request and waits for the head of its answer.
    pub async fn send(&mut self, request: Request<AttemptBody>) -> Result<Response<Incoming>, SendError> {
        match self {
            Self::Http1(wire) => wire.send(request).await.map_err(|mut error| {
                let fate = if error.take_message().is_some() { Fate::Untouched } else { Fate::Unknown };
                SendError { error: error.into_error(), fate }
            }),
            Self::Http2(wire) => wire.send(request).await,
        }
    }

    /// As the carrier of an answer that has begun; `sent` says whether the request has been sent whole.
    pub fn carry(mut self, sent: bool) -> Carrier {
        match &self {
            Self::Http1(_) if !sent => {
                let endless = async move { self.driving(std::future::pending()).await };
                Carrier::Task(AbortOnDropHandle::new(tokio::spawn(endless)))
            }
            Self::Http1(_) | Self::Http2(_) => Carrier::Wire(self),
        }
    }
}

impl Http1 {
    /// Begins to speak HTTP/1.1 on a socket.
    pub async fn new(stream: TcpStream) -> std::io::Result<Self> {
        let socket = Arc::new(stream.as_fd().try_clone_to_owned()?);
        let (sender, connection) =
            http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        Ok(Self {
            sender,
            connection: Some(Box::pin(connection.with_upgrades())),
            relay: Relay::new(),
            socket,
        })
    }

    /// The socket under it.
    pub const fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    /// Whether it has ended.
    pub const fn is_over(&self) -> bool {
        self.connection.is_none()
    }

    fn poll<T>(&mut self, cx: &Context<'_>, awaited: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let Self { connection, relay, .. } = self;
        relay.poll(cx, awaited, |cx| drive(connection, cx))
    }

    async fn send(
        &mut self,
        request: Request<AttemptBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<AttemptBody>>> {
        let Self { sender, connection, relay, .. } = self;
        // Sent when it is polled first, so that the connection's wake stays inside.
        let mut answer = pin!(async { sender.try_send_request(request).await });
        poll_fn(|cx| relay.poll(cx, |cx| answer.as_mut().poll(cx), |cx| drive(connection, cx))).await
    }

    /// Whether it can carry a request, now or very soon.
    pub async fn is_alive(&mut self) -> bool {
        let Self { sender, connection, relay, .. } = self;
        let ready = poll_fn(|cx| {
            // Driven first: what has come meanwhile may be its end.
            drive(connection, cx);
            relay.poll(cx, |cx| sender.poll_ready(cx).map(|ready| ready.is_ok()), |cx| drive(connection, cx))
        });
        timeout(READY_TIMEOUT, ready).await.unwrap_or(false)
    }
}

/// Moves what can be moved in both directions.
fn drive(connection: &mut Option<Driven>, cx: &mut Context<'_>) {
    // Its failure is also the failure of the request on it, which is where it is told.
    if let Some(driven) = connection
        && driven.as_mut().poll(cx).is_ready()
    {
        *connection = None;
    }
}
