//! `random`: any that is free, each with the same chance.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use super::{Balancer, Candidate};

/// The free ones, in no order.
#[derive(Debug)]
pub(super) struct Random {
    rng: fastrand::Rng,
    free: Vec<u32>,
    // Where each slot is among the free ones.
    places: BTreeMap<u32, usize>,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: fastrand::Rng::with_seed(seed), free: Vec::new(), places: BTreeMap::new() }
    }

    fn add(&mut self, slot: u32) {
        self.places.insert(slot, self.free.len());
        self.free.push(slot);
    }

    fn remove(&mut self, slot: u32) {
        let Some(place) = self.places.remove(&slot) else { return };
        self.free.swap_remove(place);
        if let Some(moved) = self.free.get(place) {
            self.places.insert(*moved, place);
        }
    }
}

impl Balancer for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn change(&mut self, before: Option<&Candidate>, after: Option<&Candidate>) {
        let free = |it: Option<&Candidate>| it.filter(|it| it.free).map(|it| it.slot);
        match (free(before), free(after)) {
            (None, Some(slot)) => self.add(slot),
            (Some(slot), None) => self.remove(slot),
            (None, None) | (Some(_), Some(_)) => {}
        }
    }

    /// Where the first drawn is not allowed, one is drawn from those that are: also with the same chance each.
    fn choose(&mut self, _affinity: Option<NonZeroU64>, allowed: &mut dyn FnMut(u32) -> bool) -> Option<u32> {
        if self.free.is_empty() {
            return None;
        }
        let drawn = self.free[self.rng.usize(..self.free.len())];
        if allowed(drawn) {
            return Some(drawn);
        }
        let others: Vec<u32> = self.free.iter().copied().filter(|slot| allowed(*slot)).collect();
        self.rng.choice(others)
    }
}
