//! The policy that always says the same. A bare number is one too.

use super::{Load, Recommendation, ScalingPolicy, Traffic};
use crate::time::Time;

/// A fixed size: a number in the configuration, or what an operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed(pub u32);

impl ScalingPolicy for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn recommend(&mut self, _load: &Load, _traffic: &Traffic, _now: Time) -> Recommendation {
        Recommendation::new(self.0, format!("fixed size {}", self.0))
    }

    fn fixed(&self) -> Option<u32> {
        Some(self.0)
    }
}

impl ScalingPolicy for u32 {
    fn name(&self) -> &'static str {
        Fixed(*self).name()
    }

    fn recommend(&mut self, load: &Load, traffic: &Traffic, now: Time) -> Recommendation {
        Fixed(*self).recommend(load, traffic, now)
    }

    fn fixed(&self) -> Option<u32> {
        Some(*self)
    }
}
