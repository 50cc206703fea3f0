//! What a pool is told to be: plain values, already validated by whoever parsed them.

use std::time::Duration;

/// The configuration of one pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolConfig {
    /// Fewest instances that any policy or operator may ask for.
    pub min: u32,
    /// Most instances that any policy or operator may ask for.
    pub max: u32,
    /// Requests that one instance works on at once; 0 is no limit.
    pub concurrency: u32,
    /// Waiting requests at the most.
    pub queue_limit: usize,
    /// Longest wait for a slot, each time the request waits for one.
    pub queue_timeout: Duration,
    /// A request that was lost on so many instances is quarantined.
    pub replay_attempts: u32,
    /// First restart delay of an instance that fails before it was ready or soon after.
    pub backoff_initial: Duration,
    /// Largest restart delay.
    pub backoff_max: Duration,
    /// Time between liveness probes of a ready instance.
    pub probe_interval: Duration,
    /// Failed probes in a row that make an instance hung.
    pub probe_failures: u32,
    /// An instance not ready so long after its start was asked for has failed to start.
    pub start_timeout: Duration,
    /// How long an instance that is stopped may take to end by itself.
    pub stop_grace: Duration,
    /// How long an instance that is to go may go on with the requests that it holds.
    pub drain_timeout: Duration,
    /// Whether instances are started and stopped; false for servers that already run (`addresses`): those are
    /// `Started` at once by the shell and never backed off for longer than the probe interval.
    pub managed: bool,
    /// Time between two looks of the scaling policy.
    pub scale_interval: Duration,
    /// Instances added by one decision at the most.
    pub up_step: u32,
    /// The size falls only to the highest recommendation of this window.
    pub down_delay: Duration,
    /// Whether the policy's decisions are only recorded, and the size stays as it is.
    pub dry_run: bool,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            min: 0,
            max: 1_000,
            concurrency: 1,
            queue_limit: 10_000,
            queue_timeout: Duration::from_secs(300),
            replay_attempts: 3,
            backoff_initial: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            probe_interval: Duration::from_secs(2),
            probe_failures: 3,
            start_timeout: Duration::from_secs(300),
            stop_grace: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(600),
            managed: true,
            scale_interval: Duration::from_secs(1),
            up_step: u32::MAX,
            down_delay: Duration::from_secs(60),
            dry_run: false,
        }
    }
}
