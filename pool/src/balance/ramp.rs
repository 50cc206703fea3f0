//! Slow start: an instance that has just become ready gets its share of the requests little by little.
//!
//! Its share of each dispatch is one part of as many as there are candidates; while it is eased in, it gets the fraction
//! of that which its age is of the whole ramp. It saves up what it gets, two requests at the most, and is chosen while it
//! has one saved; it begins with one.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Time;

/// Requests that can be saved up.
const MOST: f64 = 2.0;

/// The instances that are being eased in, by slot.
#[derive(Debug, Default)]
pub(super) struct Ramps {
    by_slot: BTreeMap<u32, Ramp>,
    // When the last of them is over.
    until: Time,
}

#[derive(Clone, Copy, Debug)]
struct Ramp {
    began: Time,
    length: Duration,
    saved: f64,
    // As of the last look: the number of the last dispatch, and the fraction of its share.
    turns: u64,
    fraction: f64,
}

impl Ramps {
    /// An instance becomes ready in this slot.
    pub(super) fn begin(&mut self, slot: u32, length: Duration, turns: u64, now: Time) {
        self.by_slot.remove(&slot);
        if !length.is_zero() {
            self.by_slot.insert(slot, Ramp { began: now, length, saved: 1.0, turns, fraction: 0.0 });
            self.until = self.until.max(now + length);
        }
    }

    /// Whether nobody is being eased in any more; then all is forgotten.
    pub(super) fn are_over(&mut self, now: Time) -> bool {
        if self.by_slot.is_empty() {
            return true;
        }
        if now >= self.until {
            self.by_slot.clear();
        }
        self.by_slot.is_empty()
    }

    /// Whether this one may be chosen before others: it is not being eased in, or has a request saved up.
    pub(super) fn has_share(&mut self, slot: u32, turns: u64, members: usize, now: Time) -> bool {
        self.by_slot.get_mut(&slot).is_none_or(|ramp| {
            let fraction = now.since(ramp.began).as_secs_f64() / ramp.length.as_secs_f64();
            if fraction >= 1.0 {
                return true;
            }
            let mean = f64::midpoint(ramp.fraction, fraction);
            let share = mean * (turns - ramp.turns) as f64 / members.max(1) as f64;
            ramp.saved = (ramp.saved + share).min(MOST);
            (ramp.turns, ramp.fraction) = (turns, fraction);
            ramp.saved >= 1.0
        })
    }

    /// It is a candidate again: of what was dispatched meanwhile it has no share.
    pub(super) fn rejoin(&mut self, slot: u32, turns: u64) {
        if let Some(ramp) = self.by_slot.get_mut(&slot) {
            ramp.turns = turns;
        }
    }

    /// A request is dispatched to this slot.
    pub(super) fn spend(&mut self, slot: u32) {
        if let Some(ramp) = self.by_slot.get_mut(&slot) {
            ramp.saved = (ramp.saved - 1.0).max(0.0);
        }
    }
}
