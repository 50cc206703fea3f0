//! `replay.resume`: an answer that broke off in the client's sight goes on where it broke.
//!
//! The request is asked again elsewhere. What comes is compared with what was delivered, and only what goes beyond it is
//! passed on. An instance that does not answer the same, byte for byte, ends the answer: the client sees it break off, and
//! the log says where the two differ.
//!
//! | module | owns |
//! | --- | --- |
//! | `record` | what was delivered, and the comparison |
//! | `again` | asking again, until it goes on or cannot |

mod again;
mod record;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use longshore_pool::Time;

use super::attempt::Failure;
use super::ids::plain;
use super::spans::Spans;
use super::stream::Open;
use again::Taken;
use record::Record;

pub use again::{Cut, Head, Question};

type Asking = Pin<Box<dyn Future<Output = (Record, Spans, Result<Taken, Cut>)> + Send>>;

/// What an answer under way needs to go on elsewhere.
pub struct Resume {
    question: Arc<Question>,
    stage: Stage,
    /// When the request came.
    started: Time,
    /// The answer's status.
    code: u16,
}

#[expect(clippy::large_enum_variant, reason = "it is the large one nearly always, and boxed as a whole")]
enum Stage {
    /// It is passed on.
    Flowing(Record),
    /// It broke off, and another instance is asked.
    Asking(Asking),
    /// It is over.
    Over,
}

impl Resume {
    /// Nothing was delivered yet of the answer to `question`.
    pub fn new(question: Question, started: Time) -> Self {
        let config = &question.service.config.replay;
        let record = Record::new(question.service.space.clone(), config.resume_keep);
        let code = question.head.status();
        Self { question: Arc::new(question), stage: Stage::Flowing(record), started, code }
    }

    /// These bytes are delivered.
    pub fn note(&mut self, data: &[u8]) {
        match &mut self.stage {
            Stage::Flowing(record) => record.note(data),
            Stage::Asking(_) | Stage::Over => {}
        }
    }

    /// Whether another instance is being asked.
    pub const fn is_asking(&self) -> bool {
        matches!(self.stage, Stage::Asking(_))
    }

    /// The instance broke off. `None` when another is asked; the lease comes back when none can be.
    pub fn begin(&mut self, open: Open, failure: &Failure) -> Option<Open> {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Flowing(record) if self.question.body.demand() => {
                let Open { lease, carrier, mut spans, .. } = open;
                drop(carrier);
                spans.interrupted(failure.how());
                let entry = self.question.again(lease, failure);
                self.stage = Stage::Asking(Box::pin(self.question.clone().ask(record, entry, spans)));
                None
            }
            Stage::Flowing(_) | Stage::Asking(_) | Stage::Over => Some(open),
        }
    }

    /// Resolves when the answer goes on, with what is new of it, or is cut.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(hyper::body::Incoming, Open, Bytes), Cut>> {
        let Stage::Asking(asking) = &mut self.stage else { return Poll::Pending };
        let (record, mut spans, asked) = ready!(asking.as_mut().poll(cx));
        let Taken { source, lease, carrier, new } = match asked {
            Ok(taken) => taken,
            Err(cut) => {
                self.stage = Stage::Over;
                spans.end(Some("the answer broke off and cannot go on"));
                self.cut(&cut);
                return Poll::Ready(Err(cut));
            }
        };
        tracing::info!(
            service = %self.question.service.name, instance = %plain(lease.link().name()),
            request_id = %plain(&self.question.request_id), attempt = lease.attempt(), byte = record.length(),
            "an answer goes on where it broke off"
        );
        self.stage = Stage::Flowing(record);
        let open = Open {
            lease,
            carrier,
            service: self.question.service.clone(),
            started: self.started,
            code: self.code,
            request_id: self.question.request_id.clone(),
            inside: false,
            grpc: false,
            spans,
        };
        Poll::Ready(Ok((source, open, new)))
    }

    fn cut(&self, cut: &Cut) {
        let service = &self.question.service;
        tracing::warn!(
            service = %service.name, request_id = %plain(&self.question.request_id), error = %cut,
            "an answer that an instance broke off cannot go on: it is cut, the request is lost"
        );
        service.metrics.lost();
        service.events.cut(&self.question.request_id, None, cut.to_string());
        self.count();
    }

    /// The deadline passed while another instance was asked.
    pub fn expire(&mut self) {
        if self.is_asking() {
            self.stage = Stage::Over;
            self.cut(&Cut::Deadline);
        }
    }

    /// The client left while another instance was asked.
    pub fn abandon(&mut self) {
        if self.is_asking() {
            // The lease, or the place in the queue, goes with it.
            self.stage = Stage::Over;
            self.question.service.metrics.client_gone();
            self.count();
        }
    }

    fn count(&self) {
        let service = &self.question.service;
        service.metrics.answered(self.code, service.clock.now().since(self.started));
    }
}
