//! One decision about the size, with everything that it was made from.

use std::sync::Arc;
use std::time::Duration;

use super::{Load, Recommendation};
use crate::config::PoolConfig;
use crate::time::Time;

/// One look of the policy and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// When it was made last.
    pub at: Time,
    /// When it was made first: looks that come to the same are one decision.
    pub since: Time,
    /// How many looks came to it.
    pub looks: u64,
    /// The policy's name.
    pub policy: &'static str,
    /// What the policy saw at the last of them.
    pub load: Load,
    /// What it reckoned with beyond that, by name.
    pub inputs: Vec<(&'static str, f64)>,
    /// What it said, before bounds and damping.
    pub recommended: u32,
    /// Whether it could not tell, so that `recommended` is the last size.
    pub failed: bool,
    /// What bounds and damping did to that, in their order; those that did nothing are left out.
    pub damping: Vec<Damping>,
    /// The size before.
    pub before: u32,
    /// The size that was decided.
    pub size: u32,
    /// Whether it was only recorded, and the size left as it was.
    pub dry_run: bool,
    /// Why, in words: the policy's reason, and what bounds and damping made of it.
    pub reason: Arc<str>,
}

/// What one bound or damper did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damping {
    /// Its name in the configuration: `min`, `max`, `up_step`, `down_delay`.
    pub by: &'static str,
    /// The size that it was given.
    pub from: u32,
    /// The size that it made of it.
    pub to: u32,
    /// Why, in words.
    pub reason: String,
}

impl Decision {
    /// Whether a later look came to the same: then only the newest is kept, and counted.
    pub(crate) fn same(&self, later: &Self) -> bool {
        let by = |decision: &Self| decision.damping.iter().map(|damping| damping.by).collect::<Vec<_>>();
        self.policy == later.policy
            && self.size == later.size
            && self.recommended == later.recommended
            && (self.failed, self.dry_run) == (later.failed, later.dry_run)
            && by(self) == by(later)
            // The first look after a change is told apart from those that leave it so.
            && self.before == later.before
    }
}

/// Takes a recommendation through bounds and dampers.
///
/// 1. Whatever it says is held between `min` and `max`.
/// 2. A fixed size is obeyed at once.
/// 3. More than now: by `up_step` at the most.
/// 4. Less than now: to the highest recommendation of the last `down_delay`, which `highest` answers.
pub(crate) fn damp(
    said: &Recommendation,
    fixed: bool,
    before: u32,
    config: &PoolConfig,
    highest: impl FnOnce(u32) -> u32,
) -> (u32, Vec<Damping>) {
    let mut size = said.size;
    let mut damping = Vec::new();
    let mut apply = |by, to: u32, reason: &dyn Fn(u32) -> String| {
        if to != size {
            damping.push(Damping { by, from: size, to, reason: reason(to) });
            size = to;
        }
        size
    };
    apply("min", said.size.max(config.min), &|to| format!("raised to min {to}"));
    let bounded = apply("max", said.size.max(config.min).min(config.max), &|to| format!("held to max {to}"));
    let highest = highest(bounded);
    let before = before.max(config.min).min(config.max);
    if !fixed && bounded > before {
        let step = config.up_step;
        apply("up_step", bounded.min(before.saturating_add(step)), &|_| {
            format!("{step} more at once at the most")
        });
    } else if !fixed {
        apply("down_delay", highest.min(before).max(bounded), &|to| {
            format!("kept at {to}, recommended within the last {} s", seconds(config.down_delay))
        });
    }
    (size, damping)
}

/// The policy's words and those of what damped it.
pub(crate) fn words(reason: &str, damping: &[Damping]) -> Arc<str> {
    damping.iter().fold(reason.to_owned(), |words, damping| words + "; " + &damping.reason).into()
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
