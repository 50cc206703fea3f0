//! An order by priority, in which waiting makes up for a lower one.
//!
//! Each `ageing` of waiting counts as one level. Everybody ages at the same pace, so that who of two comes first never
//! changes while they wait: a request ranks by its arrival, less its priority times `ageing`. A request of priority 9
//! overtakes one of priority 0 only if it arrived less than nine times `ageing` after it: nothing starves.

use std::time::Duration;

use crate::requests::{Key, List, Request, Requests};
use crate::time::Time;

/// The highest priority.
const HIGHEST: u8 = 9;

/// One list a priority, by arrival, so that only the first of each can be next.
#[derive(Debug)]
pub(super) struct Levels {
    pub(super) ageing: Duration,
    lists: [List<1>; HIGHEST as usize + 1],
}

impl Levels {
    pub(super) fn new(ageing: Duration) -> Self {
        Self { ageing, lists: Default::default() }
    }

    pub(super) fn join(&mut self, requests: &mut Requests, key: Key) {
        let level = level(&requests[key]);
        requests.push_back(&mut self.lists[usize::from(level)], key);
    }

    pub(super) fn leave(&mut self, requests: &mut Requests, key: Key) {
        let level = level(&requests[key]);
        requests.unlink(&mut self.lists[usize::from(level)], key);
    }

    /// Who comes first; of equals, who arrived first.
    pub(super) fn next(&self, requests: &Requests) -> Option<Key> {
        let firsts = self.lists.iter().filter_map(List::first);
        firsts.min_by_key(|key| {
            let request = &requests[*key];
            (self.rank(request), request.order)
        })
    }

    /// The levels, lowest first, and before when (in nanoseconds) someone of each must have arrived to come before this
    /// request.
    pub(super) fn before(&self, request: &Request) -> impl Iterator<Item = (List<1>, u64)> {
        let (rank, own) = (self.rank(request).as_nanos(), level(request));
        let levels = self.lists.iter().zip(0..=HIGHEST);
        levels.map(move |(list, level)| {
            let handicap = (Time::ZERO + self.handicap(level)).as_nanos();
            let arrived = rank.checked_sub(handicap);
            // Of two that rank the same, the one of the lower level has arrived first.
            let tie = u64::from(level < own && !self.ageing.is_zero());
            (*list, arrived.map_or(0, |arrived| arrived + tie))
        })
    }

    fn rank(&self, request: &Request) -> Time {
        request.arrived + self.handicap(level(request))
    }

    /// How much later than it arrived a request of this level counts.
    fn handicap(&self, level: u8) -> Duration {
        self.ageing.saturating_mul(u32::from(HIGHEST - level))
    }
}

fn level(request: &Request) -> u8 {
    request.class.priority.min(HIGHEST)
}
