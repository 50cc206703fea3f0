//! What a service is told to be. The defaults of interface.md stand here and nowhere else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use longshore_backend::{Pull, Reach, Spec};
use longshore_pool::{BalancePolicy, PoolConfig, QueueOrder, RestartPolicy};

use super::jobs::ServiceJobs;
use super::size::{MAX_SIZE, ServiceSize};

/// `[services.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name: at most 40 of `[a-z0-9-]`, beginning and ending with a letter or a digit.
    pub name: Arc<str>,
    /// What answers for it.
    pub source: Source,
    /// The hosts that it answers to, in lower case, without a port. No other service has them.
    pub hosts: Vec<String>,
    /// The path prefixes that it answers to: each begins with `/` and, but for `/` itself, does not end with one. No
    /// other service has them.
    pub paths: Vec<String>,
    /// Whether the matching prefix is taken off the path before an instance sees it.
    pub strip_prefix: bool,
    /// Whether it gets what no rule matches; at most one service does.
    pub default: bool,
    /// What its instances speak.
    pub protocol: Protocol,
    /// The models that it has, as the `model` of a JSON body names them. No other service has them.
    pub models: Vec<String>,
    /// How many instances there should be.
    pub size: ServiceSize,
    /// Requests that one instance works on at once; 0 is no limit.
    pub concurrency: u32,
    /// From acceptance to the last byte, queueing included.
    pub timeout: Duration,
    /// An instance that is silent for so long hangs.
    pub first_byte_timeout: Option<Duration>,
    /// How long an instance that is stopped may take to end by itself.
    pub stop_grace: Duration,
    /// Readiness and liveness.
    pub health: Health,
    /// What may wait.
    pub queue: Queue,
    /// Which instance gets a request.
    pub balance: Balance,
    /// What is sent again.
    pub replay: Replay,
    /// When an instance that failed is started again.
    pub restart: Restart,
    /// Which requests become jobs, and how long those are kept.
    pub jobs: ServiceJobs,
    /// What answers are shared.
    pub cache: Cache,
}

/// What instances speak. Clients may speak either, whatever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    H1,
    /// HTTP/2 in the clear, from the first byte: gRPC servers.
    H2c,
}

/// What answers for a service.
#[expect(clippy::large_enum_variant, reason = "one a service: there is no room worth saving by a box")]
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Instances that are started from an image, or from a command under the process backend.
    Image {
        /// What each is made from.
        spec: Spec,
    },
    /// Servers that already run; at least one, all different, no port 0.
    Addresses(Vec<SocketAddr>),
}

/// `[services.NAME.health]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// What is asked.
    pub check: Check,
    /// Time between two probes.
    pub interval: Duration,
    /// An answer that takes longer counts as none.
    pub timeout: Duration,
    /// Failed probes in a row that make an instance hung.
    pub failures: u32,
    /// An instance that is not ready by then has failed to start.
    pub start_timeout: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            check: Check::Http { path: "/".into(), status: None, body: None },
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            failures: 3,
            start_timeout: Duration::from_secs(300),
        }
    }
}

/// What a probe looks at.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// A GET is answered.
    Http {
        /// Path and query.
        path: String,
        /// The status that is wanted; without it any below 500.
        status: Option<u16>,
        /// What the body must match.
        body: Option<Pattern>,
    },
    /// The port accepts a connection.
    Tcp,
    /// A line of the log matches.
    Log(Pattern),
}

/// A regular expression over bytes; two are equal when their texts are.
#[derive(Clone, Debug)]
pub struct Pattern(regex::bytes::Regex);

impl Pattern {
    /// Compiles one.
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        regex::bytes::Regex::new(text).map(Self)
    }

    /// Whether it is found anywhere in `bytes`.
    pub fn is_match(&self, bytes: &[u8]) -> bool {
        self.0.is_match(bytes)
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// `[services.NAME.queue]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Who is served first.
    pub order: QueueOrder,
    /// What tells clients apart where the order is fair.
    pub fair_key: RequestKey,
    /// Waiting requests at the most.
    pub limit: usize,
    /// Bytes of waiting bodies together, memory and disk.
    pub max_bytes: u64,
    /// Longest wait for a slot.
    pub timeout: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            order: QueueOrder::Fifo,
            fair_key: RequestKey::Ip,
            limit: 10_000,
            max_bytes: 2 << 30,
            timeout: Duration::from_secs(300),
        }
    }
}

/// Waiting that counts as one level of priority, when the file does not say.
pub(super) const AGEING: Duration = Duration::from_secs(30);

/// What of a request tells whose it is, or where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestKey {
    /// The client's address; of IPv6 the network.
    Ip,
    /// The key by which the client is known.
    ApiKey,
    /// A header field.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
    /// The path of its target, without the query.
    Path,
}

