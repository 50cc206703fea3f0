//! From what a policy says to how many instances there should be, and the record of how that came about.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::decision::{damp, words};
use super::{Advice, Decision, Load, ScalingPolicy, Traffic};
use crate::config::PoolConfig;
use crate::time::Time;
use crate::window::SlidingMax;

/// Decisions kept for people to read.
const KEPT: usize = 128;
/// An eager policy is asked so often at the most, however many requests arrive.
const HURRY: Duration = Duration::from_millis(100);

/// How often each policy has raised, lowered, kept the size, or failed to tell.
pub type Tally = BTreeMap<(&'static str, &'static str), u64>;

/// Holds the policy and decides the size.
pub(crate) struct Scaler {
    policy: Box<dyn ScalingPolicy>,
    // What the policy says of itself, asked once.
    fixed: bool,
    eager: bool,
    // None until the first decision: before it, nothing is started and nothing found is removed.
    wanted: Option<u32>,
    next: Option<Time>,
    hurried: Option<Time>,
    window: SlidingMax,
    // In a dry run the policy's size is damped against what it would be, not against what it is.
    imagined: u32,
    decisions: VecDeque<Decision>,
    tally: Tally,
}

impl Scaler {
    /// A scaler whose first decision is due at once.
    pub(crate) fn new(policy: Box<dyn ScalingPolicy>, now: Time) -> Self {
        Self {
            fixed: policy.fixed().is_some(),
            eager: policy.eager(),
            policy,
            wanted: None,
            next: Some(now),
            hurried: None,
            window: SlidingMax::default(),
            imagined: 0,
            decisions: VecDeque::new(),
            tally: Tally::new(),
        }
    }

    /// How many instances there should be; `None` before the first decision.
    pub(crate) fn wanted(&self) -> Option<u32> {
        self.wanted
    }

    /// Whether the size is 0 and nothing but a person will raise it.
    pub(crate) fn stopped(&self) -> bool {
        self.wanted == Some(0) && self.fixed
    }

    /// When the next decision is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.next
    }

    /// The last decisions, oldest first; looks that came to the same are one.
    pub(crate) fn decisions(&self) -> &VecDeque<Decision> {
        &self.decisions
    }

    /// Every decision so far, by policy and direction (`up`, `down`, `same`, `failed`).
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Puts another policy in charge. What was recommended before it holds no longer: the size is its own from its first
    /// decision on.
    pub(crate) fn set_policy(&mut self, policy: Box<dyn ScalingPolicy>) {
        (self.fixed, self.eager) = (policy.fixed().is_some(), policy.eager());
        self.policy = policy;
        self.window = SlidingMax::default();
        self.imagined = self.wanted.unwrap_or(self.imagined);
    }

    /// Hands the policy what somebody else advises.
    pub(crate) fn advise(&mut self, advice: Advice) {
        self.policy.advise(advice);
    }

    /// A request must wait. At size 0, or if the policy is eager, the next decision is due at once, though not more
    /// often than each 100 ms.
    pub(crate) fn hurry(&mut self, now: Time) {
        let Some(next) = self.next else { return };
        if self.fixed || !(self.eager || self.wanted == Some(0)) {
            return;
        }
        let at = self.hurried.map_or(now, |last| now.max(last + HURRY));
        if at < next {
            self.hurried = Some(at);
            self.next = Some(at);
        }
    }

    /// Asks the policy, bounds and damps what it says, and says what the size is now.
    pub(crate) fn decide(&mut self, config: &PoolConfig, load: Load, traffic: &Traffic, now: Time) -> u32 {
        let first = self.wanted.is_none();
        let present = self.wanted.unwrap_or(config.min);
        let before = if config.dry_run && !first { self.imagined } else { present };
        let load = Load { size: before, ..load };
        let said = self.policy.recommend(&load, traffic, now);
        let window = &mut self.window;
        let highest = |size| {
            let highest = window.push(size, config.down_delay, now);
            // Without a delay, what was said at this very instant does not count either.
            if config.down_delay.is_zero() { size } else { highest }
        };
        let (size, damping) = damp(&said, self.fixed, before, config, highest);
        let pause = config.scale_interval.max(Duration::from_millis(1));
        self.next = if self.fixed { None } else { Some(now + pause) };
        self.imagined = size;
        self.record(Decision {
            at: now,
            since: now,
            looks: 1,
            policy: self.policy.name(),
            load,
            inputs: said.inputs,
            recommended: said.size,
            failed: said.failed,
            reason: words(&said.reason, &damping),
            damping,
            before,
            size,
            dry_run: config.dry_run,
        });
        // A dry run begins with the fewest, and then leaves everything as it is.
        let obeyed = if config.dry_run { present.max(config.min).min(config.max) } else { size };
        self.wanted = Some(obeyed);
        obeyed
    }

    fn record(&mut self, decision: Decision) {
        let direction = match decision.size.cmp(&decision.before) {
            _ if decision.failed => "failed",
            std::cmp::Ordering::Greater => "up",
            std::cmp::Ordering::Less => "down",
            std::cmp::Ordering::Equal => "same",
        };
        *self.tally.entry((decision.policy, direction)).or_default() += 1;
        if let Some(last) = self.decisions.back_mut().filter(|last| last.same(&decision)) {
            let (since, looks) = (last.since, last.looks + 1);
            *last = Decision { since, looks, ..decision };
            return;
        }
        if self.decisions.len() == KEPT {
            self.decisions.pop_front();
        }
        self.decisions.push_back(decision);
    }
}
