//! Runs instances, as Docker containers or as child processes, and knows nothing of requests.
//!
//! | module | owns |
//! | --- | --- |
//! | this one | the [`Backend`] trait and its types |
//! | [`docker`] | containers, through bollard, which nothing else in the workspace names |
//! | [`process`] | child processes: the default where no engine answers |
//! | `digest` | [`Spec::digest`] |
//! | `cause` | what an exit code or a signal says about a death, and how much of the log goes with it |
//! | `watchers` | the streams that [`Backend::watch`] has handed out |

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;

mod cause;
mod digest;
pub mod docker;
pub mod process;
mod watchers;

/// Names one life of one slot of one service. Two lives never share a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The service's name.
    pub service: Arc<str>,
    /// The place in the service's pool.
    pub slot: u32,
    /// Which life.
    pub incarnation: u32,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}", self.service, self.slot, self.incarnation)
    }
}

/// What every instance of a service is made from. [`Spec::digest`] tells whether a running one is current.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The image's reference. Not used by the process backend.
    pub image: String,
    /// The folder to build the image from when it is missing. For the process backend: where a relative program is
    /// looked for, and the working directory is not changed by it.
    pub build: Option<PathBuf>,
    /// When to pull an image that is not built.
    pub pull: Pull,
    /// Overrides the image's command; the program and its arguments for the process backend.
    pub command: Option<Vec<String>>,
    /// The port that the server listens on inside the instance. A process gets a free one as `$PORT` instead.
    pub port: u16,
    /// Environment variables; `PORT` is added.
    pub env: BTreeMap<String, String>,
    /// `host:container[:ro]`, as in Compose.
    pub volumes: Vec<String>,
    /// Memory limit in bytes.
    pub memory: Option<u64>,
    /// CPU limit in cores.
    pub cpus: Option<f64>,
    /// GPUs per instance.
    pub gpus: Option<Gpus>,
    /// `user[:group]` inside the container.
    pub user: Option<String>,
    /// The network that the container joins instead of the default bridge.
    pub network: Option<String>,
    /// The image's platform, such as `linux/arm64`.
    pub platform: Option<String>,
    /// How the proxy reaches an instance.
    pub address: Reach,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pull {
    /// When the engine does not have it.
    #[default]
    Missing,
    /// At every `up`.
    Always,
    /// Never: a missing image is an error.
    Never,
}

/// GPUs of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gpus {
    /// All that the host has.
    All,
    /// So many of them.
    Count(u32),
}

/// How the proxy reaches an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// On 127.0.0.1, at a port that the engine picks.
    #[default]
    Published,
    /// At the container's own address.
    Container,
    /// On 127.0.0.1 at `port`, the container sharing the host's network.
    Host,
}

/// An instance that the backend runs already, found by its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub key: Key,
    /// Where it listens; none when it does not run.
    pub address: Option<SocketAddr>,
    /// Whether its processes are frozen.
    pub paused: bool,
    /// The digest of the specification that it was started from.
    pub digest: String,
    /// When it was made, if that is known: to the second.
    pub begun: Option<SystemTime>,
}

/// What became of an instance, as the backend saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its name.
    pub key: Key,
    /// Why it runs no more.
    pub cause: Cause,
}

/// Why an instance runs no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its main process exited by itself.
    Exited {
        /// The exit code.
        code: i64,
        /// The last lines it logged (at most 20 lines, 4 KiB).
        log: String,
    },
    /// The kernel killed it for want of memory.
    OutOfMemory {
        /// The last lines it logged.
        log: String,
    },
    /// A signal killed it.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// The backend does not know it any more.
    Vanished,
    /// Its main process is gone; why will be told by a second [`Exit`] within moments.
    Unexplained,
}

