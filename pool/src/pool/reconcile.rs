//! From what is to what is wanted: how many instances, of which generation.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use crate::config::PoolConfig;
use crate::event::{DeathCause, InstanceId, RejectReason};
use crate::habit::Habit;
use crate::instance::{Instance, Next, State, Then};
use crate::scaling::{Fixed, ScalingPolicy};
use crate::time::Time;

use super::Pool;

impl Pool {
    pub(super) fn decide_size(&mut self, now: Time) {
        self.look_at_traffic(now);
        let load = self.load(now);
        self.scaler.decide(&self.config, load, &self.traffic, now);
        self.changed = true;
    }

    fn look_at_traffic(&mut self, now: Time) {
        let asked = |instance: &Instance| match &instance.state {
            State::Starting(starting) => Some(starting.asked),
            State::Ready(_)
            | State::Suspect(_)
            | State::Draining { .. }
            | State::Standby { .. }
            | State::Resuming { .. }
            | State::Stopping { .. }
            | State::BackingOff { .. }
            | State::Exited => None,
        };
        let mut starting: Vec<Time> = self.instances.values().filter_map(asked).collect();
        let for_standby = self.started_for_standby() as usize;
        if for_standby > 0 {
            starting.sort_unstable();
            starting.truncate(starting.len().saturating_sub(for_standby));
        }
        let ages = if self.traffic.wants_ages() { self.running_ages(now) } else { 0.0 };
        self.traffic.look(starting, ages, now);
    }

    pub(super) fn set_size(&mut self, size: u32, now: Time) {
        self.install_policy(Box::new(Fixed(size)), now);
    }

    pub(super) fn install_policy(&mut self, policy: Box<dyn ScalingPolicy>, now: Time) {
        if self.config.managed {
            self.open(now);
            self.traffic.call_late(policy.late_after());
            self.scaler.set_policy(policy);
            self.decide_size(now);
        }
    }

    /// An operator acts: whatever kept the service from serving is forgotten, and what has ended starts again.
    fn open(&mut self, now: Time) {
        self.starts.forget();
        self.stopped_by = None;
        let slots: Vec<u32> = self.instances.keys().copied().collect();
        for slot in slots {
            if let Some(instance) = self.instances.get_mut(&slot) {
                instance.revive(now);
                self.touch(slot);
            }
        }
    }

    pub(super) fn replace(&mut self, id: InstanceId, now: Time) {
        if let Some(instance) = self.instance_mut(id) {
            instance.outdated = true;
            instance.revive(now);
            self.touch(id.slot);
            self.changed = true;
        }
    }

    /// Marks all that run as outdated; what waits to start again starts at once, as current.
    pub(super) fn restart(&mut self, now: Time) {
        self.open(now);
        let slots: Vec<u32> = self.instances.keys().copied().collect();
        for slot in slots {
            let Some(instance) = self.instances.get_mut(&slot) else { continue };
            instance.outdated = true;
            instance.hurry_start(now);
            self.touch(slot);
        }
        self.changed = true;
    }

    pub(super) fn configure(
        &mut self,
        config: Arc<PoolConfig>,
        roll: bool,
        policy: Option<Box<dyn ScalingPolicy>>,
        now: Time,
    ) {
        self.queue.set_order(&mut self.requests, config.order);
        let rebalance = self.config.balance != config.balance;
        self.config = config;
        if rebalance {
            self.balance.set_policy(self.config.balance, self.rng.u64(..));
            self.list_anew();
        }
        for serving in self.instances.values_mut().filter_map(Instance::serving_mut) {
            serving.open_slots(&self.config, now);
        }
        self.open(now);
        if roll {
            self.habit = Habit::default();
            self.restart(now);
        }
        let policy = match policy {
            policy if self.config.managed => policy,
            Some(_) | None => Some(Box::new(Fixed(self.config.max)) as Box<dyn ScalingPolicy>),
        };
        if let Some(policy) = policy {
            self.traffic.call_late(policy.late_after());
            self.scaler.set_policy(policy);
        }
        self.decide_size(now);
        let slots: Vec<u32> = self.instances.keys().copied().collect();
        slots.into_iter().for_each(|slot| self.touch(slot));
    }

    /// 8. Compares instances with the size and acts on the difference; remembers nothing.
    pub(super) fn reconcile(&mut self, now: Time) {
        let Some(wanted) = self.scaler.wanted() else {
            self.may_serve = self.count(Instance::may_serve);
            return;
        };
        // 18. A service that the restart policy has stopped wants none.
        let wanted = if self.stopped_by.is_some() { 0 } else { wanted };
        if self.config.managed {
            self.stop_outdated_starts(now);
            self.stop_outdated_standby(now);
            self.retire_outdated(wanted as usize, now);
            let outdated = self.count(|instance| instance.outdated && instance.is_serving());
            let surge = usize::from(outdated > 0 && wanted > 0);
            let target = wanted as usize + surge;
            self.resume_missing(wanted as usize, now);
            let places = self.trim_standby(now);
            let live = self.count(Instance::is_live);
            self.remove_surplus(live.saturating_sub(target + places), now);
            self.start_missing(target.saturating_sub(live), u32::MAX, now);
            if surge == 0 {
                self.keep_standby(wanted as usize, now);
            }
        } else {
            self.reconcile_addresses(wanted, now);
        }
        self.start_due(now);
        self.may_serve = self.count(Instance::may_serve);
        if wanted == 0 {
            // Nobody tries any more, so nobody could find out that it is not hopeless: a policy that sizes by load would
            // see no load for ever, because all of it is refused.
            self.starts.forget();
        }
        if self.starts.in_doubt() {
            let hope = self.instances.values().any(Instance::gives_hope);
            self.starts.judge(hope);
        }
        let spent = if wanted == 0 { None } else { self.spent() };
        self.starts.set_spent(spent);
    }

