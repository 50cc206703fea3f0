//! What the pool itself costs: enqueue, dispatch with finish, cancel; at 1, 100 and 1,000 instances with 0, 10,000 and
//! 1,000,000 requests waiting; enqueue, take, cancel and a place in the queue in each order; a choice by each
//! balancer. Run with `cargo bench -p longshore-pool`.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use divan::Bencher;
use longshore_pool::simulate::{Services, Shape, Simulation, Synthetic};
use longshore_pool::{
    Action, BalancePolicy, Class, Event, Fixed, Health, Outcome, Pool, PoolConfig, QueueOrder, RequestId,
    Time,
};

fn main() {
    divan::main();
}

/// Instances, requests waiting.
const CASES: [(u32, u64); 9] = [
    (1, 0),
    (1, 10_000),
    (1, 1_000_000),
    (100, 0),
    (100, 10_000),
    (100, 1_000_000),
    (1_000, 0),
    (1_000, 10_000),
    (1_000, 1_000_000),
];

/// Requests that wait while orders are compared.
const MANY: u64 = 1_000_000;

const ORDERS: [QueueOrder; 4] = [
    QueueOrder::Fifo,
    QueueOrder::Random,
    QueueOrder::Fair,
    QueueOrder::Priority { ageing: Duration::from_secs(30) },
];

const POLICIES: [BalancePolicy; 5] = [
    BalancePolicy::LeastBusy,
    BalancePolicy::RoundRobin,
    BalancePolicy::Random,
    BalancePolicy::PeakEwma,
    BalancePolicy::Hash,
];

/// A pool, what it is asked about, and a clock that ticks a microsecond an event.
struct Load {
    pool: Pool,
    now: Time,
    next: u64,
    // The present request of each instance; the next one to finish.
    flying: Vec<RequestId>,
    turn: usize,
}

impl Load {
    /// A pool whose instances are all ready and idle.
    fn idle(instances: u32) -> Self {
        Self::of(instances, PoolConfig::default())
    }

    fn of(instances: u32, config: PoolConfig) -> Self {
        let config =
            PoolConfig { queue_limit: usize::MAX, probe_interval: Duration::from_secs(1_000_000), ..config };
        let mut pool = Pool::new(Arc::new(config), Box::new(Fixed(instances)), 1, Time::ZERO);
        pool.handle_timeout(Time::ZERO);
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        while let Some(action) = pool.poll_action() {
            if let Action::Start { instance } = action {
                pool.handle_event(Event::InstanceStarted { instance, address }, Time::ZERO);
                let health = Health::Ready;
                pool.handle_event(Event::InstanceProbed { instance, health }, Time::ZERO);
            }
        }
        Self { pool, now: Time::ZERO, next: 0, flying: Vec::new(), turn: 0 }
    }

    /// As [`Load::idle`], with every instance at work and so many requests waiting.
    fn saturated(case: (u32, u64)) -> Self {
        Self::saturated_of(case, PoolConfig::default())
    }

    fn saturated_of((instances, waiting): (u32, u64), config: PoolConfig) -> Self {
        let mut load = Self::of(instances, config);
        (0..u64::from(instances) + waiting).for_each(|_| load.arrive());
        load
    }

    /// [`MANY`] requests wait in this order.
    fn ordered(order: QueueOrder) -> Self {
        Self::saturated_of((100, MANY), PoolConfig { order, ..PoolConfig::default() })
    }

    fn arrive(&mut self) {
        self.now = self.now + Duration::from_micros(1);
        let request = RequestId(self.next);
        self.next += 1;
        let deadline = self.now + Duration::from_secs(600);
        // A thousand clients and all priorities, in no regular pattern.
        let mixed = request.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let class =
            Class { flow: mixed % 1_000, priority: (mixed % 10) as u8, affinity: NonZeroU64::new(mixed) };
        self.pool
            .handle_event(Event::RequestArrived { request, deadline, replayable: true, class }, self.now);
        self.perform();
    }

    /// One request is answered; the next in the queue, if any, takes its slot.
    fn finish(&mut self) {
        self.now = self.now + Duration::from_micros(1);
        let turn = self.turn % self.flying.len();
        let request = self.flying.swap_remove(turn);
        self.turn += 7;
        self.pool.handle_event(Event::RequestFinished { request, outcome: Outcome::Answered }, self.now);
        self.perform();
    }

    fn cancel(&mut self, request: u64) {
        self.now = self.now + Duration::from_micros(1);
        self.pool.handle_event(Event::RequestCancelled { request: RequestId(request) }, self.now);
        self.perform();
    }

    fn perform(&mut self) {
        while let Some(action) = self.pool.poll_action() {
            if let Action::Dispatch { request, .. } = action {
                self.flying.push(request);
            }
        }
    }
}

