//! Standby: instances that are kept beyond the size, paused, and resumed when more are wanted.
//!
//! 19. Resuming takes milliseconds where starting takes seconds, so that it goes before any start. In this order:
//!
//! a. Fewer serve than are wanted: as many as are missing are resumed, then those taken back that are still draining on
//!    their way into standby. One that was resumed serves once a probe has passed.
//! b. More are in standby than there should be: the rest is stopped.
//! c. More are ready than are wanted, and standby has places: the idlest go there, each once it holds nothing.
//! d. Standby still has places, and as many are ready as are wanted: others are started for it. (Starts that are
//!    wanted never wait for those.)
//!
//! Outdated ones are stopped at once, since they serve nobody, and started anew by (d). One that ends while it is paused
//! is replaced under every restart policy: none of them speaks of an instance that was not serving. One that cannot be
//! paused runs on, in standby all the same, and that is tried again. A pool that drains puts none into standby and
//! starts none for it.

use std::time::Duration;

use crate::event::{Action, DeathCause, InstanceId};
use crate::instance::{Instance, Next, Pause, State, Then};
use crate::time::Time;

use super::Pool;

/// One that has not gone on so long after it was asked to is hung. Engines need some ten milliseconds.
const RESUME_LIMIT: Duration = Duration::from_secs(5);
/// A pause that failed is tried again after so long.
const PAUSE_AGAIN: Duration = Duration::from_secs(30);

impl Pool {
    /// How many there should be in standby.
    fn standby(&self) -> usize {
        // 18. A stopped service keeps none.
        let stopped = self.stopped_by.is_some() || !self.config.managed;
        if stopped { 0 } else { self.config.standby as usize }
    }

    /// How many of those that start are meant for the standby.
    pub(super) fn started_for_standby(&self) -> u32 {
        if self.config.standby == 0 {
            return 0;
        }
        let wanted = self.scaler.wanted().unwrap_or(0) as usize;
        let live = self.count(Instance::is_live);
        u32::try_from(live.saturating_sub(wanted)).unwrap_or(u32::MAX).min(self.config.standby)
    }

    /// Outdated ones in standby serve nobody: they are stopped.
    pub(super) fn stop_outdated_standby(&mut self, now: Time) {
        let asleep = |instance: &Instance| instance.slept().is_some();
        for slot in self.slots(|instance| instance.outdated && asleep(instance)) {
            self.stop(slot, Duration::ZERO, Next::Free, now);
        }
    }

    /// 19a.
    pub(super) fn resume_missing(&mut self, wanted: usize, now: Time) {
        let serves = |instance: &Instance| match instance.state {
            State::Ready(_) | State::Suspect(_) | State::Resuming { .. } => true,
            State::Starting(_)
            | State::Draining { .. }
            | State::Standby { .. }
            | State::Stopping { .. }
            | State::BackingOff { .. }
            | State::Exited => false,
        };
        let missing = wanted.saturating_sub(self.count(serves));
        if missing == 0 || !self.may_start() {
            return;
        }
        let current = |instance: &Instance| instance.is_parked() && !instance.outdated;
        let mut slots = self.slots(current);
        // Those that sleep first: all their slots are free.
        slots.sort_by_key(|slot| self.instances.get(slot).is_some_and(|it| it.slept().is_none()));
        for slot in slots.into_iter().take(missing) {
            self.wake_up(slot, now);
        }
    }

    fn wake_up(&mut self, slot: u32, now: Time) {
        let Some(instance) = self.instances.get_mut(&slot) else { return };
        if instance.resume(now + RESUME_LIMIT, now) {
            self.actions.push_back(Action::Resume { instance: instance.id });
            self.touch(slot);
        } else if instance.stay(&self.config, now) {
            self.begin_probe(slot, now);
        }
        self.changed = true;
    }

