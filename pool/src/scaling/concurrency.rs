//! So many requests per instance, as Knative's autoscaler (KPA) counts them.
//!
//! The formulas are those of knative/serving, `pkg/autoscaler/scaling/autoscaler.go` and `pkg/autoscaler/config`, with
//! its defaults. What differs: the mean over a window is the exact one, not one of scrapes; the size follows the
//! interval of the service (Knative: 2 s); from 0 to 1 the scaler asks at once, which is what Knative's activator does.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Load, Recommendation, ScalingPolicy, Traffic};
use crate::time::Time;

/// What the policy is told; the defaults are Knative's.
#[derive(Clone, Debug, PartialEq)]
pub struct ConcurrencySettings {
    /// Requests that an instance may have; `None` is the service's concurrency, or 100 where that has no limit.
    pub target: Option<f64>,
    /// The part of the target that is aimed at.
    pub utilization: f64,
    /// The long window.
    pub stable_window: Duration,
    /// The short window.
    pub panic_window: Duration,
    /// Wanted over ready, from which on it is panic.
    pub panic_threshold: f64,
    /// At one look at most so many times what is ready.
    pub up_rate: f64,
    /// At one look at least what is ready over this.
    pub down_rate: f64,
}

impl Default for ConcurrencySettings {
    fn default() -> Self {
        Self {
            target: None,
            utilization: 0.7,
            stable_window: Duration::from_secs(60),
            panic_window: Duration::from_secs(6),
            panic_threshold: 2.0,
            up_rate: 1_000.0,
            down_rate: 2.0,
        }
    }
}

/// Requests that wait or are worked on, per instance.
///
/// 1. `wanted = ceil(mean over the stable window / (target * utilisation))`, and the same over the panic window.
/// 2. Both stay within `[floor(ready / down_rate), ceil(up_rate * ready)]`, where ready counts as 1 at least.
/// 3. Panic begins, or goes on, while the panic window wants at least `panic_threshold` times what is ready. It ends
///    when that has not been so for a stable window.
/// 4. In panic: the larger of both, and never less than before. Otherwise what the stable window wants.
/// 5. To 0 only when the stable window is empty, and not sooner than a stable window after the last 0.
#[derive(Clone, Debug, Default)]
pub struct Concurrency {
    settings: ConcurrencySettings,
    readings: VecDeque<(Time, f64)>,
    panic: Option<Panic>,
    active_since: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
struct Panic {
    // When the panic window wanted too much last.
    over_at: Time,
    most: u32,
}

impl Concurrency {
    /// A policy that has seen nothing yet.
    pub fn new(settings: ConcurrencySettings) -> Self {
        Self { settings, ..Self::default() }
    }

    pub(super) fn aim(&self, load: &Load) -> f64 {
        let own = if load.concurrency == 0 { 100.0 } else { f64::from(load.concurrency) };
        (self.settings.target.unwrap_or(own) * self.settings.utilization).max(0.01)
    }

    /// The mean over the last `window`, or since the first reading if that is later.
    fn mean(&self, window: Duration, load: &Load) -> f64 {
        let requests = load.requests() as f64;
        let (Some((first, _)), Some((now, sum))) = (self.readings.front(), self.readings.back()) else {
            return requests;
        };
        let from = (*now - window).max(*first);
        let span = now.since(from).as_secs_f64();
        if span <= 0.0 { requests } else { (sum - self.reading_at(from)) / span }
    }

    /// The reading at a time between two, on the straight line through them.
    fn reading_at(&self, time: Time) -> f64 {
        let after = self.readings.partition_point(|(at, _)| *at < time);
        let Some((at, sum)) = self.readings.get(after).copied() else { return 0.0 };
        match after.checked_sub(1).and_then(|before| self.readings.get(before)) {
            Some((earlier, earlier_sum)) if at > time => {
                let part = time.since(*earlier).as_secs_f64() / at.since(*earlier).as_secs_f64();
                earlier_sum + (sum - earlier_sum) * part
            }
            Some(_) | None => sum,
        }
    }

    fn read(&mut self, traffic: &Traffic, now: Time) {
        self.readings.push_back((now, traffic.load_seconds(now)));
        // One reading before the window stays, so that the line through its edge is known.
        while self.readings.get(1).is_some_and(|(at, _)| now.since(*at) >= self.settings.stable_window) {
            self.readings.pop_front();
        }
    }

    /// Rules 3 and 4: the size, and whether it is panic.
    fn size(&mut self, stable: u32, panic: u32, over: bool, now: Time) -> (u32, bool) {
        if over {
            let most = self.panic.map_or(0, |before| before.most);
            self.panic = Some(Panic { over_at: now, most });
        } else if self.panic.is_some_and(|before| now.since(before.over_at) >= self.settings.stable_window) {
            self.panic = None;
        }
        match &mut self.panic {
            Some(panicking) => {
                panicking.most = panicking.most.max(stable).max(panic);
                (panicking.most, true)
            }
            None => (stable, false),
        }
    }

    /// Rule 5.
    fn keep_last(&mut self, size: u32, load: &Load, now: Time) -> u32 {
        if size > 0 || load.requests() > 0 {
            self.active_since.get_or_insert(now);
            return size.max(1);
        }
        if self.active_since.is_some_and(|since| now.since(since) < self.settings.stable_window) {
            return 1;
        }
        self.active_since = None;
        0
    }
}

fn whole(wanted: f64) -> u32 {
    // A mean that is a hair above a whole number by rounding must not cost an instance.
    (wanted - 1e-9).ceil().max(0.0) as u32
}

impl ScalingPolicy for Concurrency {
    fn name(&self) -> &'static str {
        "concurrency"
    }

    fn recommend(&mut self, load: &Load, traffic: &Traffic, now: Time) -> Recommendation {
        if self.readings.is_empty() && load.ready > 1 {
            // Knative begins in panic when it finds more than one: what it does not know must not shrink.
            self.panic = Some(Panic { over_at: now, most: load.ready });
        }
        self.read(traffic, now);
        let aim = self.aim(load);
        let (stable_mean, panic_mean) =
            (self.mean(self.settings.stable_window, load), self.mean(self.settings.panic_window, load));
        let ready = f64::from(load.ready.max(1));
        let (least, most) =
            ((ready / self.settings.down_rate).floor() as u32, whole(ready * self.settings.up_rate));
        let (stable, panic) = (whole(stable_mean / aim), whole(panic_mean / aim));
        let over = f64::from(panic) / ready >= self.settings.panic_threshold;
        let (size, panicking) = self.size(stable.clamp(least, most), panic.clamp(least, most), over, now);
        let size = self.keep_last(size, load, now);
        let reason = if panicking {
            format!(
                "panic: {panic_mean:.2} requests on average over {} s, {aim:.2} per instance",
                secs(self.settings.panic_window)
            )
        } else {
            format!(
                "{stable_mean:.2} requests on average over {} s, {aim:.2} per instance",
                secs(self.settings.stable_window)
            )
        };
        Recommendation::new(size, reason).with([
            ("aim", aim),
            ("stable_mean", stable_mean),
            ("panic_mean", panic_mean),
            ("panic", f64::from(u8::from(panicking))),
        ])
    }
}

fn secs(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
