//! An answer that is passed on as it comes: it holds its lease until the last byte is out or somebody has left.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use longshore_pool::{Outcome, Revoked, Time};
use tokio::time::Sleep;

use super::attempt;
use super::cut;
use super::ids::plain;
use super::lease::Lease;
use super::resume::{Cut, Resume};
use super::serve::Active;
use super::service::Service;
use super::spans::Spans;
use super::spool::SpoolError;
use super::wire::Carrier;
use crate::problem::Problem;

/// Why an answer breaks off in the client's sight.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The instance broke off.
    #[error("the instance broke off its answer: {0}")]
    Instance(#[from] hyper::Error),
    /// The instance died, and the end of its connection is the only end that such an answer has.
    #[error("the instance died in the middle of its answer")]
    Died,
    /// An answer of Longshore's own could not be finished.
    #[error("{0}")]
    Own(String),
    /// What was held cannot be read back.
    #[error("{0}")]
    Storage(SpoolError),
    /// It broke off, and does not go on elsewhere.
    #[error("the instance broke off its answer, and it does not go on elsewhere: {0}")]
    Cut(#[from] Cut),
    /// The request's deadline passed.
    #[error("the request's deadline passed in the middle of its answer")]
    Deadline,
}

/// The parts of an answer under way.
pub struct Streaming {
    source: Incoming,
    open: Option<Open>,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Whether the answer has no other end than that of its connection.
    until_close: bool,
    /// That has come: whether the instance is gone.
    ending: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
    /// Where the answer may go on elsewhere.
    resume: Option<Box<Resume>>,
    _active: Active,
}

/// What ends with the answer.
pub struct Open {
    /// The slot.
    pub lease: Lease,
    /// The connection, to be kept if it is still good.
    pub carrier: Carrier,
    /// For its metrics.
    pub service: Arc<Service>,
    /// When the request came.
    pub started: Time,
    /// The answer's status.
    pub code: u16,
    /// The request's id, for the log.
    pub request_id: http::HeaderValue,
    /// Whoever reads it asks again when it breaks off: nothing is lost.
    pub inside: bool,
    /// Whether its client is to be told of its end as gRPC has it.
    pub grpc: bool,
    /// What is recorded of the request.
    pub spans: Spans,
}

impl Streaming {
    /// Passes `source` on. `deadline` is when it must be complete, if it must.
    pub fn new(
        source: Incoming,
        open: Open,
        deadline: Option<tokio::time::Instant>,
        resume: Option<Box<Resume>>,
        active: Active,
    ) -> Self {
        let deadline = deadline.map(|at| Box::pin(tokio::time::sleep_until(at)));
        let until_close = false;
        Self { source, open: Some(open), deadline, until_close, ending: None, resume, _active: active }
    }

    /// The answer has no other end than that of its connection: a death looks the same.
    #[must_use]
    pub fn until_close(mut self) -> Self {
        self.until_close = true;
        self
    }

    /// The next piece.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        if let Poll::Ready(frame) = self.poll_answer(cx) {
            return Poll::Ready(frame);
        }
        match &mut self.deadline {
            Some(deadline) => {
                ready!(deadline.as_mut().poll(cx));
                Poll::Ready(Some(self.expire()))
            }
            None => Poll::Pending,
        }
    }

    /// The next piece, from whichever instance has it.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        loop {
            if let Some(resume) = self.resume.as_mut().filter(|resume| resume.is_asking()) {
                let (source, open, new) = ready!(resume.poll(cx))?;
                (self.source, self.open) = (source, Some(open));
                if !new.is_empty() {
                    resume.note(&new);
                    return Poll::Ready(Some(Ok(Frame::data(new))));
                }
            }
            match ready!(self.poll_whole(cx)) {
                Some(Ok(frame)) => {
                    if let (Some(resume), Some(data)) = (&mut self.resume, frame.data_ref()) {
                        resume.note(data);
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Err(error)) if self.goes_on(&error) => {}
                Some(Err(error)) => return Poll::Ready(Some(self.broke(error))),
                None => {
                    self.complete();
                    return Poll::Ready(None);
                }
            }
        }
    }

    /// The instance broke off: whether another one is asked to go on.
    fn goes_on(&mut self, error: &StreamError) -> bool {
        let Some(resume) = &mut self.resume else { return false };
        let ends = |open: &Open| open.lease.link().revoked() == Some(Revoked::Cut);
        let Some(open) = self.open.take_if(|open| !ends(open)) else { return false };
        let failure = match error {
            StreamError::Instance(error) => attempt::broken_off(&open.lease, error),
            StreamError::Died
            | StreamError::Own(_)
            | StreamError::Storage(_)
            | StreamError::Cut(_)
            | StreamError::Deadline => attempt::died_with(&open.lease),
        };
        self.open = resume.begin(open, &failure);
        self.open.is_none()
    }

    /// The next piece from the instance; an end only where it is one.
    fn poll_whole(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        if self.ending.is_none() {
            let piece = ready!(self.poll_source(cx));
            match (&self.open, piece) {
                (Some(open), None) if self.until_close => {
                    let link = open.lease.link().clone();
                    self.ending = Some(Box::pin(async move { link.is_gone().await }));
                }
                (_, piece) => return Poll::Ready(piece.map(|piece| piece.map_err(StreamError::Instance))),
            }
        }
        let gone = match &mut self.ending {
            Some(ending) => ready!(ending.as_mut().poll(cx)),
            None => false,
        };
        self.ending = None;
        Poll::Ready(gone.then_some(Err(StreamError::Died)))
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let mut source = Pin::new(&mut self.source);
        match &mut self.open {
            Some(Open { carrier: Carrier::Wire(wire), .. }) => {
                wire.poll(cx, |cx| source.as_mut().poll_frame(cx))
            }
            Some(_) | None => source.poll_frame(cx),
        }
    }

    /// How much is to come, where the instance said so.
    pub fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }

    fn complete(&mut self) {
        let Some(open) = self.open.take() else { return };
        open.finish(Outcome::Answered);
    }

    fn broke(&mut self, error: StreamError) -> Result<Frame<Bytes>, StreamError> {
        if let Some(open) = self.open.take_if(|open| open.inside) {
            open.finish(Outcome::Abandoned { broken: true });
        } else if let Some(open) = self.open.take() {
            let told = open.told(|| match open.lease.link().revoked() {
                Some(Revoked::Cut) => Problem::ShuttingDown("longshore is shutting down".to_owned()),
                Some(Revoked::Lost | Revoked::Drained) | None => Problem::AttemptsExhausted(
                    "the instance broke off in the middle of its answer".to_owned(),
                ),
            });
            cut::report(&open.service, open.lease.link(), &open.request_id, &error.to_string());
            open.finish(Outcome::Abandoned { broken: true });
            if let Some(trailers) = told {
                return Ok(trailers);
            }
        }
        Err(error)
    }

    fn expire(&mut self) -> Result<Frame<Bytes>, StreamError> {
        if let Some(open) = self.open.take() {
            let told =
                open.told(|| Problem::Timeout("the deadline passed in the middle of the answer".to_owned()));
            tracing::warn!(
                service = %open.service.name,
                instance = %plain(open.lease.link().name()),
                request_id = %plain(&open.request_id),
                "the deadline passed in the middle of an answer: it is cut"
            );
            open.finish(Outcome::Abandoned { broken: false });
            if let Some(trailers) = told {
                return Ok(trailers);
            }
        } else if let Some(resume) = &mut self.resume {
            resume.expire();
        }
        Err(StreamError::Deadline)
    }
}

