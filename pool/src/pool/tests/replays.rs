//! Rules 3 and 5: requests that come back.

use super::*;

fn exhausted(losses: &[InstanceId]) -> RejectReason {
    let attempts = losses.iter().map(|id| (*id, Arc::from("connection reset"))).collect();
    RejectReason::AttemptsExhausted { attempts }
}

#[test]
fn a_lost_request_goes_to_the_head_and_to_another_instance() {
    let mut story = Story::ready(2, PoolConfig::default());
    (1..=4).for_each(|n| drop(story.arrive(n)));
    // Slot 0 loses request 1; slot 1 is done with 2 and takes 1, although 3 waits.
    assert_eq!(dispatched(&story.finish(1, lost(true))), []);
    assert_eq!(dispatched(&story.finish(2, Outcome::Answered)), [(1, 1)]);
}

#[test]
fn a_stream_that_can_go_on_elsewhere_goes_to_the_head_with_a_deadline_of_its_own() {
    let mut story = Story::ready(2, PoolConfig::default());
    let interrupted = |deadline| Outcome::Interrupted { how: "connection reset".into(), deadline };
    let deadline = story.now + Duration::from_secs(1);
    story.arrive_until(1, deadline);
    story.arrive(2);
    story.arrive(3);
    // It has streamed far beyond its deadline, which was for its first byte.
    story.pass(Duration::from_secs(60));
    let again = story.now + Duration::from_secs(1);
    assert_eq!(dispatched(&story.finish(1, interrupted(again))), []);
    assert_eq!(dispatched(&story.finish(2, Outcome::Answered)), [(1, 1)], "before 3, not where it broke");
    let passed = story.now;
    let asked = story.finish(1, interrupted(passed));
    assert_eq!(rejected(&asked), [(1, RejectReason::DeadlinePassed)]);
}

#[test]
fn a_stream_that_outlived_as_many_instances_as_allowed_is_given_up() {
    let mut story = Story::ready(2, PoolConfig { replay_attempts: 2, ..PoolConfig::default() });
    story.arrive(1);
    let interrupted = || Outcome::Interrupted { how: "connection reset".into(), deadline: Time::MAX };
    assert_eq!(dispatched(&story.finish(1, interrupted())), [(1, 1)]);
    let asked = story.finish(1, interrupted());
    assert_eq!(rejected(&asked), [(1, exhausted(&[story.id(0), story.id(1)]))]);
}

#[test]
fn replays_are_ordered_by_age_not_by_loss() {
    let mut story = Story::ready(3, PoolConfig::default());
    (1..=4).for_each(|n| drop(story.arrive(n)));
    story.finish(2, lost(true));
    story.finish(1, lost(true));
    let asked = story.finish(3, Outcome::Answered);
    assert_eq!(dispatched(&asked), [(1, 2)]);
    assert_eq!(dispatched(&story.finish(1, Outcome::Answered)), [(2, 2)]);
    assert_eq!(dispatched(&story.finish(2, Outcome::Answered)), [(4, 2)]);
}

#[test]
fn a_replay_waits_for_another_instance_while_one_can_be_had_and_blocks_nobody() {
    let mut story = Story::ready(2, PoolConfig::default());
    (1..=3).for_each(|n| drop(story.arrive(n)));
    story.finish(1, lost(true));
    assert_eq!(
        dispatched(&story.probed(story.id(0), Health::Ready)),
        [(3, 0)],
        "1 avoids slot 0; 3 need not"
    );
    assert_eq!(dispatched(&story.finish(3, Outcome::Answered)), []);
    assert_eq!(dispatched(&story.finish(2, Outcome::Answered)), [(1, 1)]);
}

#[test]
fn a_replay_returns_to_its_only_instance() {
    let mut story = Story::ready(1, PoolConfig::default());
    story.arrive(1);
    story.finish(1, lost(true));
    assert_eq!(
        dispatched(&story.probed(story.id(0), Health::Ready)),
        [],
        "one that dies answers for a moment still"
    );
    assert_eq!(dispatched(&story.pass(ms(1_000))), []);
    assert_eq!(dispatched(&story.probed(story.id(0), Health::Ready)), [(1, 0)]);
}

#[test]
fn a_replay_waits_for_the_next_life_of_an_instance_that_is_dying() {
    let mut story = Story::ready(1, PoolConfig { replay_attempts: 2, ..PoolConfig::default() });
    story.pass(ms(1_000));
    story.arrive(1);
    let first = story.id(0);
    story.finish(1, lost(true));
    assert_eq!(dispatched(&story.probed(first, Health::Ready)), []);
    story.exit(first, killed());
    assert_eq!(dispatched(&story.start_all()), [(1, 0)], "it has outlived one");
    let second = story.id(0);
    assert_eq!(rejected(&story.finish(1, lost(true))), [(1, exhausted(&[first, second]))]);
}

