//! A fair order: deficit round robin (M. Shreedhar and G. Varghese, "Efficient Fair Queueing Using Deficit Round Robin",
//! SIGCOMM 1995) over flows, first in, first out within one.
//!
//! A request costs one slot, whatever its size, and the quantum of each flow is one slot too: a flow whose turn it is
//! always has what its first request costs and has nothing left after it, so that no deficit need be kept. Over any
//! time in which two flows have requests waiting, they are served equally often, to within one.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use crate::requests::{IdHasher, Key, List, Requests};

/// More flows than this give their memory back when nobody waits.
const KEPT_CAPACITY: usize = 4_096;

/// The flows that have someone waiting, in a ring in the order of their turns.
#[derive(Debug, Default)]
pub(super) struct Flows {
    // Found by name only, never iterated: its order must not decide anything.
    by_name: HashMap<u64, u32, BuildHasherDefault<IdHasher>>,
    slab: Vec<Flow>,
    vacant: Vec<u32>,
    next: Option<u32>,
}

/// One flow: who waits, and its neighbours in the ring.
#[derive(Clone, Copy, Debug)]
struct Flow {
    line: List<1>,
    before: u32,
    after: u32,
}

impl Flows {
    /// What a request takes that is the only one of its flow, in tables that have just doubled.
    #[cfg(test)]
    pub(super) const BYTES: usize =
        4 * (size_of::<(u64, u32)>() + 1) + 2 * size_of::<Flow>() + 2 * size_of::<u32>();

    pub(super) fn join(&mut self, requests: &mut Requests, key: Key) {
        let name = requests[key].class.flow;
        let flow = match self.by_name.get(&name) {
            Some(flow) => *flow,
            None => self.add(name),
        };
        requests.push_back(&mut self.slab[flow as usize].line, key);
    }

    /// A flow that was `served` has had its turn; one that somebody has left unserved keeps it.
    pub(super) fn leave(&mut self, requests: &mut Requests, key: Key, served: bool) {
        let name = requests[key].class.flow;
        let Some(index) = self.by_name.get(&name).copied() else { return };
        let flow = &mut self.slab[index as usize];
        requests.unlink(&mut flow.line, key);
        let (empty, after) = (flow.line.is_empty(), flow.after);
        if (served || empty) && self.next == Some(index) {
            self.next = Some(after);
        }
        if empty {
            self.remove(name, index);
        }
    }

    /// Who waits the longest in the flow whose turn it is.
    pub(super) fn next(&self) -> Option<Key> {
        self.slab[self.next? as usize].line.first()
    }

    /// The flows from the one whose turn it is on, by name of their first request; each once.
    pub(super) fn ring(&self) -> impl Iterator<Item = List<1>> {
        let after =
            |index: &u32| Some(self.slab[*index as usize].after).filter(|after| Some(*after) != self.next);
        std::iter::successors(self.next, after).map(|index| self.slab[index as usize].line)
    }

    /// How many flows have someone waiting.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Who waits in the flow of that name.
    pub(super) fn line(&self, name: u64) -> Option<List<1>> {
        self.by_name.get(&name).map(|index| self.slab[*index as usize].line)
    }

    /// A new flow, whose first turn comes after everyone else's.
    fn add(&mut self, name: u64) -> u32 {
        let index = self.vacant.pop().unwrap_or(self.slab.len() as u32);
        let (before, after) = match self.next {
            Some(next) => (self.slab[next as usize].before, next),
            None => (index, index),
        };
        let flow = Flow { line: List::default(), before, after };
        match self.slab.get_mut(index as usize) {
            Some(vacant) => *vacant = flow,
            None => self.slab.push(flow),
        }
        self.slab[before as usize].after = index;
        self.slab[after as usize].before = index;
        self.next.get_or_insert(index);
        self.by_name.insert(name, index);
        index
    }

    fn remove(&mut self, name: u64, index: u32) {
        let Flow { before, after, .. } = self.slab[index as usize];
        self.slab[before as usize].after = after;
        self.slab[after as usize].before = before;
        self.by_name.remove(&name);
        self.vacant.push(index);
        if self.by_name.is_empty() {
            self.next = None;
            if self.slab.capacity() > KEPT_CAPACITY {
                *self = Self::default();
            }
        }
    }
}
