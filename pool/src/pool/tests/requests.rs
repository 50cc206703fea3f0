//! Rules 1, 2, 6: requests are let in, sent to an instance, and end.

use super::*;

#[test]
fn the_first_timeout_starts_what_is_wanted_and_the_first_answered_probe_opens_it() {
    let mut story = Story::new(1, PoolConfig::default());
    let id = InstanceId { slot: 0, incarnation: 1 };
    assert_eq!(story.asked(), [Action::Start { instance: id }]);
    assert_eq!(story.arrive(1), []);
    assert_eq!(story.started(id), [Action::Probe { instance: id, address: address() }]);
    let dispatch = Action::Dispatch { request: RequestId(1), instance: id, address: address(), attempt: 1 };
    assert_eq!(story.probed(id, Health::Ready), [dispatch]);
}

#[test]
fn requests_wait_in_order_and_each_free_slot_takes_the_first() {
    let mut story = Story::ready(1, PoolConfig::default());
    assert_eq!(dispatched(&story.arrive(1)), [(1, 0)]);
    (2..=4).for_each(|request| assert_eq!(story.arrive(request), []));
    for request in 1..4 {
        assert_eq!(dispatched(&story.finish(request, Outcome::Answered)), [(request + 1, 0)]);
    }
    assert_eq!((story.pool.waiting(), story.pool.in_flight()), (0, 1));
}

#[test]
fn the_least_busy_instance_is_chosen_and_equals_take_turns() {
    let mut story = Story::ready(3, PoolConfig { concurrency: 2, ..PoolConfig::default() });
    let slots: Vec<u32> = (0..6).map(|n| dispatched(&story.arrive(n))[0].1).collect();
    assert_eq!(slots, [0, 1, 2, 0, 1, 2]);
    story.finish(1, Outcome::Answered);
    assert_eq!(dispatched(&story.arrive(7)), [(7, 1)]);
    assert_eq!(story.arrive(8), []);
}

#[test]
fn without_a_limit_an_instance_takes_all() {
    let mut story = Story::ready(1, PoolConfig { concurrency: 0, ..PoolConfig::default() });
    (0..1_000).for_each(|n| assert_eq!(dispatched(&story.arrive(n)), [(n, 0)]));
}

#[test]
fn a_full_queue_refuses_with_the_time_after_which_there_is_room() {
    let mut story = Story::ready(1, PoolConfig { queue_limit: 100, ..PoolConfig::default() });
    (0..101).for_each(|n| assert_eq!(rejected(&story.arrive(n)), []));
    let full = |seconds| RejectReason::QueueFull { retry_after: Duration::from_secs(seconds) };
    assert_eq!(rejected(&story.arrive(500)), [(500, full(10))]);
    // One a second drains; a tenth of a hundred takes ten seconds.
    for n in 0..30 {
        story.pass(ms(1_000));
        story.finish(n, Outcome::Answered);
        story.arrive(1_000 + n);
    }
    let RejectReason::QueueFull { retry_after } = rejected(&story.arrive(501))[0].1 else {
        panic!("not full")
    };
    assert!((8.0..12.5).contains(&retry_after.as_secs_f64()), "{retry_after:?}");
}

#[test]
fn a_size_of_nought_refuses_and_a_drain_refuses_first() {
    let mut story = Story::new(0, PoolConfig::default());
    assert_eq!(rejected(&story.arrive(1)), [(1, RejectReason::Stopped { cause: None })]);
    assert_eq!(rejected(&story.arrive_until(2, Time::ZERO)), [(2, RejectReason::DeadlinePassed)]);
    story.event(Event::Drain);
    assert_eq!(rejected(&story.arrive_until(3, Time::ZERO)), [(3, RejectReason::ShuttingDown)]);
}

#[test]
fn doubled_and_unknown_news_change_nothing() {
    let mut story = Story::ready(1, PoolConfig::default());
    story.arrive(1);
    story.arrive(2);
    assert_eq!(story.arrive(1), []);
    assert_eq!(story.arrive(2), []);
    assert_eq!(story.finish(2, Outcome::Answered), [], "it waits: nobody can have answered it");
    assert_eq!(story.finish(9, lost(true)), []);
    assert_eq!(dispatched(&story.finish(1, Outcome::Answered)), [(2, 0)]);
    assert_eq!(story.finish(1, Outcome::Answered), []);
    assert_eq!((story.pool.waiting(), story.pool.in_flight()), (0, 1));
}

