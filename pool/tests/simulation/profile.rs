//! What one seed draws: a configuration, a policy, and how bad the world is.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use std::num::NonZeroU64;

use longshore_pool::scaling::{Concurrency, Queue, Wait};
use longshore_pool::{
    BalancePolicy, Class, Fixed, Load, PoolConfig, QueueOrder, Recommendation, RestartPolicy, ScalingPolicy,
    Time, Traffic,
};

/// Chances, each from 0 to 1.
pub(crate) struct Profile {
    /// A start fails, is never answered, or is late.
    pub(crate) bad_start: f64,
    /// A probe sees something else than the truth, or nothing, or never ends.
    pub(crate) bad_probe: f64,
    /// An attempt ends otherwise than by an answer.
    pub(crate) bad_attempt: f64,
    /// Each event of the world: an instance crashes, freezes, thaws or falls ill.
    pub(crate) accident: f64,
    /// A stop is never answered.
    pub(crate) bad_stop: f64,
    /// A pause or its end fails, or is never answered.
    pub(crate) bad_pause: f64,
    /// An event is told again later.
    pub(crate) double: f64,
    /// Each event of the world: an operator does something.
    pub(crate) operator: f64,
    /// A timer comes late.
    pub(crate) late_timer: f64,
    /// Mean time between arrivals.
    pub(crate) between: Duration,
    /// Mean time of an attempt.
    pub(crate) service: Duration,
    /// Events of the world before it calms down.
    pub(crate) length: u32,
}

impl Profile {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let mut chance = |most: f64| if rng.u32(0..3) == 0 { 0.0 } else { rng.f64() * rng.f64() * most };
        let faults = [0.8, 0.4, 0.8, 0.1, 0.5, 0.2, 0.04, 0.3, 0.5].map(&mut chance);
        let [bad_start, bad_probe, bad_attempt, accident, bad_stop, double, operator, late_timer, bad_pause] =
            faults;
        let service = Duration::from_millis(rng.u64(2..500));
        Self {
            bad_start,
            bad_probe,
            bad_attempt,
            accident,
            bad_stop,
            bad_pause,
            double,
            operator,
            late_timer,
            // From idle to overloaded, for the few instances that there are.
            between: service.mul_f64(0.1 + rng.f64()),
            service,
            length: rng.u32(200..4_000),
        }
    }
}

/// A configuration with small numbers, so that every bound is met often.
pub(crate) fn config(rng: &mut Rng, managed: bool) -> Arc<PoolConfig> {
    let mut ms = |from: u64, to: u64| Duration::from_millis(rng.u64(from..=to));
    let (queue_timeout, backoff_initial, probe_interval) = (ms(50, 5_000), ms(1, 1_000), ms(5, 2_000));
    let (start_timeout, stop_grace, drain_timeout) = (ms(100, 20_000), ms(1, 5_000), ms(10, 5_000));
    let (scale_interval, down_delay) = (ms(50, 2_000), ms(0, 5_000));
    let slow_start = if rng.bool() { Duration::ZERO } else { Duration::from_millis(rng.u64(1..20_000)) };
    let max = rng.u32(1..=6);
    Arc::new(PoolConfig {
        min: if managed { rng.u32(0..=max.min(2)) } else { max },
        max,
        concurrency: rng.u32(0..=3),
        queue_limit: [0, 1, 5, 20, 50][rng.usize(0..5)],
        queue_timeout,
        order: order(rng),
        balance: balance(rng),
        slow_start,
        restart: restart(rng),
        replay_attempts: rng.u32(1..=4),
        backoff_initial,
        backoff_max: backoff_initial * rng.u32(1..=20),
        probe_interval,
        probe_failures: rng.u32(1..=3),
        start_timeout,
        stop_grace,
        drain_timeout,
        managed,
        scale_interval,
        up_step: [1, 2, u32::MAX][rng.usize(0..3)],
        down_delay,
        dry_run: false,
        standby: [0, 0, 1, 2][rng.usize(0..4)],
    })
}

fn restart(rng: &mut Rng) -> RestartPolicy {
    match rng.u32(0..8) {
        0 | 1 => RestartPolicy::OnFailure,
        2 => RestartPolicy::Never,
        3 => RestartPolicy::StopService,
        _ => RestartPolicy::Always,
    }
}

fn balance(rng: &mut Rng) -> BalancePolicy {
    match rng.u32(0..5) {
        0 => BalancePolicy::LeastBusy,
        1 => BalancePolicy::RoundRobin,
        2 => BalancePolicy::Random,
        3 => BalancePolicy::PeakEwma,
        _ => BalancePolicy::Hash,
    }
}

fn order(rng: &mut Rng) -> QueueOrder {
    match rng.u32(0..4) {
        0 => QueueOrder::Fifo,
        1 => QueueOrder::Random,
        2 => QueueOrder::Fair,
        _ => QueueOrder::Priority { ageing: Duration::from_millis([0, 1, 20, 500][rng.usize(0..4)]) },
    }
}

/// Few flows and keys, so that many requests share one.
pub(crate) fn class(rng: &mut Rng) -> Class {
    let affinity = NonZeroU64::new(rng.u64(0..6));
    Class { flow: rng.u64(0..4).pow(2), priority: rng.u8(0..12), affinity }
}

/// A fixed size, a policy that says anything at all, or one that services have.
pub(crate) fn policy(rng: &mut Rng) -> (Box<dyn ScalingPolicy>, Option<u32>) {
    if rng.bool() {
        let size = rng.u32(0..=6);
        return (Box::new(Fixed(size)), Some(size));
    }
    let policy: Box<dyn ScalingPolicy> = match rng.u32(0..6) {
        0 => Box::new(Wait::default()),
        1 => Box::new(Concurrency::default()),
        2 => Box::new(Queue::new(rng.u32(0..=1), rng.u32(1..=6))),
        _ => Box::new(Whim(rng.fork())),
    };
    (policy, None)
}

struct Whim(Rng);

impl ScalingPolicy for Whim {
    fn name(&self) -> &'static str {
        "whim"
    }

    fn recommend(&mut self, load: &Load, _traffic: &Traffic, _now: Time) -> Recommendation {
        let size = match self.0.u32(0..5) {
            0 => 0,
            1 => u32::MAX,
            2 => load.size,
            _ => self.0.u32(0..8),
        };
        Recommendation::new(size, "a whim")
    }
}
