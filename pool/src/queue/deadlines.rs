//! When waits end: a heap of notes, of which those of waits that ended otherwise are stale.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::requests::Key;
use crate::time::Time;

/// Notes below this are not worth a sweep.
const SWEEP_FROM: usize = 1_024;

/// Notes of when waits end, earliest first.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    notes: BinaryHeap<Reverse<(Time, u32, Key)>>,
}

impl Deadlines {
    /// Notes that the wait `ticket` of `key` ends then.
    pub(super) fn note(&mut self, until: Time, key: Key, ticket: u32) {
        self.notes.push(Reverse((until, ticket, key)));
    }

    /// Drops stale notes once they outnumber the `live` ones: each wait pays for at most one sweep of two notes.
    pub(super) fn sweep(&mut self, live: usize, waits: impl Fn(Key, u32) -> bool) {
        if self.notes.len() < SWEEP_FROM.max(live * 2) {
            return;
        }
        self.notes.retain(|Reverse((_, ticket, key))| waits(*key, *ticket));
        self.notes.shrink_to(SWEEP_FROM.max(live * 4));
    }

    /// Removes and returns the next whose wait is over; removes stale notes before it.
    pub(super) fn pop_due(&mut self, now: Time, waits: impl Fn(Key, u32) -> bool) -> Option<Key> {
        while let Some(Reverse((until, ticket, key))) = self.notes.peek().copied() {
            if until > now {
                return None;
            }
            self.notes.pop();
            if waits(key, ticket) {
                return Some(key);
            }
        }
        None
    }

    /// The earliest note, stale or not.
    pub(super) fn first(&self) -> Option<Time> {
        self.notes.peek().map(|Reverse((until, _, _))| *until)
    }

    /// Notes kept.
    pub(super) fn len(&self) -> usize {
        self.notes.len()
    }
}
