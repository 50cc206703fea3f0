//! Instances start, are found, exit, and are stopped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::backoff;
use crate::config::RestartPolicy;
use crate::event::{Action, DeathCause, InstanceId, RequestId, Retry, Revoked};
use crate::instance::{Instance, Next, Record, State, Then};
use crate::requests::{List, Place};
use crate::time::Time;

use super::Pool;

/// A stop that is not answered so long after its grace counts as done.
const GONE_AFTER: Duration = Duration::from_secs(30);

impl Pool {
    /// The instance of this name, unless the slot has gone on to another incarnation.
    pub(super) fn instance_mut(&mut self, id: InstanceId) -> Option<&mut Instance> {
        self.instances.get_mut(&id.slot).filter(|instance| instance.id == id)
    }

    fn next_id(&mut self, slot: u32) -> InstanceId {
        let incarnation = self.next_incarnation;
        self.next_incarnation = incarnation.wrapping_add(1);
        InstanceId { slot, incarnation }
    }

    /// Starts an instance in a free slot.
    pub(super) fn start(&mut self, slot: u32, now: Time) {
        let id = self.next_id(slot);
        self.instances.insert(slot, Instance::starting(id, Record::default(), now));
        self.actions.push_back(Action::Start { instance: id });
        self.touch(slot);
        self.changed = true;
    }

    /// Starts the next incarnation in a slot whose delay is over.
    pub(super) fn start_again(&mut self, slot: u32, now: Time) {
        let id = self.next_id(slot);
        if self.instances.get_mut(&slot).is_some_and(|instance| instance.start_again(id, now)) {
            self.actions.push_back(Action::Start { instance: id });
            self.touch(slot);
            self.changed = true;
        }
    }

    /// 14. An instance that already runs takes its slot, is probed at once, and is replaced if it does not become
    ///     ready soon. One whose slot is taken cannot be kept: it is stopped, and its exit is no news.
    pub(super) fn instance_found(&mut self, id: InstanceId, address: SocketAddr, paused: bool, now: Time) {
        if id.incarnation >= self.next_incarnation {
            self.next_incarnation = id.incarnation.wrapping_add(1);
        }
        match self.instances.get(&id.slot) {
            Some(present) if present.id == id => {}
            Some(_) => {
                self.actions.push_back(Action::Stop { instance: id, grace: self.config.stop_grace });
            }
            None => {
                // Without a standby, somebody else has paused it.
                let instance = match paused && self.config.standby > 0 {
                    true => Instance::found_paused(id, address, now),
                    false => Instance::found(id, address, now),
                };
                self.instances.insert(id.slot, instance);
                self.begin_probe(id.slot, now);
                self.changed = true;
            }
        }
    }

    /// 19. Another process still has so many requests on an instance. One that drains ends when the last of both is done;
    ///     one that becomes free takes requests.
    pub(super) fn instance_taken(&mut self, id: InstanceId, slots: u32, now: Time) {
        let Some(instance) = self.instance_mut(id) else { return };
        if instance.taken == slots {
            return;
        }
        instance.taken = slots;
        if let Some(serving) = instance.serving_mut() {
            serving.worked_until = now;
        }
        if let State::Draining { .. } = instance.state
            && instance.burden() == 0
        {
            self.end_drain(id.slot, now);
            return;
        }
        self.touch(id.slot);
        self.changed = true;
    }

    /// 15. Only an instance that is still wanted takes its address; one that is being stopped ignores it.
    pub(super) fn instance_started(&mut self, id: InstanceId, address: SocketAddr, now: Time) {
        if self.instance_mut(id).is_some_and(|instance| instance.reach(address, now)) {
            self.begin_probe(id.slot, now);
        }
    }

