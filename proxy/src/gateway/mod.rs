//! The gateway carries requests: from a client's connection, through the queue, to an instance and back.
//!
//! | module | owns |
//! | --- | --- |
//! | `listen` | sockets, through pingora |
//! | `serve`, `watched`, `unread` | one client connection, however it is spoken on |
//! | `downstream` | HTTP/1.1 with a client; HTTP/2 is hyper's |
//! | `buffers` | memory that sockets are read into |
//! | `tls` | its handshake, where it speaks TLS |
//! | `ending` | how it learns that it is to end |
//! | `admission`, `clients`, `keys`, `usage` | who is let in, and how much each may take |
//! | `arrival` | what is decided of a request before it has a place in a queue |
//! | `front` | who answers a request |
//! | `exchange` | an instance: one request, from its head to its answer |
//! | `route`, `models`, `model_name`, `by_model` | which service it is for |
//! | `class` | whose it is, how urgent, and where it belongs |
//! | `deadline` | how long its client waits |
//! | `cache`, `sharing` | answers that identical requests share |
//! | `lease` | the service's pool, and the slot that a request holds |
//! | `space`, `kept`, `spool`, `body` | its body, which can be sent again |
//! | `shortage` | a disk that keeps bodies no more |
//! | `pace`, `paced` | how slow a client may be |
//! | `attempt`, `connections`, `wire` | sending it to an instance |
//! | `http1`, `plain`, `relay`, `multiplex` | over HTTP/1.1, most of it plainly, or over HTTP/2 |
//! | `held` | an answer that is held until it is complete |
//! | `stream` | an answer that is passed on as it comes |
//! | `cut` | one that ends with its instance |
//! | `resume` | an answer that broke off, and goes on elsewhere |
//! | `framing` | requests that two readers could take for two different things |
//! | `upgrade` | WebSocket over HTTP/2 |
//! | `headers`, `lists`, `told` | fields on their way through, and what Longshore tells of its answers |
//! | `spelling`, `spelled` | their case and order |
//! | `interim` | answers before the answer |
//! | `forwards` | how many proxies an OPTIONS or a TRACE may still pass |
//! | `forwarding` | where a request comes from, and whom to believe about it |
//! | `trace_context`, `spans` | the trace that it belongs to, and what is recorded of it |
//! | `ids` | names for requests |

mod admission;
pub mod arrival;
mod attempt;
pub mod body;
mod buffers;
mod by_model;
mod cache;
mod class;
mod clients;
mod connections;
mod cut;
mod deadline;
mod downstream;
pub mod ending;
mod exchange;
mod forwarding;
mod forwards;
mod framing;
pub mod front;
mod headers;
mod held;
mod http1;
mod ids;
mod interim;
mod kept;
pub mod keys;
pub mod lease;
pub mod listen;
mod lists;
mod model_name;
mod models;
mod multiplex;
pub mod pace;
pub mod paced;
mod plain;
mod relay;
mod resume;
pub mod route;
pub mod serve;
pub mod service;
mod sharing;
mod shortage;
pub mod space;
mod spans;
mod spelled;
mod spelling;
pub mod spool;
pub mod stream;
mod tls;
mod told;
mod trace_context;
mod tunnel;
mod unread;
mod upgrade;
mod usage;
mod watched;
mod wire;

pub use plain::MAX_FIELDS;

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::clock::Clock;
use crate::config::{Http2, Network, ProxyConfig, TlsFiles};
use crate::jobs::Jobs;
use crate::metrics::{Entrance, Refused};
use crate::telemetry::{Sampler, Tracer};
use admission::Admission;
use ids::Ids;
use route::Routes;
use spans::Tracing;
use tls::Secure;
use watched::Timeouts;

/// What every connection shares.
pub struct Gateway {
    /// The rules in force.
    pub routes: ArcSwap<Routes>,
    /// Who is let in.
    pub admission: Admission,
    settings: ArcSwap<Settings>,
    clock: Clock,
    refused: Refused,
    secure: Secure,
    ids: Ids,
    jobs: Option<Arc<Jobs>>,
    tracing: Tracing,
}

/// What `[proxy]` says of connections and requests: put in force as a whole. A connection keeps the times that it
/// began with.
struct Settings {
    timeouts: Timeouts,
    forwarded: bool,
    /// Whether TRACE is passed on.
    trace: bool,
    http2: Http2,
    /// Bytes of a body in which its `model` is looked for.
    model_head: u64,
    /// Whose word about a request's way is believed.
    trusted: Arc<[Network]>,
    /// Where the certificate is, while TLS is spoken.
    tls_files: Option<TlsFiles>,
}

impl Settings {
    fn new(proxy: &ProxyConfig) -> Self {
        Self {
            timeouts: Timeouts {
                header: proxy.request_header_timeout,
                idle: proxy.idle_timeout,
                half_close: proxy.half_close,
            },
            forwarded: proxy.forwarded,
            trace: proxy.trace,
            http2: proxy.http2,
            model_head: proxy.model_head,
            trusted: proxy.trusted.as_slice().into(),
            tls_files: Settings::tls_files_of(proxy),
        }
    }
}

impl Gateway {
    /// A gateway that is not listening yet.
    pub fn new(
        routes: Routes,
        proxy: &ProxyConfig,
        clock: Clock,
        entrance: Entrance,
        tracer: Option<Arc<Tracer>>,
        sampler: Sampler,
        jobs: Option<Arc<Jobs>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            routes: ArcSwap::from_pointee(routes),
            admission: Admission::new(proxy),
            settings: ArcSwap::from_pointee(Settings::new(proxy)),
            clock,
            refused: entrance.refused,
            secure: Secure::new(proxy, entrance.tls),
            ids: Ids::new(),
            jobs,
            tracing: Tracing::new(tracer, sampler, clock),
        })
    }

    /// How the names begin that this process gives to requests.
    pub fn id(&self) -> String {
        self.ids.process()
    }

    /// The identity of another `[proxy]`, before its listeners are opened.
    pub fn identify(&self, proxy: &ProxyConfig) {
        self.secure.change(proxy);
    }

    /// Puts another `[proxy]` in force, but for its listeners.
    pub fn configure(&self, proxy: &ProxyConfig) {
        self.admission.change(proxy);
        self.secure.change(proxy);
        self.settings.store(Arc::new(Settings::new(proxy)));
    }
}