#[test]
fn a_client_that_leaves_the_queue_takes_its_place_with_it() {
    let mut story = Story::ready(1, PoolConfig { queue_limit: 2, ..PoolConfig::default() });
    (1..=3).for_each(|n| drop(story.arrive(n)));
    assert_eq!(story.event(Event::RequestCancelled { request: RequestId(2) }), []);
    assert_eq!(story.arrive(4), []);
    assert_eq!(
        story.event(Event::RequestCancelled { request: RequestId(1) }),
        [],
        "in flight: told otherwise"
    );
    assert_eq!(dispatched(&story.finish(1, Outcome::Abandoned { broken: false })), [(3, 0)]);
    assert_eq!(dispatched(&story.finish(3, Outcome::Answered)), [(4, 0)]);
}

#[test]
fn what_was_answered_is_recorded_once_somebody_asks() {
    let mut story = Story::ready(1, PoolConfig::default());
    let answer = |story: &mut Story, request| {
        story.arrive(request);
        story.pass(ms(250));
        story.finish(request, Outcome::Answered);
    };
    answer(&mut story, 1);
    assert_eq!(story.pool.take_record(), []);
    // The second waits while the first is worked on: that is no service time.
    story.arrive(2);
    story.arrive(3);
    story.pass(ms(100));
    story.finish(2, Outcome::Answered);
    story.pass(ms(200));
    story.finish(3, Outcome::Answered);
    let seen: Vec<_> = story.pool.take_record().iter().map(|job| (job.arrival, job.service)).collect();
    let arrival = Time::ZERO + ms(250);
    assert_eq!(seen, [(arrival, ms(100)), (arrival, ms(200))]);
    assert_eq!(story.pool.take_record(), []);
}

#[test]
fn the_queue_says_how_fast_it_drains_and_how_long_the_last_one_has_yet_to_wait() {
    let mut story = Story::ready(1, PoolConfig::default());
    (0..100).for_each(|n| drop(story.arrive(n)));
    let before = story.pool.snapshot(story.now);
    assert_eq!((before.drain_rate, before.last_wait), (0.0, None));
    for n in 0..50 {
        story.pass(ms(200));
        story.finish(n, Outcome::Answered);
    }
    let after = story.pool.snapshot(story.now);
    assert!((4.5..5.5).contains(&after.drain_rate), "{}", after.drain_rate);
    let wait = after.last_wait.map_or(0.0, |wait| wait.as_secs_f64());
    assert!((9.0..11.0).contains(&wait), "49 wait, five a second: {wait}");
    let last = story.pool.standing(RequestId(99), story.now).and_then(|standing| standing.wait);
    assert_eq!(after.last_wait, last);
}

#[test]
fn what_waits_and_what_is_at_work_is_refused_once_the_process_ends() {
    let mut story = Story::ready(2, PoolConfig::default());
    (1..=4).for_each(|n| drop(story.arrive(n)));
    story.finish(2, lost(true));
    story.probed(story.id(1), Health::Ready);
    story.event(Event::Drain);
    let refused = |n| (n, RejectReason::ShuttingDown);
    let asked = story.event(Event::Cut);
    assert_eq!(rejected(&asked), [refused(2), refused(4)], "the replay and the one that never had its turn");
    for (n, slot) in [(1, 0), (3, 1)] {
        let revoke = Action::Revoke { request: RequestId(n), instance: story.id(slot), why: Revoked::Cut };
        assert!(asked.contains(&revoke), "{asked:?}");
    }
    assert_eq!(rejected(&story.finish(1, lost(true))), [refused(1)], "it does not come back");
    assert_eq!(story.finish(3, Outcome::Answered), [], "one that has its answer after all");
    assert_eq!(rejected(&story.arrive(5)), [refused(5)]);
    assert_eq!(story.pool.table_sizes().0, 0);
}
