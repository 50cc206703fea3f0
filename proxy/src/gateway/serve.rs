//! One client connection: which protocol it speaks, and hyper serving it until it ends.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderMap, Request};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pingora_core::protocols::Stream;
use pingora_core::server::ShutdownWatch;

use super::forwarding::Sender;
use super::{Gateway, exchange};
use crate::gateway::watched::Watched;

/// A header section larger than this is refused with 431.
pub const MAX_HEADER_BYTES: usize = 64 * 1024;

/// hyper's buffers, each way: large enough for the header section, small enough for ten thousand connections.
const MAX_BUFFER_BYTES: usize = 80 * 1024;

/// Header fields of one request at the most.
const MAX_HEADERS: usize = 200;

/// Streams that one HTTP/2 connection may have open.
const MAX_STREAMS: u32 = 256;

/// The first bytes of the HTTP/2 preface, which no HTTP/1.1 method begins with.
const PREFACE: [u8; 3] = *b"PRI";

/// What a connection's requests share.
#[derive(Clone)]
pub struct Client {
    sender: Option<Arc<Sender>>,
    activity: Arc<Activity>,
}

/// The requests of a connection, counted.
#[derive(Default)]
pub struct Activity {
    /// Those under way.
    pub active: AtomicUsize,
    /// Those that ever began.
    pub begun: AtomicUsize,
}

/// A request under way on a connection: while there is one, the connection is not idle.
pub struct Active(Arc<Activity>);

impl Client {
    /// Who sent a request with these fields: whom trusted proxies name, else who connects.
    pub fn address(&self, headers: &HeaderMap) -> Option<IpAddr> {
        self.sender.as_ref().map(|sender| sender.client(headers))
    }

    /// Somebody who is not connected, or not any more: `peer` is whom the requests once came from.
    pub fn absent(gateway: &Gateway, peer: Option<IpAddr>) -> Self {
        let trusted = || gateway.settings.load().trusted.clone();
        let sender = peer.map(|peer| Arc::new(Sender::new(peer, "http", trusted())));
        Self { sender, activity: Arc::default() }
    }

    /// What its requests' forwarding fields say of it.
    pub fn sender(&self) -> Option<&Sender> {
        self.sender.as_deref()
    }

    /// A request begins; it is under way until the result is dropped.
    pub fn begin(&self) -> Active {
        self.activity.active.fetch_add(1, Ordering::Relaxed);
        self.activity.begun.fetch_add(1, Ordering::Relaxed);
        Active(self.activity.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves a connection until it ends, or, once `shutdown` says so, until its last answer is out.
pub async fn connection(gateway: Arc<Gateway>, mut stream: Stream, shutdown: ShutdownWatch) {
    let address = stream.get_socket_digest().and_then(|digest| Some(digest.peer_addr()?.as_inet()?.ip()));
    let (timeouts, trusted) = {
        let settings = gateway.settings.load();
        (settings.timeouts, settings.trusted.clone())
    };
    let sender = address.map(|address| Arc::new(Sender::new(address, "http", trusted)));
    let mut first = [0; PREFACE.len()];
    let peeked = tokio::select! {
        peeked = tokio::time::timeout(timeouts.idle, stream.try_peek(&mut first)) => peeked,
        () = ended(shutdown.clone()) => return,
    };
    if !matches!(peeked, Ok(Ok(_))) {
        return;
    }
    let client = Client { sender, activity: Arc::default() };
    let http2 = first == PREFACE;
    let io = TokioIo::new(Watched::new(stream, client.activity.clone(), timeouts, !http2));
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
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_BYTES as u32)
            .keep_alive_interval(Duration::from_secs(30));
        let serving = pin!(builder.serve_connection(io, service));
        gracefully(serving, shutdown, |serving| serving.graceful_shutdown()).await
    } else {
        let mut builder = http1::Builder::new();
        builder
            .auto_date_header(false)
            .header_read_timeout(None)
            .max_header_size(MAX_HEADER_BYTES)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_BUFFER_BYTES);
        let serving = pin!(builder.serve_connection(io, service).with_upgrades());
        gracefully(serving, shutdown, |serving| serving.graceful_shutdown()).await
    };
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

async fn ended(mut shutdown: ShutdownWatch) {
    // A sender that is gone means the same as one that says so.
    let _ = shutdown.wait_for(|ended| *ended).await;
}
