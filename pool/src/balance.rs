//! Which ready instance gets the next request: least-busy, ties to the one whose last dispatch is the longest ago.

use std::collections::BTreeSet;

/// An instance with a free slot, ordered as it is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Free {
    /// Requests that it works on.
    pub(crate) in_flight: u32,
    /// The turn of its last dispatch: rotates among equals.
    pub(crate) turn: u64,
    /// Its slot.
    pub(crate) slot: u32,
}

/// The instances with a free slot. Every change and every choice costs O(log instances).
#[derive(Debug, Default)]
pub(crate) struct Balance {
    free: BTreeSet<Free>,
    turns: u64,
}

impl Balance {
    /// The number of the next dispatch.
    pub(crate) fn next_turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    /// Lists an instance as it is now, in place of how it was `listed`.
    pub(crate) fn list(&mut self, listed: &mut Option<Free>, now: Option<Free>) {
        if *listed == now {
            return;
        }
        if let Some(old) = listed.take() {
            self.free.remove(&old);
        }
        if let Some(new) = now {
            self.free.insert(new);
        }
        *listed = now;
    }

    /// Whether no instance has a free slot.
    pub(crate) fn is_empty(&self) -> bool {
        self.free.is_empty()
    }

    /// The slots of those with a free slot, the best choice first.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> {
        self.free.iter().map(|free| free.slot)
    }

    /// The best choice.
    pub(crate) fn first(&self) -> Option<u32> {
        self.free.first().map(|free| free.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_busy_comes_first_and_ties_rotate() {
        let mut balance = Balance::default();
        let mut listed = [None; 3];
        for (slot, in_flight, turn) in [(0, 1, 5), (1, 0, 9), (2, 0, 7)] {
            balance.list(&mut listed[slot as usize], Some(Free { in_flight, turn, slot }));
        }
        assert_eq!(balance.slots().collect::<Vec<_>>(), [2, 1, 0]);
        balance.list(&mut listed[2], Some(Free { in_flight: 1, turn: 10, slot: 2 }));
        assert_eq!(balance.slots().collect::<Vec<_>>(), [1, 0, 2]);
        balance.list(&mut listed[1], None);
        assert_eq!(balance.first(), Some(0));
    }
}
