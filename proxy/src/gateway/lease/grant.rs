//! What a request holds of its pool: a place in the queue, and then a slot of an instance.

use std::sync::Arc;

use http::HeaderValue;
use longshore_pool::{Event, Outcome, RejectReason, RequestId, Time};
use tokio::sync::oneshot;

use super::{Dispatcher, Entry, Verdict};
use crate::gateway::connections::Link;

/// A request in the queue. Dropping it takes the request out: its client has left.
pub struct Waiter {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) request: RequestId,
    pub(super) receiver: oneshot::Receiver<Verdict>,
}

impl Waiter {
    /// Resolves when the pool has decided. Cancel-safe.
    pub async fn decided(&mut self) -> Result<Lease, RejectReason> {
        match (&mut self.receiver).await {
            Ok(Verdict::Granted { link, attempt, at }) => {
                Ok(self.dispatcher.lease(self.request, link, attempt, at))
            }
            Ok(Verdict::Refused(reason)) => Err(reason),
            // The sender lives in the dispatcher that this waiter holds, until it is used.
            Err(_) => Err(RejectReason::ShuttingDown),
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let waited = self.dispatcher.inner.lock().waiting.remove(&self.request).is_some();
        if waited {
            self.dispatcher.tell(Event::RequestCancelled { request: self.request });
        } else if let Ok(Verdict::Granted { link, attempt, at }) = self.receiver.try_recv() {
            drop(self.dispatcher.lease(self.request, link, attempt, at));
        }
    }
}

/// A slot of an instance, held by one request. Dropping it gives the slot back: the request is over for good.
pub struct Lease {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) request: RequestId,
    pub(super) link: Arc<Link>,
    pub(super) attempt: u32,
    pub(super) at: Time,
    pub(super) open: bool,
}

impl Lease {
    /// The connections to the instance.
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Which attempt at the request this is, from 1.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When the request was dispatched.
    pub const fn dispatched(&self) -> Time {
        self.at
    }

    /// The answer has begun and has no known end.
    pub fn streams(&self, now: Time) {
        self.dispatcher.tell_at(Event::RequestStreams { request: self.request }, now);
    }

    /// The request is over, by `now`.
    pub fn finish(mut self, outcome: Outcome, now: Time) {
        self.end(outcome, now);
    }

    /// The attempt is over and the request is not: it enters the pool again, at the head.
    pub fn retry(mut self, outcome: Outcome, name: &HeaderValue, now: Time) -> Entry {
        self.open = false;
        let request = self.request;
        self.dispatcher.enter((request, name), Event::RequestFinished { request, outcome }, now)
    }

    fn end(&mut self, outcome: Outcome, now: Time) {
        if std::mem::replace(&mut self.open, false) {
            self.dispatcher.tell_at(Event::RequestFinished { request: self.request, outcome }, now);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end(Outcome::Abandoned { broken: false }, self.dispatcher.clock.now());
    }
}