    /// 18. How the last instance ended, once all have and the restart policy replaces none.
    fn spent(&self) -> Option<DeathCause> {
        let ended = |instance: &Instance| match instance.state {
            State::Exited | State::Stopping { next: Next::Free | Next::Remain, .. } => true,
            State::Starting(_)
            | State::Ready(_)
            | State::Suspect(_)
            | State::Draining { .. }
            | State::Standby { .. }
            | State::Resuming { .. }
            | State::Stopping { next: Next::Restart(_), .. }
            | State::BackingOff { .. } => false,
        };
        if !self.instances.values().all(ended) {
            return None;
        }
        let remain = self.instances.values().filter(|instance| instance.is_live());
        let deaths = remain.filter_map(|instance| instance.record.last_death.as_ref());
        deaths.max_by_key(|(_, at)| *at).map(|(cause, _)| cause.clone())
    }

    pub(super) fn count(&self, which: impl Fn(&Instance) -> bool) -> usize {
        self.instances.values().filter(|instance| which(instance)).count()
    }

    /// 8a. An outdated instance that is not ready yet serves nobody: its slot starts again as current.
    fn stop_outdated_starts(&mut self, now: Time) {
        let starting = |instance: &Instance| matches!(instance.state, State::Starting(_));
        for slot in self.slots(|instance| instance.outdated && starting(instance)) {
            self.stop(slot, Duration::ZERO, Next::Restart(now), now);
        }
    }

    /// 8b. An outdated instance goes once as many as wanted are ready without it: suspects first, then the idlest.
    fn retire_outdated(&mut self, wanted: usize, now: Time) {
        let mut ready = self.count(|instance| matches!(instance.state, State::Ready(_)));
        let mut outdated: Vec<_> = self
            .instances
            .values()
            .filter(|instance| instance.outdated && instance.is_serving())
            .map(Instance::surplus_rank)
            .collect();
        outdated.sort_unstable();
        for rank in outdated {
            let is_ready = rank.stage == Instance::READY_STAGE;
            if ready - usize::from(is_ready) < wanted {
                return;
            }
            ready -= usize::from(is_ready);
            self.drain(rank.slot, Then::Stop, now);
        }
    }

    /// 8c. More than the target: those that wait to start, then the newest that start, then suspects, then the idlest.
    fn remove_surplus(&mut self, surplus: usize, now: Time) {
        if surplus == 0 {
            return;
        }
        let live = self.instances.values().filter(|instance| instance.is_live());
        let mut ranks: Vec<_> = live.map(Instance::surplus_rank).collect();
        ranks.sort_unstable();
        for rank in ranks.into_iter().take(surplus) {
            // One that another process uses while it starts here cannot drain: once it serves, it is looked at again. It
            // stays surplus meanwhile, so that no ready one goes in its stead.
            if !self.is_taken_at_start(rank.slot) {
                self.remove(rank.slot, now);
            }
        }
    }

    fn is_taken_at_start(&self, slot: u32) -> bool {
        let instance = self.instances.get(&slot);
        instance.is_some_and(|it| it.taken > 0 && matches!(it.state, State::Starting(_)))
    }

    fn remove(&mut self, slot: u32, now: Time) {
        let Some(instance) = self.instances.get_mut(&slot) else { return };
        match &mut instance.state {
            State::Stopping { next, .. } => *next = Next::Free,
            State::BackingOff { .. } | State::Exited => self.free_slot(slot),
            State::Starting(_) | State::Standby { .. } | State::Resuming { .. } => {
                self.stop(slot, self.config.stop_grace, Next::Free, now);
            }
            State::Ready(_) | State::Suspect(_) => self.drain(slot, Then::Stop, now),
            State::Draining { .. } => {}
        }
    }

    /// 8d. Fewer than the target: starts in the lowest free slots. 17: a pool that drains starts only for those that
    /// wait.
    pub(super) fn start_missing(&mut self, missing: usize, slots: u32, now: Time) {
        if missing == 0 || !self.may_start() {
            return;
        }
        let free = (0..slots).filter(|slot| !self.instances.contains_key(slot));
        let free: Vec<u32> = free.take(missing).collect();
        free.into_iter().for_each(|slot| self.start(slot, now));
    }

