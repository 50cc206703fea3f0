//! Rule 16: the size is decided, bounded, and obeyed.

use super::*;
use crate::scaling::{Load, Recommendation, ScalingPolicy, Traffic};

struct QueueLength;

impl ScalingPolicy for QueueLength {
    fn name(&self) -> &'static str {
        "queue-length"
    }

    fn recommend(&mut self, load: &Load, _traffic: &Traffic, _now: Time) -> Recommendation {
        let size = load.queue as u32;
        Recommendation::new(size, format!("{size} wait"))
    }
}

#[test]
fn a_policy_is_asked_each_interval_and_its_size_is_reached() {
    let config = PoolConfig { min: 1, max: 4, ..PoolConfig::default() };
    let pool = Pool::new(Arc::new(config), Box::new(QueueLength), 7, Time::ZERO);
    let mut story = Story { pool, now: Time::ZERO, asked: Vec::new() };
    assert_eq!(story.pass(ms(0)).len(), 1);
    (0..9).for_each(|n| drop(story.arrive(n)));
    assert_eq!(story.pass(ms(999)), []);
    assert_eq!(story.pass(ms(1)).len(), 3);
    let snapshot = story.pool.snapshot(story.now);
    assert_eq!((snapshot.wanted, snapshot.bounds), (4, (1, 4)));
    assert_eq!(&*snapshot.last_decision.unwrap(), "9 wait; held to max 4");
}

#[test]
fn what_waits_elsewhere_counts_for_the_size_and_for_nothing_else() {
    let config = PoolConfig { min: 1, max: 9, ..PoolConfig::default() };
    let mut story = Story::ready(1, config);
    story.pool.set_policy(Box::new(QueueLength), story.now);
    story.event(Event::Backlog { requests: 5 });
    assert_eq!((story.pool.load(story.now).queue, story.pool.snapshot(story.now).waiting), (5, 0));
    assert_eq!(story.pass(ms(1_000)).len(), 4, "five instances are wanted");
    assert_eq!(&*story.pool.snapshot(story.now).last_decision.unwrap(), "5 wait");
    story.event(Event::Backlog { requests: 0 });
    assert_eq!(story.pool.load(story.now).queue, 0);
}

#[test]
fn an_operators_size_replaces_the_policy_and_is_bounded_too() {
    let config = PoolConfig { min: 1, max: 4, ..PoolConfig::default() };
    let mut story = Story::new(1, config);
    story.event(Event::SizeSet { size: 9 });
    assert_eq!(story.pool.snapshot(story.now).wanted, 4);
    story.event(Event::SizeSet { size: 0 });
    assert_eq!(story.pool.snapshot(story.now).wanted, 1);
    let reasons: Vec<_> = story.pool.decisions().map(|decision| decision.reason.to_string()).collect();
    assert_eq!(reasons, ["fixed size 1", "fixed size 9; held to max 4", "fixed size 0; raised to min 1"]);
}

#[test]
fn a_fixed_size_wakes_nobody() {
    let mut story = Story::new(0, PoolConfig::default());
    assert_eq!(story.pool.poll_timeout(), None);
    story.pool.set_policy(Box::new(QueueLength), story.now);
    assert_eq!(story.pool.poll_timeout(), Some(Time::ZERO + ms(1_000)));
}

#[test]
fn other_bounds_change_the_size_at_once() {
    let mut story = Story::new(3, PoolConfig::default());
    let config = Arc::new(PoolConfig { max: 2, ..PoolConfig::default() });
    story.event(Event::ConfigChanged { config, roll: false });
    assert_eq!(story.pool.snapshot(story.now).wanted, 2);
    assert_eq!(story.instances_in(StateView::Starting).len(), 2);
}

#[test]
fn another_configuration_and_another_policy_are_one_change() {
    let mut story = Story::new(3, PoolConfig::default());
    let config = Arc::new(PoolConfig { min: 5, max: 9, ..PoolConfig::default() });
    story.pool.reconfigure(config, false, Some(Box::new(crate::Fixed(7))), story.now);
    let snapshot = story.pool.snapshot(story.now);
    assert_eq!((snapshot.wanted, snapshot.bounds), (7, (5, 9)));
    let reasons: Vec<_> = story.pool.decisions().map(|decision| decision.reason.to_string()).collect();
    assert_eq!(reasons, ["fixed size 3", "fixed size 7"], "nothing was decided between the two");
}

#[test]
fn a_surplus_start_that_another_process_uses_makes_no_ready_one_go_in_its_stead() {
    let mut story = Story::ready(2, PoolConfig::default());
    story.event(Event::SizeSet { size: 3 });
    let starting = story.id(2);
    story.event(Event::InstanceTaken { instance: starting, slots: 1 });
    assert_eq!(story.event(Event::SizeSet { size: 2 }), [], "it cannot go yet, and the others are needed");
    assert_eq!(story.instances_in(StateView::Ready).len(), 2);
    story.start_all();
    assert_eq!(story.instances_in(StateView::Ready).len(), 2, "it serves: now one of three is too many");
}
