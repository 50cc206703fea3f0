//! One client connection: which protocol it speaks, and that served until it ends.

use std::convert::Infallible;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderMap, Request};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pingora_core::protocols::{SocketDigest, Stream};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until};

use super::admission::{Permits, Rules};
use super::clients::Connected;
use super::downstream::{self, Asker, Content};
use super::ending::Notice;
use super::forwarding::Sender;
use super::tls::{self, Agreed};
use super::unread::Unread;
use super::watched::{self, Timeouts, Watched};
use super::{Gateway, front};
use crate::config::{Http2, Scheme};
use crate::problem::Problem;

/// How long a connection that is refused has to take the refusal.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(500);

/// How long a connection does not hear of its end, after it has come and, with TLS, after its handshake: the handshake
/// or the first request is on the way.
const ON_THE_WAY: Duration = Duration::from_secs(1);

/// The first bytes of the HTTP/2 preface, which no HTTP/1.1 method begins with.
const PREFACE: [u8; 3] = *b"PRI";

/// What a connection's requests share.
#[derive(Clone)]
pub struct Client {
    scheme: Scheme,
    sender: Option<Arc<Sender>>,
    activity: Arc<Activity>,
}

/// The requests of a connection, counted.
pub struct Activity {
    /// Those under way.
    pub active: AtomicUsize,
    /// Those that ever began.
    pub begun: AtomicUsize,
    /// Whether another protocol is spoken by now.
    pub taken_over: AtomicBool,
    /// Whose connection it is, and that it counts.
    connected: Connected,
    /// Whether it has been idle for too long, and is to be told so: only HTTP/2 has words for that.
    pub overdue: AtomicBool,
    /// What it knows of its end; nothing where there is no connection.
    notice: Option<Notice>,
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

    /// Somebody who is not connected, or not any more: `peer` is whom the requests once came from, and `scheme` how.
    pub fn absent(gateway: &Gateway, peer: Option<IpAddr>, scheme: Scheme) -> Self {
        let trusted = || gateway.settings.load().trusted.clone();
        let sender = peer.map(|peer| Arc::new(Sender::new(peer, scheme.name(), trusted())));
        let connected = Connected::nobody();
        Self { scheme, sender, activity: Activity::new(connected, None) }
    }

    /// What is spoken between it and the proxy.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// What its requests' forwarding fields say of it.
    pub fn sender(&self) -> Option<&Sender> {
        self.sender.as_deref()
    }

    /// Whose connection it is.
    pub fn connected(&self) -> &Connected {
        &self.activity.connected
    }

    /// Whether the connection is to end with its next answer.
    pub fn is_last(&self) -> bool {
        self.activity.notice.as_ref().is_some_and(Notice::is_given)
    }

    /// A request begins; it is under way until the result is dropped.
    pub fn begin(&self) -> Active {
        self.activity.active.fetch_add(1, Ordering::Relaxed);
        self.activity.begun.fetch_add(1, Ordering::Relaxed);
        Active { activity: self.activity.clone(), _permits: Permits::default() }
    }
}

impl Activity {
    fn new(connected: Connected, notice: Option<Notice>) -> Arc<Self> {
        let (active, begun) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (taken_over, overdue) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { active, begun, taken_over, connected, overdue, notice })
    }
}

impl Active {
    /// It counts for these until it is dropped.
    pub fn hold(&mut self, permits: Permits) {
        self._permits = permits;
    }

