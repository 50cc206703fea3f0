//! Traces of requests: which are recorded, what a span says, and where they go.
//!
//! | module | owns |
//! | --- | --- |
//! | this one | [`Tracer`], which takes what was recorded, and [`Sampler`] |
//! | `collector` | where the collector is, by the file or by OpenTelemetry's own variables |
//! | `exporter` | batches, sent in the background |
//! | `otlp` | spans as bytes: OTLP over HTTP, in protobuf |
//!
//! A request never waits for any of it: what finds no room in the queue is dropped and counted.

mod collector;
mod exporter;
mod otlp;

use std::borrow::Cow;
use std::sync::Arc;

use tokio::sync::mpsc;

pub use collector::{Collector, Telemetry};
use exporter::Reached;
pub use exporter::{Exporter, Exporting};

use crate::metrics::SpanCounters;

/// So many requests wait to be exported at the most.
const QUEUE: usize = 2_048;

/// The spans of one request.
#[derive(Debug)]
pub struct Recorded {
    /// The trace that they belong to.
    pub trace: [u8; 16],
    /// What the client's `tracestate` says, passed on.
    pub state: String,
    /// All of them, in the order of their ends.
    pub spans: Vec<Span>,
}

/// One span.
#[derive(Debug)]
pub struct Span {
    /// Its name in the trace; never zero.
    pub id: [u8; 8],
    /// The span that it is part of.
    pub parent: Option<[u8; 8]>,
    /// What it is.
    pub name: Cow<'static, str>,
    /// Which side of a call it is.
    pub kind: Kind,
    /// Nanoseconds since 1970.
    pub begun: u64,
    /// Nanoseconds since 1970.
    pub ended: u64,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Why it failed, if it did.
    pub error: Option<Cow<'static, str>>,
}

/// Which side of a call a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Neither: something inside.
    Internal,
    /// The side that was asked.
    Server,
    /// The side that asks.
    Client,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A number.
    Int(i64),
}

/// Takes what was recorded.
pub struct Tracer {
    queue: mpsc::Sender<Recorded>,
    counters: SpanCounters,
}

impl Tracer {
    /// A tracer, and what sends its spans to the collector, if there is one. The error says why that cannot be believed.
    pub fn new(
        telemetry: &Telemetry,
        counters: SpanCounters,
    ) -> Result<Option<(Arc<Self>, Exporter)>, String> {
        let Some(collector) = telemetry.collector.clone() else { return Ok(None) };
        let collector = Reached { collector, trust: telemetry.trust()? };
        let (queue, waiting) = mpsc::channel(QUEUE);
        let exporter = Exporter::new(collector, &telemetry.service_name, waiting, counters.clone());
        Ok(Some((Arc::new(Self { queue, counters }), exporter)))
    }

    /// Hands the spans of a request to the exporter, or drops them where too many wait already.
    pub fn take(&self, recorded: Recorded) {
        let count = recorded.spans.len() as u64;
        if self.queue.try_send(recorded).is_err() {
            self.counters.dropped.inc_by(count);
        }
    }
}

/// Which part of the traces that begin here is marked as sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    /// Of the 56 random bits of a trace's id, those below it.
    below: u64,
}

/// The bits of a trace's id that are random, by W3C trace context.
const RANDOM: u64 = (1 << 56) - 1;

impl Sampler {
    /// From 0, none, to 1, all.
    pub fn new(part: f64) -> Self {
        Self { below: ((RANDOM + 1) as f64 * part.clamp(0.0, 1.0)) as u64 }
    }

    /// Whether a trace is one of them; `id` are the last 64 bits of its id.
    pub const fn samples(self, id: u64) -> bool {
        id & RANDOM < self.below
    }
}

#[cfg(test)]
mod tests {
    use super::Sampler;

    #[test]
    fn a_part_of_all_traces_is_sampled() {
        let count = |part: f64| {
            let sampler = Sampler::new(part);
            let mut random = fastrand::Rng::with_seed(1);
            (0..10_000).filter(|_| sampler.samples(random.u64(..))).count()
        };
        assert_eq!((count(0.0), count(1.0)), (0, 10_000));
        assert!((900..1_100).contains(&count(0.1)), "{}", count(0.1));
        assert!(Sampler::new(1.0).samples(u64::MAX));
    }
}
