//! A histogram of durations with a fixed size and a relative error below 1 in 64: each power of two of microseconds is
//! cut into 64 buckets of the same width, as in Gil Tene's HdrHistogram.

use std::time::Duration;

/// Buckets to a power of two.
const PARTS: u64 = 64;

/// Powers of two from 64 µs on; the last ends beyond half a year.
const POWERS: u64 = 38;

/// Durations, counted.
#[derive(Clone, Debug)]
pub(super) struct Latency {
    counts: Vec<u64>,
    total: u64,
    max: Duration,
}

impl Default for Latency {
    fn default() -> Self {
        let buckets = PARTS * (POWERS + 1);
        Self { counts: vec![0; usize::try_from(buckets).unwrap_or_default()], total: 0, max: Duration::ZERO }
    }
}

impl Latency {
    pub(super) fn record(&mut self, latency: Duration) {
        let index = index(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        let last = self.counts.len() - 1;
        self.counts[index.min(last)] += 1;
        self.total += 1;
        self.max = self.max.max(latency);
    }

    /// The duration that the share `quantile` (0 to 1) of all did not exceed; zero when there are none.
    pub(super) fn quantile(&self, quantile: f64) -> Duration {
        let rank = ((self.total as f64 * quantile).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(upper(index)).min(self.max);
            }
        }
        self.max
    }

    pub(super) fn max(&self) -> Duration {
        self.max
    }
}

/// The bucket of a number of microseconds: the first 64 have one each.
fn index(micros: u64) -> usize {
    let index = if micros < PARTS {
        micros
    } else {
        let power = u64::from(micros.ilog2() - PARTS.ilog2());
        PARTS * power + (micros >> power)
    };
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// The largest number of microseconds of a bucket.
fn upper(index: usize) -> u64 {
    let index = index as u64;
    if index < PARTS {
        return index;
    }
    let power = (index - PARTS) / PARTS;
    ((index - PARTS * power + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_in_its_bucket() {
        for micros in (0..200_000).chain((20..40).map(|power| (1 << power) + 12_345)) {
            let index = index(micros);
            assert!(micros <= upper(index), "{micros}");
            assert!(index == 0 || micros > upper(index - 1), "{micros}");
            assert!(upper(index) - micros <= micros / 64, "{micros}");
        }
    }

    #[test]
    fn quantiles_are_those_of_a_sorted_list() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(0.5), Duration::ZERO);
        for millis in 1..=1_000 {
            latency.record(Duration::from_millis(millis));
        }
        for (quantile, millis) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0), (0.0, 1.0)] {
            let error = latency.quantile(quantile).as_secs_f64() * 1_000.0 / millis - 1.0;
            assert!((0.0..=1.0 / 64.0).contains(&error), "{quantile}: {error}");
        }
        latency.record(Duration::MAX);
        assert_eq!(
            (latency.max(), latency.quantile(1.0)),
            (Duration::MAX, Duration::from_micros(upper(2_495)))
        );
    }
}
