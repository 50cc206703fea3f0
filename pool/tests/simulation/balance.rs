//! Which instance a request must go to, for each balancer, by plain means.

use std::time::Duration;

use longshore_pool::{BalancePolicy, InstanceId, RequestId, Snapshot, StateView, Time};

use crate::model::{Broken, Instance, Model, Request, ensure};

/// What is known of an instance as a balancer sees it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Standing {
    /// When it became ready, and how long it is eased in.
    pub(crate) ready_since: Time,
    pub(crate) ramp: Duration,
    /// Dispatches of the pool since then, and those that it got though another could have had them.
    dispatches: u64,
    preferred: u64,
    /// The fewest ready instances since then.
    fewest: usize,
    /// The rank of its last dispatch among all.
    turn: u64,
    /// Its latency by Finagle's formula: seconds, and as of when.
    pub(crate) cost: Option<(f64, Time)>,
}

impl Standing {
    pub(crate) fn ready(&mut self, ramp: Duration, now: Time) {
        *self = Self { ready_since: now, ramp, fewest: usize::MAX, ..Self::default() };
    }

    /// An attempt ended.
    pub(crate) fn observe(&mut self, took: Duration, answered: bool, now: Time) {
        let rtt = took.as_secs_f64().max(1e-6);
        let w = |stamp: Time| (-now.since(stamp).as_secs_f64() / 10.0).exp();
        self.cost = match self.cost {
            Some((cost, stamp)) if rtt <= cost * w(stamp) => match answered {
                true => Some((cost * w(stamp) + rtt * (1.0 - w(stamp)), now)),
                false => Some((cost, stamp)),
            },
            Some(_) => Some((rtt, now)),
            None => answered.then_some((rtt, now)),
        };
    }

    fn eased_in(&self, now: Time) -> bool {
        now.since(self.ready_since) < self.ramp
    }
}

impl Model {
    /// Slots that an instance has, as of that time.
    fn slots(&self, instance: &Instance, at: Time) -> u32 {
        let (all, ramp) = (self.config.concurrency, self.config.slow_start);
        let age = at.since(instance.standing.ready_since);
        match all {
            0 => u32::MAX,
            _ if age >= ramp => all,
            _ => ((age.as_nanos() * u128::from(all) / ramp.as_nanos()) as u32).max(1),
        }
    }

    /// Whether an instance may get one more, by now.
    pub(crate) fn has_slot(&self, id: InstanceId) -> bool {
        self.instances.get(&id).is_some_and(|it| self.burden(id) < self.slots(it, self.now))
    }

    /// The same, as far as the pool has been told of the time.
    pub(crate) fn surely_has_slot(&self, id: InstanceId) -> bool {
        let told = self.timers_at.unwrap_or(Time::ZERO);
        self.instances.get(&id).is_some_and(|it| self.burden(id) < self.slots(it, told))
    }

    /// Each step, and each dispatch.
    pub(crate) fn count_members(&mut self, after: &Snapshot) {
        let ready = members(after).count();
        for id in members(after) {
            if let Some(it) = self.instances.get_mut(&id) {
                it.standing.fewest = it.standing.fewest.min(ready);
            }
        }
    }

    /// A request, which waits, goes to this instance: the balancer could not have chosen a better one.
    pub(crate) fn check_choice(
        &mut self,
        id: RequestId,
        on: InstanceId,
        after: &Snapshot,
    ) -> Result<(), Broken> {
        self.count_members(after);
        let request = &self.requests[&id.0];
        let rivals: Vec<InstanceId> =
            members(after).filter(|other| *other != on && self.is_rival(*other, request, after)).collect();
        match self.config.balance {
            BalancePolicy::LeastBusy => {
                let better = rivals.iter().find(|other| self.burden(**other) < self.burden(on));
                ensure!(better.is_none(), "{better:?} is less busy than {on}");
            }
            BalancePolicy::RoundRobin => {
                let turn = |id: &InstanceId| self.instances[id].standing.turn;
                let better = rivals.iter().find(|other| turn(other) < turn(&on));
                ensure!(better.is_none(), "the turn of {better:?} is longer ago than that of {on}");
            }
            BalancePolicy::Random => {}
            BalancePolicy::PeakEwma => {
                let mine = self.load(on);
                let below = |(class, load): (u8, f64)| {
                    class < mine.0 || (class == mine.0 && load < mine.1 * (1.0 - 1e-9))
                };
                let better = rivals.iter().find(|other| below(self.load(**other)));
                ensure!(better.is_none(), "{better:?} has a lower load than {on}");
            }
            BalancePolicy::Hash => self.check_hash(id, on, &rivals, after)?,
        }
        self.check_ramp(on, !rivals.is_empty(), after)
    }

