//! Asking again for an answer that broke off, until an instance has given again what was delivered, or none will.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};
use http_body::Body;
use hyper::body::Incoming;
use longshore_pool::{Outcome, RejectReason, Time};

use super::record::{Comparison, Difference, Record};
use crate::gateway::attempt::{self, Answer, Attempt, Failure};
use crate::gateway::body::RequestBody;
use crate::gateway::downstream::Asker;
use crate::gateway::ids::plain;
use crate::gateway::lease::{Entry, Lease};
use crate::gateway::service::Service;
use crate::gateway::spans::Spans;
use crate::gateway::wire::{Carrier, Wire};
use crate::problem::Problem;

/// What was asked, to be asked again.
pub struct Question {
    /// Whom.
    pub service: Arc<Service>,
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: Uri,
    /// Header fields, fit for an instance.
    pub headers: HeaderMap,
    /// Who has spelled them.
    pub asker: Asker,
    /// The body, all of it.
    pub body: RequestBody,
    /// By when the answer must be complete, if it must.
    pub deadline: Option<Time>,
    /// The request's id, for the log.
    pub request_id: HeaderValue,
    /// What the answer's head was.
    pub head: Head,
}

/// An answer that goes on.
pub struct Taken {
    /// Where it goes on.
    pub source: Incoming,
    /// The slot.
    pub lease: Lease,
    /// The connection.
    pub carrier: Carrier,
    /// What came after the bytes that were delivered, along with the last of them.
    pub new: Bytes,
}

/// Why an answer does not go on.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// Another run does not give the same.
    #[error("another instance does not answer the same: {0}")]
    Differs(#[from] Difference),
    /// Its head is another one.
    #[error("another instance does not answer the same: its {0} is another one")]
    OtherHead(String),
    /// No instance answers.
    #[error("{0}")]
    Refused(String),
    /// The request cannot be sent again.
    #[error("the request cannot be sent again: {0}")]
    Request(String),
    /// The request's deadline passed.
    #[error("the request's deadline passed")]
    Deadline,
}

