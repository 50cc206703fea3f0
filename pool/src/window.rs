//! Sliding windows over virtual time: the maximum of what was recommended, the rate at which something happens, counts
//! by the second, the last few samples.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Time;

/// The highest value seen within a span. Each value is kept only while no later one is as high.
#[derive(Clone, Debug, Default, PartialEq)]
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

/// How many happened in each of the last so many whole seconds.
#[derive(Clone, Debug)]
pub(crate) struct PerSecond {
    began: Time,
    // The present second, which is not whole yet.
    second: u64,
    counts: VecDeque<u32>,
    present: u32,
    kept: u64,
}

impl PerSecond {
    /// Keeps `kept` seconds.
    pub(crate) fn new(kept: u64, now: Time) -> Self {
        Self { began: now, second: 0, counts: VecDeque::new(), present: 0, kept }
    }

    /// Counts one.
    pub(crate) fn count(&mut self, now: Time) {
        self.turn(now);
        self.present = self.present.saturating_add(1);
    }

    /// Brings the seconds up to `now`.
    pub(crate) fn turn(&mut self, now: Time) {
        let second = now.since(self.began).as_secs();
        if second <= self.second {
            return;
        }
        let empty = (second - self.second - 1).min(self.kept);
        self.counts.push_front(std::mem::take(&mut self.present));
        (0..empty).for_each(|_| self.counts.push_front(0));
        self.counts.truncate(self.kept as usize);
        self.second = second;
    }

    /// How many whole seconds are known.
    pub(crate) fn known(&self) -> u64 {
        self.counts.len() as u64
    }

    /// The last `seconds` whole ones, or as many as are known.
    pub(crate) fn newest_first(&self, seconds: u64) -> impl Iterator<Item = u32> {
        self.counts.iter().take(seconds as usize).copied()
    }
}

/// The last few of a row of samples, with their mean and variance.
#[derive(Clone, Debug)]
pub(crate) struct Samples {
    values: Vec<f64>,
    next: usize,
    kept: usize,
    sum: f64,
    squares: f64,
}

impl Samples {
    /// Keeps `kept` of them.
    pub(crate) fn new(kept: usize) -> Self {
        Self { values: Vec::new(), next: 0, kept, sum: 0.0, squares: 0.0 }
    }

    /// Takes one in, in place of the oldest.
    pub(crate) fn push(&mut self, value: f64) {
        if self.values.len() < self.kept {
            self.values.push(value);
        } else {
            let old = std::mem::replace(&mut self.values[self.next], value);
            self.sum -= old;
            self.squares -= old * old;
        }
        self.sum += value;
        self.squares += value * value;
        self.next += 1;
        if self.next == self.kept {
            self.next = 0;
            // Adding and taking away leaves a little behind each time: once a round it is swept away.
            self.sum = self.values.iter().sum();
            self.squares = self.values.iter().map(|value| value * value).sum();
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// Their mean; zero when there are none.
    pub(crate) fn mean(&self) -> f64 {
        if self.values.is_empty() { 0.0 } else { self.sum / self.values.len() as f64 }
    }

    /// Their variance; zero when there are none.
    pub(crate) fn variance(&self) -> f64 {
        if self.values.is_empty() {
            return 0.0;
        }
        (self.squares / self.values.len() as f64 - self.mean() * self.mean()).max(0.0)
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
