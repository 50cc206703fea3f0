//! What is counted of asynchronous jobs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{Gauge, IntCounter};

use super::{Metrics, ServiceMetrics};

/// What came of an attempt to post a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackEnd {
    /// It was taken.
    Delivered,
    /// It was not; it is tried again.
    Failed,
    /// It was not, and is not tried again.
    GivenUp,
}

impl CallbackEnd {
    const fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::GivenUp => "given_up",
        }
    }
}

/// What counts scheduled exports.
pub struct JobExports {
    done: IntCounter,
    failed: IntCounter,
    at: Gauge,
}

impl JobExports {
    /// One has ended.
    pub fn ended(&self, done: bool) {
        if !done {
            return self.failed.inc();
        }
        self.done.inc();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.at.set(now.as_secs_f64());
    }
}

impl Metrics {
    /// What counts scheduled exports; they are shown from now on.
    pub fn job_exports(&self) -> JobExports {
        // A process that was taken apart and put together again has it already.
        let _ = self.registry.register(Box::new(self.job_exported_at.clone()));
        let [done, failed] = ["done", "failed"].map(|result| self.job_exports.with_label_values(&[result]));
        JobExports { done, failed, at: self.job_exported_at.clone() }
    }

    /// Writes how many jobs of a service are in each state.
    pub fn observe_jobs(&self, name: &str, counts: &[(&'static str, u64)]) {
        for (status, count) in counts {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            self.jobs.with_label_values(&[name, *status]).set(count);
        }
    }
}

impl ServiceMetrics {
    /// A job was answered so long after it was taken.
    pub fn job_took(&self, after: Duration) {
        self.job_seconds.observe(after.as_secs_f64());
    }

    /// An attempt to post a result has ended.
    pub fn called_back(&self, end: CallbackEnd) {
        self.job_callbacks.with_label_values(&[self.name.as_str(), end.name()]).inc();
    }
}
