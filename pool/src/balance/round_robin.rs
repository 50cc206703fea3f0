//! `round-robin`: the one whose last dispatch is the longest ago, however busy it is.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use super::{Balancer, Candidate};

/// The free ones as (turn, slot).
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    free: BTreeSet<(u64, u32)>,
}

impl Balancer for RoundRobin {
    fn name(&self) -> &'static str {
        "round-robin"
    }

    fn change(&mut self, before: Option<&Candidate>, after: Option<&Candidate>) {
        if let Some(before) = before.filter(|it| it.free) {
            self.free.remove(&(before.turn, before.slot));
        }
        if let Some(after) = after.filter(|it| it.free) {
            self.free.insert((after.turn, after.slot));
        }
    }

    fn choose(&mut self, _affinity: Option<NonZeroU64>, allowed: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        self.free.iter().map(|(_, slot)| *slot).find(|slot| allowed(*slot))
    }
}