/// A request arrives at a saturated pool and waits.
#[divan::bench(args = CASES, sample_count = 50, sample_size = 1_000)]
fn enqueue(bencher: Bencher, case: (u32, u64)) {
    let mut load = Load::saturated(case);
    bencher.bench_local(|| load.arrive());
}

/// A request arrives at an idle pool, is dispatched at once and answered.
#[divan::bench(args = [1, 100, 1_000], sample_count = 100, sample_size = 1_000)]
fn arrive_dispatch_finish_idle(bencher: Bencher, instances: u32) {
    let mut load = Load::idle(instances);
    bencher.bench_local(|| {
        load.arrive();
        load.finish();
    });
}

/// A request is answered and the first that waits takes its slot; with nobody waiting, the next that arrives does.
#[divan::bench(args = CASES, sample_count = 50, sample_size = 1_000)]
fn finish_dispatch(bencher: Bencher, case: (u32, u64)) {
    let mut load = Load::saturated(case);
    if case.1 == 0 {
        return bencher.bench_local(|| {
            load.finish();
            load.arrive();
        });
    }
    // The queue is longer by more than the turns that are timed, so that it never runs dry.
    (0..100_000).for_each(|_| load.arrive());
    bencher.bench_local(|| load.finish());
}

/// A client leaves from anywhere in the queue.
#[divan::bench(args = CASES, sample_count = 9, sample_size = 1_000)]
fn cancel(bencher: Bencher, (instances, waiting): (u32, u64)) {
    let waiting = waiting.max(10_000);
    let mut load = Load::saturated((instances, waiting));
    // A stride that is coprime to the length meets each place once.
    let mut place = 0;
    bencher.bench_local(|| {
        place = (place + 7_919) % waiting;
        load.cancel(u64::from(instances) + place);
    });
}

/// A request arrives where a million wait.
#[divan::bench(args = ORDERS, sample_count = 50, sample_size = 1_000)]
fn order_enqueue(bencher: Bencher, order: QueueOrder) {
    let mut load = Load::ordered(order);
    bencher.bench_local(|| load.arrive());
}

/// A request is answered and the one whose turn it is takes its slot.
#[divan::bench(args = ORDERS, sample_count = 50, sample_size = 1_000)]
fn order_take(bencher: Bencher, order: QueueOrder) {
    let mut load = Load::ordered(order);
    bencher.bench_local(|| load.finish());
}

/// A client leaves from anywhere among a million.
#[divan::bench(args = ORDERS, sample_count = 50, sample_size = 1_000)]
fn order_cancel(bencher: Bencher, order: QueueOrder) {
    let mut load = Load::ordered(order);
    let mut place = 0;
    bencher.bench_local(|| {
        place = (place + 7_919) % MANY;
        load.cancel(100 + place);
    });
}

/// A client asks for its place among a million.
#[divan::bench(args = ORDERS, sample_count = 50, sample_size = 100)]
fn order_standing(bencher: Bencher, order: QueueOrder) {
    let load = Load::ordered(order);
    let mut place = 0;
    bencher.bench_local(|| {
        place = (place + 7_919) % MANY;
        load.pool.standing(RequestId(100 + place), load.now)
    });
}

/// A thousand idle instances: a request arrives, is sent to one of them and answered.
#[divan::bench(args = POLICIES, sample_count = 50, sample_size = 1_000)]
fn balance_idle(bencher: Bencher, balance: BalancePolicy) {
    let mut load = Load::of(1_000, PoolConfig { balance, concurrency: 8, ..PoolConfig::default() });
    bencher.bench_local(|| {
        load.arrive();
        load.finish();
    });
}

/// A thousand instances at work and a hundred thousand requests waiting: a slot is free and taken again.
#[divan::bench(args = POLICIES, sample_count = 50, sample_size = 1_000)]
fn balance_saturated(bencher: Bencher, balance: BalancePolicy) {
    let mut load = Load::saturated_of((1_000, 110_000), PoolConfig { balance, ..PoolConfig::default() });
    bencher.bench_local(|| load.finish());
}

/// A million requests of a steady workload through the whole simulator, at a fixed size.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn simulate_a_million(bencher: Bencher) {
    let services = Services::Lognormal { mean: 0.05, cv: 1.0 };
    let span = Duration::from_secs(1_000);
    let workload = Synthetic { shape: Shape::Steady, rate: 1_000.0, services, span, seed: 1 }.make();
    let requests = workload.jobs().len();
    bencher
        .counter(divan::counter::ItemsCount::new(requests))
        .bench_local(|| Simulation::default().run(Box::new(Fixed(64)), &workload));
}
