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
    assert_eq!(refused(&story.arrive(2)).len(), 1);
    story.probed(id, Health::Ready);
    assert_eq!(dispatched(&story.arrive(3)), [(3, 0)]);
}

/// Those refused, and what their service's servers were seen to do.
fn refused(asked: &[Action]) -> Vec<(u64, String)> {
    let refused = rejected(asked).into_iter().map(|(request, why)| match why {
        RejectReason::CannotStart { cause: DeathCause::StartTimeout { saw, .. }, .. } => {
            (request, saw.to_string())
        }
        other => panic!("{other:?}"),
    });
    refused.collect()
}

fn examined(story: &mut Story, id: InstanceId, saw: &str) -> Vec<Action> {
    story.event(Event::InstanceExamined { instance: id, saw: Some(saw.into()), log: "".into() })
}

#[test]
fn one_that_is_down_for_the_start_timeout_refuses_all_until_it_is_back() {
    let config =
        PoolConfig { managed: false, min: 1, max: 1, start_timeout: ms(3_000), ..PoolConfig::default() };
    let mut story = Story::new(0, config);
    let id = story.id(0);
    story.asked();
    story.started(id);
    story.arrive(1);
    story.probed(id, Health::NotReady);
    story.pass(ms(2_999));
    story.probed(id, Health::NotReady);
    assert!(story.pass(ms(1)).contains(&Action::Examine { instance: id }));
    assert_eq!(story.pool.waiting(), 1);
    assert_eq!(refused(&examined(&mut story, id, "refused")), [(1, "refused".to_owned())]);
    assert_eq!(refused(&story.arrive(2)), [(2, "refused".to_owned())]);
    assert_eq!(story.state(0), StateView::Starting, "nobody stops it");
    story.pass(ms(2_000));
    assert_eq!(
        story.probed(id, Health::NotReady),
        [Action::Examine { instance: id }],
        "it may be another thing"
    );
    examined(&mut story, id, "404");
    assert_eq!(refused(&story.arrive(3)), [(3, "404".to_owned())]);
    story.pass(ms(2_000));
    story.probed(id, Health::Ready);
    assert_eq!(dispatched(&story.arrive(4)), [(4, 0)]);
    // Lost again: the time begins anew.
    let lost = story.exit(id, killed());
    assert_eq!(lost, [Action::Revoke { request: RequestId(4), instance: id, why: Revoked::Lost }]);
    assert_eq!(story.finish(4, Outcome::Lost { how: "reset".into(), sent: true }), []);
    story.pass(ms(2_000));
    story.probed(id, Health::NotReady);
    assert_eq!(story.pool.waiting(), 1);
    story.pass(ms(1_000));
    assert_eq!(refused(&examined(&mut story, id, "refused")), [(4, "refused".to_owned())]);
}

#[test]
fn one_that_has_just_been_lost_gives_hope_while_another_is_long_gone() {
    let config =
        PoolConfig { managed: false, min: 2, max: 2, start_timeout: ms(3_000), ..PoolConfig::default() };
    let mut story = Story::new(0, config);
    let (gone, lost) = (story.id(0), story.id(1));
    story.asked();
    story.started(gone);
    story.started(lost);
    story.probed(lost, Health::Ready);
    story.probed(gone, Health::NotReady);
    story.pass(ms(3_000));
    examined(&mut story, gone, "refused");
    assert_eq!(dispatched(&story.arrive(1)), [(1, 1)], "the other one serves");
    story.exit(lost, killed());
    assert_eq!(story.finish(1, Outcome::Lost { how: "reset".into(), sent: true }), []);
    assert_eq!(story.pool.waiting(), 1);
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
