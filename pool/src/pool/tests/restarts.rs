//! Rule 18: what becomes of instances that end unasked.

use super::*;
use crate::config::RestartPolicy;
use crate::event::Retry;

fn policy(restart: RestartPolicy) -> PoolConfig {
    PoolConfig { restart, ..PoolConfig::default() }
}

fn exited(code: i64) -> DeathCause {
    DeathCause::Exited { code, log: "bye".into() }
}

fn stopped(cause: DeathCause) -> RejectReason {
    RejectReason::Stopped { cause: Some(cause) }
}

/// A pool of that size, all ready for long enough to have been healthy.
fn healthy(size: u32, config: PoolConfig) -> Story {
    let mut story = Story::ready(size, config);
    story.pass(ms(1_000));
    story
}

#[test]
fn always_replaces_whatever_ended() {
    for cause in [exited(0), exited(1), killed(), DeathCause::Vanished] {
        let mut story = healthy(1, policy(RestartPolicy::Always));
        let asked = story.exit(story.id(0), cause);
        assert_eq!(asked, [Action::Start { instance: InstanceId { slot: 0, incarnation: 2 } }]);
    }
}

#[test]
fn on_failure_replaces_what_failed_and_leaves_what_was_done() {
    let mut story = healthy(2, policy(RestartPolicy::OnFailure));
    assert_eq!(story.exit(story.id(0), exited(1)).len(), 1, "replaced");
    assert_eq!(story.exit(story.id(1), exited(0)), []);
    assert_eq!(story.state(1), StateView::Exited);
    story.pass(ms(100_000));
    assert_eq!(story.state(1), StateView::Exited);
    assert_eq!(story.view(1).last_death.unwrap().0, exited(0));
}

#[test]
fn never_replaces_nothing_and_refuses_when_none_is_left() {
    let mut story = healthy(2, policy(RestartPolicy::Never));
    (1..=3).for_each(|n| drop(story.arrive(n)));
    let (first, second) = (story.id(0), story.id(1));
    assert_eq!(
        story.exit(first, killed()),
        [Action::Revoke { request: RequestId(1), instance: first, why: Revoked::Lost }]
    );
    assert_eq!(story.finish(1, lost(true)), [], "the other one is left");
    assert_eq!((story.state(0), story.pool.waiting()), (StateView::Exited, 2));
    let asked = story.exit(second, exited(3));
    let refused = |n| (n, stopped(exited(3)));
    assert_eq!(rejected(&asked), [refused(1), refused(3)]);
    assert_eq!(rejected(&story.finish(2, lost(true))), [refused(2)]);
    assert_eq!(rejected(&story.arrive(4)), [refused(4)]);
    let snapshot = story.pool.snapshot(story.now);
    assert_eq!((snapshot.cannot_start, snapshot.stopped), (Some(exited(3)), true));
    assert_eq!(story.pass(ms(1_000_000)), [], "and nothing is started");
}

#[test]
fn one_that_has_done_its_work_or_cannot_start_and_is_not_started_again_stops_the_service() {
    let futile = DeathCause::StartFailed { error: "no image".into(), retry: Retry::Futile };
    for (restart, cause) in [(RestartPolicy::OnFailure, exited(0)), (RestartPolicy::Never, futile)] {
        let mut story = Story::new(1, policy(restart));
        story.arrive(1);
        assert_eq!(rejected(&story.exit(story.id(0), cause.clone())), [(1, stopped(cause))]);
        story.event(Event::Restart);
        assert!(!story.pool.snapshot(story.now).stopped, "an operator starts it again");
    }
}

#[test]
fn never_applies_to_what_hangs_or_does_not_start() {
    let config = PoolConfig { probe_failures: 1, ..policy(RestartPolicy::Never) };
    let mut story = healthy(1, config);
    let id = story.id(0);
    story.pass(ms(1_000));
    let asked = story.probed(id, Health::NotReady);
    assert_eq!(asked, [Action::Stop { instance: id, grace: Duration::ZERO }]);
    assert_eq!(rejected(&story.arrive(1)), [(1, stopped(DeathCause::Hung))]);
    assert_eq!(story.exit(id, DeathCause::Stopped), []);
    assert_eq!(story.state(0), StateView::Exited);

    let config = PoolConfig { start_timeout: ms(5_000), ..policy(RestartPolicy::Never) };
    let mut story = Story::new(1, config);
    story.arrive(1);
    let asked = story.pass(ms(8_000));
    let [(1, RejectReason::Stopped { cause: Some(DeathCause::StartTimeout { .. }) })] = &rejected(&asked)[..]
    else {
        panic!("{asked:?}")
    };
}

#[test]
fn a_bigger_size_starts_others_and_hope_is_back_with_them() {
    let mut story = healthy(1, policy(RestartPolicy::Never));
    story.exit(story.id(0), killed());
    let pool = &mut story.pool;
    pool.handle_event(Event::SizeSet { size: 0 }, story.now);
    assert_eq!(story.pool.snapshot(story.now).instances.len(), 0, "what has ended goes first");
    story.event(Event::SizeSet { size: 1 });
    assert_eq!(story.arrive(1), []);
    assert_eq!(dispatched(&story.start_all()), [(1, 0)]);
}

