//! The table of admitted requests: one entry from arrival to end, and the lists that run through the entries.
//!
//! Entries live in a slab; a request is in at most one list of its own (the fresh queue, or what one instance holds),
//! and while it waits in one more that the queue's order needs, so that joining, leaving and being found cost O(1)
//! however many there are, with nothing left behind to clean up.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::event::{Class, InstanceId, RequestId};
use crate::time::Time;

mod hash;
mod list;

pub(crate) use hash::IdHasher;
use list::Links;
pub(crate) use list::List;

/// The place of a request in the slab. Taken again after the request has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(NonZeroU32);

impl Key {
    fn new(index: usize) -> Self {
        Self(
            u32::try_from(index)
                .ok()
                .and_then(|index| NonZeroU32::MIN.checked_add(index))
                .unwrap_or(NonZeroU32::MAX),
        )
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// An admitted request.
#[derive(Debug)]
pub(crate) struct Request {
    /// Its name.
    pub(crate) id: RequestId,
    /// When it arrived; its age counts from here.
    pub(crate) arrived: Time,
    /// Its rank by arrival: what orders replays.
    pub(crate) order: u64,
    /// Never dispatched at or after this.
    pub(crate) deadline: Time,
    /// What queue and balancer tell it apart by.
    pub(crate) class: Class,
    /// Whether its answer has begun and has no known end.
    pub(crate) streams: bool,
    /// Whether a second instance may get it after a first one may have seen it.
    pub(crate) replayable: bool,
    /// Dispatches so far.
    pub(crate) attempts: u32,
    /// Where it is now.
    pub(crate) place: Place,
    /// Its number in a queue whose order keeps one.
    pub(crate) number: u32,
    // None for most.
    lost: Option<Box<Lost>>,
    links: [Links; 2],
}

/// What is remembered of a request that was lost.
#[derive(Debug, Default)]
struct Lost {
    /// Losses after which an instance may have seen it.
    sent: u32,
    /// It goes only to an instance that has shown life since then.
    trust_from: Time,
    /// To one that it was lost on, only if that has shown life since then.
    return_from: Time,
    /// Where and how.
    losses: Vec<(InstanceId, Arc<str>)>,
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the queue.
    Waiting(Wait),
    /// With an instance that lives.
    Held {
        /// The instance.
        instance: InstanceId,
        /// When it was dispatched.
        since: Time,
    },
    /// Revoked from an instance; the gateway has not told yet how the attempt ended.
    Revoked {
        /// The instance.
        instance: InstanceId,
    },
}

/// One wait for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// Names this wait, so that the deadline of an earlier one is recognised.
    pub(crate) ticket: u32,
    /// When the wait ends without a slot.
    pub(crate) until: Time,
    /// In which line.
    pub(crate) line: Line,
}

/// The two lines of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Never dispatched before.
    Fresh,
    /// Dispatched before and come back: served first.
    Replay,
}

impl Request {
    /// A request that has just arrived. The caller puts it into its place.
    pub(crate) fn new(
        id: RequestId,
        deadline: Time,
        replayable: bool,
        class: Class,
        order: u64,
        now: Time,
    ) -> Self {
        Self {
            id,
            arrived: now,
            order,
            deadline,
            class,
            streams: false,
            replayable,
            attempts: 0,
            place: Place::Waiting(Wait { ticket: 0, until: deadline, line: Line::Fresh }),
            number: 0,
            lost: None,
            links: Default::default(),
        }
    }

    /// Where and how it was lost.
    pub(crate) fn losses(&self) -> &[(InstanceId, Arc<str>)] {
        self.lost.as_ref().map_or(&[], |lost| &lost.losses)
    }

    /// As [`Request::losses`], taken out.
    pub(crate) fn take_losses(&mut self) -> Vec<(InstanceId, Arc<str>)> {
        self.lost.take().map(|lost| lost.losses).unwrap_or_default()
    }

    /// Losses after which an instance may have seen it.
    pub(crate) fn sent_losses(&self) -> u32 {
        self.lost.as_ref().map_or(0, |lost| lost.sent)
    }

    /// It goes to this instance only if that has shown life since then.
    pub(crate) fn trust_from(&self, instance: InstanceId) -> Time {
        let Some(lost) = &self.lost else { return Time::ZERO };
        let outlived = lost.losses.iter().any(|(lost_on, _)| *lost_on == instance);
        if outlived { lost.trust_from.max(lost.return_from) } else { lost.trust_from }
    }

    /// Whether it was lost on this instance.
    pub(crate) fn outlived(&self, instance: InstanceId) -> bool {
        self.losses().iter().any(|(lost_on, _)| *lost_on == instance)
    }

