//! What the requests of one process share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use serde_json::{Value, json};

use crate::args::Args;
use crate::fault::Fault;
use crate::models::Model;

/// Shared by all connections.
pub(crate) struct State {
    /// What is computed.
    pub(crate) model: Model,
    /// Its name among its like: host name and process id.
    pub(crate) instance: String,
    /// What every request meets.
    pub(crate) faults: Vec<Fault>,
    limit: Limit,
    unhealthy_after: Option<u64>,
    unhealthy: AtomicBool,
    started: Instant,
    served: AtomicU64,
    at_work: AtomicUsize,
    most_at_work: AtomicUsize,
    violations: AtomicU64,
}

/// How many requests may be worked on at once.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    None,
    /// One more is told to come again.
    Busy(usize),
    /// A second one is a mistake of the one who sent it.
    Exclusive,
}

/// Why a request is not worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Busy,
    Violation,
}

/// A request that is being worked on; dropped when its answer is complete or its client has gone.
pub(crate) struct Work(Arc<State>);

impl State {
    /// As the command line has it.
    pub(crate) fn new(args: &Args) -> Arc<Self> {
        let limit = match (args.exclusive, args.concurrency) {
            (true, _) => Limit::Exclusive,
            (false, 0) => Limit::None,
            (false, most) => Limit::Busy(most),
        };
        Arc::new(Self {
            model: args.model,
            instance: instance_name(),
            faults: args.request_faults(),
            limit,
            unhealthy_after: args.fault_unhealthy_after,
            unhealthy: AtomicBool::new(false),
            started: Instant::now(),
            served: AtomicU64::new(0),
            at_work: AtomicUsize::new(0),
            most_at_work: AtomicUsize::new(0),
            violations: AtomicU64::new(0),
        })
    }

    /// Begins a request, if the limit allows one more.
    pub(crate) fn begin(self: &Arc<Self>) -> Result<Work, Refusal> {
        let now = self.at_work.fetch_add(1, Relaxed) + 1;
        let work = Work(self.clone());
        self.most_at_work.fetch_max(now, Relaxed);
        match self.limit {
            Limit::Busy(most) if now > most => self.refuse(now, Refusal::Busy),
            Limit::Exclusive if now > 1 => self.refuse(now, Refusal::Violation),
            Limit::None | Limit::Busy(_) | Limit::Exclusive => Ok(work),
        }
    }

    fn refuse(&self, now: usize, refusal: Refusal) -> Result<Work, Refusal> {
        self.violations.fetch_add(1, Relaxed);
        eprintln!("model-server: violation: {now} requests at once ({:?})", self.limit);
        Err(refusal)
    }

    /// Counts an answer as given.
    pub(crate) fn count_served(&self) {
        self.served.fetch_add(1, Relaxed);
    }

    /// Whether a fault is meant for this instance, now.
    pub(crate) fn meets(&self, fault: &Fault) -> bool {
        self.served.load(Relaxed) >= fault.served
            && fault.only.as_ref().is_none_or(|only| *only == self.instance)
    }

    /// Whether /healthz says so.
    pub(crate) fn is_healthy(&self) -> bool {
        let ailing = self.unhealthy_after.is_some_and(|after| self.served.load(Relaxed) >= after);
        !ailing && !self.unhealthy.load(Relaxed)
    }

    /// From now on /healthz answers 503.
    pub(crate) fn become_unhealthy(&self) {
        self.unhealthy.store(true, Relaxed);
    }

    /// What /stats answers.
    pub(crate) fn stats(&self) -> Value {
        json!({
            "instance": self.instance,
            "uptime_ms": u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "served": self.served.load(Relaxed),
            "at_work": self.at_work.load(Relaxed),
            "most_at_work": self.most_at_work.load(Relaxed),
            "violations": self.violations.load(Relaxed),
            "healthy": self.is_healthy(),
        })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Relaxed);
    }
}

fn instance_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{}", host.trim(), std::process::id())
}
