//! The simulator's claims.

use std::time::Duration;

use super::*;
use crate::config::{PoolConfig, QueueOrder};
use crate::scaling::{Concurrency, Fixed, Load, Recommendation, ScalingPolicy, Traffic, Wait, WaitSettings};
use crate::time::Time;

mod bounds;
mod live;
mod policies;

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn workload(jobs: &[(f64, f64)]) -> Workload {
    let job = |(arrival, service): &(f64, f64)| Job {
        arrival: Time::ZERO + seconds(*arrival),
        service: seconds(*service),
        client: 0,
    };
    Workload::new(jobs.iter().map(job).collect(), Duration::ZERO)
}

fn steady(rate: f64, span: u64, seed: u64) -> Workload {
    let services = Services::Lognormal { mean: 0.5, cv: 0.5 };
    Synthetic { shape: Shape::Steady, rate, services, span: Duration::from_secs(span), seed }.make()
}

#[test]
fn a_fixed_size_serves_in_order_and_costs_its_time() {
    let report =
        Simulation::default().run(Box::new(Fixed(1)), &workload(&[(0.0, 2.0), (1.0, 2.0), (20.0, 1.0)]));
    // Ready after 5 s: waits of 5, 6 and 0 s.
    assert_eq!([0.33, 0.66, 1.0].map(|part| report.wait(part)), [0.0, 5.0, 6.0]);
    assert_eq!((report.instance_seconds, report.busy_seconds, report.starts, report.late), (21.0, 5.0, 1, 2));
    assert_eq!(report.end, seconds(21.0));
}

#[test]
fn the_queue_and_its_times_are_those_of_the_service() {
    let config = PoolConfig { queue_limit: 1, queue_timeout: seconds(8.0), ..PoolConfig::default() };
    let simulation = Simulation { config, ..Simulation::default() };
    let jobs = [(0.0, 10.0), (1.0, 1.0), (6.0, 1.0), (7.0, 1.0)];
    let report = simulation.run(Box::new(Fixed(1)), &workload(&jobs));
    // The second is refused, since the first one waits; the third waits in vain; there is no room for the fourth.
    assert_eq!((report.requests, report.rejected, report.expired, report.late), (4, 2, 1, 4));
}

