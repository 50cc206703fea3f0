//! Runs the pool over a workload.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::report::{Moment, Report};
use super::workload::Workload;
use crate::config::PoolConfig;
use crate::event::{Action, Class, DeathCause, Event, Health, InstanceId, Outcome, RejectReason, RequestId};
use crate::pool::Pool;
use crate::scaling::ScalingPolicy;
use crate::time::Time;

/// A simulated time that nothing in a simulation reaches.
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);
/// A run that is not done so long after the last arrival (nobody starts an instance) is ended.
const PATIENCE: Duration = Duration::from_secs(86_400);

/// How a workload is to be run.
#[derive(Clone, Debug, PartialEq)]
pub struct Simulation {
    /// What the pool is told. Probes and the time to drain are the simulation's own.
    pub config: PoolConfig,
    /// From the decision to start an instance until it is ready.
    pub cold_start: Duration,
    /// From arrival to the end of the answer; requests that cannot make it expire.
    pub timeout: Duration,
    /// A longer wait counts as late.
    pub objective: Duration,
    /// The time of day at the beginning, in seconds since 1970-01-01T00:00:00Z.
    pub unix_start: f64,
    /// How long an instance in standby takes to be resumed.
    pub resume: Duration,
    /// How often [`Report::moments`] are noted.
    pub sample: Option<Duration>,
}

impl Default for Simulation {
    /// No limit to the queue or to waits, a cold start of 5 s, an objective of 1 s.
    fn default() -> Self {
        let config = PoolConfig { queue_limit: usize::MAX, queue_timeout: NEVER, ..PoolConfig::default() };
        Self {
            config,
            cold_start: Duration::from_secs(5),
            timeout: NEVER,
            objective: Duration::from_secs(1),
            unix_start: 0.0,
            resume: Duration::from_millis(20),
            sample: None,
        }
    }
}

impl Simulation {
    /// Runs a policy over a workload, from no instance at all until every request is done.
    pub fn run(&self, policy: Box<dyn ScalingPolicy>, workload: &Workload) -> Report {
        let config = PoolConfig {
            probe_interval: NEVER,
            start_timeout: NEVER,
            drain_timeout: NEVER,
            managed: true,
            ..self.config.clone()
        };
        let mut pool = Pool::new(Arc::new(config), policy, 0, Time::ZERO);
        pool.set_wall_clock(self.unix_start);
        let mut run = Run {
            simulation: self,
            workload,
            pool,
            report: Report::of(workload.jobs().len()),
            next: 0,
            work: BinaryHeap::new(),
            starts: VecDeque::new(),
            resumes: VecDeque::new(),
            paused: BTreeMap::new(),
            alive: Vec::new(),
            living: 0,
            size: 0,
            sampled: Time::ZERO,
        };
        run.all();
        run.report
    }
}

/// A simulation under way.
struct Run<'a> {
    simulation: &'a Simulation,
    workload: &'a Workload,
    pool: Pool,
    report: Report,
    // The next request to arrive.
    next: usize,
    // When requests at work are done.
    work: BinaryHeap<Reverse<(Time, u64)>>,
    // When starting instances are ready, the first one first: all take the same time.
    starts: VecDeque<(Time, InstanceId)>,
    // The same for those that are resumed.
    resumes: VecDeque<(Time, InstanceId)>,
    // Who is in standby, and since when.
    paused: BTreeMap<InstanceId, Time>,
    // By slot: since when an instance has cost something.
    alive: Vec<Option<(InstanceId, Time)>>,
    living: u32,
    size: u32,
    sampled: Time,
}

/// What is next. At the same time: what ends comes before what begins, so that a slot that becomes free is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Done,
    Ready,
    Resumed,
    Timer,
    Arrival,
}

