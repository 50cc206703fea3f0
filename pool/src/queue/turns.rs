//! Which fresh request is next: one variant an order.

use crate::config::QueueOrder;
use crate::requests::{Key, List, Requests};

use super::fair::Flows;
use super::priority::Levels;
use super::random::Urn;

/// What each order keeps besides the list by arrival. Joining and leaving cost O(1) in all of them, the next in all but
/// by priority, where it costs one look at each of the ten levels.
#[derive(Debug, Default)]
pub(super) enum Turns {
    /// By arrival.
    #[default]
    Fifo,
    /// Each with the same chance.
    Random(Urn),
    /// One of each flow in turn.
    Fair(Flows),
    /// By priority and age.
    Priority(Levels),
}

impl Turns {
    pub(super) fn new(order: QueueOrder) -> Self {
        match order {
            QueueOrder::Fifo => Self::Fifo,
            QueueOrder::Random => Self::Random(Urn::default()),
            QueueOrder::Fair => Self::Fair(Flows::default()),
            QueueOrder::Priority { ageing } => Self::Priority(Levels::new(ageing)),
        }
    }

    pub(super) fn order(&self) -> QueueOrder {
        match self {
            Self::Fifo => QueueOrder::Fifo,
            Self::Random(_) => QueueOrder::Random,
            Self::Fair(_) => QueueOrder::Fair,
            Self::Priority(levels) => QueueOrder::Priority { ageing: levels.ageing },
        }
    }

    /// A request has joined the list by arrival.
    pub(super) fn join(&mut self, requests: &mut Requests, key: Key) {
        match self {
            Self::Fifo => {}
            Self::Random(urn) => urn.join(requests, key),
            Self::Fair(flows) => flows.join(requests, key),
            Self::Priority(levels) => levels.join(requests, key),
        }
    }

    /// A request has left the list by arrival, served or not.
    pub(super) fn leave(&mut self, requests: &mut Requests, key: Key, served: bool) {
        match self {
            Self::Fifo => {}
            Self::Random(urn) => urn.leave(requests, key),
            Self::Fair(flows) => flows.leave(requests, key, served),
            Self::Priority(levels) => levels.leave(requests, key),
        }
    }

    pub(super) fn next(&self, fresh: &List, requests: &Requests, rng: &mut fastrand::Rng) -> Option<Key> {
        match self {
            Self::Fifo => fresh.first(),
            Self::Random(urn) => urn.draw(rng),
            Self::Fair(flows) => flows.next(),
            Self::Priority(levels) => levels.next(requests),
        }
    }
}

/// The most that any order keeps for a waiting request besides its entry, in bytes.
#[cfg(test)]
pub(crate) fn turn_bytes() -> usize {
    Urn::BYTES.max(Flows::BYTES)
}
