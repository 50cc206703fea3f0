//! Requests arrive, wait, end, and come back.

use std::sync::Arc;
use std::time::Duration;

use crate::event::{Action, Class, InstanceId, Outcome, RejectReason, RequestId, Revoked};
use crate::instance::{Instance, Losses, State};
use crate::requests::{Key, Line, Place, Request};
use crate::simulate::Job;
use crate::time::Time;

use super::Pool;

/// Longest time for which an instance's own "busy" keeps requests from it.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Shortest: an instance that says "busy, come back at once" is not asked in a tight loop.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

impl Pool {
    /// A request asks to be let in. It is refused when, in this order:
    ///
    /// 1. its name is known: the event is a double, ignored;
    /// 2. the pool is draining: `ShuttingDown`;
    /// 3. its deadline has passed: `DeadlinePassed`;
    /// 4. the size is 0 and nothing will raise it, or the restart policy has stopped the service: `Stopped`;
    /// 5. all have ended, and the restart policy starts none: `Stopped`; none can be started: `CannotStart`;
    /// 6. no slot is free and as many as allowed wait already, not counting replays: `QueueFull`.
    ///
    /// Otherwise it is admitted: dispatched at once if a slot is free, else put at the end of the queue.
    pub(super) fn request_arrived(
        &mut self,
        id: RequestId,
        deadline: Time,
        replayable: bool,
        class: Class,
        now: Time,
    ) {
        if self.requests.find(id).is_some() {
            return;
        }
        if let Some(reason) = self.refusal(deadline, now) {
            self.actions.push_back(Action::Reject { request: id, reason });
            return;
        }
        self.arrivals += 1;
        let request = Request::new(id, deadline, replayable, class, self.arrivals, now);
        let Some(key) = self.requests.insert(request) else { return };
        match self.pick(key, now) {
            // A slot is free only when nobody waits for it: what waits here may not be placed on it.
            Some(slot) => self.send(key, slot, now),
            None => self.wait(key, Line::Fresh, now),
        }
    }

    fn refusal(&self, deadline: Time, now: Time) -> Option<RejectReason> {
        if self.draining {
            Some(RejectReason::ShuttingDown)
        } else if deadline <= now {
            Some(RejectReason::DeadlinePassed)
        } else if self.scaler.stopped() {
            Some(RejectReason::Stopped { cause: None })
        } else if let Some(reason) = self.closed(now) {
            Some(reason)
        } else if self.balance.is_empty() && self.queue.fresh_len() >= self.config.queue_limit {
            Some(RejectReason::QueueFull { retry_after: self.room_after(now) })
        } else {
            None
        }
    }

    /// When it is worth to try again: after a tenth of the queue has drained at its present rate, so that there is room
    /// for more than one of those who were refused. Unmeasured (nothing drained lately): 10 s.
    fn room_after(&self, now: Time) -> Duration {
        let rate = self.departures.per_second(now);
        if rate <= 0.0 {
            return Duration::from_secs(10);
        }
        Duration::from_secs_f64((self.queue.len() as f64 / 10.0 / rate).clamp(1.0, 60.0))
    }

    /// The client of a waiting request left. One that is in flight ends by its `RequestFinished` only.
    pub(super) fn request_cancelled(&mut self, id: RequestId) {
        let Some(key) = self.requests.find(id) else { return };
        if let Place::Waiting(wait) = self.requests[key].place {
            self.queue.leave(&mut self.requests, key, wait.line);
            self.requests.remove(key);
        }
    }

    /// The answer of a request in flight has begun and has no known end.
    pub(super) fn request_streams(&mut self, id: RequestId, now: Time) {
        let Some(key) = self.requests.find(id) else { return };
        let Place::Held { instance, .. } = self.requests[key].place else { return };
        let already = std::mem::replace(&mut self.requests[key].streams, true);
        let Some(serving) = self.instance_mut(instance).and_then(Instance::serving_mut) else { return };
        serving.streams += u32::from(!already);
        serving.streams_since = now;
        self.touch(instance.slot);
    }

    /// Begins a wait: until the deadline, or for the full queue timeout, whichever is first.
    fn wait(&mut self, key: Key, line: Line, now: Time) {
        let until = self.requests[key].deadline.min(now + self.config.queue_timeout);
        self.queue.join(&mut self.requests, key, line, until);
    }

    /// Rejects everyone whose wait is over.
    pub(super) fn expire(&mut self, now: Time) {
        while let Some(key) = self.queue.next_expired(&self.requests, now) {
            let reason = self.expiry(key, now);
            self.reject_waiting(key, reason);
        }
    }

    /// Rejects everyone who waits: the service is closed.
    pub(super) fn reject_all_waiting(&mut self, now: Time) {
        while let Some(key) = self.queue.first() {
            let Some(reason) = self.closed(now) else { return };
            self.reject_waiting(key, reason);
        }
    }

    pub(super) fn reject_waiting(&mut self, key: Key, reason: RejectReason) {
        if let Place::Waiting(wait) = self.requests[key].place {
            self.queue.leave(&mut self.requests, key, wait.line);
        }
        self.reject(key, reason);
    }

    /// Forgets a request, which is in no list any more, and tells its client why.
    fn reject(&mut self, key: Key, reason: RejectReason) {
        if let Some(request) = self.requests.remove(key) {
            self.actions.push_back(Action::Reject { request: request.id, reason });
        }
    }

