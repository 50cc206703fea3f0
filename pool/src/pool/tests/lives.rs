//! Rules 7, 9, 10, 11, 14, 15: instances live and die.

use super::*;

fn stop(instance: InstanceId, grace: Duration) -> Action {
    Action::Stop { instance, grace }
}

#[test]
fn what_a_dead_instance_held_is_revoked_and_ends_by_its_own_news() {
    let mut story = Story::ready(1, PoolConfig { concurrency: 2, ..PoolConfig::default() });
    let id = story.id(0);
    story.pass(ms(1_000));
    story.arrive(1);
    story.arrive(2);
    let asked = story.exit(id, killed());
    let revoke = |n| Action::Revoke { request: RequestId(n), instance: id, why: Revoked::Lost };
    let next = InstanceId { slot: 0, incarnation: 2 };
    assert_eq!(asked, [revoke(1), revoke(2), Action::Start { instance: next }]);
    assert_eq!(story.pool.in_flight(), 2);
    assert_eq!(story.finish(1, Outcome::Answered), [], "its answer was complete before it died");
    story.finish(2, lost(true));
    assert_eq!((story.pool.in_flight(), story.pool.waiting()), (0, 1));
    story.started(next);
    assert_eq!(dispatched(&story.probed(next, Health::Ready)), [(2, 0)]);
}

#[test]
fn news_of_an_earlier_incarnation_is_ignored() {
    let mut story = Story::ready(1, PoolConfig::default());
    let id = story.id(0);
    story.pass(ms(1_000));
    story.exit(id, killed());
    assert_eq!(story.exit(id, killed()), []);
    assert_eq!(story.started(id), []);
    assert_eq!(story.probed(id, Health::Ready), []);
    assert_eq!(story.state(0), StateView::Starting);
}

#[test]
fn one_that_was_healthy_is_replaced_at_once_and_one_that_was_not_waits() {
    let mut story = Story::ready(1, PoolConfig::default());
    let asked = story.exit(story.id(0), killed());
    assert_eq!(asked, [], "dead as soon as it was ready");
    assert_eq!((story.state(0), story.view(0).failures), (StateView::BackingOff, 1));
    assert_eq!(story.pass(ms(249)), []);
    assert_eq!(story.pass(ms(251)).len(), 1, "after 250 to 500 ms");
    story.start_all();
    story.pass(ms(1_000));
    assert_eq!(story.view(0).failures, 0, "forgiven");
    assert_eq!(story.exit(story.id(0), killed()).len(), 1);
    assert_eq!((story.state(0), story.view(0).failures), (StateView::Starting, 0));
    assert_eq!(story.view(0).restarts, 2);
}

#[test]
fn delays_grow_while_starts_fail() {
    let mut story = Story::new(1, PoolConfig::default());
    let mut delays = Vec::new();
    for _ in 0..10 {
        story.asked();
        let before = story.now;
        story.exit(story.id(0), killed());
        while story.pass(ms(10)).is_empty() {}
        delays.push(story.now.since(before).as_secs_f64());
    }
    assert!((0.25..0.52).contains(&delays[0]), "{delays:?}");
    assert!((2.0..4.02).contains(&delays[3]), "{delays:?}");
    assert!((15.0..30.02).contains(&delays[9]), "{delays:?}");
}

#[test]
fn a_smaller_size_drains_the_idlest_and_stops_it_when_it_is_done() {
    let mut story = Story::ready(3, PoolConfig::default());
    story.arrive(1);
    story.arrive(2);
    let (busy, idle) = (story.id(1), story.id(2));
    let asked = story.event(Event::SizeSet { size: 1 });
    assert_eq!(asked, [stop(idle, ms(10_000))]);
    assert_eq!(story.state(1), StateView::Draining);
    assert_eq!(story.finish(2, Outcome::Answered), [stop(busy, ms(10_000))]);
    story.exit(busy, DeathCause::Stopped);
    story.exit(idle, DeathCause::Stopped);
    assert_eq!(story.pool.snapshot(story.now).instances.len(), 1);
}

