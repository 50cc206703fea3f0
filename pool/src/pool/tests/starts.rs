//! Rule 12: when starting is hopeless.

use super::*;
use crate::event::Retry;
use crate::scaling::{Load, Recommendation, ScalingPolicy, Traffic};

fn failed(retry: Retry) -> DeathCause {
    DeathCause::StartFailed { error: "no such image".into(), retry }
}

fn cannot_start(actions: &[Action]) -> Vec<u64> {
    let rejected = rejected(actions).into_iter();
    rejected.filter(|(_, why)| matches!(why, RejectReason::CannotStart { .. })).map(|(id, _)| id).collect()
}

#[test]
fn a_futile_start_refuses_all_until_an_instance_is_ready() {
    let mut story = Story::new(1, PoolConfig::default());
    story.arrive(1);
    assert_eq!(cannot_start(&story.exit(story.id(0), failed(Retry::Futile))), [1]);
    let RejectReason::CannotStart { cause, retry_after } = rejected(&story.arrive(2))[0].1.clone() else {
        panic!("let in")
    };
    assert_eq!(cause, failed(Retry::Futile));
    assert!(ms(250) <= retry_after && retry_after <= ms(500), "{retry_after:?}");
    story.pass(ms(500));
    assert_eq!(cannot_start(&story.arrive(3)), [3], "a retry is not yet hope");
    story.start_all();
    assert_eq!(dispatched(&story.arrive(4)), [(4, 0)]);
}

#[test]
fn three_failed_starts_in_a_row_are_hopeless() {
    let mut story = Story::new(1, PoolConfig::default());
    story.arrive(1);
    for _ in 0..2 {
        assert_eq!(rejected(&story.exit(story.id(0), killed())), []);
        story.pass(ms(2_000));
    }
    assert_eq!(cannot_start(&story.exit(story.id(0), killed())), [1]);
    assert_eq!(story.pool.snapshot(story.now).cannot_start, Some(killed()));
}

#[test]
fn a_start_that_takes_too_long_is_stopped_and_hopeless() {
    let mut story = Story::new(1, PoolConfig { start_timeout: ms(5_000), ..PoolConfig::default() });
    let id = story.id(0);
    story.arrive(1);
    story.pass(ms(4_999));
    assert_eq!(story.pass(ms(1)), [Action::Examine { instance: id }], "not without a last look");
    assert_eq!(story.pass(ms(1_000)), [], "which takes a moment");
    let (saw, log) = (Some("refused".into()), Arc::from("loading"));
    let asked = story.event(Event::InstanceExamined { instance: id, saw, log });
    assert_eq!(asked[0], Action::Stop { instance: id, grace: Duration::ZERO });
    assert_eq!(cannot_start(&asked), [1]);
    let cause = DeathCause::StartTimeout { after: ms(5_000), saw: "refused".into(), log: "loading".into() };
    assert_eq!(story.pool.snapshot(story.now).cannot_start, Some(cause));
    story.exit(id, DeathCause::Stopped);
    assert_eq!(story.state(0), StateView::BackingOff);
}

#[test]
fn a_start_of_which_nobody_says_anything_is_given_up_all_the_same() {
    let mut story = Story::new(1, PoolConfig { start_timeout: ms(5_000), ..PoolConfig::default() });
    let id = story.id(0);
    story.arrive(1);
    let asked = story.pass(ms(8_000));
    assert!(asked.contains(&Action::Stop { instance: id, grace: Duration::ZERO }), "{asked:?}");
    assert_eq!(cannot_start(&asked), [1]);
}

#[test]
fn a_start_that_is_done_at_the_last_look_is_done() {
    let mut story = Story::new(1, PoolConfig { start_timeout: ms(5_000), ..PoolConfig::default() });
    let id = story.id(0);
    story.arrive(1);
    story.asked();
    story.started(id);
    story.pass(ms(5_000));
    assert_eq!(dispatched(&story.probed(id, Health::Ready)), [(1, 0)]);
    let late = Event::InstanceExamined { instance: id, saw: None, log: "".into() };
    assert_eq!(story.event(late), []);
    assert_eq!(story.state(0), StateView::Ready);
}

#[test]
fn while_another_instance_serves_or_is_on_its_first_start_requests_wait() {
    let mut story = Story::ready(1, PoolConfig::default());
    story.event(Event::SizeSet { size: 3 });
    story.exit(story.id(1), failed(Retry::Futile));
    story.arrive(1);
    assert_eq!(story.arrive(2), []);
    story.exit(story.id(0), killed());
    assert_eq!(story.pool.waiting(), 1, "slot 2 still starts");
    assert_eq!(cannot_start(&story.exit(story.id(2), killed())), [2]);
}

#[test]
fn an_engine_that_is_down_is_asked_again_and_refuses_nobody() {
    let mut story = Story::new(1, PoolConfig::default());
    story.arrive(1);
    for _ in 0..20 {
        assert_eq!(story.exit(story.id(0), failed(Retry::EngineDown)), []);
        assert_eq!(story.pass(ms(500)).len(), 1);
    }
    assert_eq!(story.view(0).failures, 0);
    assert_eq!(dispatched(&story.start_all()), [(1, 0)]);
}

#[test]
fn an_operator_who_acts_clears_it() {
    for event in [Event::SizeSet { size: 1 }, Event::Restart] {
        let mut story = Story::new(1, PoolConfig::default());
        story.exit(story.id(0), failed(Retry::Futile));
        story.event(event);
        assert_eq!(story.arrive(1), []);
    }
}

/// Wants one instance while anyone waits.
struct OnDemand;

impl ScalingPolicy for OnDemand {
    fn name(&self) -> &'static str {
        "on-demand"
    }

    fn recommend(&mut self, load: &Load, _traffic: &Traffic, _now: Time) -> Recommendation {
        Recommendation::new(load.queue.min(1) as u32, "on demand")
    }
}

#[test]
fn a_service_that_is_started_on_demand_is_tried_again_after_it_fell_to_nought() {
    let config = PoolConfig { down_delay: ms(2_000), ..PoolConfig::default() };
    let pool = Pool::new(Arc::new(config), Box::new(OnDemand), 7, Time::ZERO);
    let mut story = Story { pool, now: Time::ZERO, asked: Vec::new() };
    story.pass(ms(0));
    story.arrive(1);
    story.pass(ms(1_000));
    assert_eq!(cannot_start(&story.exit(story.id(0), failed(Retry::Futile))), [1]);
    assert_eq!(cannot_start(&story.arrive(2)), [2]);
    story.pass(ms(10_000));
    for instance in story.instances_in(StateView::Stopping) {
        story.exit(instance, DeathCause::Stopped);
    }
    assert_eq!(story.arrive(3), [], "let in");
    assert_eq!(story.pass(ms(1_000)).len(), 1, "and started for");
}