    /// 10. An instance is no more. What it held is revoked: each such request ends by its own `RequestFinished`, which
    ///     may come long after. Its slot starts again, unless it was to go.
    ///
    ///     The end of one that served may be told before its cause is known: it is replaced at once, and the cause is
    ///     noted when it comes. For one that is starting the cause is waited for: it may say why none can start; and so it
    ///     is where the restart policy asks how it ended.
    pub(super) fn instance_exited(&mut self, id: InstanceId, cause: DeathCause, now: Time) {
        let waits_for_cause = self.config.restart != RestartPolicy::Always;
        let Some(instance) = self.instance_mut(id) else {
            self.explain(id, cause);
            return;
        };
        match instance.state {
            State::Starting(_) if cause == DeathCause::Unexplained => {}
            State::Ready(_) | State::Suspect(_) if cause == DeathCause::Unexplained && waits_for_cause => {}
            State::Starting(_) => self.died(id.slot, cause, None, now),
            State::Ready(serving) | State::Suspect(serving) => {
                self.died(id.slot, cause, Some(serving.ready_since), now);
            }
            State::Draining { serving, .. } => {
                self.revoke(serving.held, id, Revoked::Lost);
                self.free_slot(id.slot);
            }
            State::Standby { .. } | State::Resuming { .. } => self.died_asleep(id.slot, cause, now),
            State::Stopping { next, .. } => self.stopped(id.slot, next, now),
            State::BackingOff { .. } | State::Exited => self.explain(id, cause),
        }
    }

    /// The cause of a slot's last death has become known.
    fn explain(&mut self, id: InstanceId, cause: DeathCause) {
        if let Some(Instance { record, .. }) = self.instances.get_mut(&id.slot)
            && record.unexplained.take_if(|unexplained| *unexplained == id).is_some()
            && let Some((known, _)) = &mut record.last_death
        {
            *known = cause;
        }
    }

    fn died(&mut self, slot: u32, cause: DeathCause, ready_since: Option<Time>, now: Time) {
        let next = self.after_death(slot, cause, ready_since, now);
        let managed = self.config.managed;
        let Some(instance) = self.instances.get_mut(&slot) else { return };
        let id = instance.id;
        let held = match next {
            Next::Restart(until) if !managed && instance.serving().is_some() => {
                instance.look_again(until, now)
            }
            Next::Restart(until) => instance.back_off(until, now),
            Next::Remain | Next::Free => instance.exit(now),
        };
        self.revoke(held.unwrap_or_default(), id, Revoked::Lost);
        self.touch(slot);
        self.changed = true;
    }

    /// 18. Notes an end that nobody asked for, and says what becomes of the slot, by the restart policy:
    ///
    /// a. `always`: it starts again, see (11).
    /// b. `on-failure`: the same, but one that exited with code 0 remains as it is.
    /// c. `never`: it remains as it is.
    /// d. `stop-service`: the service is stopped: all instances are drained, who waits is refused (`Stopped`).
    ///
    /// Where none is left and none will start, who waits is refused (`Stopped`). A slot that remains counts towards the
    /// size; it starts again when an operator acts: a size, a restart, another configuration. An engine that does not
    /// answer, an instance that is to be replaced anyway, and a server that the pool does not start, are (a) in any case.
    pub(super) fn after_death(
        &mut self,
        slot: u32,
        cause: DeathCause,
        ready_since: Option<Time>,
        now: Time,
    ) -> Next {
        let engine_down = matches!(cause, DeathCause::StartFailed { retry: Retry::EngineDown, .. });
        let clean = matches!(cause, DeathCause::Exited { code: 0, .. });
        let outdated = self.instances.get(&slot).is_some_and(|instance| instance.outdated);
        let policy = match engine_down || outdated || !self.config.managed {
            true => RestartPolicy::Always,
            false => self.config.restart,
        };
        let stops = policy == RestartPolicy::StopService;
        self.stopped_by = self.stopped_by.take().or_else(|| stops.then(|| cause.clone()));
        let at = self.next_start(slot, cause, ready_since, now);
        match policy {
            RestartPolicy::Always => Next::Restart(at),
            RestartPolicy::OnFailure if !clean => Next::Restart(at),
            RestartPolicy::OnFailure | RestartPolicy::Never | RestartPolicy::StopService => Next::Remain,
        }
    }

