//! The JSON of the admin API: written by the server, read by the commands. One definition for both.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// `GET /services`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Services {
    /// The cluster's name.
    pub cluster: String,
    /// `docker` or `process`.
    pub backend: String,
    /// The proxy that serves them.
    #[serde(default)]
    pub proxy: ProxyView,
    /// By name.
    pub services: Vec<ServiceView>,
}

/// Where requests are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyView {
    /// How each `X-Request-Id` begins that this process gives.
    pub id: String,
    /// The listeners, as URLs.
    pub listen: Vec<String>,
}

/// `GET /services/NAME`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// What its instances run: an image, or "addresses".
    pub image: String,
    /// The names it answers to.
    pub hosts: Vec<String>,
    /// The path prefixes it answers to.
    pub paths: Vec<String>,
    /// Whether it gets what no rule matches.
    pub default: bool,
    /// Instances wanted, there, and coming.
    pub size: SizeView,
    /// Requests waiting.
    pub queue: QueueView,
    /// Requests that instances work on.
    pub in_flight: usize,
    /// Requests that one instance works on at once; 0 is no limit.
    pub concurrency: u32,
    /// Why no instance can be started, while that is so.
    pub cannot_start: Option<String>,
    /// Whether that is the restart policy's doing: nothing will change by itself.
    #[serde(default)]
    pub stopped: bool,
    /// The settings in force, as cluster.toml has them; the values of `env` are left out. The size in force is `size`.
    #[serde(default)]
    pub config: serde_json::Value,
    /// By slot.
    pub instances: Vec<InstanceView>,
}

/// The size of a service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SizeView {
    /// How many instances there should be.
    pub wanted: u32,
    /// How many take requests.
    pub ready: u32,
    /// How many are being started.
    pub starting: u32,
    /// How many are in standby: paused, to be resumed when more are wanted.
    #[serde(default)]
    pub standby: u32,
    /// Fewest that may be asked for.
    pub min: u32,
    /// Most that may be asked for.
    pub max: u32,
    /// What the size was set to, in a form of `size` in cluster.toml.
    pub policy: serde_json::Value,
    /// Whether it was set at run time, and so differs from the file.
    pub overridden: bool,
    /// The last decision and its reason.
    pub last_decision: Option<String>,
}

/// What waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QueueView {
    /// Requests.
    pub depth: usize,
    /// The most that may wait.
    pub limit: usize,
    /// Bytes of their bodies, in memory and on disk.
    pub bytes: u64,
    /// How long the oldest has waited.
    pub oldest_wait_s: f64,
    /// Requests a second that lately got an instance.
    #[serde(default)]
    pub drain_rate: f64,
    /// How long the last one has yet to wait at that rate; null while the queue does not drain.
    #[serde(default)]
    pub last_wait_s: Option<f64>,
}

/// `GET /services/NAME/queue`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Queue {
    /// The service.
    pub service: String,
    /// Requests waiting.
    pub waiting: usize,
    /// Requests a second that lately got an instance.
    pub drain_rate: f64,
    /// Those that have waited longest, the next one first.
    pub requests: Vec<InQueueView>,
}

/// A request that waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InQueueView {
    /// Its `X-Request-Id`.
    pub request_id: String,
    /// How many are served before it if nobody else comes or leaves; the mean where the order is random.
    pub position: usize,
    /// How long it has yet to wait at the rate at which the queue drains; null while it does not drain.
    pub estimated_wait_s: Option<f64>,
    /// How long ago it arrived.
    pub age_s: f64,
    /// How often it was dispatched already, and came back.
    pub attempts: u32,
}

/// One instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InstanceView {
    /// `SERVICE-SLOT-INCARNATION`, as in the `Longshore-Instance` header.
    pub id: String,
    /// `starting`, `ready`, `suspect`, `draining`, `standby`, `resuming`, `stopping`, `backing-off` or `exited`.
    pub state: String,
    /// Where it listens.
    pub address: Option<SocketAddr>,
    /// Requests that it works on.
    pub in_flight: u32,
    /// Seconds since it was started; of a slot in which nothing runs, since that has ended.
    pub age_s: f64,
    /// How often its slot was started again.
    pub restarts: u32,
    /// Failed starts or early deaths in a row.
    pub failures: u32,
    /// How the slot's previous life ended, in words.
    pub last_death: Option<String>,
    /// Seconds since then.
    pub last_death_age_s: Option<f64>,
    /// Whether it runs an older configuration and is to be replaced.
    pub outdated: bool,
}

