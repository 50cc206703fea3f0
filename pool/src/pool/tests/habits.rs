//! Rule 13: silence at work.

use super::*;

/// One probe interval; then the probe ends so.
fn probe(story: &mut Story, slot: u32, health: Health) -> Vec<Action> {
    story.pass(ms(2_000));
    story.probed(story.id(slot), health)
}

fn ready(size: u32) -> Story {
    Story::ready(size, PoolConfig { concurrency: 2, ..PoolConfig::default() })
}

#[test]
fn an_instance_that_is_silent_at_work_is_left_to_work() {
    let mut story = ready(1);
    story.arrive(1);
    (0..20).for_each(|_| assert_eq!(probe(&mut story, 0, Health::Silent), []));
    assert_eq!(story.state(0), StateView::Ready);
    story.finish(1, Outcome::Answered);
    story.pass(ms(2_000));
    assert_eq!(probe(&mut story, 0, Health::Silent), [], "idle and silent is a failure");
    assert_eq!(story.state(0), StateView::Suspect);
}

#[test]
fn frozen_at_work_is_hung() {
    let mut story = ready(1);
    story.arrive(1);
    probe(&mut story, 0, Health::Frozen);
    assert_eq!(probe(&mut story, 0, Health::Frozen).len(), 2, "revoke and stop");
}

#[test]
fn where_instances_answer_at_work_silence_is_hung() {
    let mut story = ready(1);
    story.arrive(1);
    probe(&mut story, 0, Health::Ready);
    probe(&mut story, 0, Health::Ready);
    (0..2).for_each(|_| assert_eq!(probe(&mut story, 0, Health::Silent), []));
    assert_eq!(probe(&mut story, 0, Health::Silent).len(), 2);
}

#[test]
fn one_answer_after_silence_at_work_outweighs_the_rest() {
    let mut story = ready(1);
    story.arrive(1);
    probe(&mut story, 0, Health::Ready);
    probe(&mut story, 0, Health::Ready);
    story.arrive(2);
    probe(&mut story, 0, Health::Silent);
    story.finish(2, Outcome::Answered);
    (0..20).for_each(|_| assert_eq!(probe(&mut story, 0, Health::Silent), []));
}

#[test]
fn work_that_makes_instances_silent_costs_at_most_one_of_them() {
    let mut story = ready(2);
    story.arrive(1);
    story.arrive(2);
    probe(&mut story, 0, Health::Ready);
    probe(&mut story, 0, Health::Ready);
    (0..3).for_each(|_| drop(probe(&mut story, 0, Health::Silent)));
    assert_eq!(story.state(0), StateView::Stopping);
    story.finish(1, lost(true));
    story.finish(2, Outcome::Answered);
    assert_eq!(story.view(1).in_flight, 1);
    (0..20).for_each(|_| assert_eq!(dispatched(&probe(&mut story, 1, Health::Silent)), []));
    assert_eq!(story.state(1), StateView::Ready);
}
