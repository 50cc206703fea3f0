//! `hash`: requests of one key go to one instance, within bounds.
//!
//! Consistent hashing with bounded loads (V. Mirrokni, M. Thorup, M. Zadimoghaddam, SODA 2018): nobody gets a request
//! while it has as many as c = 1.25 times the mean, this request included, rounded up; the key then goes to its next
//! choice. The order of choices is that of rendezvous hashing (D. Thaler, C. Ravishankar, 1998) in place of a ring: each
//! key ranks all slots by a hash of both. So when an instance leaves, the keys that had it as their first choice move,
//! each to its own second choice, and no others; when its slot is taken again they return.
//!
//! Where nobody within the bound has a slot free, the first choice with a free slot takes it: a slot is never kept free
//! while somebody waits. A request without a key goes to the least busy.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::num::NonZeroU64;

use super::{Balancer, Candidate};

/// c, as a fraction.
const BOUND: (u64, u64) = (5, 4);

/// The free ones, in no order, and what all together have: those without a free slot count for the mean.
#[derive(Debug, Default)]
pub(super) struct BoundedHash {
    free: Vec<Candidate>,
    // Where each slot is among the free ones.
    places: BTreeMap<u32, usize>,
    members: u64,
    in_flight: u64,
}

impl BoundedHash {
    /// Requests at which an instance has too many to get another one.
    fn bound(&self) -> u64 {
        let (over, under) = BOUND;
        (over * (self.in_flight + 1)).div_ceil(under * self.members.max(1))
    }

    /// The allowed one of the highest rank. Asks only about those that are better than the best so far.
    fn best<R: Ord>(
        &self,
        rank: impl Fn(&Candidate) -> R,
        allowed: &mut dyn FnMut(u32) -> bool,
    ) -> Option<u32> {
        let mut best: Option<(R, u32)> = None;
        for it in &self.free {
            let rank = rank(it);
            if best.as_ref().is_none_or(|(best, _)| rank > *best) && allowed(it.slot) {
                best = Some((rank, it.slot));
            }
        }
        best.map(|(_, slot)| slot)
    }

    fn remove(&mut self, slot: u32) {
        let Some(place) = self.places.remove(&slot) else { return };
        self.free.swap_remove(place);
        if let Some(moved) = self.free.get(place) {
            self.places.insert(moved.slot, place);
        }
    }
}

impl Balancer for BoundedHash {
    fn name(&self) -> &'static str {
        "hash"
    }

    fn change(&mut self, before: Option<&Candidate>, after: Option<&Candidate>) {
        if let Some(before) = before {
            self.in_flight -= u64::from(before.in_flight);
            self.members -= 1;
            self.remove(before.slot);
        }
        if let Some(after) = after {
            self.in_flight += u64::from(after.in_flight);
            self.members += 1;
            if after.free {
                self.places.insert(after.slot, self.free.len());
                self.free.push(*after);
            }
        }
    }

    fn choose(&mut self, affinity: Option<NonZeroU64>, allowed: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        let bound = self.bound();
        match affinity {
            Some(key) => {
                self.best(|it| (u64::from(it.in_flight) < bound, score(key, it.slot), it.slot), allowed)
            }
            None => self.best(|it| Reverse((it.in_flight, it.turn, it.slot)), allowed),
        }
    }
}

/// How much a key likes a slot: both mixed as by the finalizer of SplitMix64 (G. Steele, D. Lea, C. Flood, 2014).
fn score(key: NonZeroU64, slot: u32) -> u64 {
    let mut mixed = key.get() ^ u64::from(slot).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for multiplier in [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB] {
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(multiplier);
    }
    mixed ^ (mixed >> 31)
}
