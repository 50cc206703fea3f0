//! Every metric of Longshore, by name. Nothing else in the workspace names one.
//!
//! Counters and histograms are resolved per service once, so that the request path touches atomics only; gauges that
//! mirror a pool (queue depth, in flight, instances) are read from its snapshot when somebody scrapes.

mod jobs;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub use jobs::{CallbackEnd, JobExports};
use longshore_pool::StateView;
use longshore_pool::scaling::Tally;
use parking_lot::Mutex;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

/// Waits and durations from half a millisecond to ten minutes: queues in front of models are slow things.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
    300.0, 600.0,
];

/// The registry and every family in it.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    duration: HistogramVec,
    queue_wait: HistogramVec,
    queue_depth: IntGaugeVec,
    queue_bytes: IntGaugeVec,
    in_flight: IntGaugeVec,
    replays: IntCounterVec,
    lost: IntCounterVec,
    cache: IntCounterVec,
    cache_bytes: IntGaugeVec,
    refused: IntCounterVec,
    handshakes: IntCounterVec,
    tls_reloads: IntCounterVec,
    tls_expires: GaugeVec,
    spans: IntCounterVec,
    rejected: IntCounterVec,
    client_gone: IntCounterVec,
    instances: IntGaugeVec,
    starts: IntCounterVec,
    start_seconds: HistogramVec,
    deaths: IntCounterVec,
    size: IntGaugeVec,
    decisions: IntCounterVec,
    policy_errors: IntCounterVec,
    jobs: IntGaugeVec,
    job_seconds: HistogramVec,
    job_callbacks: IntCounterVec,
    job_exports: IntCounterVec,
    job_exported_at: Gauge,
    reloads: IntCounterVec,
    reloaded_at: Gauge,
    services: Mutex<Vec<Arc<ServiceMetrics>>>,
}

impl Metrics {
    /// A fresh registry with every family registered.
    pub fn new() -> Result<Arc<Self>, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let family = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
            let family = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let histogram = |name: &str, help: &str| -> Result<HistogramVec, prometheus::Error> {
            let opts = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
            let family = HistogramVec::new(opts, &["service"])?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let metrics = Self {
            requests: counter(
                "longshore_requests_total",
                "Requests answered, by status code.",
                &["service", "code"],
            )?,
            duration: histogram(
                "longshore_request_duration_seconds",
                "From a request's head to the end of its answer, queueing included.",
            )?,
            queue_wait: histogram(
                "longshore_queue_wait_seconds",
                "Waits for a slot, one for each dispatch.",
            )?,
            queue_depth: gauge("longshore_queue_depth", "Requests waiting for a slot.", &["service"])?,
            queue_bytes: gauge(
                "longshore_queue_bytes",
                "Bytes of bodies kept for replay, in memory and on disk.",
                &["service"],
            )?,
            in_flight: gauge("longshore_in_flight", "Requests that instances work on.", &["service"])?,
            replays: counter(
                "longshore_replays_total",
                "Requests put back at the head of the queue, by reason.",
                &["service", "reason"],
            )?,
            lost: counter(
                "longshore_requests_lost_total",
                "Accepted requests that got no complete answer because instances died.",
                &["service"],
            )?,
            cache: counter(
                "longshore_cache_requests_total",
                "Requests to a service with a cache, by what it did for them.",
                &["service", "result"],
            )?,
            cache_bytes: gauge("longshore_cache_bytes", "Bytes of answers that are kept.", &["service"])?,
            refused: counter(
                "longshore_refused_total",
                "Requests and connections refused before a service was chosen, by kind of problem.",
                &["kind"],
            )?,
            handshakes: counter(
                "longshore_tls_handshakes_total",
                "TLS handshakes, by how they ended.",
                &["result"],
            )?,
            tls_reloads: counter(
                "longshore_tls_certificate_reloads_total",
                "Times that the certificate's files have changed, by result: applied, refused.",
                &["result"],
            )?,
            tls_expires: GaugeVec::new(
                Opts::new(
                    "longshore_tls_certificate_expiry_timestamp_seconds",
                    "When the certificate in force expires, as Unix time.",
                ),
                &[],
            )?,
            spans: counter(
                "longshore_trace_spans_total",
                "Spans of recorded requests, by what became of them: sent to the collector, or dropped.",
                &["result"],
            )?,
            rejected: counter(
                "longshore_rejected_total",
                "Requests refused by Longshore itself, by kind of problem.",
                &["service", "kind"],
            )?,
            client_gone: counter(
                "longshore_client_gone_total",
                "Requests whose client left before the answer was complete.",
                &["service"],
            )?,
            instances: gauge("longshore_instances", "Instances, by state.", &["service", "state"])?,
            starts: counter(
                "longshore_instance_starts_total",
                "Instance starts, by result.",
                &["service", "result"],
            )?,
            start_seconds: histogram(
                "longshore_instance_start_seconds",
                "From the decision to start an instance until it is ready.",
            )?,
            deaths: counter(
                "longshore_instance_deaths_total",
                "Instance deaths, by cause.",
                &["service", "cause"],
            )?,
            decisions: counter(
                "longshore_size_decisions_total",
                "Decisions about the size, by policy and by what became of the size.",
                &["service", "policy", "direction"],
            )?,
            policy_errors: counter(
                "longshore_policy_errors_total",
                "Decisions for which the policy could not tell, so that the last size was kept.",
                &["service"],
            )?,
            jobs: gauge("longshore_jobs", "Asynchronous jobs, by state.", &["service", "status"])?,
            job_seconds: histogram(
                "longshore_job_seconds",
                "From the acceptance of a job until it has been answered.",
            )?,
            job_callbacks: counter(
                "longshore_job_callbacks_total",
                "Attempts to post the result of a job, by what came of them.",
                &["service", "result"],
            )?,
            job_exports: counter(
                "longshore_job_exports_total",
                "Scheduled exports of all jobs, by result: done, failed.",
                &["result"],
            )?,
            job_exported_at: Gauge::new(
                "longshore_job_export_last_success_timestamp_seconds",
                "When all jobs were exported last, as Unix time.",
            )?,
            size: gauge("longshore_size", "Instances wanted, and the bounds of that.", &["service", "kind"])?,
            reloads: counter(
                "longshore_config_reloads_total",
                "Times that the configuration was read again, by result: applied, unchanged, refused.",
                &["result"],
            )?,
            reloaded_at: Gauge::new(
                "longshore_config_last_reload_success_timestamp_seconds",
                "When the configuration in force was read last, as Unix time.",
            )?,
            services: Mutex::default(),
            registry,
        };
        metrics.registry.register(Box::new(metrics.reloaded_at.clone()))?;
        metrics.registry.register(Box::new(metrics.tls_expires.clone()))?;
        for result in ["applied", "unchanged", "refused"] {
            metrics.reloads.with_label_values(&[result]);
        }
        metrics.register_build_info()?;
        Ok(Arc::new(metrics))
    }

