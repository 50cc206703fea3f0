//! How many instances there should be: a [`ScalingPolicy`] recommends, the `Scaler` bounds, damps and explains.
//!
//! | module | owns |
//! | --- | --- |
//! | `traffic` | [`Traffic`]: what the pool has seen lately, kept whoever is in charge of the size |
//! | `fixed`, `closure`, `advised` | a number; a function of the load; what somebody else says |
//! | `queue` | one more while the queue grows |
//! | `concurrency` | requests per instance, with a stable and a panic window |
//! | `wait` | the smallest size that keeps the wait for a slot under an objective |
//! | `scaler` | bounds, damping, the record of decisions |

use crate::time::Time;

mod advised;
mod closure;
mod concurrency;
mod decision;
mod fixed;
mod load;
mod queue;
mod scaler;
#[cfg(test)]
mod tests;
mod traffic;
mod wait;

pub use advised::Advised;
pub use concurrency::{Concurrency, ConcurrencySettings};
pub use decision::{Damping, Decision};
pub use fixed::Fixed;
pub use load::Load;
pub use queue::Queue;
pub(crate) use scaler::Scaler;
pub use scaler::Tally;
pub use traffic::Traffic;
pub use wait::{Wait, WaitSettings};

/// A policy's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Recommendation {
    /// How many instances it wants, before bounds and damping.
    pub size: u32,
    /// Why, in words that an operator understands.
    pub reason: String,
    /// What it has reckoned with beyond the [`Load`], by name.
    pub inputs: Vec<(&'static str, f64)>,
    /// Whether it could not tell (an expression failed, nobody answers), so that `size` is only the last one.
    pub failed: bool,
}

impl Recommendation {
    /// A size and why.
    pub fn new(size: u32, reason: impl Into<String>) -> Self {
        Self { size, reason: reason.into(), inputs: Vec::new(), failed: false }
    }

    /// The policy cannot tell: the size stays as it is.
    pub fn unknown(load: &Load, reason: impl Into<String>) -> Self {
        Self { failed: true, ..Self::new(load.size, reason) }
    }

    /// Adds what it was reckoned with.
    #[must_use]
    pub fn with(mut self, inputs: impl IntoIterator<Item = (&'static str, f64)>) -> Self {
        self.inputs.extend(inputs);
        self
    }
}

/// News for a policy that asks somebody else.
#[derive(Clone, Debug, PartialEq)]
pub enum Advice {
    /// The other one wants this size.
    Size {
        /// How many instances.
        size: u32,
        /// Why, in its own words.
        reason: String,
    },
    /// The other one did not answer, or nonsense.
    Failed {
        /// What happened.
        how: String,
    },
}

/// Decides how many instances a service should have. Any `u32` may come back: the scaler bounds it.
///
/// A closure over the [`Load`] is a policy too.
pub trait ScalingPolicy: Send {
    /// The policy's name in decisions and metrics.
    fn name(&self) -> &'static str;

    /// How many instances the service should have, given its load now and its traffic lately.
    fn recommend(&mut self, load: &Load, traffic: &Traffic, now: Time) -> Recommendation;

    /// The size that it will always recommend, when it is a constant: such a size is obeyed at once, without damping,
    /// and the policy is asked again only when the configuration changes.
    fn fixed(&self) -> Option<u32> {
        None
    }

    /// Whether it wants to be asked as soon as a request must wait, rather than at the next interval only. (At size 0
    /// every policy is.)
    fn eager(&self) -> bool {
        false
    }

    /// The wait beyond which it calls a request late, if it looks at [`Traffic::late`].
    fn late_after(&self) -> Option<std::time::Duration> {
        None
    }

    /// Takes in what somebody else advises. Most policies ask nobody.
    fn advise(&mut self, _advice: Advice) {}
}