#[test]
fn a_request_that_outlived_as_many_instances_as_allowed_is_quarantined() {
    let mut story = Story::ready(1, PoolConfig { replay_attempts: 2, ..PoolConfig::default() });
    let id = story.id(0);
    story.arrive(1);
    story.finish(1, lost(false));
    story.probed(id, Health::Ready);
    story.finish(1, lost(true));
    story.finish(9, Outcome::Answered);
    story.probed(id, Health::Ready);
    story.pass(ms(1_000));
    story.probed(id, Health::Ready);
    let asked = story.finish(1, lost(true));
    assert_eq!(
        rejected(&asked),
        [(1, exhausted(&[id, id, id]))],
        "two sent losses, and the unsent one is told too"
    );
}

#[test]
fn what_may_not_be_sent_twice_is_replayed_only_if_nothing_was_sent() {
    let mut story = Story::ready(2, PoolConfig::default());
    let arrived = Event::RequestArrived {
        request: RequestId(1),
        deadline: Time::MAX,
        replayable: false,
        class: Class::default(),
    };
    story.event(arrived);
    assert_eq!(dispatched(&story.finish(1, lost(false))), [(1, 1)]);
    let (first, second) = (story.id(0), story.id(1));
    assert_eq!(rejected(&story.finish(1, lost(true))), [(1, exhausted(&[first, second]))]);
}

#[test]
fn replays_never_count_against_the_limit() {
    let mut story = Story::ready(2, PoolConfig { queue_limit: 1, ..PoolConfig::default() });
    (1..=3).for_each(|n| drop(story.arrive(n)));
    story.exit(story.id(0), killed());
    story.exit(story.id(1), killed());
    assert_eq!(rejected(&story.finish(1, lost(true))), []);
    assert_eq!(rejected(&story.finish(2, lost(true))), []);
    assert_eq!(story.pool.waiting(), 3);
    assert_eq!(rejected(&story.arrive(4)).len(), 1);
}

#[test]
fn a_loss_makes_its_instance_suspect_until_a_probe_passes() {
    let mut story = Story::ready(1, PoolConfig { concurrency: 4, ..PoolConfig::default() });
    let id = story.id(0);
    story.arrive(1);
    assert_eq!(story.finish(1, lost(true)), [Action::Probe { instance: id, address: address() }]);
    assert_eq!(story.state(0), StateView::Suspect);
    assert_eq!(story.arrive(2), []);
    assert_eq!(dispatched(&story.probed(id, Health::Ready)), [(2, 0)], "1 was lost on it");
    story.pass(ms(1_000));
    assert_eq!(dispatched(&story.probed(id, Health::Ready)), [(1, 0)]);
}

#[test]
fn a_probe_that_began_before_the_loss_does_not_clear_it() {
    let mut story = Story::ready(1, PoolConfig::default());
    let id = story.id(0);
    story.arrive(1);
    let asked = story.pass(ms(2_000));
    assert_eq!(asked, [Action::Probe { instance: id, address: address() }]);
    assert_eq!(story.finish(1, lost(true)), []);
    assert_eq!(story.probed(id, Health::Ready), [Action::Probe { instance: id, address: address() }]);
    assert_eq!(story.state(0), StateView::Suspect);
    story.probed(id, Health::Ready);
    assert_eq!(story.state(0), StateView::Ready);
}

#[test]
fn three_losses_in_a_row_with_passed_probes_between_mean_a_hung_instance() {
    let mut story = Story::ready(1, PoolConfig { replay_attempts: 9, ..PoolConfig::default() });
    let id = story.id(0);
    story.pass(ms(1_000));
    for n in 0..2 {
        story.arrive(n);
        story.finish(n, lost(true));
        story.event(Event::RequestCancelled { request: RequestId(n) });
        story.probed(id, Health::Ready);
        story.pass(ms(250));
        story.probed(id, Health::Ready);
    }
    story.arrive(2);
    let asked = story.finish(2, lost(true));
    assert_eq!(asked, [Action::Stop { instance: id, grace: Duration::ZERO }]);
    let asked = story.exit(id, DeathCause::Stopped);
    assert_eq!(asked, [Action::Start { instance: InstanceId { slot: 0, incarnation: 2 } }]);
    assert_eq!(story.view(0).last_death.unwrap().0, DeathCause::Hung);
}

