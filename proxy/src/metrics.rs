//! Every metric of Longshore, by name. Nothing else in the workspace names one.
//!
//! Counters and histograms are resolved per service once, so that the request path touches atomics only; gauges that
//! mirror a pool (queue depth, in flight, instances) are read from its snapshot when somebody scrapes.

mod entrance;
mod jobs;
mod service;

use std::sync::Arc;

pub use entrance::{Entrance, Handshake, Refused, SpanCounters, Tls};
pub use jobs::{CallbackEnd, JobExports};
use longshore_pool::StateView;
use longshore_pool::scaling::Tally;
use parking_lot::Mutex;
use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
pub use service::{Cached, ServiceMetrics};

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

/// Brings a counter up to what somebody else has counted.
fn raise(counter: &IntCounter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}
