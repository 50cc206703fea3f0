//! The size that somebody else advises.

use super::{Advice, Load, Recommendation, ScalingPolicy, Traffic};
use crate::time::Time;

/// Does what was advised last. Whoever puts it in charge asks for advice and hands it in.
///
/// 1. Nothing was advised yet: as it is.
/// 2. The last asking failed: what was advised before that, or as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advised {
    name: &'static str,
    last: Option<(u32, String)>,
    failure: Option<String>,
}

impl Advised {
    /// A policy of this name that was advised nothing yet.
    pub fn new(name: &'static str) -> Self {
        Self { name, last: None, failure: None }
    }
}

impl ScalingPolicy for Advised {
    fn name(&self) -> &'static str {
        self.name
    }

    fn recommend(&mut self, load: &Load, _traffic: &Traffic, _now: Time) -> Recommendation {
        match (&self.last, &self.failure) {
            (Some((size, reason)), None) => Recommendation::new(*size, reason),
            (Some((size, _)), Some(how)) => {
                let failed = Recommendation::unknown(load, format!("kept at the last advice, {size}: {how}"));
                Recommendation { size: *size, ..failed }
            }
            (None, Some(how)) => Recommendation::unknown(load, format!("kept as it is: {how}")),
            (None, None) => Recommendation::new(load.size, "nothing was advised yet"),
        }
    }

    fn advise(&mut self, advice: Advice) {
        match advice {
            Advice::Size { size, reason } => {
                self.last = Some((size, reason));
                self.failure = None;
            }
            Advice::Failed { how } => self.failure = Some(how),
        }
    }
}
