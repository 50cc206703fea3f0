//! Rule 13: signs of life.

use super::*;

fn probe(instance: InstanceId) -> Action {
    Action::Probe { instance, address: address() }
}

#[test]
fn a_starting_instance_is_probed_often_at_first_and_rarely_later() {
    let mut story = Story::new(1, PoolConfig::default());
    let id = story.id(0);
    story.asked();
    story.started(id);
    for (age, delay) in [(0, 5), (80, 10), (8_000, 1_000), (80_000, 2_000)] {
        story.pass((Time::ZERO + ms(age)).since(story.now));
        story.probed(id, Health::NotReady);
        assert_eq!(story.pass(ms(delay - 1)), []);
        assert_eq!(story.pass(ms(1)), [probe(id)]);
    }
}

#[test]
fn a_failed_probe_makes_suspect_and_some_in_a_row_make_hung() {
    let mut story = Story::ready(1, PoolConfig::default());
    let id = story.id(0);
    assert_eq!(story.pass(ms(2_000)), [probe(id)]);
    assert_eq!(story.probed(id, Health::NotReady), []);
    assert_eq!(story.state(0), StateView::Suspect);
    assert_eq!(story.pass(ms(1_000)), [probe(id)]);
    assert_eq!(story.probed(id, Health::Ready), []);
    assert_eq!(story.state(0), StateView::Ready);
    for _ in 0..2 {
        story.pass(ms(2_000));
        assert_eq!(story.probed(id, Health::Silent), []);
    }
    story.pass(ms(1_000));
    assert_eq!(story.probed(id, Health::Silent), [Action::Stop { instance: id, grace: Duration::ZERO }]);
    assert_eq!(story.exit(id, killed()).len(), 1, "replaced at once");
    assert_eq!(story.view(0).last_death.unwrap().0, DeathCause::Hung);
}

#[test]
fn there_is_one_probe_at_a_time_and_one_that_never_ends_counts_as_silent() {
    let mut story = Story::ready(1, PoolConfig::default());
    let id = story.id(0);
    assert_eq!(story.pass(ms(2_000)), [probe(id)]);
    assert_eq!(story.pass(ms(58_000)), []);
    assert_eq!(story.pass(ms(3_000)), [probe(id)]);
    assert_eq!(story.state(0), StateView::Suspect);
}

#[test]
fn a_hung_instance_that_drains_is_stopped() {
    let mut story = Story::ready(1, PoolConfig::default());
    let id = story.id(0);
    story.arrive(1);
    story.event(Event::SizeSet { size: 0 });
    let mut asked = Vec::new();
    for _ in 0..3 {
        story.pass(ms(2_000));
        asked = story.probed(id, Health::NotReady);
    }
    let revoke = Action::Revoke { request: RequestId(1), instance: id, why: Revoked::Lost };
    assert_eq!(asked, [revoke, Action::Stop { instance: id, grace: Duration::ZERO }]);
}

#[test]
fn frozen_twice_in_a_row_is_hung_and_the_second_look_follows_at_once() {
    let mut story = Story::ready(1, PoolConfig::default());
    let id = story.id(0);
    story.arrive(1);
    assert_eq!(story.pass(ms(2_000)), [probe(id)]);
    assert_eq!(story.pass(ms(1_000)), [], "the probe's own limit");
    assert_eq!(story.probed(id, Health::Frozen), [probe(id)]);
    assert_eq!(story.state(0), StateView::Suspect);
    story.pass(ms(1_000));
    let revoke = Action::Revoke { request: RequestId(1), instance: id, why: Revoked::Lost };
    let stop = Action::Stop { instance: id, grace: Duration::ZERO };
    assert_eq!(story.probed(id, Health::Frozen), [revoke, stop]);
    assert_eq!(story.view(0).last_death.unwrap().0, DeathCause::Hung);
}

#[test]
fn an_instance_that_is_frozen_for_a_moment_is_kept() {
    let mut story = Story::ready(1, PoolConfig::default());
    let id = story.id(0);
    // The first comes at a random part of the interval.
    story.pass(ms(2_000));
    story.probed(id, Health::Ready);
    for _ in 0..5 {
        assert_eq!(story.pass(ms(2_000)), [probe(id)]);
        assert_eq!(story.probed(id, Health::Frozen), []);
        assert_eq!(story.pass(ms(999)), []);
        assert_eq!(story.pass(ms(1)), [probe(id)], "half an interval after the first look began");
        assert_eq!(story.probed(id, Health::Ready), []);
        assert_eq!(story.state(0), StateView::Ready);
    }
}

#[test]
fn frozen_is_hung_at_first_sight_where_one_failure_is_too_many() {
    let mut story = Story::ready(1, PoolConfig { probe_failures: 1, ..PoolConfig::default() });
    let id = story.id(0);
    story.pass(ms(2_000));
    assert_eq!(story.probed(id, Health::Frozen), [Action::Stop { instance: id, grace: Duration::ZERO }]);
}
