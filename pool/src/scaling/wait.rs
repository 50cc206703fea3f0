//! The smallest size that keeps the wait for a slot under an objective, most of the time.
//!
//! A policy that counts requests per instance keeps a margin whether waiting is likely or not. This one asks how likely
//! it is: it measures how requests arrive and how long they take, foresees how many will be there when an instance that
//! is started now is ready, and takes the smallest size at which at most `late` of the requests wait longer than the
//! objective.
//!
//! | part | question |
//! | --- | --- |
//! | `rate` | how many arrive, how evenly, and is it rising? |
//! | `want` | how many instances does that take? |
//! | `hold` | how long is an instance kept that is not wanted now? |

use std::time::Duration;

use super::{Load, Recommendation, ScalingPolicy, Traffic};
use crate::time::Time;

mod hold;
mod rate;
mod want;

use hold::Hold;
use rate::Demand;
use want::Outlook;

/// What the policy is told. The defaults are good for most services.
#[derive(Clone, Debug, PartialEq)]
pub struct WaitSettings {
    /// The longest wait for a slot that is not late.
    pub objective: Duration,
    /// The part of all requests that may be late.
    pub late: f64,
    /// An instance that is not wanted is kept for at least this, or for the time of a start if that is longer.
    pub keep_min: Duration,
    /// An instance is kept for at most this because it was wanted again after such a time before; zero never learns.
    pub keep_max: Duration,
    /// The last instance is kept for at most this when nothing comes.
    pub zero_max: Duration,
    /// The service time that is believed until something was answered.
    pub service_time: Duration,
    /// The start time that is believed until an instance was started.
    pub start_time: Duration,
}

impl Default for WaitSettings {
    fn default() -> Self {
        Self {
            objective: Duration::from_secs(1),
            late: 0.05,
            keep_min: Duration::from_secs(3),
            keep_max: Duration::from_secs(300),
            zero_max: Duration::from_secs(600),
            service_time: Duration::from_millis(500),
            start_time: Duration::from_secs(5),
        }
    }
}

/// The policy and what it remembers.
#[derive(Clone, Debug, Default)]
pub struct Wait {
    settings: WaitSettings,
    caution: Caution,
    hold: Hold,
}

/// What is known at one look, in seconds and requests; slots are what one request takes of an instance.
struct Facts {
    objective: f64,
    late: f64,
    // Mean and squared coefficient of variation of service times.
    service: f64,
    variation: f64,
    // How long a start takes, and what is left of each one that is under way.
    start: f64,
    coming: Vec<f64>,
    requests: f64,
    slots: f64,
    ready: f64,
    demand: Demand,
}

impl Facts {
    /// Late dispatches are counted once so many were made.
    const JUDGED_FROM: u64 = 50;
    /// The squared coefficient of variation is believed from so many answers on; 1 before that, 10 at the most.
    const VARIED_FROM: usize = 20;
    const MOST_VARIED: f64 = 10.0;

    fn new(policy: &Wait, load: &Load, traffic: &Traffic, now: Time) -> Self {
        let (service, variation) = policy.service(traffic);
        let ages = traffic.starting().iter().map(|asked| now.since(*asked).as_secs_f64());
        let oldest = ages.clone().fold(0.0, f64::max);
        let start = traffic.start_time().unwrap_or_else(|| policy.unknown_start(oldest));
        Self {
            objective: policy.settings.objective.as_secs_f64(),
            late: policy.settings.late,
            service,
            variation,
            start,
            coming: ages.map(|age| (start - age).max(0.0)).collect(),
            requests: load.requests() as f64,
            slots: f64::from(load.concurrency.max(1)),
            ready: f64::from(load.ready),
            demand: Demand::measure(traffic, service, start),
        }
    }
}

impl Wait {
    /// A policy that has seen nothing yet.
    pub fn new(settings: WaitSettings) -> Self {
        Self { settings, ..Self::default() }
    }

    /// Mean and squared coefficient of variation of service times. While few were answered, those at work count too: a
    /// request that has been at work for a minute says more than three that were answered at once.
    fn service(&self, traffic: &Traffic) -> (f64, f64) {
        let (mean, cv2, known) = traffic.service();
        let guess = self.settings.service_time.as_secs_f64();
        let mean = if known < Facts::VARIED_FROM {
            let sum = mean * known as f64 + traffic.running_ages();
            if known == 0 { sum.max(guess) } else { sum / known as f64 }
        } else {
            mean
        };
        let cv2 = if known < Facts::VARIED_FROM { 1.0 } else { cv2.min(Facts::MOST_VARIED) };
        (mean.max(1e-4), cv2)
    }

