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
    /// Who of those that wait is next. Replays go before them in every order.
    pub order: QueueOrder,
    /// Which instance with a free slot gets a request.
    pub balance: BalancePolicy,
    /// How long a newly ready instance is eased in; zero: not at all. Until then it gets a growing part of its share, and
    /// of its slots.
    pub slow_start: Duration,
    /// A request that was lost on so many instances is quarantined.
    pub replay_attempts: u32,
    /// What becomes of an instance that ended unasked.
    pub restart: RestartPolicy,
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
    /// Instances kept beyond the size, paused, to be resumed when more are wanted.
    pub standby: u32,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            min: 0,
            max: 1_000,
            concurrency: 1,
            queue_limit: 10_000,
            queue_timeout: Duration::from_secs(300),
            order: QueueOrder::Fifo,
            balance: BalancePolicy::LeastBusy,
            slow_start: Duration::ZERO,
            replay_attempts: 3,
            restart: RestartPolicy::Always,
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
            standby: 0,
        }
    }
}

/// In which order those that wait are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueOrder {
    /// First in, first out, exactly.
    #[default]
    Fifo,
    /// Whoever waits has the same chance at each slot.
    Random,
    /// One of each flow (see [`Class`](crate::Class)) in turn; first in, first out within one.
    Fair,
    /// The highest priority first; waiting makes up for a lower one.
    Priority {
        /// So much waiting counts as one level.
        ageing: Duration,
    },
}

/// Which instance with a free slot gets a request. (Another [`Balancer`](crate::Balancer) is put in charge by
/// [`Pool::set_balancer`](crate::Pool::set_balancer).)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BalancePolicy {
    /// The one with the fewest requests.
    #[default]
    LeastBusy,
    /// The one whose last dispatch is the longest ago.
    RoundRobin,
    /// Any, with the same chance.
    Random,
    /// The one with the lowest latency times requests.
    PeakEwma,
    /// The same one for requests of the same key, unless it has 1.25 times the mean.
    Hash,
}

/// What becomes of an instance that ended unasked: it exited, was killed, hung, or could not be started. (An engine that
/// does not answer is asked again under every policy.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// It is replaced.
    #[default]
    Always,
    /// It is replaced, unless it exited with code 0.
    OnFailure,
    /// It is not replaced. When none is left and none will start, waiting requests are refused.
    Never,
    /// The whole service is stopped.
    StopService,
}
