//! `peak-ewma`: the lowest latency times requests, where latency follows peaks at once and forgets them slowly.
//!
//! From Finagle (`com.twitter.finagle.loadbalancer.PeakEwma`; linkerd has it from there). Each instance has a `cost`, a
//! moving average of its latency by age (decay time τ = 10 s, as there). An answer after `rtt`, at a time `td` after the
//! one before it, makes it
//!
//! ```text
//! rtt                              if rtt exceeds cost·w          where w = e^(-td/τ)
//! cost·w + rtt·(1 - w)             otherwise
//! ```
//!
//! and at any time the load is `cost·w · (in flight + 1)`. The lowest load is chosen. One that has not answered yet is
//! the best choice while it has nothing to do, and the worst until that first answer comes, as there.
//!
//! Two things differ. There the lower of two drawn at random is chosen; here all are compared, in O(log instances): all
//! costs decay at the same pace, so that the order of `ln cost + stamp/τ` holds until one of them changes. And an attempt
//! that ended without an answer took at least so long: it counts where that raises the cost.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::time::Duration;

use super::{Balancer, Candidate};
use crate::time::Time;

/// τ.
const DECAY_SECONDS: f64 = 10.0;

/// What is known of each candidate, and the free ones by load.
#[derive(Debug, Default)]
pub(super) struct PeakEwma {
    nodes: BTreeMap<u32, Node>,
    free: BTreeSet<Rank>,
}

#[derive(Debug)]
struct Node {
    candidate: Candidate,
    // None until the first answer.
    cost: Option<Cost>,
}

/// A latency that decays.
#[derive(Clone, Copy, Debug)]
struct Cost {
    seconds: f64,
    stamp: Time,
}

/// The smallest is the best choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    known: Known,
    load: Load,
    turn: u64,
    slot: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    /// Not measured, and idle.
    Fresh,
    Measured,
    /// Not measured, and its first answer is awaited.
    Awaited,
}

/// A number in its natural order.
#[derive(Clone, Copy, Debug)]
struct Load(f64);

impl PartialEq for Load {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Load {}

impl PartialOrd for Load {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Load {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Cost {
    /// What is left of it after so long, of 1.
    fn left(self, now: Time) -> f64 {
        (-now.since(self.stamp).as_secs_f64() / DECAY_SECONDS).exp()
    }

    /// The cost after an attempt that took `seconds`; nothing when that says nothing.
    fn after(cost: Option<Self>, seconds: f64, answered: bool, now: Time) -> Option<Self> {
        // Too short to be measured is not nothing: a cost of 0 would bear any load.
        let seconds = seconds.max(1e-6);
        let peak = Self { seconds, stamp: now };
        let Some(cost) = cost else { return answered.then_some(peak) };
        let left = cost.left(now);
        let decayed = cost.seconds * left;
        if seconds > decayed {
            Some(peak)
        } else {
            answered.then_some(Self { seconds: decayed + seconds * (1.0 - left), stamp: now })
        }
    }

    /// Orders costs as they are at any one time.
    fn timeless(self) -> f64 {
        self.seconds.ln() + self.stamp.since(Time::ZERO).as_secs_f64() / DECAY_SECONDS
    }
}

impl Node {
    /// Where it stands among the free ones.
    fn rank(&self) -> Option<Rank> {
        let Candidate { slot, in_flight, free, turn } = self.candidate;
        let busy = f64::from(in_flight);
        let (known, load) = match self.cost {
            Some(cost) => (Known::Measured, cost.timeless() + busy.ln_1p()),
            None if in_flight == 0 => (Known::Fresh, 0.0),
            None => (Known::Awaited, busy),
        };
        free.then_some(Rank { known, load: Load(load), turn, slot })
    }
}

impl PeakEwma {
    fn list(&mut self, slot: u32, change: impl FnOnce(&mut Node)) {
        let Some(node) = self.nodes.get_mut(&slot) else { return };
        if let Some(rank) = node.rank() {
            self.free.remove(&rank);
        }
        change(node);
        self.free.extend(node.rank());
    }
}

impl Balancer for PeakEwma {
    fn name(&self) -> &'static str {
        "peak-ewma"
    }

    fn change(&mut self, before: Option<&Candidate>, after: Option<&Candidate>) {
        match (before, after) {
            (_, Some(after)) => {
                let unknown = Candidate { free: false, ..*after };
                self.nodes.entry(after.slot).or_insert(Node { candidate: unknown, cost: None });
                self.list(after.slot, |node| node.candidate = *after);
            }
            (Some(before), None) => {
                self.list(before.slot, |node| node.candidate.free = false);
                self.nodes.remove(&before.slot);
            }
            (None, None) => {}
        }
    }

    fn choose(&mut self, _affinity: Option<NonZeroU64>, allowed: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        self.free.iter().map(|rank| rank.slot).find(|slot| allowed(*slot))
    }

    fn ended(&mut self, slot: u32, took: Duration, answered: bool, now: Time) {
        self.list(slot, |node| {
            let after = Cost::after(node.cost, took.as_secs_f64(), answered, now);
            node.cost = after.or(node.cost);
        });
    }
}
