//! Who waits for a slot, in which order, and until when.
//!
//! Two lines: replays by age, then fresh requests first-in-first-out. No operation costs more because more wait: the
//! fresh line is a list through the table of requests, deadlines are a heap whose stale notes are swept when they are
//! the majority, which spreads the cost of a sweep over the waits that made it due.

use std::collections::BTreeMap;

use crate::requests::{Key, Line, List, Place, Requests, Wait};
use crate::time::Time;

mod deadlines;

use deadlines::Deadlines;

/// The queue of one pool.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    fresh: List,
    // By arrival order: a replay keeps its age.
    replays: BTreeMap<u64, Key>,
    deadlines: Deadlines,
    tickets: u64,
}

impl Queue {
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.fresh_len() + self.replays.len()
    }

    /// How many wait that were never dispatched: what the limit counts.
    pub(crate) fn fresh_len(&self) -> usize {
        self.fresh.len() as usize
    }

    /// Lets a request, which is in no list, wait until then.
    pub(crate) fn join(&mut self, requests: &mut Requests, key: Key, line: Line, until: Time) {
        self.tickets += 1;
        let ticket = self.tickets;
        requests[key].place = Place::Waiting(Wait { ticket, until, line });
        match line {
            Line::Fresh => requests.push_back(&mut self.fresh, key),
            Line::Replay => {
                self.replays.insert(requests[key].order, key);
            }
        }
        self.deadlines.note(until, key, ticket);
        let waiting = self.len();
        self.deadlines.sweep(waiting, |key, ticket| waits(requests, key, ticket));
    }

    /// Takes a waiting request out. It stays in the table; the caller says where it goes.
    pub(crate) fn leave(&mut self, requests: &mut Requests, key: Key, line: Line) {
        match line {
            Line::Fresh => requests.unlink(&mut self.fresh, key),
            Line::Replay => {
                self.replays.remove(&requests[key].order);
            }
        }
    }

    /// The first fresh one.
    pub(crate) fn first_fresh(&self) -> Option<Key> {
        self.fresh.first()
    }

    /// The oldest replay, or the oldest that arrived after the one of rank `after`.
    pub(crate) fn next_replay(&self, after: Option<u64>) -> Option<(u64, Key)> {
        let from = after.map_or(0, |order| order + 1);
        self.replays.range(from..).next().map(|(order, key)| (*order, *key))
    }

    /// Whoever waits and comes first.
    pub(crate) fn first(&self) -> Option<Key> {
        self.next_replay(None).map(|(_, key)| key).or(self.first_fresh())
    }

    /// Who of those that wait arrived first.
    pub(crate) fn oldest(&self, requests: &Requests) -> Option<Key> {
        let replay = self.next_replay(None).map(|(_, key)| key);
        replay.into_iter().chain(self.first_fresh()).min_by_key(|key| requests[*key].order)
    }

    /// Someone whose wait is over at `now`; the caller takes it out.
    pub(crate) fn next_expired(&mut self, requests: &Requests, now: Time) -> Option<Key> {
        self.deadlines.pop_due(now, |key, ticket| waits(requests, key, ticket))
    }

    /// When the next wait may end; may be too early, never too late.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first()
    }

    /// Notes of deadlines kept, stale ones included.
    pub(crate) fn notes(&self) -> usize {
        self.deadlines.len()
    }
}

fn waits(requests: &Requests, key: Key, ticket: u64) -> bool {
    requests.get(key).is_some_and(|request| match request.place {
        Place::Waiting(wait) => wait.ticket == ticket,
        Place::Held { .. } | Place::Revoked { .. } => false,
    })
}
