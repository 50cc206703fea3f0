//! What is counted of a service. Its labels are resolved once.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec};

use super::Metrics;

impl Metrics {
    /// The metrics of one service, each at zero.
    pub fn service(&self, name: &str) -> Arc<ServiceMetrics> {
        let service = Arc::new(ServiceMetrics {
            name: name.to_owned(),
            codes: std::array::from_fn(|_| OnceLock::new()),
            requests: self.requests.clone(),
            rejected: self.rejected.clone(),
            replays: self.replays.clone(),
            starts: self.starts.clone(),
            deaths: self.deaths.clone(),
            cache: self.cache.clone(),
            cached: OnceLock::new(),
            duration: self.duration.with_label_values(&[name]),
            queue_wait: self.queue_wait.with_label_values(&[name]),
            lost: self.lost.with_label_values(&[name]),
            client_gone: self.client_gone.with_label_values(&[name]),
            start_seconds: self.start_seconds.with_label_values(&[name]),
            job_seconds: self.job_seconds.with_label_values(&[name]),
            job_callbacks: self.job_callbacks.clone(),
        });
        // A rate over a counter that appears with its first increment misses that increment.
        service.code(200);
        for result in ["ready", "failed"] {
            self.starts.with_label_values(&[name, result]);
        }
        for reason in REPLAYED {
            self.replays.with_label_values(&[name, reason]);
        }
        for kind in REJECTED {
            self.rejected.with_label_values(&[name, kind]);
        }
        self.services.lock().push(service.clone());
        service
    }
}

/// Why requests are usually sent again.
const REPLAYED: [&str; 7] = ["busy", "died", "hang", "malformed", "refused", "reset", "truncated"];

/// What requests are usually refused with.
const REJECTED: [&str; 7] = [
    "attempts-exhausted",
    "body-too-large",
    "cannot-start",
    "queue-full",
    "queue-timeout",
    "stopped",
    "timeout",
];

/// What a cache did for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cached {
    /// The answer was there.
    Hit,
    /// It was asked for.
    Miss,
    /// It was being asked for already.
    Collapsed,
    /// The request went past it.
    Bypass,
}

impl Cached {
    /// In the order of their values.
    const ALL: [Self; 4] = [Self::Hit, Self::Miss, Self::Collapsed, Self::Bypass];

    const fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
            Self::Bypass => "bypass",
        }
    }
}

/// One service's counters and histograms, their labels resolved.
pub struct ServiceMetrics {
    pub(super) name: String,
    codes: [OnceLock<IntCounter>; 500],
    requests: IntCounterVec,
    rejected: IntCounterVec,
    replays: IntCounterVec,
    starts: IntCounterVec,
    deaths: IntCounterVec,
    cache: IntCounterVec,
    cached: OnceLock<[IntCounter; 4]>,
    duration: Histogram,
    queue_wait: Histogram,
    lost: IntCounter,
    client_gone: IntCounter,
    start_seconds: Histogram,
    pub(super) job_seconds: Histogram,
    pub(super) job_callbacks: IntCounterVec,
}

impl ServiceMetrics {
    fn code(&self, code: u16) -> Option<&IntCounter> {
        let slot = self.codes.get(usize::from(code).checked_sub(100)?)?;
        Some(slot.get_or_init(|| self.requests.with_label_values(&[self.name.as_str(), &code.to_string()])))
    }

    /// A request was answered with this status after this long.
    pub fn answered(&self, code: u16, after: Duration) {
        if let Some(counter) = self.code(code) {
            counter.inc();
        }
        self.duration.observe(after.as_secs_f64());
    }

    /// A request was dispatched after this wait.
    pub fn waited(&self, wait: Duration) {
        self.queue_wait.observe(wait.as_secs_f64());
    }

    /// A request was refused by Longshore, with this kind of problem.
    pub fn rejected(&self, kind: &str) {
        self.rejected.with_label_values(&[self.name.as_str(), kind]).inc();
    }

    /// A request went back to the head of the queue. `reason` is one of a fixed few.
    pub fn replayed(&self, reason: &str) {
        self.replays.with_label_values(&[self.name.as_str(), reason]).inc();
    }

    /// An accepted request got no complete answer because instances died.
    pub fn lost(&self) {
        self.lost.inc();
    }

    /// Requests to a service with a cache are counted from now on, each result at zero.
    pub fn begin_cache(&self) {
        self.cached(Cached::Hit);
    }

    /// What a cache did for a request.
    pub fn cached(&self, result: Cached) -> &IntCounter {
        let counters = self.cached.get_or_init(|| {
            Cached::ALL.map(|result| self.cache.with_label_values(&[self.name.as_str(), result.name()]))
        });
        &counters[result as usize]
    }

    /// A client left before its answer was complete.
    pub fn client_gone(&self) {
        self.client_gone.inc();
    }

    /// An instance became ready so long after its start was decided.
    pub fn started(&self, after: Duration) {
        self.starts.with_label_values(&[self.name.as_str(), "ready"]).inc();
        self.start_seconds.observe(after.as_secs_f64());
    }

    /// An instance could not be started, or ended before it was ready.
    pub fn start_failed(&self) {
        self.starts.with_label_values(&[self.name.as_str(), "failed"]).inc();
    }

    /// An instance died. `cause` is one of a fixed few.
    pub fn died(&self, cause: &str) {
        self.deaths.with_label_values(&[self.name.as_str(), cause]).inc();
    }
}
