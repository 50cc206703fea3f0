//! `least-busy`: the fewest requests in flight; among equals the one whose last dispatch is the longest ago.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use super::{Balancer, Candidate};

/// The free ones as (in flight, turn, slot).
#[derive(Debug, Default)]
pub(super) struct LeastBusy {
    free: BTreeSet<(u32, u64, u32)>,
}

impl Balancer for LeastBusy {
    fn name(&self) -> &'static str {
        "least-busy"
    }

    fn change(&mut self, before: Option<&Candidate>, after: Option<&Candidate>) {
        let rank = |it: &Candidate| (it.in_flight, it.turn, it.slot);
        if let Some(before) = before.filter(|it| it.free) {
            self.free.remove(&rank(before));
        }
        if let Some(after) = after.filter(|it| it.free) {
            self.free.insert(rank(after));
        }
    }

    fn choose(&mut self, _affinity: Option<NonZeroU64>, allowed: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        self.free.iter().map(|(_, _, slot)| *slot).find(|slot| allowed(*slot))
    }
}
