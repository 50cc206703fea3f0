//! Rule 4: how long a request waits.

use super::*;

#[test]
fn a_wait_ends_with_the_queue_timeout_or_the_deadline_whichever_is_first() {
    let config = PoolConfig { queue_timeout: ms(1_000), ..PoolConfig::default() };
    let mut story = Story::new(1, config);
    story.arrive(1);
    story.arrive_until(2, Time::ZERO + ms(400));
    assert_eq!(rejected(&story.pass(ms(399))), []);
    assert_eq!(rejected(&story.pass(ms(1))), [(2, RejectReason::DeadlinePassed)]);
    assert_eq!(rejected(&story.pass(ms(599))), []);
    assert_eq!(rejected(&story.pass(ms(1))), [(1, RejectReason::QueueTimeout)]);
    assert_eq!(story.pool.table_sizes(), (0, 0));
}

#[test]
fn a_late_timer_lets_nothing_be_dispatched_past_its_deadline() {
    let mut story = Story::ready(1, PoolConfig::default());
    story.arrive(1);
    story.arrive_until(2, Time::ZERO + ms(10));
    story.now = Time::ZERO + ms(10);
    let asked = story.finish(1, Outcome::Answered);
    assert_eq!(asked, [Action::Reject { request: RequestId(2), reason: RejectReason::DeadlinePassed }]);
}

#[test]
fn each_wait_gets_the_full_queue_timeout_again() {
    let config = PoolConfig { queue_timeout: ms(1_000), ..PoolConfig::default() };
    let mut story = Story::ready(1, config);
    story.arrive(1);
    story.pass(ms(900));
    story.exit(story.id(0), killed());
    story.finish(1, lost(true));
    assert_eq!(rejected(&story.pass(ms(999))), []);
    assert_eq!(rejected(&story.pass(ms(1))), [(1, RejectReason::QueueTimeout)]);
}

#[test]
fn what_left_the_queue_leaves_no_growing_trace() {
    let mut story = Story::new(1, PoolConfig::default());
    for n in 0..100_000 {
        story.arrive(n);
        story.event(Event::RequestCancelled { request: RequestId(n) });
    }
    let (requests, notes) = story.pool.table_sizes();
    assert_eq!(requests, 0);
    assert!(notes <= 2_048, "{notes} notes of deadlines");
}
