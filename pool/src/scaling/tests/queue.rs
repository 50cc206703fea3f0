//! The rule of the queue's growth.

use super::*;

fn run(policy: &mut Queue, looks: &[(f64, usize)]) -> Vec<u32> {
    let traffic = Traffic::new(Time::ZERO);
    let mut size = 0;
    let mut one = |(seconds, queue): &(f64, usize)| {
        let load = Load { queue: *queue, size, ..Load::default() };
        size = policy.recommend(&load, &traffic, at(*seconds)).size;
        size
    };
    looks.iter().map(&mut one).collect()
}

#[test]
fn it_grows_with_the_queue_and_falls_to_the_fewest_when_it_is_empty_twice() {
    let looks = [(0.0, 0), (10.0, 4), (20.0, 4), (30.0, 9), (40.0, 20), (50.0, 0), (60.0, 0)];
    // First 3; 4 > 0: 4; equal: 4; 9 > 4: 5; the most is 5; empty once: 5; empty twice: 1.
    assert_eq!(run(&mut Queue::default(), &looks), [3, 4, 4, 5, 5, 5, 1]);
}

#[test]
fn between_looks_nothing_changes() {
    assert_eq!(run(&mut Queue::default(), &[(0.0, 0), (5.0, 50), (9.9, 90), (10.0, 90)]), [3, 3, 3, 4]);
}

#[test]
fn from_zero_it_starts_at_once() {
    let looks = [(0.0, 0), (10.0, 0), (11.0, 1), (12.0, 5)];
    assert_eq!(run(&mut Queue::new(0, 5), &looks), [3, 0, 1, 1]);
}