    /// How long a start takes while none is known: as believed, until one has taken longer. Then as much again as that
    /// is over, since what has taken long already is likely to take longer still.
    fn unknown_start(&self, oldest: f64) -> f64 {
        let believed = self.settings.start_time.as_secs_f64();
        believed + 2.0 * (oldest - believed).max(0.0)
    }

    fn size(&mut self, load: &Load, traffic: &Traffic, facts: &Facts, now: Time) -> (u32, Outlook) {
        let outlook = Outlook::at(facts);
        let margin = facts.late * self.caution.part;
        let slots = outlook.want(facts, margin);
        // Without a limit to what an instance works on at once nothing ever waits: one is enough.
        let slots = if load.concurrency == 0 { slots.min(1) } else { slots };
        let want = slots.div_ceil(load.concurrency.max(1)).max(u32::from(load.requests() > 0));
        let bounds = (self.settings.keep_min.as_secs_f64(), self.settings.keep_max.as_secs_f64());
        let missed_above = self.caution.missing.then_some(load.ready);
        let held = self.hold.held(bounds, facts, want, missed_above, now);
        (self.hold_last(held, want, facts, traffic, now), outlook)
    }
}

/// Fewer are late than allowed while the model is right. When more are, it is not: the margin shrinks until they are.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Caution {
    part: f64,
    // Whether more are late than allowed.
    missing: bool,
    looked: Option<Time>,
}

impl Default for Caution {
    fn default() -> Self {
        Self { part: 1.0, missing: false, looked: None }
    }
}

impl Caution {
    /// By a hundredth each second: down to a twentieth while too many are late, up again while clearly fewer are.
    fn look(&mut self, late: f64, traffic: &Traffic, now: Time) {
        let since = *self.looked.get_or_insert(now);
        let seconds = now.since(since).as_secs();
        if seconds == 0 {
            return;
        }
        self.looked = Some(since + Duration::from_secs(seconds));
        let (dispatched, lates) = traffic.late();
        let share = lates as f64 / dispatched.max(1) as f64;
        let steps = i32::try_from(seconds.min(1_000)).unwrap_or(1_000);
        self.missing = dispatched >= Facts::JUDGED_FROM && share > late;
        if self.missing {
            self.part = (self.part * 0.99_f64.powi(steps)).max(0.05);
        } else if dispatched >= Facts::JUDGED_FROM && share < 0.7 * late {
            self.part = (self.part * 1.01_f64.powi(steps)).min(1.0);
        }
    }
}

impl ScalingPolicy for Wait {
    fn name(&self) -> &'static str {
        "wait"
    }

    fn recommend(&mut self, load: &Load, traffic: &Traffic, now: Time) -> Recommendation {
        self.caution.look(self.settings.late, traffic, now);
        let facts = Facts::new(self, load, traffic, now);
        let (size, outlook) = self.size(load, traffic, &facts, now);
        let demand = &facts.demand;
        let rising = if demand.rising { ", rising" } else { "" };
        let reason = format!(
            "{:.3} requests/s{rising} of {:.3} s each: {:.1} at work when an instance started now is ready in {:.1} s",
            demand.rate, facts.service, outlook.requests, facts.start
        );
        let want = self.hold.want();
        let kept =
            if size > want { format!("; {want} would do, kept for what may come") } else { String::new() };
        Recommendation::new(size, reason + &kept).with([
            ("rate", demand.rate),
            ("rate_window", demand.over),
            ("burstiness", demand.burstiness),
            ("service_time", facts.service),
            ("service_cv2", facts.variation),
            ("start_time", facts.start),
            ("expected_requests", outlook.requests),
            ("margin", self.settings.late * self.caution.part),
            ("want", f64::from(want)),
            ("keep", self.hold.keep()),
        ])
    }

    fn eager(&self) -> bool {
        true
    }

    fn late_after(&self) -> Option<Duration> {
        Some(self.settings.objective)
    }
}

#[cfg(test)]
mod tests;
