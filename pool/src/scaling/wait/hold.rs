//! How long an instance is kept that is not wanted now.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Facts, Wait};
use crate::scaling::Traffic;
use crate::time::Time;
use crate::window::SlidingMax;

/// Times after which an instance was wanted again: so many are remembered, for so long, and believed from so many on.
const REMEMBERED: usize = 100;
const MEMORY: Duration = Duration::from_secs(3_600);
const BELIEVED: usize = 3;
/// Idle times that must be known before the last instance follows them, and before it follows nothing else.
const IDLE_KNOWN: usize = 5;
const IDLE_TRUSTED: usize = 20;

/// What was wanted lately.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Hold {
    window: SlidingMax,
    // When each level above the want was wanted last: the first is for a size of 1.
    wanted_at: Vec<Time>,
    want: u32,
    returns: VecDeque<(Time, f64)>,
    keep: f64,
}

impl Hold {
    /// The last want.
    pub(super) fn want(&self) -> u32 {
        self.want
    }

    /// How long an instance is kept, in seconds.
    pub(super) fn keep(&self) -> f64 {
        self.keep
    }

    /// The highest want of the last while.
    ///
    /// 1. As long as a start takes: then keeping costs at most twice what the best would (ski rental).
    /// 2. Longer, where a start is too slow for the objective and instances were wanted again after longer times than
    ///    that: what covers four in five of those times, and a tenth more.
    /// 3. `missed_above` is the size that was ready while too many are late. Only such returns count as were missed while too many were late, or as fall within what is kept already.
    pub(super) fn held(
        &mut self,
        (keep_min, keep_max): (f64, f64),
        facts: &Facts,
        want: u32,
        missed_above: Option<u32>,
        now: Time,
    ) -> u32 {
        let shortest = facts.start.max(keep_min);
        let longest = (60.0 * facts.start).clamp(30.0, 300.0).min(keep_max);
        self.keep = self.keep.max(shortest);
        for level in self.want..want {
            let Some(last) = self.wanted_at.get(level as usize) else { break };
            let gap = now.since(*last).as_secs_f64();
            let lost = missed_above.is_some_and(|ready| level + 1 > ready);
            if gap > shortest && gap <= longest && (lost || gap <= self.keep) {
                self.returns.push_back((now, gap));
            }
        }
        self.wanted_at.resize(self.wanted_at.len().max(want as usize), now);
        self.wanted_at.iter_mut().take(want as usize).for_each(|at| *at = now);
        self.want = want;
        self.forget(now);
        self.keep = shortest;
        if facts.start > facts.objective && self.returns.len() >= BELIEVED {
            let gap = quantile(self.returns.iter().map(|(_, gap)| *gap), 0.8);
            self.keep = shortest.max(1.1 * gap);
        }
        self.window.push(want, Duration::from_secs_f64(self.keep), now)
    }

    fn forget(&mut self, now: Time) {
        let old = |(at, _): &(Time, f64)| now.since(*at) > MEMORY;
        while self.returns.len() > REMEMBERED || self.returns.front().is_some_and(old) {
            self.returns.pop_front();
        }
    }
}

impl Wait {
    /// Keeps the last instance while a request is likely to come.
    ///
    /// 1. Something waits or is worked on, or more than one is wanted: as it is.
    /// 2. A start is within the objective: as long as a start takes.
    /// 3. Few idle times are known: four times as long as a start, a minute at least.
    /// 4. All idle times but three fifths of as many as may be late were shorter than this: so long, and a tenth more.
    ///    While not many are known, not shorter than (3).
    /// 5. Where that is too long, as (2).
    /// 6. Never shorter than any other instance is kept.
    pub(super) fn hold_last(&self, held: u32, want: u32, facts: &Facts, traffic: &Traffic, now: Time) -> u32 {
        let Some(since) = traffic.idle_since().filter(|_| want <= 1) else { return held.max(want) };
        if traffic.load_seconds(now) == 0.0 {
            // Nothing has ever come.
            return want;
        }
        let idle = now.since(since).as_secs_f64();
        let (shortest, longest) =
            (facts.start.max(self.settings.keep_min.as_secs_f64()), self.settings.zero_max.as_secs_f64());
        let gaps = traffic.idle_gaps();
        let (known, unlearned) = (gaps.len(), (4.0 * facts.start).max(60.0).min(longest));
        let keep = if facts.start <= facts.objective {
            shortest
        } else if known < IDLE_KNOWN {
            unlearned
        } else {
            let likely = 1.1 * quantile(gaps, 1.0 - 0.6 * facts.late);
            let likely = if known < IDLE_TRUSTED { likely.max(unlearned) } else { likely };
            if likely <= longest.max(10.0 * facts.start) { likely } else { shortest }
        };
        if idle >= keep.max(self.hold.keep()) { 0 } else { held.max(1) }
    }
}

/// The value that this part of the values does not exceed.
fn quantile(values: impl Iterator<Item = f64>, part: f64) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}
