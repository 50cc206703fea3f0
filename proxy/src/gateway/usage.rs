//! What somebody takes at the moment, a client or the holder of an api key: requests at once, and in a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use longshore_pool::Time;

use crate::config::Rate;
use crate::problem::Problem;

/// Requests at once and in a time, counted. Without locks: a client's requests run in many tasks.
#[derive(Debug, Default)]
pub struct Usage {
    open: AtomicU32,
    bucket: Bucket,
}

/// What may be taken.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Requests at once; 0 is no limit.
    pub concurrent: u32,
    /// Requests in a time.
    pub rate: Option<Rate>,
}

/// A request that counts until this is dropped.
#[derive(Debug)]
pub struct Permit(Arc<Usage>);

impl Usage {
    /// Counts one request more of `who`, who is named when it is refused.
    pub fn enter(self: &Arc<Self>, allowed: Allowance, who: &str, now: Time) -> Result<Permit, Problem> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        // From here on it is given back when it is refused.
        let permit = Permit(self.clone());
        if allowed.concurrent != 0 && before >= allowed.concurrent {
            let detail = format!(
                "{who} has {before} requests waiting or at work, which is as many as it may: wait for one of them"
            );
            return Err(Problem::ClientLimit(detail, Duration::from_secs(1)));
        }
        if let Some(rate) = allowed.rate {
            self.bucket.take(rate, now).map_err(|after| {
                let detail =
                    format!("{who} may ask at the rate of {rate}, and has asked more often: ask later");
                Problem::ClientLimit(detail, after)
            })?;
        }
        Ok(permit)
    }

    /// Whether nothing is taken, and everything may be taken at once.
    pub fn is_idle(&self, now: Time) -> bool {
        self.open.load(Ordering::Relaxed) == 0 && self.bucket.is_full(now)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A bucket of requests that refills evenly, as one number: when it will be full again, in nanoseconds (GCRA). The rate
/// is an argument, so that it may change while the bucket is in use.
#[derive(Debug, Default)]
struct Bucket(AtomicU64);

impl Bucket {
    /// Takes one, or says after how long there will be one.
    fn take(&self, rate: Rate, now: Time) -> Result<(), Duration> {
        let now = now.as_nanos();
        let window = u64::try_from(rate.period.as_nanos()).unwrap_or(u64::MAX);
        let one = window / u64::from(rate.count.max(1));
        let after = |full: u64| full.max(now).saturating_add(one);
        let fits = |full| Some(after(full)).filter(|next| *next - now <= window);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(()),
            Err(full) => Err(Duration::from_nanos(after(full) - now - window)),
        }
    }

    fn is_full(&self, now: Time) -> bool {
        self.0.load(Ordering::Relaxed) <= now.as_nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    fn rate(count: u32, seconds: u64) -> Rate {
        Rate { count, period: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_bucket_gives_all_at_once_and_then_one_by_one() {
        let bucket = Bucket::default();
        let ten = rate(10, 1);
        for _ in 0..10 {
            assert_eq!(bucket.take(ten, at(5_000)), Ok(()));
        }
        assert_eq!(bucket.take(ten, at(5_000)), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(ten, at(5_060)), Err(Duration::from_millis(40)));
        assert_eq!(bucket.take(ten, at(5_100)), Ok(()));
        assert!(bucket.take(ten, at(5_100)).is_err(), "a refused request costs nothing, a taken one does");
        assert!(!bucket.is_full(at(6_000)) && bucket.is_full(at(6_100)));
        for _ in 0..10 {
            assert_eq!(bucket.take(ten, at(20_000)), Ok(()), "and never more than all at once");
        }
        assert!(bucket.take(ten, at(20_000)).is_err());
        assert_eq!(
            bucket.take(rate(20, 1), at(20_000)),
            Err(Duration::from_millis(50)),
            "the rate may change"
        );
    }

    #[test]
    fn requests_at_once_are_given_back() {
        let usage: Arc<Usage> = Arc::default();
        let two = Allowance { concurrent: 2, rate: None };
        let first = usage.enter(two, "the client", at(0)).unwrap();
        let second = usage.enter(two, "the client", at(0)).unwrap();
        let refused = usage.enter(two, "the client", at(0)).unwrap_err();
        assert_eq!((refused.kind(), refused.status().as_u16()), ("client-limit", 429));
        assert!(refused.detail().contains("the client has 2 requests"), "{refused:?}");
        drop(first);
        assert!(usage.enter(two, "the client", at(0)).is_ok());
        drop(second);
        assert!(usage.is_idle(at(0)));
        let limited = Allowance { concurrent: 0, rate: Some(rate(1, 60)) };
        assert!(usage.enter(limited, "the client", at(0)).is_ok());
        assert!(usage.enter(limited, "the client", at(0)).is_err());
        assert!(!usage.is_idle(at(0)), "who has used up its rate is not forgotten");
        assert!(usage.is_idle(at(60_000)));
    }
}
