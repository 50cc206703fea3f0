//! Rule 19: instances in standby are paused when they are surplus and resumed before anything is started.

use super::*;

fn config(standby: u32) -> PoolConfig {
    PoolConfig { standby, ..PoolConfig::default() }
}

fn pause(instance: InstanceId) -> Action {
    Action::Pause { instance }
}

fn resume(instance: InstanceId) -> Action {
    Action::Resume { instance }
}

fn starts(asked: &[Action]) -> usize {
    asked.iter().filter(|action| matches!(action, Action::Start { .. })).count()
}

/// So many ready, and so many in standby.
fn kept(size: u32, standby: u32) -> Story {
    let mut story = Story::ready(size, config(standby));
    story.start_all();
    for instance in story.instances_in(StateView::Standby) {
        story.event(Event::InstancePaused { instance, done: true });
    }
    assert_eq!(count(&story, StateView::Ready), size as usize);
    assert_eq!(count(&story, StateView::Standby), standby as usize);
    story.pass(ms(2_000));
    story
}

fn count(story: &Story, state: StateView) -> usize {
    story.instances_in(state).len()
}

fn resumed(story: &mut Story, instance: InstanceId) -> Vec<Action> {
    let mut asked = story.event(Event::InstanceResumed { instance, failed: None });
    asked.extend(story.probed(instance, Health::Ready));
    asked
}

#[test]
fn standby_is_filled_once_those_that_are_wanted_are_ready() {
    let mut story = Story::new(1, config(2));
    assert_eq!(starts(&story.asked()), 1, "the wanted one comes first");
    let asked = story.start_all();
    assert_eq!(starts(&asked), 2, "then those of the standby: {asked:?}");
    let snapshot = story.pool.snapshot(story.now);
    assert_eq!((snapshot.wanted, snapshot.standby), (1, 2));
    assert_eq!(story.pool.load(story.now).starting, 0, "no policy reckons with them");
    let asked = story.start_all();
    assert_eq!(asked.iter().filter(|action| matches!(action, Action::Pause { .. })).count(), 2, "{asked:?}");
    assert_eq!((count(&story, StateView::Ready), count(&story, StateView::Standby)), (1, 2));
    assert_eq!(story.pool.load(story.now).standby, 2);
}

#[test]
fn a_smaller_size_pauses_the_surplus_and_a_larger_one_resumes_it_without_a_start() {
    let mut story = kept(2, 1);
    story.event(Event::SizeSet { size: 3 });
    let back = story.instances_in(StateView::Resuming);
    assert_eq!(back.len(), 1);
    resumed(&mut story, back[0]);
    assert_eq!(count(&story, StateView::Ready), 3);
    story.arrive(1);
    let asked = story.event(Event::SizeSet { size: 2 });
    let stopped: Vec<_> = asked.iter().filter(|action| matches!(action, Action::Stop { .. })).collect();
    assert_eq!((count(&story, StateView::Ready), count(&story, StateView::Standby)), (2, 1), "{asked:?}");
    assert_eq!(stopped.len(), 1, "what was being started for the standby: {asked:?}");
}

#[test]
fn one_in_standby_is_not_probed_and_gets_nothing() {
    let mut story = kept(1, 1);
    let asleep = story.instances_in(StateView::Standby)[0];
    story.arrive(1);
    assert_eq!(dispatched(&story.arrive(2)), [], "it waits for the one that is ready");
    let asked = story.pass(ms(20_000));
    let probed = asked.iter().any(|it| matches!(it, Action::Probe { instance, .. } if *instance == asleep));
    assert!(!probed, "{asked:?}");
    assert_eq!(story.state(asleep.slot), StateView::Standby);
}

#[test]
fn from_zero_the_first_request_is_served_by_a_resumed_instance() {
    let by_queue = |load: &crate::scaling::Load| u32::from(load.requests() > 0);
    let settings = PoolConfig { down_delay: Duration::ZERO, ..config(1) };
    let pool = Pool::new(Arc::new(settings), Box::new(by_queue), 7, Time::ZERO);
    let mut story = Story { pool, now: Time::ZERO, asked: Vec::new() };
    assert_eq!(starts(&story.pass(ms(0))), 1, "kept ready though the size is 0");
    story.start_all();
    let asleep = story.instances_in(StateView::Standby)[0];
    story.event(Event::InstancePaused { instance: asleep, done: true });
    story.pass(ms(5_000));
    story.arrive(1);
    let asked = story.pass(ms(0));
    assert_eq!(asked, [resume(asleep)]);
    assert_eq!(dispatched(&resumed(&mut story, asleep)), [(1, asleep.slot)]);
    story.finish(1, Outcome::Answered);
    let asked = story.pass(ms(2_000));
    assert!(asked.contains(&pause(asleep)), "{asked:?}");
}

