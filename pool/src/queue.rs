//! Who waits for a slot, in which order, and until when.
//!
//! | module | owns |
//! | --- | --- |
//! | this one | [`Queue`]: replays by age, then fresh requests, whose list by arrival is kept in every order |
//! | `turns` | which fresh request is next: one variant an order |
//! | `random`, `fair`, `priority` | what an order keeps besides the list by arrival |
//! | `standing` | how many are served before a request |
//! | `deadlines` | when waits end |
//!
//! No operation costs more because more wait: the fresh line is a list through the table of requests, every order takes
//! and gives in O(1), and deadlines are a heap whose stale notes are swept when they are the majority, which spreads the
//! cost of a sweep over the waits that made it due.

use std::collections::BTreeMap;

use crate::config::QueueOrder;
use crate::requests::{Key, Line, List, Place, Requests, Wait};
use crate::time::Time;

mod deadlines;
mod fair;
mod priority;
mod random;
mod standing;
mod turns;

use deadlines::Deadlines;
use turns::Turns;
#[cfg(test)]
pub(crate) use turns::turn_bytes;

/// The queue of one pool.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    fresh: List,
    turns: Turns,
    // By arrival order: a replay keeps its age.
    replays: BTreeMap<u64, Key>,
    deadlines: Deadlines,
    tickets: u32,
}

impl Queue {
    /// An empty queue of this order.
    pub(crate) fn new(order: QueueOrder) -> Self {
        Self { turns: Turns::new(order), ..Self::default() }
    }

    /// Serves in another order from now on. Costs O(waiting) when it is not the present one.
    pub(crate) fn set_order(&mut self, requests: &mut Requests, order: QueueOrder) {
        if self.turns.order() == order {
            return;
        }
        let waiting: Vec<Key> = self.fresh.keys(requests).collect();
        for key in &waiting {
            self.turns.leave(requests, *key, false);
        }
        self.turns = Turns::new(order);
        for key in waiting {
            self.turns.join(requests, key);
        }
    }

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
        // Wraps around long after the notes of the same ticket are gone.
        self.tickets = self.tickets.wrapping_add(1);
        let ticket = self.tickets;
        requests[key].place = Place::Waiting(Wait { ticket, until, line });
        match line {
            Line::Fresh => {
                requests.push_back(&mut self.fresh, key);
                self.turns.join(requests, key);
            }
            Line::Replay => {
                self.replays.insert(requests[key].order, key);
            }
        }
        self.deadlines.note(until, key, ticket);
        let waiting = self.len();
        self.deadlines.sweep(waiting, |key, ticket| waits(requests, key, ticket));
    }

    /// Takes a waiting request out, unserved. It stays in the table; the caller says where it goes.
    pub(crate) fn leave(&mut self, requests: &mut Requests, key: Key, line: Line) {
        self.take(requests, key, line, false);
    }

    /// Takes a waiting request out because it is served: its flow has had its turn.
    pub(crate) fn serve(&mut self, requests: &mut Requests, key: Key, line: Line) {
        self.take(requests, key, line, true);
    }

    fn take(&mut self, requests: &mut Requests, key: Key, line: Line, served: bool) {
        match line {
            Line::Fresh => {
                requests.unlink(&mut self.fresh, key);
                self.turns.leave(requests, key, served);
            }
            Line::Replay => {
                self.replays.remove(&requests[key].order);
            }
        }
    }

    /// The fresh one whose turn it is. In a random order each call draws anew.
    pub(crate) fn next_fresh(&self, requests: &Requests, rng: &mut fastrand::Rng) -> Option<Key> {
        self.turns.next(&self.fresh, requests, rng)
    }

    /// The oldest replay, or the oldest that arrived after the one of rank `after`.
    pub(crate) fn next_replay(&self, after: Option<u64>) -> Option<(u64, Key)> {
        let from = after.map_or(0, |order| order + 1);
        self.replays.range(from..).next().map(|(order, key)| (*order, *key))
    }

    /// Somebody who waits: replays by age, then the others by arrival.
    pub(crate) fn first(&self) -> Option<Key> {
        self.next_replay(None).map(|(_, key)| key).or(self.fresh.first())
    }

    /// All who wait: replays by age, then the others by arrival.
    pub(crate) fn keys(&self, requests: &Requests) -> impl Iterator<Item = Key> {
        self.replays.values().copied().chain(self.fresh.keys(requests))
    }

    /// Who of those that wait arrived first.
    pub(crate) fn oldest(&self, requests: &Requests) -> Option<Key> {
        let replay = self.next_replay(None).map(|(_, key)| key);
        replay.into_iter().chain(self.fresh.first()).min_by_key(|key| requests[*key].order)
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

fn waits(requests: &Requests, key: Key, ticket: u32) -> bool {
    requests.get(key).is_some_and(|request| match request.place {
        Place::Waiting(wait) => wait.ticket == ticket,
        Place::Held { .. } | Place::Revoked { .. } => false,
    })
}
