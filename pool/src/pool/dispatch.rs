//! Who is sent where: late binding, replays first.

use crate::event::{Action, RejectReason};
use crate::instance::Instance;
use crate::requests::{Key, Place};
use crate::time::Time;

use super::Pool;

/// Replays that cannot be placed are passed over, so many at the most, so that a look costs the same however many
/// there are.
const PASSED_OVER: usize = 64;
/// So many instances are asked for a sign of life on behalf of one replay.
const PROBED_AT_ONCE: usize = 4;

impl Pool {
    /// Sends waiting requests to free slots until one of both runs out.
    ///
    /// 2. A request is bound to an instance only when a slot is free, as the balancer chooses.
    /// 3. Replays go first, by age. One that may not go to any free instance (see [`Pool::choose`]) is passed over and
    ///    does not block those behind it. The others follow in the order of the queue.
    pub(super) fn dispatch(&mut self, now: Time) {
        self.dispatch_replays(now);
        while !self.balance.is_empty() {
            let Some(key) = self.queue.next_fresh(&self.requests, &mut self.rng) else { return };
            if self.expire_if_due(key, now) {
                continue;
            }
            let Some(slot) = self.pick(key, now) else { return };
            self.leave_queue(key, now);
            self.send(key, slot, now);
        }
    }

    /// The free instance for a request that may go to any. A balancer that chooses none, or one that is not free, is
    /// not obeyed.
    pub(super) fn pick(&mut self, key: Key, now: Time) -> Option<u32> {
        if self.balance.is_empty() {
            return None;
        }
        let affinity = self.requests[key].class.affinity;
        let chosen = self.balance.choose(affinity, now, &mut |_| true);
        if self.balance.is_reliable() {
            return chosen;
        }
        let is_free = |instance: &Instance| instance.listed.is_some_and(|listed| listed.free);
        chosen
            .filter(|slot| self.instances.get(slot).is_some_and(is_free))
            .or_else(|| self.instances.iter().find(|(_, instance)| is_free(instance)).map(|(slot, _)| *slot))
    }

    fn dispatch_replays(&mut self, now: Time) {
        let (mut after, mut passed_over) = (None, 0);
        while !self.balance.is_empty() && passed_over < PASSED_OVER {
            let Some((order, key)) = self.queue.next_replay(after) else { return };
            after = Some(order);
            if self.expire_if_due(key, now) {
                continue;
            }
            match self.choose(key, now) {
                Some(slot) => {
                    self.leave_queue(key, now);
                    self.send(key, slot, now);
                }
                None => passed_over += 1,
            }
        }
    }

    /// The free instance for a request that was lost: the balancer's choice among those that it was not lost on and that
    /// have shown life since. It returns to one that it was lost on only when there is no other that serves, is suspect or
    /// is starting, and that one has shown life well after the loss.
    ///
    /// When all that hinders is that no free instance has shown life yet, the best ones are probed.
    fn choose(&mut self, key: Key, now: Time) -> Option<u32> {
        let return_allowed = !self.others_may_serve(key);
        let request = &self.requests[key];
        let affinity = request.class.affinity;
        let instances = &self.instances;
        let fits = |slot: u32, alive: bool| {
            let instance = instances.get(&slot).filter(|it| it.listed.is_some_and(|listed| listed.free));
            let instance = instance.filter(|it| return_allowed || !request.outlived(it.id));
            let serving = instance.and_then(|it| Some((it.id, it.serving()?)));
            serving.is_some_and(|(id, serving)| (serving.alive_at >= request.trust_from(id)) == alive)
        };
        let chosen = self.balance.choose(affinity, now, &mut |slot| fits(slot, true));
        let chosen = match self.balance.is_reliable() {
            true => chosen,
            false => chosen.filter(|slot| fits(*slot, true)).or_else(|| {
                let mut slots = instances.keys().copied();
                slots.find(|slot| fits(*slot, true))
            }),
        };
        if chosen.is_some() {
            return chosen;
        }
        let mut silent = Vec::new();
        while silent.len() < PROBED_AT_ONCE {
            let mut another = |slot| fits(slot, false) && !silent.contains(&slot);
            let Some(slot) = self.balance.choose(affinity, now, &mut another) else { break };
            silent.push(slot);
        }
        for slot in silent {
            let trust = self.instances.get(&slot).map(|it| self.requests[key].trust_from(it.id));
            self.probe_by(slot, trust.map_or(now, |trust| trust.max(now)), now);
        }
        None
    }

    fn others_may_serve(&self, key: Key) -> bool {
        let losses = self.requests[key].losses();
        let outlived = losses.iter().enumerate().filter(|(index, (id, _))| {
            let first = losses.iter().position(|(earlier, _)| earlier == id) == Some(*index);
            let present = self.instances.get(&id.slot).filter(|instance| instance.id == *id);
            first && present.is_some_and(|instance| instance.may_serve())
        });
        outlived.count() < self.may_serve
    }

    /// Whether the wait of this request is over at `now`; then it is rejected. A timer that is late must not let a
    /// request be dispatched past its deadline.
    fn expire_if_due(&mut self, key: Key, now: Time) -> bool {
        match self.requests[key].place {
            Place::Waiting(wait) if wait.until <= now => {
                let reason = self.expiry(key, now);
                self.reject_waiting(key, reason);
                true
            }
            Place::Waiting(_) | Place::Held { .. } | Place::Revoked { .. } => false,
        }
    }

    /// Which bound ended the wait of this request.
    pub(super) fn expiry(&self, key: Key, now: Time) -> RejectReason {
        if self.requests[key].deadline <= now {
            RejectReason::DeadlinePassed
        } else {
            RejectReason::QueueTimeout
        }
    }

    /// Dispatches a request, which is in no line any more, to an instance with a free slot.
    pub(super) fn send(&mut self, key: Key, slot: u32, now: Time) {
        let Some(instance) = self.instances.get_mut(&slot) else { return };
        let id = instance.id;
        let Some(serving) = instance.serving_mut() else { return };
        let request = &mut self.requests[key];
        if request.attempts == 0 {
            self.traffic.note_dispatch(now.since(request.arrived), now);
        }
        request.attempts = request.attempts.saturating_add(1);
        request.streams = false;
        request.place = Place::Held { instance: id, since: now };
        self.actions.push_back(Action::Dispatch {
            request: request.id,
            instance: id,
            address: serving.address,
            attempt: request.attempts,
        });
        serving.turn = self.balance.next_turn(slot);
        self.requests.push_back(&mut serving.held, key);
        let candidate = instance.candidate(self.config.concurrency);
        self.balance.list(&mut instance.listed, candidate);
        self.in_flight += 1;
    }

    fn leave_queue(&mut self, key: Key, now: Time) {
        if let Place::Waiting(wait) = self.requests[key].place {
            self.queue.serve(&mut self.requests, key, wait.line);
            self.departures.count(now);
        }
    }
}