#[test]
fn a_drain_cuts_nothing_before_its_deadline_and_revokes_then() {
    let mut story = Story::ready(1, PoolConfig { drain_timeout: ms(5_000), ..PoolConfig::default() });
    let id = story.id(0);
    story.arrive(1);
    story.event(Event::SizeSet { size: 0 });
    let stops = |asked: Vec<Action>| {
        asked.into_iter().filter(|action| !matches!(action, Action::Probe { .. })).collect::<Vec<_>>()
    };
    assert_eq!(stops(story.pass(ms(4_999))), []);
    let revoke = Action::Revoke { request: RequestId(1), instance: id, why: Revoked::Drained };
    assert_eq!(stops(story.pass(ms(1))), [revoke, stop(id, ms(10_000))]);
    assert_eq!(story.state(0), StateView::Stopping);
}

#[test]
fn a_stop_that_is_never_answered_frees_its_slot_in_the_end() {
    let mut story = Story::ready(1, PoolConfig::default());
    let id = story.id(0);
    story.event(Event::SizeSet { size: 0 });
    story.pass(ms(39_999));
    assert_eq!(story.pool.snapshot(story.now).instances.len(), 1);
    story.pass(ms(1));
    assert_eq!(story.pool.snapshot(story.now).instances.len(), 0);
    assert_eq!(story.exit(id, DeathCause::Stopped), []);
}

#[test]
fn one_that_is_not_wanted_any_more_is_stopped_before_it_started() {
    let mut story = Story::new(1, PoolConfig::default());
    let id = story.id(0);
    story.asked();
    assert_eq!(story.event(Event::SizeSet { size: 0 }), [stop(id, ms(10_000))]);
    assert_eq!(story.started(id), []);
    assert_eq!(story.probed(id, Health::Ready), []);
    assert_eq!(story.exit(id, DeathCause::Stopped), []);
    assert!(story.pool.snapshot(story.now).instances.is_empty());
}

#[test]
fn found_instances_are_kept_if_they_answer_and_counted_in() {
    let pool = Pool::new(Arc::new(PoolConfig::default()), Box::new(Fixed(2)), 7, Time::ZERO);
    let mut story = Story { pool, now: Time::ZERO, asked: Vec::new() };
    let found = InstanceId { slot: 1, incarnation: 41 };
    let asked = story.event(Event::InstanceFound { instance: found, address: address(), paused: true });
    assert_eq!(asked, [Action::Probe { instance: found, address: address() }]);
    let asked = story.pass(ms(0));
    assert_eq!(asked, [Action::Start { instance: InstanceId { slot: 0, incarnation: 42 } }]);
    story.probed(found, Health::Ready);
    assert_eq!(story.state(1), StateView::Ready);
}

#[test]
fn a_found_instance_that_does_not_answer_is_replaced_and_surplus_ones_are_stopped() {
    let pool = Pool::new(Arc::new(PoolConfig::default()), Box::new(Fixed(1)), 7, Time::ZERO);
    let mut story = Story { pool, now: Time::ZERO, asked: Vec::new() };
    let [first, second] = [3, 4].map(|incarnation| InstanceId { slot: incarnation, incarnation });
    for instance in [first, second] {
        story.event(Event::InstanceFound { instance, address: address(), paused: false });
    }
    assert_eq!(story.pass(ms(0)), [stop(second, ms(10_000))]);
    for _ in 0..2 {
        story.probed(first, Health::NotReady);
        story.pass(ms(2_000));
    }
    assert_eq!(story.probed(first, Health::NotReady), [stop(first, Duration::ZERO)]);
    let asked = story.exit(first, DeathCause::Stopped);
    assert_eq!(asked, [Action::Start { instance: InstanceId { slot: 3, incarnation: 5 } }]);
}