#[test]
fn what_has_ended_starts_again_when_an_operator_acts() {
    let config = || Arc::new(policy(RestartPolicy::Never));
    for event in [
        Event::SizeSet { size: 1 },
        Event::Restart,
        Event::ConfigChanged { config: config(), roll: false },
        Event::InstanceReplace { instance: InstanceId { slot: 0, incarnation: 1 } },
    ] {
        let mut story = healthy(1, policy(RestartPolicy::Never));
        story.exit(story.id(0), killed());
        let asked = story.event(event.clone());
        let next = InstanceId { slot: 0, incarnation: 2 };
        assert_eq!(asked, [Action::Start { instance: next }], "{event:?}");
        assert_eq!(story.arrive(1), [], "{event:?}");
        assert_eq!(dispatched(&story.start_all()), [(1, 0)]);
        assert_eq!(story.view(0).restarts, 1);
    }
}

#[test]
fn an_engine_that_is_down_is_no_end_of_an_instance() {
    for restart in [RestartPolicy::OnFailure, RestartPolicy::Never, RestartPolicy::StopService] {
        let mut story = Story::new(1, policy(restart));
        story.arrive(1);
        let cause = DeathCause::StartFailed { error: "no engine".into(), retry: Retry::EngineDown };
        assert_eq!(story.exit(story.id(0), cause), []);
        assert_eq!(story.pass(ms(2_000)).len(), 1);
        assert_eq!(dispatched(&story.start_all()), [(1, 0)], "{restart:?}");
    }
}

#[test]
fn one_that_fails_stops_the_service_and_what_is_at_work_is_finished() {
    let mut story = healthy(3, policy(RestartPolicy::StopService));
    (1..=4).for_each(|n| drop(story.arrive(n)));
    story.finish(3, Outcome::Answered);
    story.finish(4, Outcome::Answered);
    (5..=6).for_each(|n| drop(story.arrive(n)));
    let (first, busy, other) = (story.id(0), story.id(1), story.id(2));
    let asked = story.exit(first, killed());
    assert!(asked.contains(&Action::Revoke { request: RequestId(1), instance: first, why: Revoked::Lost }));
    assert_eq!(rejected(&asked), [(6, stopped(killed()))]);
    assert_eq!(rejected(&story.finish(1, lost(true))), [(1, stopped(killed()))]);
    assert_eq!((story.state(1), story.state(2)), (StateView::Draining, StateView::Draining));
    let stop = |instance| Action::Stop { instance, grace: ms(10_000) };
    assert_eq!(story.finish(2, Outcome::Answered), [stop(busy)]);
    assert_eq!(story.finish(5, Outcome::Answered), [stop(other)]);
    story.exit(busy, DeathCause::Stopped);
    story.exit(other, DeathCause::Stopped);
    assert_eq!(rejected(&story.arrive(7)), [(7, stopped(killed()))]);
    assert_eq!(story.pass(ms(1_000_000)), []);
    let snapshot = story.pool.snapshot(story.now);
    assert_eq!((snapshot.instances.len(), snapshot.cannot_start), (0, Some(killed())));
    assert_eq!(story.event(Event::SizeSet { size: 2 }).len(), 2, "a size starts it again");
    assert_eq!(story.arrive(8), []);
    assert_eq!(dispatched(&story.start_all()), [(8, 0)]);
}

#[test]
fn a_service_is_stopped_by_whatever_ends_and_by_nothing_that_was_asked_for() {
    for cause in [exited(0), DeathCause::Vanished, killed()] {
        let mut story = healthy(1, policy(RestartPolicy::StopService));
        story.exit(story.id(0), cause.clone());
        assert_eq!(rejected(&story.arrive(1)), [(1, stopped(cause))]);
    }
    let mut story = healthy(2, policy(RestartPolicy::StopService));
    let gone = story.id(1);
    story.event(Event::SizeSet { size: 1 });
    story.exit(gone, killed());
    assert_eq!(dispatched(&story.arrive(1)), [(1, 0)], "it was to go");
}

#[test]
fn one_that_dies_while_it_is_to_be_replaced_is_replaced() {
    for restart in [RestartPolicy::Never, RestartPolicy::StopService] {
        let mut story = healthy(2, policy(restart));
        story.event(Event::Restart);
        story.exit(story.id(0), killed());
        assert_eq!(story.state(0), StateView::Starting, "{restart:?}");
        story.start_all();
        assert_eq!(dispatched(&story.arrive(1)).len(), 1);
    }
}

#[test]
fn servers_that_already_run_are_looked_at_again_under_every_policy() {
    let config = PoolConfig { managed: false, max: 1, min: 1, ..policy(RestartPolicy::StopService) };
    let mut story = Story::ready(1, config);
    story.exit(story.id(0), killed());
    story.arrive(1);
    story.pass(ms(2_000));
    assert_eq!(dispatched(&story.probed(story.id(0), Health::Ready)), [(1, 0)]);
}