    /// 19b. Says how many places are left.
    pub(super) fn trim_standby(&mut self, now: Time) -> usize {
        let standby = self.standby();
        let parked = self.slots(Instance::is_parked);
        for slot in parked.iter().skip(standby).copied() {
            match self.instances.get_mut(&slot) {
                Some(instance) if instance.slept().is_none() => instance.forgo_standby(),
                Some(_) => self.stop(slot, self.config.stop_grace, Next::Free, now),
                None => {}
            }
        }
        if self.draining { 0 } else { standby.saturating_sub(parked.len()) }
    }

    /// 19c, 19d.
    pub(super) fn keep_standby(&mut self, wanted: usize, now: Time) {
        let standby = self.standby();
        if standby == 0 || self.draining {
            return;
        }
        let is_ready = |instance: &Instance| matches!(instance.state, State::Ready(_));
        let ready = self.count(is_ready);
        let places = standby.saturating_sub(self.count(Instance::is_parked));
        let surplus = ready.saturating_sub(wanted).min(places);
        let mut ranks: Vec<_> =
            self.instances.values().filter(|it| is_ready(it)).map(Instance::surplus_rank).collect();
        ranks.sort_unstable();
        ranks.into_iter().take(surplus).for_each(|rank| self.drain(rank.slot, Then::Pause, now));
        if ready >= wanted {
            let there = self.count(Instance::is_live) + self.count(Instance::is_parked);
            self.start_missing((wanted + standby).saturating_sub(there), u32::MAX, now);
        }
    }

    /// Puts an instance into standby that holds nothing any more; says whether it may be there.
    pub(super) fn park(&mut self, slot: u32, now: Time) -> bool {
        let Some(instance) = self.instances.get_mut(&slot) else { return false };
        if !instance.park(Pause::Asked, now) {
            return false;
        }
        self.actions.push_back(Action::Pause { instance: instance.id });
        self.touch(slot);
        self.changed = true;
        true
    }

    pub(super) fn pause_again(&mut self, slot: u32, now: Time) {
        if !self.draining
            && let Some(instance) = self.instances.get_mut(&slot)
            && instance.next_wake(&self.config).is_some_and(|at| at <= now)
            && instance.pausing(Pause::Asked)
        {
            self.actions.push_back(Action::Pause { instance: instance.id });
            self.touch(slot);
        }
    }

    /// A pause that was asked for has been done, or has failed. One that is needed again does not care.
    pub(super) fn instance_paused(&mut self, id: InstanceId, done: bool, now: Time) {
        let pause = if done { Pause::Done } else { Pause::Failed { again: now + PAUSE_AGAIN } };
        if self.instance_mut(id).is_some_and(|instance| instance.pausing(pause)) {
            self.touch(id.slot);
        }
    }

    /// An instance goes on, or cannot.
    pub(super) fn instance_resumed(&mut self, id: InstanceId, failed: Option<DeathCause>, now: Time) {
        let config = std::sync::Arc::clone(&self.config);
        let Some(instance) = self.instance_mut(id) else { return };
        let State::Resuming { .. } = instance.state else { return };
        match failed {
            Some(cause) => self.resume_failed(id.slot, cause, now),
            None => {
                if instance.resumed(&config, now) {
                    self.balance.ease_in(id.slot, config.slow_start, now);
                    self.begin_probe(id.slot, now);
                    self.changed = true;
                }
            }
        }
    }

    /// It cannot go on, or does not: it is killed, and its slot starts again.
    pub(super) fn resume_failed(&mut self, slot: u32, cause: DeathCause, now: Time) {
        let ready_since = self.instances.get(&slot).and_then(Instance::slept).map(|slept| slept.ready_since);
        let at = self.next_start(slot, cause, ready_since, now);
        self.stop(slot, Duration::ZERO, Next::Restart(at), now);
    }

    /// It ended while it slept, or before it served again.
    pub(super) fn died_asleep(&mut self, slot: u32, cause: DeathCause, now: Time) {
        let ready_since = self.instances.get(&slot).and_then(Instance::slept).map(|slept| slept.ready_since);
        let at = self.next_start(slot, cause, ready_since, now);
        if let Some(instance) = self.instances.get_mut(&slot) {
            let _ = instance.back_off(at, now);
        }
        self.touch(slot);
        self.changed = true;
    }
}
