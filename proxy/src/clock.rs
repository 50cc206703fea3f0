//! The one clock of the shell: monotonic time as the pool counts it.

use std::time::{Duration, Instant, SystemTime};

use longshore_pool::Time;
use nix::time::{ClockId, clock_gettime};

/// Turns the monotonic clock into [`Time`]. Cheap to copy; all copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that reads [`Time::ZERO`] now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The time now.
    pub fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The time of day, in seconds since 1970-01-01T00:00:00Z. It may jump: machines set their clocks.
    pub fn unix_now(&self) -> f64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
    }

    /// A time that is some milliseconds old and costs next to nothing, for patience that is counted in seconds. Not to
    /// be compared with [`Clock::now`].
    pub fn coarse() -> Duration {
        clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from)
    }

    /// The instant that `time` stands for, for tokio's timers.
    pub fn instant(&self, time: Time) -> tokio::time::Instant {
        // A far-away time would overflow `Instant`; a year is never for a process like this one.
        let nanos = time.as_nanos().min(Duration::from_secs(365 * 86_400).as_nanos() as u64);
        tokio::time::Instant::from_std(self.start + Duration::from_nanos(nanos))
    }
}
