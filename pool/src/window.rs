//! Sliding windows over virtual time: the maximum of what was recommended, the rate at which something happens.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;

/// The highest value seen within a span. Each value is kept only while no later one is as high.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlidingMax {
    falling: VecDeque<(Time, u32)>,
}

impl SlidingMax {
    /// Takes a value in and returns the highest one of the last `span`, this one included.
    pub(crate) fn push(&mut self, value: u32, span: Duration, now: Time) -> u32 {
        while self.falling.back().is_some_and(|(_, last)| *last <= value) {
            self.falling.pop_back();
        }
        self.falling.push_back((now, value));
        while self.falling.front().is_some_and(|(at, _)| now.since(*at) > span) {
            self.falling.pop_front();
        }
        self.falling.front().map_or(value, |(_, highest)| *highest)
    }
}

/// Events a second, over the present and the last span of [`SPAN`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Rate {
    began: Time,
    counted: u64,
    before: u64,
}

const SPAN: Duration = Duration::from_secs(10);

impl Rate {
    /// Counts one.
    pub(crate) fn count(&mut self, now: Time) {
        self.turn(now);
        self.counted += 1;
    }

    /// Events a second lately; zero when there were none.
    pub(crate) fn per_second(&self, now: Time) -> f64 {
        let mut seen = self.clone();
        seen.turn(now);
        // A span that has just begun says little by itself: the one before stands in for what is missing.
        let span = SPAN.as_secs_f64();
        let part = (now.since(seen.began).as_secs_f64() / span).min(1.0);
        if seen.before == 0 {
            return seen.counted as f64 / (part * span).max(1.0);
        }
        (seen.counted as f64 + seen.before as f64 * (1.0 - part)) / span
    }

    fn turn(&mut self, now: Time) {
        let passed = now.since(self.began);
        if passed >= SPAN {
            self.before = if passed < SPAN * 2 { self.counted } else { 0 };
            self.began = if passed < SPAN * 2 { self.began + SPAN } else { now };
            self.counted = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn the_maximum_lasts_as_long_as_its_window() {
        let mut max = SlidingMax::default();
        let span = Duration::from_secs(60);
        assert_eq!(max.push(5, span, at(0)), 5);
        assert_eq!(max.push(2, span, at(30)), 5);
        assert_eq!(max.push(1, span, at(60)), 5);
        assert_eq!(max.push(1, span, at(61)), 2);
        assert_eq!(max.push(0, span, at(121)), 1);
    }

    #[test]
    fn the_rate_follows_what_happens() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(at(5)), 0.0);
        for second in 0..30 {
            (0..20).for_each(|_| rate.count(at(second)));
        }
        let steady = rate.per_second(at(30));
        assert!((15.0..25.0).contains(&steady), "{steady}");
        assert_eq!(rate.per_second(at(100)), 0.0);
    }
}