    /// 21. The process ends. Who waits is refused (`ShuttingDown`), and what instances hold is revoked: it ends by its own
    ///     `RequestFinished`, and is refused where it would have come back.
    pub(super) fn cut(&mut self, now: Time) {
        (self.draining, self.cut, self.changed) = (true, true, true);
        while let Some(key) = self.queue.first() {
            self.reject_waiting(key, RejectReason::ShuttingDown);
        }
        let slots: Vec<u32> = self.instances.keys().copied().collect();
        for slot in slots {
            let Some(instance) = self.instances.get_mut(&slot) else { continue };
            let Some(held) = instance.give_up_held(now) else { continue };
            let (id, drained) = (instance.id, instance.drained_by().is_some() && instance.burden() == 0);
            self.revoke(held, id, Revoked::Cut);
            match drained {
                true => self.end_drain(slot, now),
                false => self.touch(slot),
            }
        }
    }

    /// An attempt ended. Told of a request that waits or is unknown: late or doubled news, ignored.
    pub(super) fn request_finished(&mut self, id: RequestId, outcome: Outcome, now: Time) {
        let Some(key) = self.requests.find(id) else { return };
        let Some((instance, revoked)) = self.release(key, &outcome, now) else { return };
        match outcome {
            Outcome::Answered => {
                self.requests.remove(key);
            }
            Outcome::Abandoned { broken } => {
                self.requests.remove(key);
                if broken && !revoked {
                    self.suspect(instance, None, now);
                }
            }
            Outcome::Lost { how, sent } => {
                if !revoked {
                    self.suspect(instance, Some(id), now);
                }
                self.lost(key, instance, how, sent, now);
            }
            Outcome::Interrupted { how, deadline } => {
                self.requests[key].deadline = deadline;
                if !revoked {
                    self.suspect(instance, Some(id), now);
                }
                self.lost(key, instance, how, true, now);
            }
            Outcome::Busy { retry_after } => {
                if !revoked {
                    self.pause(instance, now + retry_after.clamp(SHORTEST_PAUSE, LONGEST_PAUSE));
                }
                self.requeue(key, now);
            }
        }
    }

    /// Takes a request from the instance that holds it, or that held it until it was revoked, and says which it was.
    fn release(&mut self, key: Key, outcome: &Outcome, now: Time) -> Option<(InstanceId, bool)> {
        let (id, since) = match self.requests[key].place {
            Place::Waiting(_) => return None,
            Place::Revoked { instance } => {
                self.in_flight -= 1;
                return Some((instance, true));
            }
            Place::Held { instance, since } => (instance, since),
        };
        self.in_flight -= 1;
        let (request, arrived) = (self.requests[key].id, self.requests[key].arrived);
        let client = self.requests[key].class.flow;
        let instance = self.instances.get_mut(&id.slot)?;
        let outdated = instance.outdated;
        let serving = instance.serving_mut()?;
        self.requests.unlink(&mut serving.held, key);
        serving.streams -= u32::from(self.requests[key].streams);
        serving.worked_until = now;
        if *outcome == Outcome::Answered {
            self.traffic.note_answer(Job { arrival: arrived, service: now.since(since), client });
            serving.losses = Losses::default();
            serving.alive_at = now;
            serving.teach(request, since, outdated, &mut self.habit, now);
        }
        self.balance.ended(id.slot, now.since(since), *outcome == Outcome::Answered, now);
        let candidate = instance.candidate(self.config.concurrency);
        self.balance.list(&mut instance.listed, candidate);
        if let State::Draining { serving, .. } = &instance.state {
            match serving.held.is_empty() && instance.taken == 0 {
                true => self.end_drain(id.slot, now),
                // Perhaps only streams are left.
                false => self.touch(id.slot),
            }
        }
        Some((id, false))
    }

    /// A request was lost on an instance, and no byte of an answer has left.
    ///
    /// 0. The process ends: `ShuttingDown`.
    /// 1. The instance may have seen it and it may not be sent twice: `AttemptsExhausted`.
    /// 2. As many instances as allowed may have seen it: `AttemptsExhausted`, with every loss.
    /// 3. Otherwise back to the head, its age kept, for a full wait. (While draining too: it was accepted.)
    fn lost(&mut self, key: Key, instance: InstanceId, how: Arc<str>, sent: bool, now: Time) {
        if self.cut {
            self.reject(key, RejectReason::ShuttingDown);
            return;
        }
        let request = &mut self.requests[key];
        request.note_loss(instance, how, sent, now);
        let barred = sent && !request.replayable;
        if barred || (sent && request.sent_losses() >= self.config.replay_attempts) {
            let attempts = request.take_losses();
            self.reject(key, RejectReason::AttemptsExhausted { attempts });
        } else {
            self.requeue(key, now);
        }
    }

    fn requeue(&mut self, key: Key, now: Time) {
        if self.requests[key].deadline <= now {
            self.reject(key, RejectReason::DeadlinePassed);
            return;
        }
        if self.cut {
            self.reject(key, RejectReason::ShuttingDown);
            return;
        }
        self.wait(key, Line::Replay, now);
        // A pool that drains replaces dead instances only while someone waits: now someone does.
        self.changed |= self.draining;
    }

    fn pause(&mut self, id: InstanceId, until: Time) {
        let Some(instance) = self.instance_mut(id) else { return };
        let Some(serving) = instance.serving_mut() else { return };
        serving.paused_until = serving.paused_until.max(Some(until));
        self.touch(id.slot);
    }
}