#[test]
fn nobody_starting_anything_ends_too() {
    let never = |_: &Load| 0;
    let report = Simulation::default().run(Box::new(never), &workload(&[(0.0, 1.0)]));
    assert_eq!((report.expired, report.starts, report.instance_seconds), (1, 0, 0.0));
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let run = |seed| Simulation::default().run(Box::new(Wait::default()), &steady(5.0, 600, seed));
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn synthetic_workloads_have_the_rate_and_times_they_claim() {
    for (name, shape) in Shape::ALL {
        let services = Services::Lognormal { mean: 0.5, cv: 0.5 };
        let made = Synthetic { shape, rate: 5.0, services, span: Duration::from_secs(7_200), seed: 3 }.make();
        let rate = made.jobs().len() as f64 / 7_200.0;
        assert!((4.8..5.2).contains(&rate), "{name}: {rate}");
        let mean = made.work() / made.jobs().len() as f64;
        assert!((0.49..0.51).contains(&mean), "{name}: {mean}");
    }
    let services = Services::Pareto { mean: 0.5, alpha: 1.5 };
    let made =
        Synthetic { shape: Shape::Steady, rate: 50.0, services, span: seconds(7_200.0), seed: 3 }.make();
    let mean = made.work() / made.jobs().len() as f64;
    assert!((0.44..0.52).contains(&mean), "{mean}");
    assert!(made.jobs().iter().any(|job| job.service > seconds(60.0)));
}

#[test]
fn a_trace_is_read_and_begins_at_once() {
    let trace = "arrival_s,service_s,client\n# a comment\n3.5,0.25,a\n\n2.5, 1\n";
    let read = Workload::parse(trace).unwrap();
    let jobs = [(0, seconds(0.0), seconds(1.0)), (1, seconds(1.0), seconds(0.25))];
    let jobs = jobs.map(|(client, at, service)| Job { arrival: Time::ZERO + at, service, client });
    assert_eq!((read.jobs(), read.clients()), (&jobs[..], &["a".to_owned()][..]));
    let named = Workload::parse("arrival_s,service_s,tokens,client\n0,1,7,a\n1,1,8,b\n2,1,9,a\n").unwrap();
    assert_eq!(named.jobs().iter().map(|job| job.client).collect::<Vec<_>>(), [1, 2, 1]);
    let unnamed = Workload::parse("arrival_s,service_s,tokens\n0,1,7\n").unwrap();
    assert!(unnamed.clients().is_empty() && unnamed.jobs()[0].client == 0);
    for (text, line, what) in [
        ("", 1, "there is no request in it"),
        ("arrival_s,service_s\n1\n", 2, "service_s is missing"),
        ("1,2\nx,2\n", 2, "arrival_s must be a number of seconds, got \"x\""),
        ("1,-2\n", 1, "service_s must be from 0 to 315360000, got -2"),
        ("1,NaN\n", 1, "service_s must be from 0 to 315360000, got NaN"),
    ] {
        assert_eq!(Workload::parse(text), Err(TraceError { line, what: what.into() }), "{text}");
    }
}

#[test]
fn clients_share_a_fair_queue_as_they_do_live() {
    let one = |client, at| Job { arrival: Time::ZERO + seconds(at), service: seconds(0.1), client };
    let jobs: Vec<Job> = (0..190).map(|_| one(1, 0.0)).chain((0..10).map(|_| one(2, 0.01))).collect();
    let workload = Workload::new(jobs, Duration::ZERO);
    let waits = |order| {
        let config = PoolConfig { order, ..Simulation::default().config };
        let report = Simulation { config, ..Simulation::default() }.run(Box::new(Fixed(1)), &workload);
        [1, 2].map(|client| report.client_wait(client, 0.5))
    };
    let [(heavy, _), (light, wait)] = waits(QueueOrder::Fair);
    assert_eq!((heavy, light), (190, 10));
    assert!((5.5..7.0).contains(&wait), "a start and every second turn: {wait}");
    assert!(waits(QueueOrder::Fifo)[1].1 > 23.0, "behind all others");
}

#[test]
fn a_policy_that_cannot_tell_says_why() {
    #[derive(Debug)]
    struct Lost;
    impl ScalingPolicy for Lost {
        fn name(&self) -> &'static str {
            "lost"
        }
        fn recommend(&mut self, load: &Load, _: &Traffic, _: Time) -> Recommendation {
            Recommendation::unknown(load, "division by zero")
        }
    }
    let report = Simulation::default().run(Box::new(Lost), &workload(&[(0.0, 1.0)]));
    let (count, why) = report.failures();
    assert!(count > 0 && why.is_some_and(|why| why.contains("division by zero")), "{count} {why:?}");
    assert_eq!(Simulation::default().run(Box::new(Fixed(1)), &workload(&[(0.0, 1.0)])).failures(), (0, None));
}

#[test]
fn moments_are_noted_on_the_way() {
    let simulation = Simulation { sample: Some(seconds(1.0)), ..Simulation::default() };
    let report = simulation.run(Box::new(Fixed(1)), &workload(&[(0.0, 2.0), (1.0, 2.0)]));
    let seen: Vec<_> = report.moments.iter().map(|it| (it.queue, it.in_flight, it.ready)).collect();
    assert_eq!(seen[3], (2, 0, 0));
    assert_eq!(report.moments[3].oldest_wait, 3.0);
    assert_eq!(seen[6], (1, 1, 1));
}

#[test]
fn joined_reports_are_one() {
    let simulation = Simulation::default();
    let mut one = simulation.run(Box::new(Fixed(1)), &workload(&[(0.0, 2.0)]));
    let other = simulation.run(Box::new(Fixed(1)), &workload(&[(9.0, 2.0)]));
    one.join(&other);
    assert_eq!((one.requests, one.starts, one.instance_seconds), (2, 2, 18.0));
    assert_eq!((one.wait(0.5), one.wait(1.0)), (0.0, 5.0));
}