/// `[services.NAME.balance]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// How an instance is chosen.
    pub policy: BalancePolicy,
    /// What of a request decides where it belongs; there is one where the policy is `hash`, and only there.
    pub hash_key: Option<RequestKey>,
    /// How long a newly ready instance is eased in.
    pub slow_start: Duration,
}

/// `[services.NAME.replay]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Which requests may be sent to a second instance when the first one died.
    pub methods: ReplayMethods,
    /// A request that has outlived so many instances is quarantined; at least 1.
    pub attempts: u32,
    /// A response with a Content-Length up to so many bytes is held until it is complete.
    pub hold: u64,
    /// Whether an answer that breaks off in the middle of its stream goes on with another instance, if that one gives
    /// the same bytes again.
    pub resume: bool,
    /// So many bytes of each such stream are kept, to say at which byte another run differs; of the rest a digest.
    pub resume_keep: u64,
    /// Statuses by which an instance says that it is busy.
    pub busy: Vec<u16>,
}

impl Default for Replay {
    fn default() -> Self {
        Self {
            methods: ReplayMethods::All,
            attempts: 3,
            hold: 1 << 20,
            resume: false,
            resume_keep: 16 << 20,
            busy: vec![429, 503],
        }
    }
}

/// Which requests may be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayMethods {
    /// Every one.
    All,
    /// Those whose method is idempotent (RFC 9110, 9.2.2).
    Idempotent,
    /// None.
    None,
}

/// `[services.NAME.restart]`: whether an instance that ended is replaced, and the delays where it fails before it was ready
/// or soon after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    /// What becomes of an instance that ended unasked.
    pub policy: RestartPolicy,
    /// The first delay.
    pub backoff_initial: Duration,
    /// The largest delay; not less than the first.
    pub backoff_max: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::Always,
            backoff_initial: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
        }
    }
}

/// `[services.NAME.cache]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// How long an answer is shared at the most; zero is no cache.
    pub ttl: Duration,
    /// Bytes of all answers that are kept.
    pub max_bytes: u64,
    /// Bytes of one, and of a request's body; not more than of all.
    pub max_entry: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self { ttl: Duration::ZERO, max_bytes: 64 << 20, max_entry: 1 << 20 }
    }
}

impl Service {
    /// Whether its instances share the ports of this machine, where there is one of each.
    pub fn on_the_host(&self) -> bool {
        match &self.source {
            Source::Image { spec } => spec.address == Reach::Host,
            Source::Addresses(_) => false,
        }
    }

    /// A service with every key at its default: hosts `NAME` and `NAME.localhost`, no paths, not the default.
    pub fn new(name: &str, source: Source) -> Self {
        let size = match &source {
            Source::Image { .. } => ServiceSize::default(),
            Source::Addresses(addresses) => {
                let size = u32::try_from(addresses.len()).unwrap_or(MAX_SIZE).min(MAX_SIZE);
                ServiceSize { max: size, ..ServiceSize::fixed(size) }
            }
        };
        Self {
            name: name.into(),
            source,
            hosts: vec![name.to_owned(), format!("{name}.localhost")],
            paths: Vec::new(),
            strip_prefix: false,
            default: false,
            protocol: Protocol::default(),
            models: Vec::new(),
            size,
            concurrency: 1,
            timeout: Duration::from_secs(600),
            first_byte_timeout: None,
            stop_grace: Duration::from_secs(10),
            health: Health::default(),
            queue: Queue::default(),
            balance: Balance::default(),
            replay: Replay::default(),
            restart: Restart::default(),
            jobs: ServiceJobs::default(),
            cache: Cache::default(),
        }
    }

    /// What the service's pool is told.
    pub fn pool_config(&self) -> PoolConfig {
        let config = PoolConfig {
            concurrency: self.concurrency,
            queue_limit: self.queue.limit,
            queue_timeout: self.queue.timeout,
            order: self.queue.order,
            balance: self.balance.policy,
            slow_start: self.balance.slow_start,
            replay_attempts: self.replay.attempts,
            restart: self.restart.policy,
            backoff_initial: self.restart.backoff_initial,
            backoff_max: self.restart.backoff_max,
            probe_interval: self.health.interval,
            probe_failures: self.health.failures,
            start_timeout: self.health.start_timeout,
            stop_grace: self.stop_grace,
            drain_timeout: self.timeout,
            managed: match self.source {
                Source::Image { .. } => true,
                Source::Addresses(_) => false,
            },
            ..PoolConfig::default()
        };
        self.size.within(config)
    }
}

/// What an instance of `image` is made from when the file says no more.
pub fn default_spec(image: &str) -> Spec {
    Spec {
        image: image.to_owned(),
        build: None,
        pull: Pull::default(),
        command: None,
        port: 8080,
        env: BTreeMap::new(),
        volumes: Vec::new(),
        memory: None,
        cpus: None,
        gpus: None,
        user: None,
        network: None,
        platform: None,
        address: Reach::default(),
    }
}