    /// From now on another protocol is spoken on the connection.
    pub fn take_over(&self) {
        self.activity.taken_over.store(true, Ordering::Relaxed);
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.activity.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves a connection until it ends, by itself or as `notice` says.
pub async fn connection(gateway: Arc<Gateway>, stream: Stream, scheme: Scheme, notice: Notice) {
    let (socket, descriptor) = (stream.get_socket_digest(), stream.id());
    let address = socket.as_ref().and_then(|socket| Some(socket.peer_addr()?.as_inet()?.ip()));
    let (timeouts, trusted, http2_limits) = {
        let settings = gateway.settings.load();
        (settings.timeouts, settings.trusted.clone(), settings.http2)
    };
    let sender = address.map(|address| Arc::new(Sender::new(address, scheme.name(), trusted)));
    let is_proxy = sender.as_ref().is_some_and(|sender| sender.is_trusted());
    let rules = gateway.admission.rules();
    let connected = match gateway.admission.connect(address, is_proxy, gateway.clock.now()) {
        Ok(connected) => connected,
        Err(problem) => match scheme {
            Scheme::Http => return turn_away(&gateway, stream, &problem).await,
            // To be told why would take it the handshake that it is refused.
            Scheme::Https => return gateway.refused.count(problem.kind()),
        },
    };
    let activity = Activity::new(connected, Some(notice.clone()));
    let client = Client { scheme, sender, activity };
    let connection =
        Connection { gateway, client, timeouts, http2_limits, rules, notice, socket, descriptor };
    match scheme {
        Scheme::Http => connection.plain(stream).await,
        Scheme::Https => connection.secure(stream).await,
    }
}

/// A connection that has been let in.
struct Connection {
    gateway: Arc<Gateway>,
    client: Client,
    timeouts: Timeouts,
    http2_limits: Http2,
    rules: Arc<Rules>,
    notice: Notice,
    socket: Option<Arc<SocketDigest>>,
    descriptor: RawFd,
}

impl Connection {
    /// Which protocol is spoken, the first bytes tell.
    async fn plain(self, mut stream: Stream) {
        let mut first = [0; PREFACE.len()];
        let peeked = tokio::select! {
            peeked = tokio::time::timeout(self.timeouts.idle, stream.try_peek(&mut first)) => peeked,
            () = later(self.notice.clone().closed(), Instant::now()) => return,
        };
        if !matches!(peeked, Ok(Ok(_))) {
            return;
        }
        let http2 = first == PREFACE;
        let watched = self.watch(stream, http2);
        self.serve(watched, http2).await;
    }

    /// Which protocol is spoken, is agreed on in the handshake. In a box, so that a connection in the clear does without the
    /// room for it.
    fn secure(self, stream: Stream) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let (connected, limits) = (self.client.connected(), &self.rules.limits);
            let (limit, asked) = (self.timeouts.header, later(self.notice.clone().closed(), Instant::now()));
            let agreed = tls::accept(&self.gateway, connected, limits, stream, limit, asked).await;
            let Some(Agreed { stream, http2 }) = agreed else { return };
            let watched = self.watch(stream, http2);
            self.serve(if http2 { watched } else { watched.silent() }, http2).await;
        })
    }

    fn watch<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, http2: bool) -> Watched<S> {
        let (activity, unread) =
            (self.client.activity.clone(), Unread::new(self.socket.clone(), self.descriptor));
        Watched::new(stream, activity, self.timeouts, &self.rules.limits, !http2, unread)
    }

    /// Until it ends, or, once it is to, until its last answer is out.
    async fn serve<S>(self, watched: Watched<S>, http2: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if http2 {
            return self.multiplexed(watched).await;
        }
        let Self { gateway, client, timeouts, rules, notice, .. } = self;
        let stream = Box::new(watched);
        let connection = downstream::Connection::new(gateway, client, rules, timeouts.half_close, stream);
        connection.serve(notice).await;
    }

    /// Request beside request, by hyper. In a box, so that a connection of the other kind does without the room for it.
    fn multiplexed<S>(self, watched: Watched<S>) -> Pin<Box<dyn Future<Output = ()> + Send>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { gateway, client, http2_limits, rules, notice, .. } = self;
        let activity = client.activity.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let (gateway, client) = (gateway.clone(), client.clone());
            async move {
                let request = request.map(Content::from);
                Ok::<_, Infallible>(front::handle(&gateway, &client, request, Asker::default()).await)
            }
        });
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
            .max_header_list_size(u32::try_from(rules.limits.header_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(http2_limits.ping)
            .keep_alive_timeout(http2_limits.ping_timeout);
        Box::pin(async move {
            // Its client is told at once, and asks elsewhere; what it has sent before it knew is answered.
            let serving = pin!(builder.serve_connection(TokioIo::new(watched), service));
            let overdue = || activity.overdue.load(Ordering::Relaxed);
            // hyper drops a connection that has not begun yet.
            let given = later(notice.clone().given(), Instant::now());
            // Whatever ends a connection has been answered or counted where it happened.
            let _ = gracefully(serving, given, notice, overdue, |serving| serving.graceful_shutdown()).await;
        })
    }
}

/// Returns when `ended` does, but not as long as the next bytes are on their way, after something has `begun`.
pub(super) async fn later(ended: impl Future<Output = ()>, begun: Instant) {
    ended.await;
    sleep_until(begun + ON_THE_WAY).await;
}

/// Refuses a connection: it is told why, if it listens. What it has sent is read, since closing a socket with bytes in it
/// would take the answer back.
pub(super) async fn turn_away(gateway: &Gateway, mut stream: Stream, problem: &Problem) {
    gateway.refused.count(problem.kind());
    let Some(_turn) = gateway.admission.turn_away() else { return };
    let response = front::turned_away(gateway, problem);
    let told = async {
        stream.write_all(&watched::render(&response)).await?;
        stream.flush().await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(64 * 1024), &mut tokio::io::sink()).await
    };
    // One that does not take it, or has left, is closed all the same.
    let _ = tokio::time::timeout(REFUSAL_TIMEOUT, told).await;
}

/// Drives a connection to its end; once `asked` says so, to the end of its present requests. That is not before `notice`
/// is given. The same once it is `overdue`, which it may become whenever it is driven.
async fn gracefully<C: Future>(
    mut serving: Pin<&mut C>,
    asked: impl Future<Output = ()>,
    notice: Notice,
    overdue: impl Fn() -> bool,
    shut_down: impl Fn(Pin<&mut C>),
) -> C::Output {
    let mut asked = pin!(asked);
    let (mut registered, mut ending) = (false, false);
    std::future::poll_fn(|cx| {
        // A task's waker stays the same: one look registers it, the next is due when there is news.
        if !ending && (!registered || notice.is_given()) {
            registered = true;
            ending = asked.as_mut().poll(cx).is_ready();
            if ending {
                shut_down(serving.as_mut());
            }
        }
        let polled = serving.as_mut().poll(cx);
        if polled.is_ready() || ending || !overdue() {
            return polled;
        }
        ending = true;
        shut_down(serving.as_mut());
        serving.as_mut().poll(cx)
    })
    .await
}