/// Why an instance could not be started or prepared.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartError {
    /// Only a person can help: the image is missing and cannot be pulled or built, the engine refuses the options.
    #[error("{0}")]
    Futile(String),
    /// The image is not there: [`Backend::restore`] may bring it.
    #[error("{0}")]
    NoImage(String),
    /// May succeed next time.
    #[error("{0}")]
    Failed(String),
    /// The engine does not answer.
    #[error("{0}")]
    EngineDown(String),
}

/// Any other operation that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct BackendError(pub String);

/// Told what goes on while an image is built or pulled. Shows itself as a progress bar or a log line.
pub trait Progress: Send + Sync {
    /// One step: `what` is the image; `status` a line for people ("Step 3/7 : COPY …", "pulling"); `done` and `total`
    /// are bytes where they are known, zero otherwise.
    fn step(&self, what: &str, status: &str, done: u64, total: u64);
}

/// Something that runs instances.
///
/// All methods may be called at once from many tasks. Futures are cancel-safe in that a later `list` tells the truth.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// `docker` or `process`.
    fn kind(&self) -> &'static str;

    /// Makes sure that the image is there: builds it (always with `rebuild`) or pulls it, as the spec says. Idempotent.
    async fn prepare(&self, spec: &Spec, rebuild: bool, progress: &dyn Progress) -> Result<(), StartError>;

    /// Builds or pulls an image that a start has not found, as the spec says. Whoever asks again soon after that has failed
    /// is told so at once.
    async fn restore(&self, _spec: &Spec) -> Result<(), StartError> {
        Ok(())
    }

    /// Starts an instance and tells where it will listen. Does not wait until it is ready. Its death is told by `watch`.
    async fn start(&self, key: &Key, spec: &Spec) -> Result<SocketAddr, StartError>;

    /// Another way to an instance whose address refuses connections, if there is one: see the backend.
    async fn detour(&self, _key: &Key) -> Option<SocketAddr> {
        None
    }

    /// Asks the instance to end, kills it after `grace` (at once if zero), and removes what is left of it.
    /// An instance that is gone already is no error.
    async fn stop(&self, key: &Key, grace: Duration) -> Result<(), BackendError>;

    /// Kills the main process as a fault would (SIGKILL) and leaves the rest to whoever notices.
    async fn kill(&self, key: &Key) -> Result<(), BackendError>;

    /// Freezes all processes of the instance: they keep their memory and get no time. One that is frozen already is no
    /// error. Its connections stay open, and are accepted and not answered.
    async fn pause(&self, key: &Key) -> Result<(), BackendError>;

    /// Lets a paused instance go on where it was. One that is not frozen is no error.
    async fn resume(&self, key: &Key) -> Result<(), BackendError>;

    /// Whether instances go on when this process ends, so that another one can adopt them.
    fn outlives_process(&self) -> bool {
        false
    }

    /// What tells the engine from others that instances of the same cluster may be on, where they outlive the process.
    async fn engine(&self) -> Option<String> {
        None
    }

    /// From now on the instances are another process's: they are watched, and nothing is removed, whatever ends.
    fn hands_off(&self) {}

    /// Every instance of this cluster that the backend knows, running or not.
    async fn list(&self) -> Result<Vec<Found>, BackendError>;

    /// Instances that end, from now on. Never ends itself: it reconnects, and lists from time to time, so that an
    /// exit that no event told of is told all the same (an exit may come twice).
    fn watch(&self) -> BoxStream<'static, Exit>;

    /// Whether the instance's processes are frozen (a paused container, a stopped process): hung beyond doubt.
    async fn frozen(&self, key: &Key) -> bool;

    /// What the instance wrote to stdout and stderr: the last `tail` lines, then, if `follow`, what comes.
    async fn logs(
        &self,
        key: &Key,
        tail: usize,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<Bytes, BackendError>>, BackendError>;

    /// The last lines of that, as many as go with a death; what can be had within a second.
    async fn last_lines(&self, key: &Key) -> String {
        cause::read_last_lines(self.logs(key, cause::LOG_LINES, false)).await
    }
}
