//! Rule 8: another generation takes over, one by one.

use super::*;

fn states(story: &Story) -> Vec<(u32, StateView, bool)> {
    let views = story.pool.snapshot(story.now).instances.into_iter();
    views.map(|view| (view.instance.slot, view.state, view.outdated)).collect()
}

#[test]
fn a_roll_replaces_one_at_a_time_and_never_has_fewer_ready_than_wanted() {
    let mut story = Story::ready(3, PoolConfig::default());
    story.event(Event::Restart);
    for _ in 0..20 {
        assert!(story.instances_in(StateView::Ready).len() >= 3);
        assert!(states(&story).iter().filter(|(_, state, _)| *state != StateView::Stopping).count() <= 4);
        story.start_all();
        for instance in story.instances_in(StateView::Stopping) {
            story.exit(instance, DeathCause::Stopped);
        }
    }
    let views = story.pool.snapshot(story.now).instances;
    assert_eq!(views.len(), 3);
    assert!(views.iter().all(|view| !view.outdated && view.state == StateView::Ready), "{views:?}");
}

#[test]
fn a_roll_that_cannot_start_leaves_what_serves() {
    let mut story = Story::ready(2, PoolConfig::default());
    story.event(Event::ConfigChanged { config: Arc::new(PoolConfig::default()), roll: true });
    for _ in 0..10 {
        if let Some(instance) = story.instances_in(StateView::Starting).first() {
            story.exit(*instance, killed());
        }
        story.pass(ms(1_000));
        for instance in story.instances_in(StateView::Ready) {
            story.probed(instance, Health::Ready);
        }
    }
    assert_eq!(story.instances_in(StateView::Ready).len(), 2);
    assert_eq!(dispatched(&story.arrive(1)).len(), 1);
}

#[test]
fn what_starts_with_the_old_generation_starts_again_at_once() {
    let mut story = Story::new(1, PoolConfig::default());
    let id = story.id(0);
    story.asked();
    assert_eq!(story.event(Event::Restart), [Action::Stop { instance: id, grace: Duration::ZERO }]);
    assert_eq!(story.exit(id, DeathCause::Stopped).len(), 1);
    assert_eq!(states(&story), [(0, StateView::Starting, false)]);
}

#[test]
fn an_instance_is_replaced_on_request_after_its_successor_is_ready() {
    let mut story = Story::ready(2, PoolConfig::default());
    story.arrive(1);
    let id = story.id(0);
    assert_eq!(story.event(Event::InstanceReplace { instance: id }).len(), 1, "a start in slot 2");
    story.start_all();
    assert_eq!(story.state(0), StateView::Draining);
    assert_eq!(story.finish(1, Outcome::Answered), [Action::Stop { instance: id, grace: ms(10_000) }]);
}

#[test]
fn surplus_is_taken_first_from_those_that_serve_nobody() {
    let mut story = Story::ready(2, PoolConfig::default());
    story.event(Event::SizeSet { size: 5 });
    story.exit(story.id(2), killed());
    story.asked();
    let newest = story.id(4);
    let asked = story.event(Event::SizeSet { size: 3 });
    assert_eq!(asked, [Action::Stop { instance: newest, grace: ms(10_000) }]);
    let slots: Vec<u32> = states(&story).iter().map(|(slot, _, _)| *slot).collect();
    assert_eq!(slots, [0, 1, 3, 4], "the one that backed off is gone");
}