impl Open {
    /// What a gRPC client is told at the end of an answer that is not complete; others see it break off.
    fn told(&self, problem: impl FnOnce() -> Problem) -> Option<Frame<Bytes>> {
        self.grpc.then(|| Frame::trailers(problem().grpc_status()))
    }

    /// The answer is over: it is counted, the slot is given back, and a connection that is still good is kept.
    pub fn finish(mut self, outcome: Outcome) {
        let now = self.service.clock.now();
        self.spans.end(match &outcome {
            Outcome::Answered => None,
            Outcome::Abandoned { broken: true } => Some("the instance broke off its answer"),
            Outcome::Abandoned { broken: false } => Some("cut: its client left, or its deadline passed"),
            Outcome::Lost { .. } | Outcome::Busy { .. } | Outcome::Interrupted { .. } => Some("lost"),
        });
        self.service.metrics.answered(self.code, now.since(self.started));
        if let (Outcome::Answered, Carrier::Wire(wire)) = (&outcome, self.carrier) {
            self.lease.link().keep(wire, now);
        }
        self.lease.finish(outcome, now);
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        if self.source.is_end_stream() {
            self.complete();
        } else if let Some(open) = self.open.take() {
            // The lease and the connection go with it: the instance sees that nobody listens any more.
            open.service.metrics.client_gone();
            open.finish(Outcome::Abandoned { broken: false });
        } else if let Some(resume) = &mut self.resume {
            resume.abandon();
        }
    }
}