#[test]
fn a_pool_that_drains_replaces_the_dead_only_while_someone_waits() {
    let mut story = Story::ready(2, PoolConfig::default());
    story.pass(ms(1_000));
    story.arrive(1);
    story.event(Event::Drain);
    assert_eq!(story.exit(story.id(1), killed()), []);
    let asked = story.exit(story.id(0), killed());
    assert_eq!(asked.len(), 1, "the revoke: {asked:?}");
    let asked = story.finish(1, lost(true));
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(dispatched(&story.start_all()), [(1, 0)]);
}

#[test]
fn an_instance_whose_end_is_told_before_its_cause_is_replaced_at_once_and_the_cause_is_noted() {
    let mut story = Story::ready(1, PoolConfig::default());
    let id = story.id(0);
    story.pass(ms(1_000));
    story.arrive(1);
    let asked = story.exit(id, DeathCause::Unexplained);
    assert!(asked.iter().any(|action| matches!(action, Action::Start { .. })), "{asked:?}");
    assert_eq!(story.view(0).last_death.unwrap().0, DeathCause::Unexplained);
    assert_eq!(story.exit(id, killed()), []);
    assert_eq!(story.view(0).last_death.unwrap().0, killed());
    story.exit(id, DeathCause::Vanished);
    assert_eq!(story.view(0).last_death.unwrap().0, killed());
    assert_eq!(story.view(0).restarts, 1);
}

#[test]
fn the_cause_of_a_failed_start_is_waited_for() {
    let mut story = Story::new(1, PoolConfig::default());
    story.asked();
    let id = story.id(0);
    story.started(id);
    assert_eq!(story.exit(id, DeathCause::Unexplained), []);
    assert_eq!(story.state(0), StateView::Starting);
    story.exit(id, killed());
    assert_eq!(story.state(0), StateView::BackingOff);
}

#[test]
fn streams_alone_keep_a_draining_instance_for_the_grace_of_a_stop() {
    let config = PoolConfig { concurrency: 2, stop_grace: ms(3_000), ..PoolConfig::default() };
    let mut story = Story::ready(1, config);
    let id = story.id(0);
    (1..=2).for_each(|n| drop(story.arrive(n)));
    story.event(Event::RequestStreams { request: RequestId(1) });
    story.event(Event::SizeSet { size: 0 });
    assert_eq!(story.state(0), StateView::Draining);
    // Request 2 is no stream: nothing is cut on its account.
    story.pass(ms(10_000));
    assert_eq!(story.state(0), StateView::Draining);
    story.event(Event::RequestStreams { request: RequestId(2) });
    story.pass(ms(2_900));
    assert_eq!(story.state(0), StateView::Draining);
    let asked = story.pass(ms(200));
    assert_eq!(story.state(0), StateView::Stopping);
    for request in [RequestId(1), RequestId(2)] {
        assert!(
            asked.contains(&Action::Revoke { request, instance: id, why: Revoked::Drained }),
            "{asked:?}"
        );
    }
}

#[test]
fn a_stream_that_ended_does_not_count_among_those_that_are_left() {
    let config = PoolConfig { concurrency: 2, stop_grace: ms(100), ..PoolConfig::default() };
    let mut story = Story::ready(1, config);
    (1..=2).for_each(|n| drop(story.arrive(n)));
    story.event(Event::RequestStreams { request: RequestId(1) });
    story.finish(1, Outcome::Answered);
    story.event(Event::SizeSet { size: 0 });
    story.pass(ms(5_000));
    assert_eq!(story.state(0), StateView::Draining, "request 2 is no stream");
}

#[test]
fn an_instance_keeps_its_age_over_its_states_and_its_successor_begins_anew() {
    let mut story = Story::ready(1, PoolConfig::default());
    let begun = story.view(0).begun;
    story.pass(ms(1_000));
    story.arrive(1);
    story.finish(1, lost(true));
    story.probed(story.id(0), Health::Ready);
    assert_eq!((story.state(0), story.view(0).begun), (StateView::Ready, begun));
    assert!(story.view(0).since > begun);
    story.exit(story.id(0), killed());
    assert_eq!((story.state(0), story.view(0).begun), (StateView::Starting, story.now));
}
