//! The connections to one instance: opened when none is idle, kept for the next request, all cut when it dies.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use longshore_pool::{InstanceId, Time};
use nix::sys::socket::{Shutdown, shutdown};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::body::AttemptBody;
use super::relay::Relay;
use crate::connect::Connector;

/// A connection that was just used and is not ready yet is about to be; one whose server still reads is not.
const READY_TIMEOUT: Duration = Duration::from_millis(20);

/// hyper's side of a connection.
type Driven = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// A connection to an instance. It does nothing unless it is polled: whoever waits for something that comes over it
/// polls it meanwhile, in the request's own task, so that no other task has to be woken.
pub struct Wire {
    sender: http1::SendRequest<AttemptBody>,
    /// None when it has ended.
    connection: Option<Driven>,
    relay: Relay,
    /// The socket under a second descriptor, by which the link can shut it down.
    socket: Arc<OwnedFd>,
}

/// Everything that is open to one instance.
pub struct Link {
    instance: InstanceId,
    name: HeaderValue,
    address: SocketAddr,
    connector: Arc<Connector>,
    fate: OnceLock<String>,
    pool: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    idle: Vec<(Wire, Time)>,
    sockets: Vec<Weak<OwnedFd>>,
    closed: bool,
}

/// A connection checked out for one attempt.
pub struct Connection {
    /// Carries the request.
    pub wire: Wire,
    /// How long it lay idle before, if it was used before.
    pub idle_for: Option<Duration>,
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
    /// Begins to speak HTTP/1.1 on a socket.
    async fn new(stream: TcpStream) -> std::io::Result<Self> {
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

    /// Polls something that comes over it, and moves meanwhile what can be moved in both directions.
    pub fn poll<T>(&mut self, cx: &Context<'_>, awaited: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        let Self { connection, relay, .. } = self;
        relay.poll(cx, awaited, |cx| drive(connection, cx))
    }

    /// Waits for something that comes over it.
    pub async fn driving<F: Future>(&mut self, awaited: F) -> F::Output {
        let mut awaited = pin!(awaited);
        poll_fn(|cx| self.poll(cx, |cx| awaited.as_mut().poll(cx))).await
    }

    /// Sends a request and waits for the head of its answer.
    pub async fn send(
        &mut self,
        request: Request<AttemptBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<AttemptBody>>> {
        let Self { sender, connection, relay, .. } = self;
        // Sent when it is polled first, so that the connection's wake stays inside.
        let mut answer = pin!(async { sender.try_send_request(request).await });
        poll_fn(|cx| relay.poll(cx, |cx| answer.as_mut().poll(cx), |cx| drive(connection, cx))).await
    }

    /// As the carrier of an answer that has begun; `sent` says whether the request has been sent whole.
    pub fn carry(mut self, sent: bool) -> Carrier {
        if sent {
            return Carrier::Wire(self);
        }
        let endless = async move { self.driving(std::future::pending()).await };
        Carrier::Task(AbortOnDropHandle::new(tokio::spawn(endless)))
    }

    /// Whether it can carry a request, now or very soon.
    async fn is_alive(&mut self) -> bool {
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

impl Link {
    /// Nothing is opened yet.
    pub fn new(connector: Arc<Connector>, instance: InstanceId, address: SocketAddr) -> Self {
        let name = HeaderValue::try_from(connector.key(instance).to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("unnamed"));
        Self { instance, name, address, connector, fate: OnceLock::new(), pool: Mutex::default() }
    }

    /// Its name, as in the `Longshore-Instance` header.
    pub const fn name(&self) -> &HeaderValue {
        &self.name
    }

    /// Its name in the pool.
    pub const fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Why the instance is no more, once that is known.
    pub fn fate(&self) -> Option<&str> {
        self.fate.get().map(String::as_str)
    }

    /// Notes why the instance is no more; the first to say so is believed.
    pub fn set_fate(&self, fate: &str) {
        let _ = self.fate.set(fate.to_owned());
    }

    /// Takes an idle connection.
    pub async fn idle(&self, now: Time) -> Option<Connection> {
        loop {
            let (mut wire, since) = self.pool.lock().idle.pop()?;
            if wire.is_alive().await {
                return Some(Connection { wire, idle_for: Some(now.since(since)) });
            }
        }
    }

    /// Opens a connection.
    pub async fn open(&self) -> std::io::Result<Connection> {
        let stream = self.connector.connect(self.instance, self.address).await?;
        let wire = Wire::new(stream).await?;
        self.track(&wire.socket)?;
        Ok(Connection { wire, idle_for: None })
    }

    fn track(&self, socket: &Arc<OwnedFd>) -> std::io::Result<()> {
        let mut pool = self.pool.lock();
        if pool.closed {
            return Err(std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "the instance is gone"));
        }
        if pool.sockets.len() == pool.sockets.capacity() {
            pool.sockets.retain(|socket| socket.strong_count() > 0);
        }
        pool.sockets.push(Arc::downgrade(socket));
        Ok(())
    }

    /// Gives back a connection whose answer has been read to its end.
    pub fn keep(&self, wire: Wire, now: Time) {
        if wire.connection.is_none() {
            return;
        }
        let mut pool = self.pool.lock();
        if !pool.closed {
            pool.idle.push((wire, now));
        }
    }

    /// Cuts every connection: the instance is dead or hung, and what it holds goes elsewhere.
    pub fn close(&self) {
        let (idle, sockets) = {
            let mut pool = self.pool.lock();
            pool.closed = true;
            (std::mem::take(&mut pool.idle), std::mem::take(&mut pool.sockets))
        };
        drop(idle);
        for socket in sockets.iter().filter_map(Weak::upgrade) {
            // One that is not connected any more needs no more.
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
        }
    }
}
