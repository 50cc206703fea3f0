//! Which ready instance gets the next request: a [`Balancer`] chooses among those with a free slot; this module keeps the
//! list that it chooses from, and eases newly ready instances in (`slow_start`).
//!
//! | balancer | chooses | a choice and a change cost |
//! | --- | --- | --- |
//! | `least-busy` | the fewest requests | O(log instances) |
//! | `round-robin` | whose turn is the longest ago | O(log instances) |
//! | `random` | any, with the same chance | O(log instances) |
//! | `peak-ewma` | the lowest latency times requests | O(log instances) |
//! | `hash` | the same one for the same key, within bounds | O(free instances), O(log instances) |
//!
//! A request is bound to an instance only when a slot is free, whatever the balancer. For a request that may not go to
//! every instance (a replay) a choice costs O(instances) more at the most.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::config::BalancePolicy;
use crate::time::Time;

mod hash;
mod least_busy;
mod peak_ewma;
mod ramp;
mod random;
mod round_robin;
#[cfg(test)]
mod tests;

use hash::BoundedHash;
use least_busy::LeastBusy;
use peak_ewma::PeakEwma;
use ramp::Ramps;
use random::Random;
use round_robin::RoundRobin;

/// An instance that is ready, as a balancer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its place in the pool: names it for as long as it is a candidate.
    pub slot: u32,
    /// Requests that it works on.
    pub in_flight: u32,
    /// Whether it may be chosen: it has a slot free and has not said that it is busy.
    pub free: bool,
    /// The number of its last dispatch among all of the pool; 0 before the first.
    pub turn: u64,
}

/// Chooses the instance for a request. Whatever comes back that is not free is not obeyed.
pub trait Balancer: Send {
    /// The balancer's name in the configuration.
    fn name(&self) -> &'static str;

    /// A candidate has come (there is no `before`), has changed, or has gone (there is no `after`). Both are of one slot.
    fn change(&mut self, before: Option<&Candidate>, after: Option<&Candidate>);

    /// The best free candidate that is `allowed`. `affinity` is the request's key, if it has one.
    fn choose(&mut self, affinity: Option<NonZeroU64>, allowed: &mut dyn FnMut(u32) -> bool) -> Option<u32>;

    /// An attempt on a slot ended after so long, with an answer or otherwise.
    fn ended(&mut self, _slot: u32, _took: Duration, _answered: bool, _now: Time) {}
}

/// The balancer of a policy. `seed` decides its chances, if it takes any.
fn balancer(policy: BalancePolicy, seed: u64) -> Box<dyn Balancer> {
    match policy {
        BalancePolicy::LeastBusy => Box::new(LeastBusy::default()),
        BalancePolicy::RoundRobin => Box::new(RoundRobin::default()),
        BalancePolicy::Random => Box::new(Random::new(seed)),
        BalancePolicy::PeakEwma => Box::new(PeakEwma::default()),
        BalancePolicy::Hash => Box::new(BoundedHash::default()),
    }
}

/// The candidates of one pool and who chooses among them.
pub(crate) struct Balance {
    balancer: Box<dyn Balancer>,
    // Whether the balancer is one of ours, so that its word need not be checked.
    ours: bool,
    ramps: Ramps,
    members: usize,
    free: usize,
    turns: u64,
}

impl Balance {
    pub(crate) fn new(policy: BalancePolicy, seed: u64) -> Self {
        let (balancer, ramps) = (balancer(policy, seed), Ramps::default());
        Self { balancer, ours: true, ramps, members: 0, free: 0, turns: 0 }
    }

    /// Puts another balancer in charge. It knows no candidate: the caller lists them all anew.
    pub(crate) fn set_balancer(&mut self, balancer: Box<dyn Balancer>) {
        (self.balancer, self.ours) = (balancer, false);
        (self.members, self.free) = (0, 0);
    }

    /// The same, by policy.
    pub(crate) fn set_policy(&mut self, policy: BalancePolicy, seed: u64) {
        self.set_balancer(balancer(policy, seed));
        self.ours = true;
    }

    /// The number of the next dispatch, which goes to this slot.
    pub(crate) fn next_turn(&mut self, slot: u32) -> u64 {
        self.turns += 1;
        self.ramps.spend(slot);
        self.turns
    }

    /// An instance is ready for the first time, and is to get its full share after `ramp` only.
    pub(crate) fn ease_in(&mut self, slot: u32, ramp: Duration, now: Time) {
        self.ramps.begin(slot, ramp, self.turns, now);
    }

    /// Lists an instance as it is now, in place of how it was `listed`.
    pub(crate) fn list(&mut self, listed: &mut Option<Candidate>, now: Option<Candidate>) {
        if *listed == now {
            return;
        }
        let free = |it: &Option<Candidate>| usize::from(it.is_some_and(|it| it.free));
        self.members = self.members + usize::from(now.is_some()) - usize::from(listed.is_some());
        self.free = self.free + free(&now) - free(listed);
        self.balancer.change(listed.as_ref(), now.as_ref());
        if let (None, Some(back)) = (&listed, &now) {
            self.ramps.rejoin(back.slot, self.turns);
        }
        *listed = now;
    }

    /// Whether no instance has a free slot.
    pub(crate) fn is_empty(&self) -> bool {
        self.free == 0
    }

    /// Whether whoever is chosen is free and allowed without fail.
    pub(crate) fn is_reliable(&self) -> bool {
        self.ours
    }

    /// An attempt on a slot ended after so long.
    pub(crate) fn ended(&mut self, slot: u32, took: Duration, answered: bool, now: Time) {
        self.balancer.ended(slot, took, answered, now);
    }

    /// The best choice of those `allowed`. One that is being eased in and has had its share is chosen only where there is
    /// no other: a slot is never kept free while somebody waits.
    pub(crate) fn choose(
        &mut self,
        affinity: Option<NonZeroU64>,
        now: Time,
        allowed: &mut dyn FnMut(u32) -> bool,
    ) -> Option<u32> {
        if self.ramps.are_over(now) {
            return self.balancer.choose(affinity, allowed);
        }
        let (ramps, turns, members) = (&mut self.ramps, self.turns, self.members);
        let mut in_turn = |slot| allowed(slot) && ramps.has_share(slot, turns, members, now);
        let chosen = self.balancer.choose(affinity, &mut in_turn);
        chosen.or_else(|| self.balancer.choose(affinity, allowed))
    }
}
