//! What others may read. Nothing here decides anything, except that a policy sees [`Pool::load`].

use std::collections::BTreeMap;
use std::time::Duration;

use crate::backoff;
use crate::event::RequestId;
use crate::instance::{Instance, State};
use crate::requests::Place;
use crate::scaling::{Decision, Load};
use crate::snapshot::{InstanceView, Snapshot, Standing, StateView};
use crate::time::Time;

use super::Pool;

impl Pool {
    /// Everything at one instant. Costs O(instances).
    pub fn snapshot(&self, now: Time) -> Snapshot {
        Snapshot {
            wanted: self.scaler.wanted().unwrap_or(0),
            bounds: (self.config.min, self.config.max),
            standby: self.config.standby,
            waiting: self.queue.len(),
            oldest_wait: self.oldest_wait(now),
            drain_rate: self.departures.per_second(now),
            last_wait: self.drained_after(self.queue.len(), now),
            in_flight: self.in_flight,
            draining: self.draining,
            cannot_start: self.halted().or(self.starts.cannot()).cloned(),
            stopped: self.halted().is_some(),
            instances: self.instances.values().map(|instance| self.view(instance, now)).collect(),
            last_decision: self.scaler.decisions().back().map(|decision| decision.reason.clone()),
        }
    }

    /// What a scaling policy sees. Costs O(instances).
    pub fn load(&self, now: Time) -> Load {
        let mut load = Load {
            queue: self.queue.len() + self.backlog,
            oldest_wait: self.oldest_wait(now),
            in_flight: self.in_flight,
            size: self.scaler.wanted().unwrap_or(0),
            concurrency: self.config.concurrency,
            arrival_rate: self.traffic.arrival_rate(),
            service_time: self.traffic.service().0,
            start_time: self.traffic.start_time().unwrap_or_default(),
            unix_time: self.unix_at_zero.map_or(0.0, |zero| zero + now.since(Time::ZERO).as_secs_f64()),
            ..Load::default()
        };
        for instance in self.instances.values() {
            match instance.state {
                State::Ready(_) => load.ready += 1,
                State::Starting(_) | State::Resuming { .. } => load.starting += 1,
                State::Standby { .. } => load.standby += 1,
                State::Suspect(_)
                | State::Draining { .. }
                | State::Stopping { .. }
                | State::BackingOff { .. }
                | State::Exited => {}
            }
        }
        // What is started for the standby is not capacity to come.
        load.starting -= load.starting.min(self.started_for_standby());
        load
    }

    /// Where a request stands in the queue; nothing when it does not wait.
    ///
    /// Exact while at most 1,024 of a line are before it, an estimate beyond, so that it costs at most 1,024 steps (10
    /// times as many where the order is by priority) however many wait, and one for each replay.
    pub fn standing(&self, request: RequestId, now: Time) -> Option<Standing> {
        let key = self.requests.find(request)?;
        let known = &self.requests[key];
        let Place::Waiting(wait) = known.place else { return None };
        let ahead = self.queue.ahead(&self.requests, key, wait.line);
        Some(Standing {
            ahead,
            waiting: self.queue.len(),
            wait: self.drained_after(ahead + 1, now),
            age: now.since(known.arrived),
            attempts: known.attempts,
        })
    }

    /// Who waits: those that were dispatched before by age, then the others by arrival, whatever the order of the queue.
    pub fn waiting_requests(&self) -> impl Iterator<Item = RequestId> {
        self.queue.keys(&self.requests).map(|key| self.requests[key].id)
    }

    /// When so many have left the queue, at the rate at which it drains; nothing while it does not.
    fn drained_after(&self, requests: usize, now: Time) -> Option<Duration> {
        let rate = self.departures.per_second(now);
        let seconds = (rate > 0.0).then(|| requests as f64 / rate);
        seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// Requests waiting for a slot.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Requests dispatched whose attempt has not ended, those revoked from a dead instance included.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The last size decisions that changed the size or its reason, oldest first.
    pub fn decisions(&self) -> impl DoubleEndedIterator<Item = &Decision> {
        self.scaler.decisions().iter()
    }

    /// How many decisions each policy has made, by direction: `up`, `down`, `same`, or `failed` to tell.
    pub fn decision_tally(&self) -> &BTreeMap<(&'static str, &'static str), u64> {
        self.scaler.tally()
    }

    /// How long all requests that are being worked on have been, in seconds together. Costs O(requests in flight).
    pub(super) fn running_ages(&self, now: Time) -> f64 {
        let serving = self.instances.values().filter_map(Instance::serving);
        let held = serving.flat_map(|serving| serving.held.keys(&self.requests));
        held.map(|key| match self.requests[key].place {
            Place::Held { since, .. } => now.since(since).as_secs_f64(),
            Place::Waiting(_) | Place::Revoked { .. } => 0.0,
        })
        .sum()
    }

    /// Entries in the pool's tables: requests known, notes of deadlines kept. For tests that look for leaks.
    pub fn table_sizes(&self) -> (usize, usize) {
        (self.requests.len(), self.queue.notes())
    }

    fn oldest_wait(&self, now: Time) -> Duration {
        let oldest = self.queue.oldest(&self.requests);
        oldest.map(|key| now.since(self.requests[key].arrived)).unwrap_or_default()
    }

    fn view(&self, instance: &Instance, now: Time) -> InstanceView {
        let (state, address) = match &instance.state {
            State::Starting(starting) => (StateView::Starting, starting.reached.map(|(address, _)| address)),
            State::Ready(serving) => (StateView::Ready, Some(serving.address)),
            State::Suspect(serving) => (StateView::Suspect, Some(serving.address)),
            State::Draining { serving, .. } => (StateView::Draining, Some(serving.address)),
            State::Standby { serving, .. } => (StateView::Standby, Some(serving.address)),
            State::Resuming { serving, .. } => (StateView::Resuming, Some(serving.address)),
            State::Stopping { .. } => (StateView::Stopping, None),
            State::BackingOff { .. } => (StateView::BackingOff, None),
            State::Exited => (StateView::Exited, None),
        };
        InstanceView {
            instance: instance.id,
            state,
            address,
            in_flight: instance.in_flight(),
            begun: instance.begun,
            since: instance.since,
            restarts: instance.record.restarts,
            failures: self.failures(instance, now),
            last_death: instance.record.last_death.clone(),
            outdated: instance.outdated,
        }
    }

    /// Failures in a row; none any more once it has been ready for as long as would forgive them.
    fn failures(&self, instance: &Instance, now: Time) -> u32 {
        let failures = instance.record.failures;
        let forgiven = instance.serving().is_some_and(|serving| {
            let delay = backoff::nominal(self.config.backoff_initial, self.config.backoff_max, failures + 1);
            now.since(serving.ready_since) >= delay
        });
        if forgiven { 0 } else { failures }
    }
}
