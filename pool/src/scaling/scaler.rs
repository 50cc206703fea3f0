//! From what a policy says to how many instances there should be: bounds, damping, and the reason in words.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{Load, ScalingPolicy};
use crate::config::PoolConfig;
use crate::time::Time;
use crate::window::SlidingMax;

/// Decisions kept for people to read.
const KEPT: usize = 64;

/// One look of the policy and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// When.
    pub at: Time,
    /// The policy's name.
    pub policy: &'static str,
    /// What the policy saw.
    pub load: Load,
    /// What it said, before bounds and damping.
    pub recommended: u32,
    /// The size that was decided.
    pub size: u32,
    /// Why, in words: the policy's reason, and what bounds and damping made of it.
    pub reason: Arc<str>,
}

/// Holds the policy and decides the size.
pub(crate) struct Scaler {
    policy: Box<dyn ScalingPolicy>,
    // None until the first decision: before it, nothing is started and nothing found is removed.
    wanted: Option<u32>,
    next: Option<Time>,
    window: SlidingMax,
    decisions: VecDeque<Decision>,
}

impl Scaler {
    /// A scaler whose first decision is due at once.
    pub(crate) fn new(policy: Box<dyn ScalingPolicy>, now: Time) -> Self {
        Self {
            policy,
            wanted: None,
            next: Some(now),
            window: SlidingMax::default(),
            decisions: VecDeque::new(),
        }
    }

    /// How many instances there should be; `None` before the first decision.
    pub(crate) fn wanted(&self) -> Option<u32> {
        self.wanted
    }

    /// Whether the size is 0 and nothing but a person will raise it.
    pub(crate) fn stopped(&self) -> bool {
        self.wanted == Some(0) && self.policy.fixed().is_some()
    }

    /// When the next decision is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.next
    }

    /// The last decisions that changed anything, oldest first.
    pub(crate) fn decisions(&self) -> &VecDeque<Decision> {
        &self.decisions
    }

    /// Puts another policy in charge. The present size counts as a recommendation of this moment, so that a change of
    /// policy is damped like any other.
    pub(crate) fn set_policy(&mut self, policy: Box<dyn ScalingPolicy>, config: &PoolConfig, now: Time) {
        self.policy = policy;
        self.window = SlidingMax::default();
        if let Some(wanted) = self.wanted {
            self.window.push(wanted, config.down_delay, now);
        }
    }

    /// Asks the policy and decides.
    ///
    /// 1. Whatever it says is held between min and max.
    /// 2. A fixed size is obeyed at once, and not looked at again until something changes.
    /// 3. More than now: by `up_step` at the most.
    /// 4. Less than now: to the highest recommendation of the last `down_delay`.
    pub(crate) fn decide(&mut self, config: &PoolConfig, load: Load, now: Time) -> u32 {
        let said = self.policy.recommend(&load, now);
        let mut words = said.reason;
        let bounded = bound(said.size, config, &mut words);
        let before = self.wanted.map(|wanted| wanted.max(config.min).min(config.max));
        let highest = self.window.push(bounded, config.down_delay, now);
        let fixed = self.policy.fixed().is_some();
        let size = if fixed {
            bounded
        } else {
            damp(bounded, before.unwrap_or(config.min), highest, config, &mut words)
        };
        self.next =
            if fixed { None } else { Some(now + config.scale_interval.max(Duration::from_millis(1))) };
        self.wanted = Some(size);
        self.record(Decision {
            at: now,
            policy: self.policy.name(),
            load,
            recommended: said.size,
            size,
            reason: words.into(),
        });
        size
    }

    fn record(&mut self, decision: Decision) {
        let same = |last: &Decision| last.size == decision.size && last.reason == decision.reason;
        if self.decisions.back().is_some_and(same) {
            return;
        }
        if self.decisions.len() == KEPT {
            self.decisions.pop_front();
        }
        self.decisions.push_back(decision);
    }
}

fn bound(said: u32, config: &PoolConfig, words: &mut String) -> u32 {
    if said > config.max {
        words.push_str(&format!("; held to max {}", config.max));
    } else if said < config.min {
        words.push_str(&format!("; raised to min {}", config.min));
    }
    said.max(config.min).min(config.max)
}

fn damp(bounded: u32, before: u32, highest: u32, config: &PoolConfig, words: &mut String) -> u32 {
    if bounded >= before {
        let size = bounded.min(before.saturating_add(config.up_step));
        if size < bounded {
            words.push_str(&format!("; {} more at once at the most", config.up_step));
        }
        return size;
    }
    let size = highest.min(before).max(config.min).min(config.max);
    if size > bounded {
        let seconds = config.down_delay.as_secs_f64();
        words.push_str(&format!("; kept at {size}, recommended within the last {seconds} s"));
    }
    size
}
