//! Signs of life: when instances are probed, and what follows.
//!
//! 13. One probe an instance at a time; one that never ends counts as silent after a while.
//!
//! * Starting: at once, then after an eighth of its age (5 ms at least, the probe interval at most), so that a fast
//!   start is seen fast and a slow one is not pestered. Ready: it serves.
//! * Serving: each interval, the first at a random part of it, so that instances are not probed in step. A failure
//!   makes it suspect and brings the next probe forward to half an interval; some in a row: hung.
//! * Frozen is no guess: such an instance answers nothing. It is looked at again half an interval after that probe began,
//!   at once if the probe took longer; frozen twice in a row: hung, however many failures are allowed. Not at the first
//!   sight, as an instance may be paused for a moment only (a snapshot of its container).
//! * Silent at work is a failure only where instances are known to answer at work, see [`crate::habit`]; and never for
//!   an instance that works on a request which another one was lost under, so that work that makes instances silent
//!   costs at most one of them. Frozen always is.

use std::time::Duration;

use crate::event::{Action, Health, InstanceId};
use crate::habit::{Habit, MARGIN};
use crate::instance::{Ended, Instance, Serving, State};
use crate::requests::Place;
use crate::time::Time;

use super::Pool;

/// Failed probes of an instance that was found at boot, after which it is replaced.
const FOUND_FAILURES: u32 = 3;
const SHORTEST_INTERVAL: Duration = Duration::from_millis(5);

impl Pool {
    pub(super) fn probe_interval(&self) -> Duration {
        self.config.probe_interval.max(SHORTEST_INTERVAL)
    }

    /// Begins the probe of an instance if one is due.
    pub(super) fn begin_probe(&mut self, slot: u32, now: Time) {
        let Some(instance) = self.instances.get_mut(&slot) else { return };
        let id = instance.id;
        if let Some((address, probe)) = instance.probe_mut()
            && probe.begin(now)
        {
            self.actions.push_back(Action::Probe { instance: id, address });
        }
        self.touch(slot);
    }

    /// A sign of life is wanted: probes an instance by then, unless a probe is under way.
    pub(super) fn probe_by(&mut self, slot: u32, by: Time, now: Time) {
        let probe = self.instances.get_mut(&slot).and_then(Instance::probe_mut);
        if probe.is_some_and(|(_, probe)| probe.due_by(by)) {
            self.begin_probe(slot, now);
        }
    }

    /// A timer of an instance that is probed: a probe is due, or lost.
    pub(super) fn look(&mut self, slot: u32, now: Time) {
        let Some(instance) = self.instances.get_mut(&slot) else { return };
        let id = instance.id;
        if instance.probe_mut().is_some_and(|(_, probe)| probe.is_lost(now)) {
            self.instance_probed(id, Health::Silent, now);
        }
        self.begin_probe(slot, now);
    }

    /// A probe ended. One that was not asked for, or of an earlier incarnation, is ignored.
    pub(super) fn instance_probed(&mut self, id: InstanceId, health: Health, now: Time) {
        let Some(instance) = self.instance_mut(id) else { return };
        if let Some(probe) = instance.sleeping_probe() {
            // It began before the pause, and says nothing.
            let _ = probe.end(health);
            probe.next(now);
            return;
        }
        let Some((_, probe)) = instance.probe_mut() else { return };
        let Some(ended) = probe.end(health) else { return };
        match instance.state {
            State::Starting(_) => self.probed_starting(id.slot, health, now),
            State::Ready(_) | State::Suspect(_) | State::Draining { .. } => {
                self.probed_serving(id.slot, health, ended, now);
            }
            State::Standby { .. }
            | State::Resuming { .. }
            | State::Stopping { .. }
            | State::BackingOff { .. }
            | State::Exited => {}
        }
        self.begin_probe(id.slot, now);
    }

    fn probed_starting(&mut self, slot: u32, health: Health, now: Time) {
        let (interval, managed) = (self.probe_interval(), self.config.managed);
        let first = now + interval.mul_f64(0.5 + self.rng.f64() / 2.0);
        let Some(instance) = self.instances.get_mut(&slot) else { return };
        match health {
            Health::Ready => {
                let asked = match &instance.state {
                    State::Starting(starting) if !starting.found => Some(starting.asked),
                    State::Starting(_)
                    | State::Ready(_)
                    | State::Suspect(_)
                    | State::Draining { .. }
                    | State::Standby { .. }
                    | State::Resuming { .. }
                    | State::Stopping { .. }
                    | State::BackingOff { .. }
                    | State::Exited => None,
                };
                if instance.ready(first, now) {
                    if let Some(serving) = instance.serving_mut() {
                        serving.open_slots(&self.config, now);
                    }
                    self.balance.ease_in(slot, self.config.slow_start, now);
                    if let Some(asked) = asked {
                        self.traffic.note_start(now.since(asked));
                    }
                    self.starts.forget();
                    self.changed = true;
                }
            }
            Health::NotReady | Health::Silent | Health::Frozen => {
                let excused = instance.taken > 0 && health == Health::Silent;
                let State::Starting(starting) = &mut instance.state else { return };
                let Some((_, probe)) = &mut starting.reached else { return };
                probe.failures = probe.failures.saturating_add(u32::from(!excused));
                let age = now.since(starting.asked) / 8;
                let delay = if managed { age.clamp(SHORTEST_INTERVAL, interval) } else { interval };
                probe.next(now + delay);
                let (found, failures) = (starting.found, probe.failures);
                self.examine_again(slot, now);
                if found && managed && failures >= FOUND_FAILURES {
                    self.hung(slot, now);
                }
            }
        }
    }

