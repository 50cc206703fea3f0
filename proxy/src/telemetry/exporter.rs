//! Sends spans to the collector: in batches, in the background, with patience for a collector that is away.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Collector, Recorded, otlp};
use crate::http_client::{Trust, Unreachable};
use crate::metrics::SpanCounters;

/// Requests of one batch at the most.
const BATCH: usize = 256;
/// A batch that is not full waits so long for more.
const LINGER: Duration = Duration::from_secs(1);
/// How long the collector may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Waits between attempts at one batch; after the last it is dropped.
const AGAIN: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// A longer answer is not read.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Resolves when nothing more will come.
async fn told(ending: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same as one that says so.
    let _ = ending.wait_for(|ending| *ending).await;
}

/// What is left at the end of the process has so long.
const LAST: Duration = Duration::from_secs(3);

/// A collector, and how it is reached.
pub(super) struct Reached {
    pub(super) collector: Collector,
    /// Whom to believe about who it is, where it speaks TLS.
    pub(super) trust: Option<Trust>,
}

/// What sends spans.
pub struct Exporter {
    collector: Collector,
    trust: Option<Trust>,
    service_name: String,
    waiting: mpsc::Receiver<Recorded>,
    counters: SpanCounters,
    /// Whether the last batch was refused: told once in the log, not for each batch.
    failing: bool,
    /// Says that nothing more will come, or is dropped.
    ending: watch::Receiver<bool>,
}

/// An exporter at work.
pub struct Exporting {
    task: JoinHandle<()>,
    ending: watch::Sender<bool>,
}

impl Exporting {
    /// Sends what is left, if that takes no longer than a moment, and ends.
    pub async fn end(self) {
        // One that has ended already needs no word.
        let _ = self.ending.send(true);
        let _ = timeout(LAST, self.task).await;
    }
}

/// Why the collector did not take a batch.
struct Refused {
    how: String,
    /// Whether it may take it later.
    again: bool,
}

impl Exporter {
    pub(super) fn new(
        reached: Reached,
        service_name: &str,
        waiting: mpsc::Receiver<Recorded>,
        counters: SpanCounters,
    ) -> Self {
        let Reached { collector, trust } = reached;
        let service_name = service_name.to_owned();
        let ending = watch::channel(false).1;
        Self { collector, trust, service_name, waiting, counters, failing: false, ending }
    }

    /// Exports from now on.
    pub fn start(mut self) -> Exporting {
        let (ending, told) = watch::channel(false);
        self.ending = told;
        Exporting { task: tokio::spawn(self.run()), ending }
    }

    async fn run(mut self) {
        while let Some(batch) = self.batch().await {
            self.export(batch).await;
        }
    }

    /// The next batch: as many as there are within a moment. Nothing at the end.
    async fn batch(&mut self) -> Option<Vec<Recorded>> {
        let mut batch = Vec::new();
        let first = tokio::select! {
            first = self.waiting.recv() => first,
            () = told(&mut self.ending), if !self.waiting.is_closed() => {
                self.waiting.close();
                self.waiting.recv().await
            }
        };
        batch.push(first?);
        let until = Instant::now() + LINGER;
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            match timeout_at(until, self.waiting.recv_many(&mut batch, room)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        Some(batch)
    }

    async fn export(&mut self, batch: Vec<Recorded>) {
        let count: usize = batch.iter().map(|recorded| recorded.spans.len()).sum();
        let body = Bytes::from(otlp::request(&self.service_name, batch));
        for wait in AGAIN.into_iter().map(Some).chain([None]) {
            let refused = match timeout(PATIENCE, self.post(body.clone())).await {
                Ok(Ok(())) => return self.sent(count),
                Ok(Err(refused)) => refused,
                Err(_) => Refused { how: "it does not answer".to_owned(), again: true },
            };
            self.failed(&refused);
            match wait.filter(|_| refused.again) {
                Some(wait) => sleep(wait).await,
                None => break,
            }
        }
        self.counters.dropped.inc_by(count as u64);
    }

    fn sent(&mut self, count: usize) {
        self.counters.sent.inc_by(count as u64);
        if std::mem::take(&mut self.failing) {
            tracing::info!(collector = self.collector.url(), "the collector takes traces again");
        }
    }

    fn failed(&mut self, refused: &Refused) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(
                collector = self.collector.url(),
                how = refused.how,
                "the collector does not take traces: they are dropped until it does; see [telemetry] otlp, or \
                 OTEL_EXPORTER_OTLP_ENDPOINT"
            );
        }
    }

    async fn post(&self, body: Bytes) -> Result<(), Refused> {
        let mut request =
            Request::post(self.collector.path()).header(header::CONTENT_TYPE, "application/x-protobuf");
        for (name, value) in self.collector.headers() {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| Refused { how: error.to_string(), again: false })?;
        let response = self.collector.server().send_over(self.trust.as_ref(), request).await;
        let response = response.map_err(|Unreachable(how)| Refused { how, again: true })?;
        let status = response.status();
        // Read, so that the collector need not see its answer refused; what is in it does not matter.
        let _ = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
        if status.is_success() {
            return Ok(());
        }
        let again = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::GATEWAY_TIMEOUT,
        ];
        Err(Refused { how: format!("it answered {}", status.as_u16()), again: again.contains(&status) })
    }
}