/// `PUT /services/NAME/size`.
#[derive(Clone, Debug, Serialize)]
pub struct SizeRequest {
    /// Any form of `size` in cluster.toml.
    pub size: serde_json::Value,
}

/// `GET /services/NAME/decisions`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Decisions {
    /// The service.
    pub service: String,
    /// What decides, in a form of `size` in cluster.toml.
    pub size: serde_json::Value,
    /// Whether decisions are only recorded.
    pub dry_run: bool,
    /// The newest first.
    pub decisions: Vec<DecisionView>,
}

/// `POST /reload`: what was put in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReloadView {
    /// Whether anything is different.
    pub changed: bool,
    /// All of it in a line.
    pub summary: String,
    /// Services that are new.
    pub services_added: Vec<String>,
    /// Services that are no more; what was accepted for them is answered.
    pub services_removed: Vec<String>,
    /// Services with other settings.
    pub services_changed: Vec<ChangedService>,
    /// Keys of `[proxy]` that are different.
    pub proxy: Vec<String>,
    /// Addresses that are listened on from now on.
    pub listeners_opened: Vec<SocketAddr>,
    /// Addresses that are not listened on any more.
    pub listeners_closed: Vec<SocketAddr>,
    /// Keys of `[admin]` that are different.
    pub admin: Vec<String>,
    /// What is different and read at the start only, each as `[TABLE] KEY`: it waits for the next one.
    #[serde(default)]
    pub next_start: Vec<String>,
}

/// A service whose settings are different.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangedService {
    /// Its name.
    pub name: String,
    /// The keys and tables that are different.
    pub keys: Vec<String>,
    /// Whether its instances are being replaced one by one.
    pub rolls: bool,
}

/// A mistake in cluster.toml.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MistakeView {
    /// Where in the document it is, as a JSON pointer; none where the text is not TOML.
    pub pointer: Option<String>,
    /// The line, from 1; none when it is about the file as a whole.
    pub line: Option<usize>,
    /// The character in the line, from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub detail: String,
}

/// One decision about a size. Looks that come to the same are one decision, shown as it was made last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DecisionView {
    /// When, in seconds since 1970-01-01T00:00:00Z.
    pub at: f64,
    /// How long ago.
    pub age_s: f64,
    /// How long ago it was made first.
    pub since_age_s: f64,
    /// How many looks came to it.
    pub looks: u64,
    /// Who decided.
    pub policy: String,
    /// What the policy saw.
    pub load: LoadView,
    /// What it reckoned with beyond that.
    pub inputs: BTreeMap<String, f64>,
    /// What it said, before bounds and damping.
    pub recommended: u32,
    /// Whether it could not tell.
    pub failed: bool,
    /// What bounds and damping did to that, in their order.
    pub damping: Vec<DampingView>,
    /// The size before.
    pub before: u32,
    /// The size decided.
    pub size: u32,
    /// Whether it was only recorded.
    pub dry_run: bool,
    /// Why, in a sentence.
    pub reason: String,
}

/// What a policy saw, under the names that expressions know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoadView {
    /// Requests waiting.
    pub queue: usize,
    /// How long the oldest has waited, in seconds.
    pub oldest_wait: f64,
    /// Requests that instances work on.
    pub in_flight: usize,
    /// Instances that take requests.
    pub ready: u32,
    /// Instances being started.
    pub starting: u32,
    /// Instances in standby.
    #[serde(default)]
    pub standby: u32,
    /// The size before.
    pub size: u32,
    /// Requests arriving a second.
    pub arrival_rate: f64,
    /// Mean seconds that an instance works on a request.
    pub service_time: f64,
    /// Seconds that a start takes.
    pub start_time: f64,
}

/// What one bound or damper did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DampingView {
    /// Its name in `size`.
    pub by: String,
    /// What it was given.
    pub from: u32,
    /// What it made of that.
    pub to: u32,
    /// Why.
    pub reason: String,
}