#[test]
fn the_stead_of_one_that_dies_is_taken_by_one_in_standby_and_the_new_one_takes_its_place() {
    let mut story = kept(1, 1);
    let (ready, asleep) =
        (story.instances_in(StateView::Ready)[0], story.instances_in(StateView::Standby)[0]);
    story.arrive(1);
    let asked = story.exit(ready, killed());
    assert!(asked.contains(&resume(asleep)), "{asked:?}");
    story.finish(1, lost(true));
    assert_eq!(dispatched(&resumed(&mut story, asleep)), [(1, asleep.slot)]);
    let asked = story.start_all();
    let new = story.instances_in(StateView::Standby);
    assert!(new.len() == 1 && new[0].slot == ready.slot && asked.contains(&pause(new[0])), "{asked:?}");
}

#[test]
fn one_that_dies_while_it_is_paused_is_replaced_whatever_the_restart_policy() {
    for restart in
        [crate::RestartPolicy::Always, crate::RestartPolicy::Never, crate::RestartPolicy::StopService]
    {
        let mut story = Story::ready(1, PoolConfig { restart, ..config(1) });
        story.start_all();
        story.pass(ms(2_000));
        let asleep = story.instances_in(StateView::Standby)[0];
        let asked = story.exit(asleep, killed());
        assert_eq!(starts(&asked), 1, "{restart:?}: {asked:?}");
        assert_eq!(story.view(asleep.slot).last_death.map(|(cause, _)| cause), Some(killed()));
        story.start_all();
        assert_eq!((count(&story, StateView::Ready), count(&story, StateView::Standby)), (1, 1));
    }
}

#[test]
fn one_that_cannot_go_on_is_killed_and_something_is_started_instead() {
    let cause = DeathCause::StartFailed { error: "frozen for ever".into(), retry: crate::Retry::Later };
    let mut story = kept(1, 1);
    let asleep = story.instances_in(StateView::Standby)[0];
    assert_eq!(story.event(Event::SizeSet { size: 2 })[0], resume(asleep));
    let asked = story.event(Event::InstanceResumed { instance: asleep, failed: Some(cause.clone()) });
    assert_eq!(asked, [Action::Stop { instance: asleep, grace: Duration::ZERO }]);
    assert_eq!(story.view(asleep.slot).last_death.map(|(cause, _)| cause), Some(cause));
    assert_eq!(starts(&story.exit(asleep, DeathCause::Stopped)), 1);
}

#[test]
fn one_that_does_not_go_on_in_time_is_hung() {
    let mut story = kept(1, 1);
    let asleep = story.instances_in(StateView::Standby)[0];
    story.event(Event::SizeSet { size: 2 });
    let stops = |asked: &[Action]| asked.contains(&Action::Stop { instance: asleep, grace: Duration::ZERO });
    assert!(!stops(&story.pass(ms(4_999))));
    assert!(stops(&story.pass(ms(1))));
    assert_eq!(story.view(asleep.slot).last_death.map(|(cause, _)| cause), Some(DeathCause::Hung));
}

#[test]
fn one_that_was_resumed_serves_only_once_it_has_shown_life() {
    let mut story = kept(0, 1);
    let asleep = story.instances_in(StateView::Standby)[0];
    story.event(Event::SizeSet { size: 1 });
    story.arrive(1);
    let asked = story.event(Event::InstanceResumed { instance: asleep, failed: None });
    assert_eq!(asked, [Action::Probe { instance: asleep, address: address() }]);
    assert_eq!(story.state(asleep.slot), StateView::Suspect);
    assert_eq!(dispatched(&story.probed(asleep, Health::Ready)), [(1, asleep.slot)]);
}

#[test]
fn one_that_cannot_be_paused_is_in_standby_all_the_same_and_is_tried_again() {
    let mut story = Story::ready(0, config(1));
    story.start_all();
    let asleep = story.instances_in(StateView::Standby)[0];
    story.event(Event::InstancePaused { instance: asleep, done: false });
    assert_eq!(story.pass(ms(29_999)), []);
    assert_eq!(story.pass(ms(1)), [pause(asleep)]);
    assert_eq!(story.event(Event::SizeSet { size: 1 })[0], resume(asleep), "before it has answered");
}