    /// 11. Notes a death and says when the slot may start again.
    ///
    /// a. The engine does not answer: after a short while, again and again; not the service's failure.
    /// b. Ready for at least the delay that it would get: it was healthy; at once, and its failures are forgotten.
    /// c. Otherwise one failure more, and the delay of [`backoff::delay`].
    /// d. A server that the pool does not start is only looked at again, each probe interval.
    pub(super) fn next_start(
        &mut self,
        slot: u32,
        cause: DeathCause,
        ready_since: Option<Time>,
        now: Time,
    ) -> Time {
        let config = Arc::clone(&self.config);
        let Some(Instance { record, id, .. }) = self.instances.get_mut(&slot) else { return now };
        let failures = record.failures.saturating_add(1);
        record.last_death = Some((cause.clone(), now));
        record.unexplained = (cause == DeathCause::Unexplained).then_some(*id);
        if !config.managed {
            // It may be back before it is given up.
            record.failures = 0;
            return now + self.probe_interval();
        }
        if let DeathCause::StartFailed { retry: Retry::EngineDown, .. } = cause {
            return now + config.backoff_initial.clamp(Duration::from_millis(500), Duration::from_secs(2));
        }
        let delay = backoff::delay(config.backoff_initial, config.backoff_max, failures, &mut self.rng);
        if ready_since.is_some_and(|since| now.since(since) >= delay) {
            record.failures = 0;
            return now;
        }
        record.failures = failures;
        if ready_since.is_none() {
            self.starts.failed(&cause);
        }
        now + delay
    }

    /// A stop has done its work, or counts as done.
    pub(super) fn stopped(&mut self, slot: u32, next: Next, now: Time) {
        match next {
            Next::Free => self.free_slot(slot),
            Next::Restart(at) => {
                if let Some(instance) = self.instances.get_mut(&slot) {
                    let _ = instance.back_off(at, now);
                }
                self.touch(slot);
                self.changed = true;
            }
            Next::Remain => {
                if let Some(instance) = self.instances.get_mut(&slot) {
                    let _ = instance.exit(now);
                }
                self.touch(slot);
                self.changed = true;
            }
        }
    }

    /// An instance is hung: killed and replaced, what it held is revoked.
    pub(super) fn hung(&mut self, slot: u32, now: Time) {
        let Some(instance) = self.instances.get(&slot) else { return };
        let ready_since = instance.serving().map(|serving| serving.ready_since);
        match instance.state {
            State::Draining { .. } => self.stop(slot, Duration::ZERO, Next::Free, now),
            State::Starting(_) | State::Ready(_) | State::Suspect(_) if !self.config.managed => {
                self.died(slot, DeathCause::Hung, ready_since, now);
            }
            State::Ready(_) | State::Suspect(_) => {
                let next = self.after_death(slot, DeathCause::Hung, ready_since, now);
                self.stop(slot, Duration::ZERO, next, now);
            }
            // Found at boot and never ready: not the service's failure, its successor starts at once.
            State::Starting(_) => {
                if let Some(instance) = self.instances.get_mut(&slot) {
                    instance.record.last_death = Some((DeathCause::Hung, now));
                }
                self.stop(slot, Duration::ZERO, Next::Restart(now), now);
            }
            // Not probed.
            State::Standby { .. } | State::Resuming { .. } => {}
            State::Stopping { .. } | State::BackingOff { .. } | State::Exited => {}
        }
    }

    /// 9. Takes an instance out of service: it finishes what it holds until the drain timeout, then is stopped. Streams alone
    ///    keep it for the grace of a stop: they may never end by themselves.
    pub(super) fn drain(&mut self, slot: u32, then: Then, now: Time) {
        let deadline = now + self.config.drain_timeout;
        let patience = self.config.stop_grace;
        let Some(instance) = self.instances.get_mut(&slot) else { return };
        if !instance.drain(deadline, patience, then, now) {
            return;
        }
        self.changed = true;
        if instance.burden() == 0 {
            self.end_drain(slot, now);
        } else {
            self.touch(slot);
        }
    }

