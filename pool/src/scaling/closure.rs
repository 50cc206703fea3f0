//! A function of the load as a policy.

use super::{Load, Recommendation, ScalingPolicy, Traffic};
use crate::time::Time;

impl<F> ScalingPolicy for F
where
    F: FnMut(&Load) -> u32 + Send,
{
    fn name(&self) -> &'static str {
        "closure"
    }

    fn recommend(&mut self, load: &Load, _traffic: &Traffic, _now: Time) -> Recommendation {
        let size = self(load);
        Recommendation::new(size, format!("the function says {size}"))
    }
}