    /// Could surely have been chosen instead, and is not being eased in.
    fn is_rival(&self, other: InstanceId, request: &Request, after: &Snapshot) -> bool {
        let known = &self.instances[&other];
        let barred = request.lost_on.contains(&other) || known.alive_at < request.trust_from;
        !barred && !known.standing.eased_in(self.now) && self.surely_free(other, after)
    }

    /// Finagle's load of an instance now; not measured and idle comes first, not measured and busy last.
    fn load(&self, id: InstanceId) -> (u8, f64) {
        let pending = f64::from(self.burden(id));
        match self.instances[&id].standing.cost {
            Some((cost, stamp)) => {
                let decayed = cost * (-self.now.since(stamp).as_secs_f64() / 10.0).exp();
                (1, decayed * (pending + 1.0))
            }
            None if pending == 0.0 => (0, 0.0),
            None => (2, pending),
        }
    }

    /// A key that has once preferred a slot to another one, with both within the bound, always does.
    fn check_hash(
        &mut self,
        id: RequestId,
        on: InstanceId,
        rivals: &[InstanceId],
        after: &Snapshot,
    ) -> Result<(), Broken> {
        let all: u32 = members(after).map(|id| self.burden(id)).sum();
        let mean = f64::from(all + 1) / members(after).count() as f64;
        let within = |id: InstanceId| f64::from(self.burden(id)) < (1.25 * mean).ceil();
        let rivals: Vec<InstanceId> = rivals.iter().copied().filter(|other| within(*other)).collect();
        let Some(key) = self.requests[&id.0].class.affinity else {
            let better = rivals.iter().find(|other| self.burden(**other) < self.burden(on));
            ensure!(better.is_none(), "{better:?} is less busy than {on}, and {id:?} has no key");
            return Ok(());
        };
        ensure!(within(on) || rivals.is_empty(), "{on} is over its bound, {rivals:?} are not");
        for other in rivals {
            let changed = self.preferred.contains(&(key.get(), other.slot, on.slot));
            ensure!(!changed, "the key of {id:?} went to {other} before, and now to {on}");
            self.preferred.insert((key.get(), on.slot, other.slot));
        }
        Ok(())
    }

    /// One that is being eased in gets no more than its age gives it, unless nobody else could.
    fn check_ramp(&mut self, on: InstanceId, rivals: bool, after: &Snapshot) -> Result<(), Broken> {
        for id in members(after) {
            if let Some(it) = self.instances.get_mut(&id) {
                it.standing.dispatches += 1;
            }
        }
        self.turns += 1;
        let (now, turns) = (self.now, self.turns);
        let Some(Instance { standing, .. }) = self.instances.get_mut(&on) else { return Ok(()) };
        standing.turn = turns;
        if rivals && standing.eased_in(now) {
            standing.preferred += 1;
            let part = now.since(standing.ready_since).as_secs_f64() / standing.ramp.as_secs_f64();
            let share = 1.0 + 1e-9 + part * standing.dispatches as f64 / standing.fewest.max(1) as f64;
            let got = standing.preferred as f64;
            let due = got <= share;
            ensure!(due, "{on} got {got} while it is eased in, its share is {share}");
        }
        Ok(())
    }
}

/// Those that are ready.
fn members(after: &Snapshot) -> impl Iterator<Item = InstanceId> {
    after.instances.iter().filter(|it| it.state == StateView::Ready).map(|it| it.instance)
}