    /// 9. A drain is over: nothing is held any more, or its deadline has come.
    pub(super) fn end_drain(&mut self, slot: u32, now: Time) {
        let may_sleep = |instance: &Instance| instance.is_parked() && !instance.outdated;
        if !self.draining && self.instances.get(&slot).is_some_and(may_sleep) && self.park(slot, now) {
            return;
        }
        self.end(slot, self.config.stop_grace, Next::Free, Revoked::Drained, now);
    }

    /// Stops an instance; what it still holds is revoked.
    pub(super) fn stop(&mut self, slot: u32, grace: Duration, next: Next, now: Time) {
        self.end(slot, grace, next, Revoked::Lost, now);
    }

    fn end(&mut self, slot: u32, grace: Duration, next: Next, why: Revoked, now: Time) {
        let Some(instance) = self.instances.get_mut(&slot) else { return };
        let id = instance.id;
        let Some(held) = instance.stop(now + grace + GONE_AFTER, next, now) else { return };
        self.revoke(held, id, why);
        self.actions.push_back(Action::Stop { instance: id, grace });
        self.touch(slot);
        self.changed = true;
    }

    pub(super) fn revoke(&mut self, mut held: List, instance: InstanceId, why: Revoked) {
        while let Some(key) = self.requests.pop_front(&mut held) {
            let request = &mut self.requests[key];
            request.place = Place::Revoked { instance };
            self.actions.push_back(Action::Revoke { request: request.id, instance, why });
        }
    }

    /// 5. A request was lost on an instance, or its stream broke: it gets no more until a probe has passed.
    ///
    /// Losses of requests that it held together are one mishap: only one that befalls a trusted instance counts. After
    /// three different requests that were `lost` so, with a passed probe between each and no answer, it only looks healthy:
    /// hung. One request that was lost on it three times says more about the request.
    pub(super) fn suspect(&mut self, id: InstanceId, lost: Option<RequestId>, now: Time) {
        let Some(instance) = self.instance_mut(id) else { return };
        let trusted = instance.suspect(now);
        let Some(serving) = instance.serving_mut() else { return };
        if lost.is_some_and(|lost| trusted && serving.losses.note(lost)) {
            self.hung(id.slot, now);
            return;
        }
        serving.probe.hurry(now);
        self.begin_probe(id.slot, now);
        self.changed |= trusted;
    }

    /// Something is due in a slot, whose timer has been taken.
    pub(super) fn wake(&mut self, slot: u32, now: Time) {
        let timeout = self.config.start_timeout;
        let Some(instance) = self.instances.get_mut(&slot) else { return };
        instance.wake = None;
        let drained = instance.drained_by().is_some_and(|by| by <= now);
        match &mut instance.state {
            State::Starting(starting) if starting.judged_at(timeout).is_some_and(|at| at <= now) => {
                self.overdue(slot, now);
            }
            State::Starting(_) => self.look(slot, now),
            State::Ready(serving) | State::Suspect(serving) => {
                serving.paused_until = serving.paused_until.filter(|until| *until > now);
                serving.open_slots(&self.config, now);
                self.look(slot, now);
            }
            State::Draining { .. } if drained => self.end_drain(slot, now),
            State::Draining { .. } => self.look(slot, now),
            State::Standby { .. } => self.pause_again(slot, now),
            State::Resuming { hung_at, .. } if *hung_at <= now => {
                self.resume_failed(slot, DeathCause::Hung, now);
            }
            State::Resuming { .. } => self.touch(slot),
            State::Stopping { gone_at, next } if *gone_at <= now => {
                let next = *next;
                self.stopped(slot, next, now);
            }
            State::Stopping { .. } => self.touch(slot),
            // Not put back among the timers: the reconciliation that follows starts it or frees its slot.
            State::BackingOff { until } if *until <= now => self.changed = true,
            State::BackingOff { .. } | State::Exited => self.touch(slot),
        }
    }
}
