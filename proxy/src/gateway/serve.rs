//! One client connection: which protocol it speaks, and hyper serving it until it ends.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, header};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pingora_core::protocols::Stream;
use pingora_core::server::ShutdownWatch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::admission::Permits;
use super::clients::Connected;
use super::forwarding::Sender;
use super::watched::{self, Watched};
use super::{Gateway, exchange};
use crate::problem::Problem;

/// hyper's buffers, each way, beside the header section: small enough for ten thousand connections.
const MORE_BUFFER_BYTES: usize = 16 * 1024;

/// How long a connection that is refused has to take the refusal.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);

/// The first bytes of the HTTP/2 preface, which no HTTP/1.1 method begins with.
const PREFACE: [u8; 3] = *b"PRI";

/// What a connection's requests share.
#[derive(Clone)]
pub struct Client {
    sender: Option<Arc<Sender>>,
    activity: Arc<Activity>,
}

/// The requests of a connection, counted.
pub struct Activity {
    /// Those under way.
    pub active: AtomicUsize,
    /// Those that ever began.
    pub begun: AtomicUsize,
    /// Whose connection it is, and that it counts.
    connected: Connected,
}

/// A request under way on a connection: while there is one, the connection is not idle.
pub struct Active {
    activity: Arc<Activity>,
    _permits: Permits,
}

impl Client {
    /// Who sent a request with these fields: whom trusted proxies name, else who connects.
    pub fn address(&self, headers: &HeaderMap) -> Option<IpAddr> {
        self.sender.as_ref().map(|sender| sender.client(headers))
    }

    /// Somebody who is not connected, or not any more: `peer` is whom the requests once came from.
    pub fn absent(gateway: &Gateway, peer: Option<IpAddr>) -> Self {
        let trusted = || gateway.settings.load().trusted.clone();
        let sender = peer.map(|peer| Arc::new(Sender::new(peer, "http", trusted())));
        let connected = Connected::nobody();
        let activity = Activity { active: AtomicUsize::new(0), begun: AtomicUsize::new(0), connected };
        Self { sender, activity: Arc::new(activity) }
    }

    /// What its requests' forwarding fields say of it.
    pub fn sender(&self) -> Option<&Sender> {
        self.sender.as_deref()
    }

    /// Whose connection it is.
    pub fn connected(&self) -> &Connected {
        &self.activity.connected
    }

    /// A request begins; it is under way until the result is dropped.
    pub fn begin(&self) -> Active {
        self.activity.active.fetch_add(1, Ordering::Relaxed);
        self.activity.begun.fetch_add(1, Ordering::Relaxed);
        Active { activity: self.activity.clone(), _permits: Permits::default() }
    }
}