#[test]
fn a_busy_one_is_paused_when_it_is_done_and_taken_back_if_it_is_needed_before() {
    let mut story = kept(2, 0);
    story.arrive(1);
    story.arrive(2);
    let config = Arc::new(config(1));
    story.event(Event::ConfigChanged { config, roll: false });
    story.start_all();
    assert_eq!(count(&story, StateView::Standby), 1);
    story.event(Event::SizeSet { size: 1 });
    let asleep = story.instances_in(StateView::Standby);
    assert_eq!((asleep.len(), count(&story, StateView::Draining)), (1, 1), "the place is taken");
    let mut story = kept(2, 1);
    story.event(Event::SizeSet { size: 3 });
    let back = story.instances_in(StateView::Resuming)[0];
    resumed(&mut story, back);
    story.asked();
    story.event(Event::InstanceReplace { instance: InstanceId { slot: 99, incarnation: 0 } });
    (1..=3).for_each(|n| drop(story.arrive(n)));
    let asked = story.event(Event::SizeSet { size: 2 });
    assert_eq!(count(&story, StateView::Draining), 1, "{asked:?}");
    let draining = story.instances_in(StateView::Draining)[0];
    let asked = story.event(Event::SizeSet { size: 3 });
    assert_eq!(story.state(draining.slot), StateView::Suspect, "{asked:?}");
    // It came to grief after the look at it had begun: only another one tells.
    let held = story.pool.snapshot(story.now).instances.iter().position(|it| it.instance == draining);
    let request = 1 + held.expect("it is there") as u64;
    story.finish(request, lost(true));
    let asked = story.probed(draining, Health::Ready);
    assert!(asked.contains(&Action::Probe { instance: draining, address: address() }), "{asked:?}");
    assert_eq!(story.state(draining.slot), StateView::Suspect);
    story.probed(draining, Health::Ready);
    assert_eq!(story.state(draining.slot), StateView::Ready);
}

#[test]
fn paused_ones_that_are_found_are_standby_where_there_is_to_be_one() {
    let pool = Pool::new(Arc::new(config(1)), Box::new(Fixed(0)), 7, Time::ZERO);
    let mut story = Story { pool, now: Time::ZERO, asked: Vec::new() };
    let found = |incarnation| InstanceId { slot: incarnation, incarnation };
    for instance in [found(3), found(4)] {
        let asked = story.event(Event::InstanceFound { instance, address: address(), paused: true });
        assert_eq!(asked, []);
    }
    let asked = story.pass(ms(0));
    assert_eq!(
        asked,
        [Action::Stop { instance: found(4), grace: ms(10_000) }],
        "one more than there should be"
    );
    assert_eq!(story.event(Event::SizeSet { size: 1 })[0], resume(found(3)));
}

#[test]
fn a_restart_replaces_those_in_standby_too() {
    let mut story = kept(1, 1);
    let asleep = story.instances_in(StateView::Standby)[0];
    let asked = story.event(Event::Restart);
    assert!(asked.contains(&Action::Stop { instance: asleep, grace: Duration::ZERO }), "{asked:?}");
    story.exit(asleep, DeathCause::Stopped);
    for _ in 0..4 {
        story.start_all();
        for instance in story.instances_in(StateView::Stopping) {
            story.exit(instance, DeathCause::Stopped);
        }
    }
    let snapshot = story.pool.snapshot(story.now);
    assert!(snapshot.instances.iter().all(|view| !view.outdated), "{snapshot:#?}");
    assert_eq!((count(&story, StateView::Ready), count(&story, StateView::Standby)), (1, 1));
}

#[test]
fn a_pool_that_drains_pauses_none_and_resumes_for_those_that_wait() {
    let mut story = kept(1, 1);
    let (ready, asleep) =
        (story.instances_in(StateView::Ready)[0], story.instances_in(StateView::Standby)[0]);
    story.arrive(1);
    story.event(Event::Drain);
    assert_eq!(starts(&story.exit(asleep, killed())), 0);
    let mut story = kept(1, 1);
    let _ = (ready, asleep);
    let (ready, asleep) =
        (story.instances_in(StateView::Ready)[0], story.instances_in(StateView::Standby)[0]);
    story.arrive(1);
    story.event(Event::Drain);
    assert_eq!(story.state(asleep.slot), StateView::Standby);
    story.exit(ready, killed());
    let asked = story.finish(1, lost(true));
    assert!(asked.contains(&resume(asleep)) && starts(&asked) == 0, "{asked:?}");
}
