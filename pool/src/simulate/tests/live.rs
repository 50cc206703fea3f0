//! What a simulation says of a recorded history is what happened: a pool is driven as a live one is, with probes, exits
//! that take their time and another seed; what it records of its traffic is simulated; both are the same at every instant.

use std::collections::BTreeMap;

use super::*;
use crate::event::{Action, Class, DeathCause, Event, Health, InstanceId, Outcome, RequestId};
use crate::pool::Pool;
use crate::simulate::{Job, Moment};

/// Never at the same time as a decision.
const COLD: Duration = Duration::from_micros(3_987_123);
const EVERY: Duration = Duration::from_micros(333_337);

enum Due {
    Arrival(u64),
    Answer(u64),
    Tell(Event),
}

/// A pool that lives, and the world around it.
struct Live {
    pool: Pool,
    agenda: BTreeMap<(Time, u64), Due>,
    count: u64,
    services: Vec<Duration>,
    moments: Vec<Moment>,
}

impl Live {
    fn plan(&mut self, at: Time, due: Due) {
        self.count += 1;
        self.agenda.insert((at, self.count), due);
    }

    fn perform(&mut self, now: Time) {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 80));
        while let Some(action) = self.pool.poll_action() {
            match action {
                Action::Dispatch { request, .. } => {
                    let service = self.services[request.0 as usize];
                    self.plan(now + service, Due::Answer(request.0));
                }
                Action::Start { instance } => {
                    self.plan(now + COLD, Due::Tell(Event::InstanceStarted { instance, address }));
                }
                Action::Probe { instance, .. } => {
                    let event = Event::InstanceProbed { instance, health: Health::Ready };
                    self.pool.handle_event(event, now);
                }
                Action::Stop { instance, .. } => self.plan(now + seconds(0.017), Due::Tell(gone(instance))),
                Action::Reject { .. } | Action::Revoke { .. } => panic!("{action:?}"),
                Action::Pause { .. } | Action::Resume { .. } => panic!("there is no standby: {action:?}"),
                Action::Examine { .. } => panic!("it is ready in time: {action:?}"),
            }
        }
    }

    fn sample(&mut self, now: Time) {
        loop {
            let at = Time::ZERO + EVERY * self.moments.len() as u32;
            if at > now {
                return;
            }
            let load = self.pool.load(at);
            let (queue, in_flight, size, ready) = (load.queue, load.in_flight, load.size, load.ready);
            let oldest_wait = load.oldest_wait.as_secs_f64();
            self.moments.push(Moment { at, queue, in_flight, size, ready, oldest_wait });
        }
    }

    fn step(&mut self) -> Option<Time> {
        let world = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let timer = self.pool.poll_timeout();
        let now = world.into_iter().chain(timer).min()?;
        self.sample(now);
        if world == Some(now) {
            let ((_, _), due) = self.agenda.pop_first()?;
            let event = match due {
                Due::Arrival(request) => Event::RequestArrived {
                    request: RequestId(request),
                    deadline: Time::MAX,
                    replayable: true,
                    class: Class::default(),
                },
                Due::Answer(request) => {
                    Event::RequestFinished { request: RequestId(request), outcome: Outcome::Answered }
                }
                Due::Tell(event) => event,
            };
            self.pool.handle_event(event, now);
        } else {
            self.pool.handle_timeout(now);
        }
        self.perform(now);
        Some(now)
    }
}

fn gone(instance: InstanceId) -> Event {
    Event::InstanceExited { instance, cause: DeathCause::Stopped }
}

/// Bursts and lulls, as they come.
fn drawn(rng: &mut fastrand::Rng) -> Vec<Job> {
    let (mut at, mut jobs) = (Time::ZERO + seconds(1.0), Vec::new());
    while jobs.len() < 400 {
        let pause = if rng.u32(0..60) == 0 { 30.0 * rng.f64() } else { 0.4 * rng.f64() };
        at = at + seconds(pause);
        jobs.push(Job { arrival: at, service: seconds(0.01 + rng.f64()), client: 0 });
    }
    jobs
}

fn policy(name: &str) -> Box<dyn crate::ScalingPolicy> {
    match name {
        "wait" => Box::new(Wait::default()),
        "concurrency" => Box::new(Concurrency::default()),
        "queue" => Box::new(crate::scaling::Queue::new(0, 5)),
        _ => Box::new(|load: &crate::scaling::Load| 1 + load.requests() as u32 / 4),
    }
}

/// Everything that was seen of a live pool, and the record of its traffic.
fn live(name: &str, jobs: &[Job], config: &PoolConfig) -> (Vec<Moment>, Vec<Job>) {
    let mut pool = Pool::new(std::sync::Arc::new(config.clone()), policy(name), 4_711, Time::ZERO);
    let _ = pool.take_record();
    let services = jobs.iter().map(|job| job.service).collect();
    let mut live = Live { pool, agenda: BTreeMap::new(), count: 0, services, moments: Vec::new() };
    for (number, job) in jobs.iter().enumerate() {
        live.plan(job.arrival, Due::Arrival(number as u64));
    }
    let last = jobs.last().expect("there are some").arrival + seconds(20.0);
    while live.step().is_some_and(|now| now < last) {}
    (live.moments, live.pool.take_record())
}

#[test]
fn a_simulation_of_what_was_recorded_is_what_happened() {
    for name in ["wait", "concurrency", "queue", "closure"] {
        for seed in 0..12 {
            let jobs = drawn(&mut fastrand::Rng::with_seed(seed));
            let config = PoolConfig { max: 9, down_delay: seconds(2.0), ..Simulation::default().config };
            let (happened, record) = live(name, &jobs, &config);
            assert_eq!(record.len(), jobs.len(), "{name}, seed {seed}");
            let simulation =
                Simulation { config, cold_start: COLD, sample: Some(EVERY), ..Simulation::default() };
            let span = jobs.last().expect("there are some").arrival.since(Time::ZERO) + seconds(20.0);
            let report = simulation.run(policy(name), &Workload::new(record, span));
            let most = happened.iter().map(|moment| moment.size).max();
            assert!(most > Some(1), "{name}, seed {seed}: nothing was decided");
            for (real, simulated) in happened.iter().zip(&report.moments) {
                assert_eq!(real, simulated, "{name}, seed {seed}");
            }
            assert!(report.moments.len().abs_diff(happened.len()) < 100, "{name}, seed {seed}");
        }
    }
}