    /// Notes a loss. Losses before anything was sent are noted once an instance, so that the note stays short.
    ///
    /// Instances often die together (an operator's `kill`, a host short of memory), and for a moment the others still
    /// accept connections: without a pause, one request could be lost on all of them and look as if it were the cause.
    pub(crate) fn note_loss(&mut self, instance: InstanceId, how: Arc<str>, sent: bool, now: Time) {
        let known = self.outlived(instance);
        let lost = self.lost.get_or_insert_default();
        if sent {
            lost.trust_from = now + replay_pause(lost.sent);
            lost.return_from = now + RETURN_PAUSE;
            lost.sent += 1;
        } else if known {
            return;
        }
        lost.losses.push((instance, how));
    }
}

/// How long after a loss an instance that a request was lost on must show life to get it again, where no other can be had:
/// one that is dying answers for a moment still.
const RETURN_PAUSE: Duration = Duration::from_millis(250);

/// How long after a loss an instance must show life to get the request: at once after the first loss, then 250 ms,
/// doubled each time up to 4 s.
fn replay_pause(earlier_losses: u32) -> Duration {
    match earlier_losses {
        0 => Duration::ZERO,
        many => Duration::from_millis(250 << (many - 1).min(4)),
    }
}

/// All admitted requests.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    // Found by name only, never iterated: its order must not decide anything.
    by_id: HashMap<RequestId, Key, BuildHasherDefault<IdHasher>>,
    slab: Vec<Option<Request>>,
    vacant: Vec<Key>,
}

/// A table that had to hold more than this gives its memory back when it is empty again.
const KEPT_CAPACITY: usize = 4_096;

impl Requests {
    /// How many are admitted and have not ended.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The request of this name.
    pub(crate) fn find(&self, id: RequestId) -> Option<Key> {
        self.by_id.get(&id).copied()
    }

    /// Takes a request in; `None` when its name is known already.
    pub(crate) fn insert(&mut self, request: Request) -> Option<Key> {
        let key = self.vacant.last().copied().unwrap_or(Key::new(self.slab.len()));
        match self.by_id.entry(request.id) {
            std::collections::hash_map::Entry::Occupied(_) => return None,
            std::collections::hash_map::Entry::Vacant(entry) => entry.insert(key),
        };
        if self.vacant.pop().is_some() {
            self.slab[key.index()] = Some(request);
        } else {
            self.slab.push(Some(request));
        }
        Some(key)
    }

    /// Forgets a request, which must be in no list any more.
    pub(crate) fn remove(&mut self, key: Key) -> Option<Request> {
        let request = self.slab[key.index()].take()?;
        self.by_id.remove(&request.id);
        self.vacant.push(key);
        if self.by_id.is_empty() && self.slab.capacity() > KEPT_CAPACITY {
            *self = Self::default();
        }
        Some(request)
    }

    /// The request in this place, if there is one: for notes that may be older than their request.
    pub(crate) fn get(&self, key: Key) -> Option<&Request> {
        self.slab.get(key.index())?.as_ref()
    }
}

impl std::ops::Index<Key> for Requests {
    type Output = Request;

    fn index(&self, key: Key) -> &Request {
        self.slab[key.index()].as_ref().expect("a key that is held names a live request")
    }
}

impl std::ops::IndexMut<Key> for Requests {
    fn index_mut(&mut self, key: Key) -> &mut Request {
        self.slab[key.index()].as_mut().expect("a key that is held names a live request")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_request_takes_less_than_half_a_kibibyte() {
        // A slab and a heap that have just doubled, and a hash table that is as empty as it gets.
        let slab = 2 * size_of::<Option<Request>>();
        let table = 4 * (size_of::<(RequestId, Key)>() + 1);
        let deadline = 2 * 2 * size_of::<(Time, u32, Key)>();
        // What the orders keep besides: the costliest is a flow for each request.
        let turn = crate::queue::turn_bytes();
        let all = slab + table + deadline + turn + 2 * size_of::<Key>();
        assert!(all < 512, "{all} bytes: {slab} + {table} + {deadline} + {turn}");
    }

    #[test]
    fn a_table_that_was_large_gives_its_memory_back_when_it_is_empty() {
        let mut requests = Requests::default();
        let keys: Vec<_> = (0..100_000)
            .map(|n| {
                requests
                    .insert(Request::new(RequestId(n), Time::MAX, true, Class::default(), n, Time::ZERO))
                    .unwrap()
            })
            .collect();
        for key in keys {
            assert!(requests.remove(key).is_some());
        }
        assert!(requests.slab.capacity() <= KEPT_CAPACITY);
        assert!(requests.by_id.capacity() <= KEPT_CAPACITY);
    }
}
