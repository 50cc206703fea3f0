//! What came of a policy over a workload.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::time::Time;

/// What a simulation saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Requests that arrived.
    pub requests: u64,
    /// Refused on arrival.
    pub rejected: u64,
    /// Waited in vain.
    pub expired: u64,
    /// Waited for longer than the objective, or in vain, or were refused.
    pub late: u64,
    /// From the decision to start each instance until it was gone, together, in seconds.
    pub instance_seconds: f64,
    /// The part of that in which instances were in standby.
    pub standby_seconds: f64,
    /// The part of that in which instances worked on requests, in seconds of requests.
    pub busy_seconds: f64,
    /// Instances started.
    pub starts: u64,
    /// The most instances there were at once, starting ones included.
    pub most: u32,
    /// Changes of the size.
    pub resizes: u64,
    pub(super) failures: u64,
    pub(super) failure: Option<Arc<str>>,
    /// When the last request was done, and the workload over.
    pub end: Duration,
    /// How it went, if that was asked for.
    pub moments: Vec<Moment>,
    // How long each request waited that was dispatched, in seconds; sorted when all are there.
    waits: Vec<f32>,
    // The same for each client that has a number.
    by_client: BTreeMap<u64, Vec<f32>>,
}

/// The pool at one moment of a simulation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// When.
    pub at: Time,
    /// Requests waiting.
    pub queue: usize,
    /// Requests at work.
    pub in_flight: usize,
    /// The size wanted.
    pub size: u32,
    /// Instances that take requests.
    pub ready: u32,
    /// How long the oldest that waits has waited, in seconds.
    pub oldest_wait: f64,
}

impl Report {
    /// How long requests waited at most, of the fastest `part` (from 0 to 1) of those that were dispatched; in seconds.
    pub fn wait(&self, part: f64) -> f64 {
        rank(&self.waits, part)
    }

    /// The same for the requests of one client, and how many of them were dispatched.
    pub fn client_wait(&self, client: u64, part: f64) -> (usize, f64) {
        self.by_client.get(&client).map_or((0, 0.0), |waits| (waits.len(), rank(waits, part)))
    }

    /// How often the policy could not tell a size, and why it could not in the end.
    pub fn failures(&self) -> (u64, Option<&str>) {
        (self.failures, self.failure.as_deref())
    }

    /// The part of the instance-seconds in which instances worked. (With several requests at once it may exceed 1.)
    pub fn utilisation(&self) -> f64 {
        if self.instance_seconds > 0.0 { self.busy_seconds / self.instance_seconds } else { 0.0 }
    }

    /// Adds up with the report of another run: waits of all requests together, costs and counts summed.
    pub fn join(&mut self, other: &Self) {
        self.requests += other.requests;
        self.rejected += other.rejected;
        self.expired += other.expired;
        self.late += other.late;
        self.instance_seconds += other.instance_seconds;
        self.busy_seconds += other.busy_seconds;
        self.starts += other.starts;
        self.resizes += other.resizes;
        self.most = self.most.max(other.most);
        self.end = self.end.max(other.end);
        self.waits.extend_from_slice(&other.waits);
        for (client, waits) in &other.by_client {
            self.by_client.entry(*client).or_default().extend_from_slice(waits);
        }
        self.failures += other.failures;
        self.failure = self.failure.take().or_else(|| other.failure.clone());
        self.sort();
    }

    pub(super) fn note_wait(&mut self, client: u64, wait: Duration, objective: Duration) {
        self.waits.push(wait.as_secs_f32());
        if client != 0 {
            self.by_client.entry(client).or_default().push(wait.as_secs_f32());
        }
        self.late += u64::from(wait > objective);
    }

    pub(super) fn sort(&mut self) {
        let all = std::iter::once(&mut self.waits).chain(self.by_client.values_mut());
        all.for_each(|waits| waits.sort_unstable_by(f32::total_cmp));
    }

    /// Nothing seen yet of so many requests.
    pub(super) fn of(requests: usize) -> Self {
        Self { requests: requests as u64, waits: Vec::with_capacity(requests), ..Self::default() }
    }
}

/// The longest of the shortest `part` of the waits, which are sorted.
fn rank(waits: &[f32], part: f64) -> f64 {
    let rank = (part * waits.len() as f64).ceil() as usize;
    waits.get(rank.saturating_sub(1)).map_or(0.0, |wait| f64::from(*wait))
}
