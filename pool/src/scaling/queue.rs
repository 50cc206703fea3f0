//! One more while the queue grows, the fewest when it is empty.

use std::time::Duration;

use super::{Load, Recommendation, ScalingPolicy, Traffic};
use crate::time::Time;

/// The rule of ya-httpx-client's `SimpleLoadBalancer`, whose numbers are the defaults. Looks every so often:
///
/// 1. at the first look: `first`;
/// 2. the queue is empty, and was at the last look: `min`;
/// 3. it is longer than at the last look: one more, up to `max`;
/// 4. otherwise: as it is.
/// 5. Between looks as it is; but from 0 to 1 at once when a request waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The size to begin with.
    pub first: u32,
    /// The size when nothing has waited for two looks.
    pub min: u32,
    /// The largest size.
    pub max: u32,
    /// Time between two looks.
    pub every: Duration,
    last: Option<Look>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    at: Time,
    queue: usize,
    size: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self::new(1, 5)
    }
}

impl Queue {
    /// Sizes from `min` to `max`, a look every 10 s.
    pub fn new(min: u32, max: u32) -> Self {
        Self { first: 3.min(max).max(min), min, max, every: Duration::from_secs(10), last: None }
    }

    fn look(&self, last: Look, queue: usize) -> (u32, String) {
        if queue == 0 && last.queue == 0 {
            (self.min, "nothing waits, nor did at the last look".into())
        } else if queue > last.queue {
            let size = last.size.saturating_add(1).min(self.max);
            (size, format!("the queue grew from {} to {queue}", last.queue))
        } else {
            (last.size, format!("{queue} wait, {} at the last look", last.queue))
        }
    }
}

impl ScalingPolicy for Queue {
    fn name(&self) -> &'static str {
        "queue"
    }

    fn recommend(&mut self, load: &Load, _traffic: &Traffic, now: Time) -> Recommendation {
        let (size, reason) = match self.last {
            None => (self.first, "the first size".into()),
            Some(last) if last.size == 0 && load.queue > 0 => (1.min(self.max), "a request waits".into()),
            Some(last) if now.since(last.at) < self.every => {
                let said = format!("{} at the last look", last.size);
                return Recommendation::new(last.size, said).with([("queue_before", last.queue as f64)]);
            }
            Some(last) => self.look(last, load.queue),
        };
        let before = self.last.replace(Look { at: now, queue: load.queue, size });
        let before = before.map_or(0.0, |last| last.queue as f64);
        Recommendation::new(size, reason).with([("queue_before", before)])
    }
}
