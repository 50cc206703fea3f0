//! What the policies are there for.

use super::*;

fn run(policy: Box<dyn crate::ScalingPolicy>, load: &Workload, cold_start: f64) -> Report {
    let config = PoolConfig { down_delay: Duration::ZERO, ..Simulation::default().config };
    Simulation { config, cold_start: seconds(cold_start), ..Simulation::default() }.run(policy, load)
}

#[test]
fn wait_keeps_its_objective_and_costs_less_than_concurrency() {
    for cold_start in [0.5, 5.0] {
        let load = steady(5.0, 3_600, 1);
        let wait = run(Box::new(Wait::default()), &load, cold_start);
        let concurrency = run(Box::new(Concurrency::default()), &load, cold_start);
        assert!(wait.wait(0.95) <= 1.0, "{cold_start}: {}", wait.wait(0.95));
        assert!(wait.instance_seconds < 0.8 * concurrency.instance_seconds, "{cold_start}");
        assert_eq!((wait.rejected, wait.expired), (0, 0));
    }
}

#[test]
fn however_many_arrive_at_zero_one_start_answers_the_first() {
    let jobs: Vec<_> = (0..40).map(|n| (1.0 + f64::from(n) * 0.001, 0.001)).collect();
    for policy in [
        Box::new(Wait::default()) as Box<dyn crate::ScalingPolicy>,
        Box::new(Concurrency::default()),
        Box::new(crate::scaling::Queue::new(0, 1)),
    ] {
        let name = policy.name();
        let report = run(policy, &workload(&jobs), 0.05);
        assert_eq!((report.requests, report.starts), (40, 1), "{name}");
        // Not at the next interval: at once.
        assert!(report.wait(1.0) <= 0.1, "{name}: {}", report.wait(1.0));
    }
}

#[test]
fn a_constant_load_does_not_make_the_size_flap() {
    // Ten a second, evenly, half a second each: five at work at any time.
    let jobs: Vec<_> = (0..18_000).map(|n| (f64::from(n) / 10.0, 0.5)).collect();
    for policy in
        [Box::new(Wait::default()) as Box<dyn crate::ScalingPolicy>, Box::new(Concurrency::default())]
    {
        let name = policy.name();
        let report = run(policy, &workload(&jobs), 5.0);
        assert!(report.resizes <= 12, "{name}: {} changes of the size", report.resizes);
        assert!(report.wait(0.95) <= 1.0, "{name}");
    }
}

#[test]
fn the_last_instance_is_kept_as_long_as_a_start_takes_however_short_idle_times_were() {
    // Two short requests a second: idle for a moment, often. Then a pause of half a start.
    let mut jobs: Vec<_> = (0..700).map(|n| (f64::from(n) * 0.5, 0.1)).collect();
    let before = run(Box::new(Wait::default()), &workload(&jobs), 20.0);
    jobs.push((360.0, 0.1));
    let after = run(Box::new(Wait::default()), &workload(&jobs), 20.0);
    assert_eq!((after.late, after.starts), (before.late, before.starts));
}

#[test]
fn what_is_wanted_again_and_again_is_learned_and_kept() {
    let services = Services::Lognormal { mean: 0.5, cv: 0.5 };
    let load = Synthetic { shape: Shape::OnOff, rate: 5.0, services, span: seconds(3_600.0), seed: 1 }.make();
    let learned = run(Box::new(Wait::default()), &load, 5.0);
    let settings = WaitSettings { keep_max: Duration::ZERO, ..WaitSettings::default() };
    let forgetful = run(Box::new(Wait::new(settings)), &load, 5.0);
    assert!(learned.wait(0.95) < 1.0 && forgetful.wait(0.95) > 1.0);
    assert!(learned.instance_seconds > forgetful.instance_seconds);
}