    pub(super) fn may_start(&self) -> bool {
        !self.draining || self.queue.len() > 0
    }

    /// Starts what has waited long enough, or frees its slot where nothing may be started.
    fn start_due(&mut self, now: Time) {
        let due = |instance: &Instance| match instance.state {
            State::BackingOff { until } => until <= now,
            State::Starting(_)
            | State::Ready(_)
            | State::Suspect(_)
            | State::Draining { .. }
            | State::Standby { .. }
            | State::Resuming { .. }
            | State::Stopping { .. }
            | State::Exited => false,
        };
        for slot in self.slots(due) {
            if self.may_start() {
                self.start_again(slot, now);
            } else {
                self.free_slot(slot);
            }
        }
    }

    /// 13. Servers that already run: slot n is address n, so that there is no surge; one at a time is taken out to be
    ///     looked at anew, and those whose address is gone are drained.
    fn reconcile_addresses(&mut self, wanted: u32, now: Time) {
        for slot in self.slots(|instance| instance.id.slot >= wanted && instance.is_live()) {
            self.remove(slot, now);
        }
        let leaving = self.count(|instance| !instance.is_live());
        if leaving == 0
            && let Some(slot) =
                self.slots(|instance| instance.outdated && instance.is_live()).first().copied()
        {
            self.remove(slot, now);
        }
        self.start_missing(wanted as usize, wanted, now);
    }

    pub(super) fn slots(&self, which: impl Fn(&Instance) -> bool) -> Vec<u32> {
        self.instances.iter().filter(|(_, instance)| which(instance)).map(|(slot, _)| *slot).collect()
    }

    /// Whether nothing can be served until something changes.
    pub(super) fn is_closed(&self) -> bool {
        self.stopped_by.is_some() || self.starts.cannot().is_some()
    }

    /// 18. How the instance ended after which the restart policy starts none.
    pub(super) fn halted(&self) -> Option<&DeathCause> {
        self.stopped_by.as_ref().or(self.starts.spent())
    }

    /// 12, 18. Why nothing can be served: the restart policy has stopped the service, or no instance can be started, or
    /// none will be.
    pub(super) fn closed(&self, now: Time) -> Option<RejectReason> {
        if let Some(cause) = self.halted() {
            return Some(RejectReason::Stopped { cause: Some(cause.clone()) });
        }
        let cause = self.starts.cannot()?.clone();
        let next = self.instances.values().filter_map(Instance::starts_at).min();
        // A server that the pool does not start is looked at each probe interval.
        let otherwise =
            if self.config.managed { self.config.backoff_max } else { self.config.probe_interval };
        let retry_after = next.map_or(otherwise, |at| at.since(now));
        Some(RejectReason::CannotStart { cause, retry_after })
    }
}

/// How gladly an instance is given up: the smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SurplusRank {
    stage: u8,
    current: bool,
    in_flight: u32,
    newest: Reverse<u32>,
    pub(super) slot: u32,
}

impl Instance {
    const READY_STAGE: u8 = 4;

    pub(super) fn surplus_rank(&self) -> SurplusRank {
        let stage = match self.state {
            State::Stopping { .. } | State::Exited => 0,
            State::BackingOff { .. } => 1,
            State::Starting(_) => 2,
            State::Suspect(_) | State::Standby { .. } | State::Resuming { .. } => 3,
            State::Ready(_) | State::Draining { .. } => Self::READY_STAGE,
        };
        SurplusRank {
            stage,
            current: !self.outdated,
            in_flight: self.burden(),
            newest: Reverse(self.id.incarnation),
            slot: self.id.slot,
        }
    }

    /// Ready or Suspect.
    fn is_serving(&self) -> bool {
        match self.state {
            State::Ready(_) | State::Suspect(_) => true,
            State::Starting(_)
            | State::Draining { .. }
            | State::Standby { .. }
            | State::Resuming { .. }
            | State::Stopping { .. }
            | State::BackingOff { .. }
            | State::Exited => false,
        }
    }

    /// Whether requests may be answered though a start was found hopeless: it serves, or it starts and its slot has
    /// not failed.
    fn gives_hope(&self) -> bool {
        match self.state {
            State::Ready(_)
            | State::Suspect(_)
            | State::Draining { .. }
            | State::Standby { .. }
            | State::Resuming { .. } => true,
            State::Starting(_) | State::Stopping { next: Next::Restart(_), .. } => self.record.failures == 0,
            State::Stopping { next: Next::Free | Next::Remain, .. }
            | State::BackingOff { .. }
            | State::Exited => false,
        }
    }

    /// When it is started next, while it waits for that.
    fn starts_at(&self) -> Option<Time> {
        match self.state {
            State::BackingOff { until } | State::Stopping { next: Next::Restart(until), .. } => Some(until),
            State::Starting(_)
            | State::Ready(_)
            | State::Suspect(_)
            | State::Draining { .. }
            | State::Standby { .. }
            | State::Resuming { .. }
            | State::Stopping { next: Next::Free | Next::Remain, .. }
            | State::Exited => None,
        }
    }
}
