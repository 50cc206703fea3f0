//! A random order: whoever waits has the same chance at each slot, however many a client has sent before it.

use crate::requests::{Key, Requests};

/// More room than this is given back when nobody waits.
const KEPT_CAPACITY: usize = 4_096;

/// Everyone who waits, in no order; each knows its number.
#[derive(Debug, Default)]
pub(super) struct Urn {
    keys: Vec<Key>,
}

impl Urn {
    /// What a request takes in a list that has just doubled.
    #[cfg(test)]
    pub(super) const BYTES: usize = 2 * size_of::<Key>();

    pub(super) fn join(&mut self, requests: &mut Requests, key: Key) {
        requests[key].number = self.keys.len() as u32;
        self.keys.push(key);
    }

    /// Whoever is last takes the number of the one that leaves.
    pub(super) fn leave(&mut self, requests: &mut Requests, key: Key) {
        let number = requests[key].number;
        self.keys.swap_remove(number as usize);
        if let Some(moved) = self.keys.get(number as usize) {
            requests[*moved].number = number;
        } else if self.keys.is_empty() && self.keys.capacity() > KEPT_CAPACITY {
            self.keys = Vec::new();
        }
    }

    /// Anyone, each with the same chance.
    pub(super) fn draw(&self, rng: &mut fastrand::Rng) -> Option<Key> {
        (!self.keys.is_empty()).then(|| self.keys[rng.usize(..self.keys.len())])
    }
}