/// What of an answer's head must come again.
#[derive(Debug, PartialEq, Eq)]
pub struct Head {
    status: StatusCode,
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl Head {
    /// That of an answer: its status, and the fields that say what its body is. Others (`Date`, cookies, ids) may well
    /// differ from run to run.
    pub fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        let says = |name: &HeaderName| {
            name.as_str().starts_with("content-") || *name == header::ETAG || *name == header::LAST_MODIFIED
        };
        let mut fields: Vec<_> = headers
            .iter()
            .filter(|(name, _)| says(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        fields.sort_by(|one, other| one.0.as_str().cmp(other.0.as_str()));
        Self { status, fields }
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// What is not the same in another one.
    fn difference(&self, other: &Self) -> Option<String> {
        if self.status != other.status {
            return Some(format!("status ({}, it was {})", other.status.as_u16(), self.status.as_u16()));
        }
        let differs = |one: &Self, other: &Self| {
            one.fields.iter().find(|field| !other.fields.contains(field)).map(|field| field.0.to_string())
        };
        differs(self, other).or_else(|| differs(other, self))
    }
}

/// Why one attempt did not take the answer on.
enum Short {
    /// Another may.
    Failed(Failure),
    /// It is over.
    Over(Cut),
}

impl Question {
    /// Asks until the answer goes on, or cannot. The record is given back with what came of it.
    pub async fn ask(
        self: Arc<Self>,
        record: Record,
        mut entry: Entry,
        mut spans: Spans,
    ) -> (Record, Spans, Result<Taken, Cut>) {
        loop {
            let lease = match self.granted(entry).await {
                Ok(lease) => lease,
                Err(cut) => return (record, spans, Err(cut)),
            };
            let traceparent = spans.attempt(&lease);
            let failure = match self.attempt(&lease, &record, traceparent).await {
                Ok((source, wire, new)) => {
                    let carrier = wire.carry(self.body.is_complete());
                    self.body.relax();
                    if self.deadline.is_none() {
                        lease.streams(self.service.clock.now());
                    }
                    spans.resumed(self.head.status());
                    return (record, spans, Ok(Taken { source, lease, carrier, new }));
                }
                Err(Short::Failed(failure)) => failure,
                Err(Short::Over(cut)) => {
                    lease.finish(Outcome::Abandoned { broken: false }, self.service.clock.now());
                    return (record, spans, Err(cut));
                }
            };
            spans.failed(failure.label(), failure.how());
            entry = self.again(lease, &failure);
        }
    }

    /// The attempt failed, and another is to follow: back to the head of the queue.
    pub fn again(&self, lease: Lease, failure: &Failure) -> Entry {
        let now = self.service.clock.now();
        let (link, attempt) = (lease.link().clone(), lease.attempt());
        let outcome = match failure {
            Failure::Lost { how, sent: true, .. } => {
                Outcome::Interrupted { how: how.as_str().into(), deadline: self.deadline_from(now) }
            }
            Failure::Lost { .. } | Failure::Busy(_) | Failure::Body(_) | Failure::Deadline => {
                failure.outcome()
            }
        };
        let entry = lease.retry(outcome, &self.request_id, now);
        if !matches!(entry, Entry::Refused(_)) {
            if let Failure::Lost { how, .. } = failure {
                tracing::info!(
                    service = %self.service.name, instance = %plain(link.name()),
                    request_id = %plain(&self.request_id), attempt, how, "an answer broke off: the request goes back to the head of the queue"
                );
                self.service.events.replayed(&self.request_id, link.name(), how);
            }
            self.service.metrics.replayed(failure.label());
        }
        entry
    }

    /// By when an instance must have begun to answer again, if it breaks off at `now`.
    fn deadline_from(&self, now: Time) -> Time {
        self.deadline.unwrap_or(now + self.service.config.timeout)
    }

    async fn granted(&self, entry: Entry) -> Result<Lease, Cut> {
        let refused = |reason: RejectReason| {
            Cut::Refused(Problem::from_reject(&reason, &self.service.name).detail().to_owned())
        };
        match entry {
            Entry::Granted(lease) => Ok(lease),
            Entry::Refused(reason) => Err(refused(reason)),
            Entry::Waiting(mut waiter) => tokio::select! {
                biased;
                decided = waiter.decided() => decided.map_err(refused),
                error = self.body.failure() => Err(Cut::Request(error.to_string())),
            },
        }
    }

    async fn attempt(
        &self,
        lease: &Lease,
        record: &Record,
        traceparent: Option<HeaderValue>,
    ) -> Result<(Incoming, Wire, Bytes), Short> {
        let config = &self.service.config;
        let deadline = self.service.clock.instant(self.deadline_from(lease.dispatched()));
        let attempt = Attempt {
            method: &self.method,
            target: &self.target,
            headers: &self.headers,
            asker: &self.asker,
            as_it_comes: false,
            traceparent,
            body: &self.body,
            upgrade: false,
            deadline,
            first_byte_timeout: config.first_byte_timeout,
            hold: 0,
            space: &self.service.space,
            // No other is asked to go on.
            replayable: true,
            busy: &config.replay.busy,
        };
        let (response, mut wire) = match attempt.run(lease).await.map_err(Short::from)? {
            Answer::Live(response, wire) => (response, wire),
            Answer::Held(response, _) => return Err(self.other_head(response)),
        };
        let (head, mut source) = response.into_parts();
        self.check(&head)?;
        let same = wire.driving(compare(lease, &mut source, record));
        let new = if self.deadline.is_some() {
            tokio::time::timeout_at(deadline, same).await.map_err(|_| Short::Over(Cut::Deadline))??
        } else {
            same.await?
        };
        Ok((source, wire, new))
    }

    fn check(&self, head: &Parts) -> Result<(), Short> {
        match self.head.difference(&Head::of(head.status, &head.headers)) {
            Some(difference) => Err(Short::Over(Cut::OtherHead(difference))),
            None => Ok(()),
        }
    }

    /// An answer without a body is another one: the first had some.
    fn other_head<B>(&self, response: Response<B>) -> Short {
        let (head, _) = response.into_parts();
        let other = Short::Over(Cut::OtherHead("length".to_owned()));
        self.check(&head).err().unwrap_or(other)
    }
}

impl From<Failure> for Short {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Lost { .. } | Failure::Busy(_) => Self::Failed(failure),
            Failure::Body(error) => Self::Over(Cut::Request(error.to_string())),
            Failure::Deadline => Self::Over(Cut::Deadline),
        }
    }
}

/// Reads on until all that was delivered has come again; returns what came along with the last of it.
async fn compare(lease: &Lease, source: &mut Incoming, record: &Record) -> Result<Bytes, Short> {
    let mut comparison = Comparison::of(record);
    while !comparison.is_complete() {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut *source).poll_frame(cx)).await;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| Short::Failed(attempt::broken_off(lease, &error)))?;
        if let Ok(data) = frame.into_data() {
            let new = comparison.take(data).map_err(|difference| Short::Over(difference.into()))?;
            if !new.is_empty() {
                return Ok(new);
            }
        }
    }
    comparison.end().map_err(|difference| Short::Over(difference.into()))?;
    Ok(Bytes::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, fields: &[(&'static str, &'static str)]) -> Head {
        let fields = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        Head::of(StatusCode::from_u16(status).unwrap(), &fields.collect())
    }

    #[test]
    fn a_head_is_the_same_when_what_it_says_of_the_body_is() {
        let stream = [("content-type", "text/event-stream"), ("date", "now"), ("x-request-id", "1")];
        let first = head(200, &stream);
        let other_run = [("x-request-id", "2"), ("content-type", "text/event-stream"), ("set-cookie", "a=b")];
        assert_eq!(first.difference(&head(200, &other_run)), None);
        for (status, fields, wanted) in [
            (500, &stream[..], "status (500, it was 200)"),
            (200, &[("content-type", "text/plain")][..], "content-type"),
            (200, &[][..], "content-type"),
            (
                200,
                &[("content-type", "text/event-stream"), ("content-encoding", "gzip")][..],
                "content-encoding",
            ),
            (200, &[("content-type", "text/event-stream"), ("etag", "\"1\"")][..], "etag"),
        ] {
            assert_eq!(first.difference(&head(status, fields)).as_deref(), Some(wanted));
        }
    }
}