    fn probed_serving(&mut self, slot: u32, health: Health, ended: Ended, now: Time) {
        let interval = self.probe_interval();
        match health {
            Health::Ready => self.passed(slot, ended, now),
            Health::Silent if self.silence_excused(slot, ended) => {
                let instance = self.instances.get_mut(&slot);
                if let Some(serving) = instance.and_then(Instance::serving_mut) {
                    serving.probe.next(now + interval);
                }
            }
            Health::NotReady | Health::Silent => {
                self.failed(slot, now + interval / 2, self.config.probe_failures, now);
            }
            Health::Frozen => {
                let again = ended.before == Some(Health::Frozen);
                let allowed = if again { 0 } else { self.config.probe_failures };
                self.failed(slot, now.max(ended.since + interval / 2), allowed, now);
            }
        }
    }

    fn passed(&mut self, slot: u32, ended: Ended, now: Time) {
        let interval = self.probe_interval();
        let Some(instance) = self.instances.get_mut(&slot) else { return };
        let outdated = instance.outdated;
        let Some(serving) = instance.serving_mut() else { return };
        serving.probe.failures = 0;
        serving.alive_at = serving.alive_at.max(ended.since);
        serving.probe.next(if ended.stale { now } else { now + interval });
        if let Some(first) = serving.held.first().map(|key| &self.requests[key])
            && let Place::Held { since, .. } = first.place
            && since < ended.since
        {
            serving.testify(first.id, outdated, &mut self.habit, now);
        }
        if !ended.stale && instance.trust(now) {
            self.changed = true;
        }
    }

    /// A probe failed: hung if that makes so many in a row, else suspect and probed again at `again`.
    fn failed(&mut self, slot: u32, again: Time, allowed: u32, now: Time) {
        let Some(instance) = self.instances.get_mut(&slot) else { return };
        let Some(serving) = instance.serving_mut() else { return };
        serving.probe.failures = serving.probe.failures.saturating_add(1);
        serving.probe.next(again);
        if serving.probe.failures >= allowed {
            self.hung(slot, now);
        } else if instance.suspect(now) {
            self.changed = true;
        }
    }

    /// Whether the silence of an instance is what work does to it.
    fn silence_excused(&mut self, slot: u32, ended: Ended) -> bool {
        let Some(instance) = self.instances.get_mut(&slot) else { return false };
        let taken = instance.taken > 0;
        let Some(serving) = instance.serving_mut() else { return false };
        if taken {
            // Nobody here knows for how long it has worked, or what it says at work.
            return true;
        }
        if serving.held.is_empty() && serving.worked_until < ended.since {
            return false;
        }
        serving.silent_from = Some(ended.since);
        if !self.habit.silence_is_failure() {
            return true;
        }
        serving.held.keys(&self.requests).any(|key| !self.requests[key].losses().is_empty())
    }
}

impl Serving {
    /// A probe was answered while this request was held from before it began: once the request is held for well longer
    /// than that, instances are known to answer at work.
    fn testify(&mut self, request: crate::RequestId, outdated: bool, habit: &mut Habit, now: Time) {
        match self.witness {
            Some((witness, answered)) if witness == request => {
                if !outdated && now.since(answered) >= MARGIN {
                    habit.answered_at_work();
                }
            }
            Some(_) | None => self.witness = Some((request, now)),
        }
    }

    /// A request was answered that was held since then: what this says about probes that ended meanwhile.
    pub(super) fn teach(
        &mut self,
        id: crate::RequestId,
        since: Time,
        outdated: bool,
        habit: &mut Habit,
        now: Time,
    ) {
        if outdated {
            return;
        }
        if self.silent_from.is_some_and(|silent| since < silent) {
            habit.was_silent_and_well();
        }
        if self.witness.is_some_and(|(witness, answered)| witness == id && now.since(answered) >= MARGIN) {
            habit.answered_at_work();
        }
    }
}
