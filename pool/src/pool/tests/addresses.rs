//! Rule 13: servers that already run.

use super::*;

fn unmanaged(addresses: u32) -> Story {
    let config = PoolConfig { managed: false, min: addresses, max: addresses, ..PoolConfig::default() };
    Story::new(0, config)
}

#[test]
fn every_address_is_an_instance_whatever_size_is_asked_for() {
    let mut story = unmanaged(2);
    assert_eq!(story.start_all().len(), 4, "two starts, two probes");
    assert_eq!(story.event(Event::SizeSet { size: 1 }), []);
    assert_eq!(story.instances_in(StateView::Ready).len(), 2);
}

#[test]
fn one_that_does_not_answer_is_looked_at_each_interval_for_ever() {
    let mut story = unmanaged(1);
    let id = story.id(0);
    story.asked();
    story.started(id);
    story.arrive(1);
    for _ in 0..1_000 {
        story.probed(id, Health::NotReady);
        let asked = story.pass(ms(2_000));
        assert!(asked.contains(&Action::Probe { instance: id, address: address() }), "{asked:?}");
    }
    assert_eq!(dispatched(&story.arrive(2)), []);
    assert_eq!(dispatched(&story.probed(id, Health::Ready)), [(2, 0)]);
}

#[test]
fn one_that_hangs_is_not_stopped_but_loses_its_requests() {
    let mut story = unmanaged(1);
    story.start_all();
    let id = story.id(0);
    story.arrive(1);
    let mut asked = Vec::new();
    for _ in 0..3 {
        story.pass(ms(2_000));
        asked = story.probed(id, Health::NotReady);
    }
    assert_eq!(asked, [Action::Revoke { request: RequestId(1), instance: id, why: Revoked::Lost }]);
    assert_eq!((story.state(0), story.id(0)), (StateView::Starting, id));
    story.finish(1, lost(true));
    story.pass(ms(2_000));
    assert_eq!(dispatched(&story.probed(id, Health::Ready)), [(1, 0)]);
}

#[test]
fn a_roll_takes_them_out_one_after_the_other() {
    let mut story = unmanaged(2);
    story.start_all();
    story.event(Event::Restart);
    for slot in 0..2 {
        let id = story.id(slot);
        assert_eq!(story.state(slot), StateView::Stopping);
        assert_eq!(story.instances_in(StateView::Ready).len(), 1);
        story.exit(id, DeathCause::Stopped);
        story.start_all();
    }
    assert_eq!(story.instances_in(StateView::Ready).len(), 2);
}
