//! How many instances there should be: a [`ScalingPolicy`] recommends, the `Scaler` bounds, damps and explains.

use std::time::Duration;

use crate::time::Time;

mod fixed;
mod scaler;
#[cfg(test)]
mod tests;

pub use fixed::Fixed;
pub use scaler::Decision;
pub(crate) use scaler::Scaler;

/// What a policy sees.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Requests waiting for a slot.
    pub queue: usize,
    /// How long the oldest of them has waited.
    pub oldest_wait: Duration,
    /// Requests that instances work on.
    pub in_flight: usize,
    /// Instances that take requests.
    pub ready: u32,
    /// Instances being started.
    pub starting: u32,
    /// The size wanted now.
    pub size: u32,
}

/// A policy's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recommendation {
    /// How many instances it wants, before bounds and damping.
    pub size: u32,
    /// Why, in words that an operator understands.
    pub reason: String,
}

/// Decides how many instances a service should have. Any `u32` may come back: the scaler bounds it.
pub trait ScalingPolicy: Send {
    /// The policy's name in decisions and metrics.
    fn name(&self) -> &'static str;

    /// How many instances the service should have, given its load.
    fn recommend(&mut self, load: &Load, now: Time) -> Recommendation;

    /// The size that it will always recommend, when it is a constant: such a size is obeyed at once, without damping,
    /// and the policy is asked again only when the configuration changes.
    fn fixed(&self) -> Option<u32> {
        None
    }
}