#[test]
fn a_request_that_breaks_whatever_takes_it_says_nothing_about_the_instance() {
    let mut story = Story::ready(1, PoolConfig { replay_attempts: 9, ..PoolConfig::default() });
    let id = story.id(0);
    story.pass(ms(1_000));
    story.arrive(1);
    for _ in 0..8 {
        let asked = story.finish(1, lost(true));
        assert!(!asked.iter().any(|action| matches!(action, Action::Stop { .. })), "{asked:?}");
        story.probed(id, Health::Ready);
        story.pass(ms(4_000));
        story.probed(id, Health::Ready);
    }
    assert_eq!((story.view(0).instance, story.state(0)), (id, StateView::Ready));
}

#[test]
fn losses_of_one_mishap_count_once() {
    let mut story = Story::ready(1, PoolConfig { concurrency: 8, ..PoolConfig::default() });
    (0..8).for_each(|n| drop(story.arrive(n)));
    (0..8).for_each(|n| drop(story.finish(n, lost(true))));
    assert_eq!(story.state(0), StateView::Suspect);
    story.probed(story.id(0), Health::Ready);
    story.pass(ms(1_000));
    assert_eq!(dispatched(&story.probed(story.id(0), Health::Ready)).len(), 8);
}

#[test]
fn a_busy_instance_is_left_alone_for_so_long_and_its_request_goes_elsewhere() {
    let mut story = Story::ready(2, PoolConfig { replay_attempts: 1, ..PoolConfig::default() });
    story.arrive(1);
    let busy = |ms| Outcome::Busy { retry_after: Duration::from_millis(ms) };
    assert_eq!(dispatched(&story.finish(1, busy(500))), [(1, 1)]);
    assert_eq!(story.finish(1, busy(100)), []);
    assert_eq!(dispatched(&story.pass(ms(99))), []);
    assert_eq!(dispatched(&story.pass(ms(1))), [(1, 1)], "busy neither bars nor counts as an attempt");
    assert_eq!(story.state(0), StateView::Ready);
    assert_eq!(story.arrive(2), []);
    assert_eq!(dispatched(&story.pass(ms(400))), [(2, 0)]);
}

#[test]
fn a_pause_is_held_to_thirty_seconds() {
    let mut story = Story::ready(1, PoolConfig::default());
    story.arrive(1);
    story.finish(1, Outcome::Busy { retry_after: Duration::from_secs(3_600) });
    assert_eq!(dispatched(&story.pass(ms(29_999))), []);
    assert_eq!(dispatched(&story.pass(ms(1))), [(1, 0)]);
}

#[test]
fn a_broken_stream_ends_its_request_and_puts_its_instance_under_suspicion() {
    let mut story = Story::ready(1, PoolConfig::default());
    story.arrive(1);
    let asked = story.finish(1, Outcome::Abandoned { broken: true });
    assert_eq!(asked, [Action::Probe { instance: story.id(0), address: address() }]);
    assert_eq!(story.state(0), StateView::Suspect);
    assert_eq!(story.pool.table_sizes().0, 0);
}

#[test]
fn a_lost_request_goes_only_where_life_was_shown_since() {
    let mut story = Story::ready(3, PoolConfig::default());
    let (second, third) = (story.id(1), story.id(2));
    story.arrive(1);
    story.pass(ms(1));
    let asked = story.finish(1, lost(true));
    assert_eq!(dispatched(&asked), []);
    let probe = |instance| Action::Probe { instance, address: address() };
    assert!(asked.contains(&probe(second)) && asked.contains(&probe(third)), "{asked:?}");
    assert_eq!(dispatched(&story.probed(second, Health::NotReady)), []);
    assert_eq!(dispatched(&story.probed(third, Health::Ready)), [(1, 2)]);
}

#[test]
fn an_answer_is_a_sign_of_life_too() {
    let mut story = Story::ready(2, PoolConfig::default());
    (1..=2).for_each(|n| drop(story.arrive(n)));
    story.pass(ms(1));
    assert_eq!(dispatched(&story.finish(1, lost(true))), []);
    assert_eq!(dispatched(&story.finish(2, Outcome::Answered)), [(1, 1)]);
}

#[test]
fn a_request_lost_twice_waits_until_those_that_die_together_are_dead() {
    let mut story = Story::ready(3, PoolConfig::default());
    (1..=2).for_each(|n| drop(story.arrive(n)));
    story.pass(ms(1));
    story.finish(1, lost(true));
    assert_eq!(dispatched(&story.finish(2, Outcome::Answered)), [(1, 1)]);
    story.finish(1, lost(true));
    story.probed(story.id(2), Health::Ready);
    assert_eq!(story.pass(ms(240)), []);
    let asked = story.pass(ms(10));
    assert!(asked.contains(&Action::Probe { instance: story.id(2), address: address() }), "{asked:?}");
    assert_eq!(dispatched(&story.probed(story.id(2), Health::Ready)), [(1, 2)]);
}
