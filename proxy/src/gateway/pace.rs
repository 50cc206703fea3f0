//! How slow a client may be. Each byte that moves earns it time, up to a grace; each moment in which it is waited for
//! costs as much: so one that stands still is cut off after the grace, and one that keeps to the rate never is. Time in
//! which nobody waits for it, because the instance is slow, costs nothing.

use std::time::Duration;

use crate::config::Limits;

/// How slow a client may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Bytes a second; above 0.
    rate: u64,
    grace: Duration,
}

/// How long a client is still waited for.
#[derive(Debug)]
pub struct Patience {
    left: Duration,
    /// Since when it is waited for.
    since: Option<Duration>,
}

impl Pace {
    /// What the limits say; none where they say nothing.
    pub const fn of(limits: &Limits) -> Option<Self> {
        match limits.min_rate {
            0 => None,
            rate => Some(Self { rate, grace: limits.min_rate_grace }),
        }
    }

    /// Nobody has waited yet.
    pub const fn patience(self) -> Patience {
        Patience { left: self.grace, since: None }
    }
}

impl Patience {
    /// It is being waited for. Returns how long that may still last; zero when it has lasted too long.
    pub fn wait(&mut self, now: Duration) -> Duration {
        let since = *self.since.get_or_insert(now);
        self.left.saturating_sub(now.saturating_sub(since))
    }

    /// Whether it is being waited for, or has used up some of its time.
    pub fn is_worn(&self, pace: Pace) -> bool {
        self.since.is_some() || self.left < pace.grace
    }

    /// So many bytes have moved.
    pub fn moved(&mut self, pace: Pace, bytes: usize, now: Duration) {
        if let Some(since) = self.since.take() {
            self.left = self.left.saturating_sub(now.saturating_sub(since));
        }
        let nanos = (bytes as u64).saturating_mul(1_000_000_000) / pace.rate;
        self.left = self.left.saturating_add(Duration::from_nanos(nanos)).min(pace.grace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { rate: 100, grace: Duration::from_secs(10) };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_that_stands_still_has_the_grace() {
        let mut patience = PACE.patience();
        assert_eq!(patience.wait(at(100)), at(10));
        assert_eq!(patience.wait(at(104)), at(6));
        assert_eq!(patience.wait(at(110)), Duration::ZERO);
        assert_eq!(patience.wait(at(200)), Duration::ZERO);
    }

    #[test]
    fn one_that_keeps_to_the_rate_is_never_cut_off_and_one_below_it_is() {
        for (bytes, lasts) in [(200, true), (210, true), (150, false), (1, false)] {
            let mut patience = PACE.patience();
            let mut now = 0;
            let held = (0..200).all(|_| {
                patience.wait(at(now));
                now += 2;
                let left = patience.wait(at(now));
                patience.moved(PACE, bytes, at(now));
                !left.is_zero()
            });
            assert_eq!(held, lasts, "{bytes} bytes in two seconds");
        }
    }

    #[test]
    fn what_was_fast_once_may_not_stand_still_for_ever_and_nobody_s_fault_costs_nothing() {
        let mut patience = PACE.patience();
        patience.moved(PACE, 1 << 30, at(0));
        assert!(!patience.is_worn(PACE));
        assert_eq!(patience.wait(at(1_000)), at(10), "nobody waited until then");
        patience.moved(PACE, 1 << 30, at(1_009));
        assert_eq!(patience.wait(at(1_009)), at(10));
        assert!(patience.is_worn(PACE));
    }
}