    /// What counts the spans of recorded requests.
    pub fn spans(&self) -> SpanCounters {
        let [sent, dropped] = ["sent", "dropped"].map(|result| self.spans.with_label_values(&[result]));
        SpanCounters { sent, dropped }
    }

    /// What counts what comes before it belongs to a service.
    pub fn entrance(&self) -> Entrance {
        // A rate over a counter that appears with its first increment misses that increment.
        for kind in
            ["bad-request", "client-limit", "headers-too-large", "no-service", "overloaded", "unauthorized"]
        {
            self.refused.with_label_values(&[kind]);
        }
        let ends = [Handshake::Completed, Handshake::Failed, Handshake::TimedOut, Handshake::Refused];
        for end in ends {
            self.handshakes.with_label_values(&[end.name()]);
        }
        for result in ["applied", "refused"] {
            self.tls_reloads.with_label_values(&[result]);
        }
        let tls = Tls {
            handshakes: ends.map(|end| self.handshakes.with_label_values(&[end.name()])),
            reloads: self.tls_reloads.clone(),
            expires: self.tls_expires.clone(),
        };
        Entrance { refused: Refused(self.refused.clone()), tls }
    }

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
        self.services.lock().push(service.clone());
        service
    }

    /// The configuration was read and is in force. At the start that is no reload.
    pub fn configured(&self, unix_now: f64) {
        self.reloaded_at.set(unix_now);
    }

    /// The configuration was read again. `result` is `applied`, `unchanged` or `refused`.
    pub fn reloaded(&self, result: &str) {
        self.reloads.with_label_values(&[result]).inc();
    }

    /// A service is no more: what mirrors its state goes; what was counted stays.
    pub fn forget(&self, name: &str) {
        for gauge in [&self.queue_depth, &self.queue_bytes, &self.in_flight] {
            // It is not there if nobody has ever looked.
            let _ = gauge.remove_label_values(&[name]);
        }
        for state in StateView::ALL {
            let _ = self.instances.remove_label_values(&[name, state.name()]);
        }
        for kind in ["wanted", "min", "max"] {
            let _ = self.size.remove_label_values(&[name, kind]);
        }
    }

    /// Writes what is only read when somebody looks: the state of one pool.
    pub fn observe(&self, name: &str, gauges: &PoolGauges) {
        self.queue_depth.with_label_values(&[name]).set(gauges.waiting as i64);
        self.queue_bytes.with_label_values(&[name]).set(gauges.queue_bytes as i64);
        self.in_flight.with_label_values(&[name]).set(gauges.in_flight as i64);
        if let Some(bytes) = gauges.cache_bytes {
            self.cache_bytes.with_label_values(&[name]).set(bytes as i64);
        }
        for (state, count) in &gauges.instances {
            self.instances.with_label_values(&[name, *state]).set(*count);
        }
        for (kind, value) in [("wanted", gauges.wanted), ("min", gauges.min), ("max", gauges.max)] {
            self.size.with_label_values(&[name, kind]).set(i64::from(value));
        }
        // Two scrapes at once must not both add the difference.
        let _one_at_a_time = self.services.lock();
        for ((policy, direction), count) in &gauges.decisions {
            raise(&self.decisions.with_label_values(&[name, *policy, *direction]), *count);
        }
        let failed = gauges.decisions.iter().filter(|((_, direction), _)| *direction == "failed");
        raise(&self.policy_errors.with_label_values(&[name]), failed.map(|(_, count)| count).sum());
    }

    /// Everything, in the Prometheus text format.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    fn register_build_info(&self) -> Result<(), prometheus::Error> {
        let info =
            GaugeVec::new(Opts::new("longshore_build_info", "1, labelled with the version."), &["version"])?;
        let child: Gauge = info.with_label_values(&[env!("CARGO_PKG_VERSION")]);
        child.set(1.0);
        self.registry.register(Box::new(info))?;
        let process = prometheus::process_collector::ProcessCollector::for_self();
        self.registry.register(Box::new(process))
    }
}