impl Active {
    /// It counts for these until it is dropped.
    pub fn hold(&mut self, permits: Permits) {
        self._permits = permits;
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.activity.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves a connection until it ends, or, once `shutdown` says so, until its last answer is out.
pub async fn connection(gateway: Arc<Gateway>, mut stream: Stream, shutdown: ShutdownWatch) {
    let address = stream.get_socket_digest().and_then(|digest| Some(digest.peer_addr()?.as_inet()?.ip()));
    let (timeouts, trusted, http2_limits) = {
        let settings = gateway.settings.load();
        (settings.timeouts, settings.trusted.clone(), settings.http2)
    };
    let sender = address.map(|address| Arc::new(Sender::new(address, "http", trusted)));
    let is_proxy = sender.as_ref().is_some_and(|sender| sender.is_trusted());
    let rules = gateway.admission.rules();
    let connected = match gateway.admission.connect(address, is_proxy, gateway.clock.now()) {
        Ok(connected) => connected,
        Err(problem) => return turn_away(&gateway, stream, &problem).await,
    };
    let mut first = [0; PREFACE.len()];
    let peeked = tokio::select! {
        peeked = tokio::time::timeout(timeouts.idle, stream.try_peek(&mut first)) => peeked,
        () = late(shutdown.clone()) => return,
    };
    if !matches!(peeked, Ok(Ok(_))) {
        return;
    }
    let activity = Activity { active: AtomicUsize::new(0), begun: AtomicUsize::new(0), connected };
    let client = Client { sender, activity: Arc::new(activity) };
    let limits = &rules.limits;
    let http2 = first == PREFACE;
    let io = TokioIo::new(Watched::new(stream, client.activity.clone(), timeouts, limits, !http2));
    let service = service_fn(move |request: Request<Incoming>| {
        let (gateway, client) = (gateway.clone(), client.clone());
        async move { Ok::<_, Infallible>(exchange::handle(&gateway, &client, request).await) }
    });
    // Whatever ends a connection has been answered or counted where it happened.
    let _ = if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .max_concurrent_streams(http2_limits.max_streams)
            .max_pending_accept_reset_streams(http2_limits.max_resets)
            .max_local_error_reset_streams(http2_limits.max_errors)
            .initial_stream_window_size(http2_limits.stream_window)
            .initial_connection_window_size(http2_limits.connection_window)
            .max_send_buf_size(http2_limits.stream_window as usize)
            .enable_connect_protocol()
            .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(http2_limits.ping)
            .keep_alive_timeout(http2_limits.ping_timeout);
        let serving = pin!(builder.serve_connection(io, service));
        gracefully(serving, shutdown, |serving| serving.graceful_shutdown()).await
    } else {
        let mut builder = http1::Builder::new();
        builder
            .auto_date_header(false)
            .header_read_timeout(None)
            .max_header_size(limits.header_bytes)
            .max_headers(limits.header_fields)
            .max_buf_size(limits.header_bytes + MORE_BUFFER_BYTES);
        let serving = pin!(builder.serve_connection(io, service).with_upgrades());
        gracefully(serving, shutdown, |serving| serving.graceful_shutdown()).await
    };
}

/// Refuses a connection: it is told why, if it listens. What it has sent is read, since closing a socket with bytes in it
/// would take the answer back.
async fn turn_away(gateway: &Gateway, mut stream: Stream, problem: &Problem) {
    gateway.refused.count(problem.kind());
    let Some(_turn) = gateway.admission.turn_away() else { return };
    let mut response = problem.response(None, None, &HeaderMap::new());
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    let told = async {
        stream.write_all(&watched::render(&response)).await?;
        stream.flush().await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(64 * 1024), &mut tokio::io::sink()).await
    };
    // One that does not take it, or has left, is closed all the same.
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, told).await;
}

/// Drives a connection to its end; once `shutdown` says so, to the end of its present requests.
async fn gracefully<C: Future>(
    mut serving: Pin<&mut C>,
    shutdown: ShutdownWatch,
    shut_down: impl Fn(Pin<&mut C>),
) -> C::Output {
    let mut asked = pin!(ended(shutdown.clone()));
    let (mut registered, mut ending) = (false, false);
    std::future::poll_fn(|cx| {
        // A task's waker stays the same: one look registers it, the next is due when there is news.
        if !ending && (!registered || !matches!(shutdown.has_changed(), Ok(false))) {
            registered = true;
            ending = asked.as_mut().poll(cx).is_ready();
            if ending {
                shut_down(serving.as_mut());
            }
        }
        serving.as_mut().poll(cx)
    })
    .await
}

/// A connection that was accepted just before the end has its first request on the way, most likely: it is waited for.
async fn late(shutdown: ShutdownWatch) {
    const FIRST_REQUEST: Duration = Duration::from_secs(1);
    ended(shutdown).await;
    tokio::time::sleep(FIRST_REQUEST).await;
}

async fn ended(mut shutdown: ShutdownWatch) {
    // A sender that is gone means the same as one that says so.
    let _ = shutdown.wait_for(|ended| *ended).await;
}