impl Run<'_> {
    fn all(&mut self) {
        let span = Time::ZERO + self.workload.span();
        let limit = span + PATIENCE;
        let mut now = Time::ZERO;
        while let Some((at, next)) = self.next() {
            let busy = !self.work.is_empty() || self.pool.waiting() > 0;
            let over = self.next == self.workload.jobs().len() && !busy;
            if at > limit || (over && at > span) {
                break;
            }
            now = now.max(at);
            self.sample(now);
            self.step(next, now);
        }
        let end = now.max(span);
        for (_, since) in self.alive.iter().flatten() {
            self.report.instance_seconds += end.since(*since).as_secs_f64();
        }
        for since in self.paused.values() {
            self.report.standby_seconds += end.since(*since).as_secs_f64();
        }
        // Who still waits at the end of all patience has waited in vain.
        let waiting = self.pool.waiting() as u64;
        self.report.expired += waiting;
        self.report.late += waiting;
        self.report.end = end.since(Time::ZERO);
        self.note_failures();
        self.report.sort();
    }

    fn next(&self) -> Option<(Time, Next)> {
        let done = self.work.peek().map(|Reverse((at, _))| (*at, Next::Done));
        let ready = self.starts.front().map(|(at, _)| (*at, Next::Ready));
        let resumed = self.resumes.front().map(|(at, _)| (*at, Next::Resumed));
        let timer = self.pool.poll_timeout().map(|at| (at, Next::Timer));
        let arrival = self.workload.jobs().get(self.next).map(|job| (job.arrival, Next::Arrival));
        [done, ready, resumed, timer, arrival].into_iter().flatten().min()
    }

    fn step(&mut self, next: Next, now: Time) {
        match next {
            Next::Done => {
                let Some(Reverse((_, request))) = self.work.pop() else { return };
                let (request, outcome) = (RequestId(request), Outcome::Answered);
                self.tell(Event::RequestFinished { request, outcome }, now);
            }
            Next::Ready => {
                let Some((_, instance)) = self.starts.pop_front() else { return };
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
                self.tell(Event::InstanceStarted { instance, address }, now);
            }
            Next::Resumed => {
                let Some((_, instance)) = self.resumes.pop_front() else { return };
                self.tell(Event::InstanceResumed { instance, failed: None }, now);
            }
            Next::Timer => {
                self.pool.handle_timeout(now);
                self.perform(now);
                self.note_size(now);
            }
            Next::Arrival => {
                let request = RequestId(self.next as u64);
                let client = self.workload.jobs().get(self.next).map_or(0, |job| job.client);
                let deadline = now + self.simulation.timeout;
                self.next += 1;
                let class = Class { flow: client, ..Class::default() };
                self.tell(Event::RequestArrived { request, deadline, replayable: true, class }, now);
            }
        }
    }

    fn tell(&mut self, event: Event, now: Time) {
        self.pool.handle_event(event, now);
        self.perform(now);
    }

    fn perform(&mut self, now: Time) {
        while let Some(action) = self.pool.poll_action() {
            match action {
                Action::Dispatch { request, .. } => self.dispatched(request, now),
                Action::Reject { reason, .. } => self.refused(&reason),
                Action::Start { instance } => self.start(instance, now),
                Action::Probe { instance, .. } => {
                    self.pool.handle_event(Event::InstanceProbed { instance, health: Health::Ready }, now);
                }
                Action::Pause { instance } => drop(self.paused.insert(instance, now)),
                Action::Resume { instance } => {
                    self.wake(instance, now);
                    self.resumes.push_back((now + self.simulation.resume, instance));
                }
                Action::Stop { instance, .. } => self.stop(instance, now),
                // Nothing dies here, a drain has no end, and all starts are in time.
                Action::Revoke { .. } | Action::Examine { .. } => {}
            }
        }
    }

    fn dispatched(&mut self, request: RequestId, now: Time) {
        let Some(job) = self.workload.jobs().get(request.0 as usize) else { return };
        self.report.note_wait(job.client, now.since(job.arrival), self.simulation.objective);
        self.report.busy_seconds += job.service.as_secs_f64();
        self.work.push(Reverse((now + job.service, request.0)));
    }

    fn refused(&mut self, reason: &RejectReason) {
        self.report.late += 1;
        match reason {
            RejectReason::QueueTimeout | RejectReason::DeadlinePassed => self.report.expired += 1,
            RejectReason::QueueFull { .. }
            | RejectReason::AttemptsExhausted { .. }
            | RejectReason::CannotStart { .. }
            | RejectReason::Stopped { .. }
            | RejectReason::ShuttingDown => self.report.rejected += 1,
        }
    }

    fn start(&mut self, instance: InstanceId, now: Time) {
        let slot = instance.slot as usize;
        if self.alive.len() <= slot {
            self.alive.resize(slot + 1, None);
        }
        self.alive[slot] = Some((instance, now));
        self.starts.push_back((now + self.simulation.cold_start, instance));
        self.report.starts += 1;
        self.living += 1;
        self.report.most = self.report.most.max(self.living);
    }

    /// It is in standby no longer.
    fn wake(&mut self, instance: InstanceId, now: Time) {
        if let Some(since) = self.paused.remove(&instance) {
            self.report.standby_seconds += now.since(since).as_secs_f64();
        }
    }

    fn stop(&mut self, instance: InstanceId, now: Time) {
        self.wake(instance, now);
        let alive = self.alive.get_mut(instance.slot as usize);
        if let Some((_, since)) = alive.and_then(|it| it.take_if(|(id, _)| *id == instance)) {
            self.report.instance_seconds += now.since(since).as_secs_f64();
            self.living -= 1;
        }
        self.pool.handle_event(Event::InstanceExited { instance, cause: DeathCause::Stopped }, now);
    }

    fn note_size(&mut self, now: Time) {
        let size = self.pool.load(now).size;
        self.report.resizes += u64::from(size != self.size);
        self.size = size;
    }

    fn note_failures(&mut self) {
        let tally = self.pool.decision_tally();
        self.report.failures =
            tally.iter().filter(|((_, how), _)| *how == "failed").map(|(_, count)| count).sum();
        let failed = self.pool.decisions().rfind(|decision| decision.failed);
        self.report.failure = failed.map(|decision| decision.reason.clone());
    }

    fn sample(&mut self, now: Time) {
        let Some(every) = self.simulation.sample else { return };
        while self.sampled <= now {
            let load = self.pool.load(self.sampled);
            self.report.moments.push(Moment {
                at: self.sampled,
                queue: load.queue,
                in_flight: load.in_flight,
                size: load.size,
                ready: load.ready,
                oldest_wait: load.oldest_wait.as_secs_f64(),
            });
            self.sampled = self.sampled + every.max(Duration::from_millis(1));
        }
    }
}