/// Counts what comes before it belongs to a service.
pub struct Entrance {
    /// What is refused.
    pub refused: Refused,
    /// What speaks TLS.
    pub tls: Tls,
}

/// Tells of TLS.
pub struct Tls {
    /// In the order of [`Handshake`].
    handshakes: [IntCounter; 4],
    reloads: IntCounterVec,
    expires: GaugeVec,
}

/// How a TLS handshake ended.
#[derive(Clone, Copy, Debug)]
pub enum Handshake {
    /// The connection may speak HTTP.
    Completed,
    /// Nothing was agreed on, or the client has left.
    Failed,
    /// It took too long.
    TimedOut,
    /// Too many were under way.
    Refused,
}

impl Handshake {
    const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::Refused => "refused",
        }
    }
}

impl Tls {
    /// A handshake has ended so.
    pub fn handshake(&self, end: Handshake) {
        self.handshakes[end as usize].inc();
    }

    /// The files of the certificate have changed. `result` is `applied` or `refused`.
    pub fn reloaded(&self, result: &str) {
        self.reloads.with_label_values(&[result]).inc();
    }

    /// The certificate in force expires then, in Unix time.
    pub fn expires(&self, unix: i64) {
        self.expires.with_label_values::<&str>(&[]).set(unix as f64);
    }
}

/// Counts what is refused before a service is chosen.
pub struct Refused(IntCounterVec);

impl Refused {
    /// A request or a connection was refused, with this kind of problem.
    pub fn count(&self, kind: &str) {
        self.0.with_label_values(&[kind]).inc();
    }
}

/// Counts spans, by what became of them.
#[derive(Clone)]
pub struct SpanCounters {
    /// The collector has them.
    pub sent: IntCounter,
    /// Nobody has them: too many waited, or the collector did not take them.
    pub dropped: IntCounter,
}

/// What a pool looks like to a scrape.
pub struct PoolGauges {
    /// Requests waiting.
    pub waiting: usize,
    /// Bytes kept for replay.
    pub queue_bytes: u64,
    /// Bytes kept of answers, where they are shared.
    pub cache_bytes: Option<u64>,
    /// Requests at work.
    pub in_flight: usize,
    /// How many instances are in each state, every state named.
    pub instances: Vec<(&'static str, i64)>,
    /// Instances wanted.
    pub wanted: u32,
    /// Fewest.
    pub min: u32,
    /// Most.
    pub max: u32,
    /// Decisions about the size so far, by policy and direction.
    pub decisions: Tally,
}

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

/// Brings a counter up to what somebody else has counted.
fn raise(counter: &IntCounter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}

/// One service's counters and histograms, their labels resolved.
pub struct ServiceMetrics {
    name: String,
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
    job_seconds: Histogram,
    job_callbacks: IntCounterVec,
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
