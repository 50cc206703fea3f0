//! Knative's rules, with its numbers.

use super::*;

/// A service under a load that changes by the second, whose instances are ready a second after they are wanted.
struct Story {
    policy: Concurrency,
    traffic: Traffic,
    now: f64,
    size: u32,
    ready: u32,
    last: Option<Recommendation>,
}

impl Story {
    fn new(policy: Concurrency) -> Self {
        let traffic = Traffic::new(Time::ZERO);
        Self { policy, traffic, now: 0.0, size: 0, ready: 0, last: None }
    }

    /// So many requests at work for so long; the size after each second.
    fn hold(&mut self, requests: usize, seconds: u32) -> Vec<u32> {
        self.traffic.note_level(requests, at(self.now));
        (0..seconds)
            .map(|_| {
                self.now += 1.0;
                let load = Load {
                    in_flight: requests,
                    ready: self.ready,
                    size: self.size,
                    concurrency: 1,
                    ..Load::default()
                };
                let said = self.policy.recommend(&load, &self.traffic, at(self.now));
                self.ready = self.size;
                self.size = said.size;
                self.last = Some(said);
                self.size
            })
            .collect()
    }

    fn input(&self, name: &str) -> f64 {
        self.last.as_ref().unwrap().inputs.iter().find(|(key, _)| *key == name).unwrap().1
    }
}

#[test]
fn a_constant_load_gets_its_share_and_nothing_flaps() {
    let mut story = Story::new(Concurrency::default());
    story.hold(7, 130);
    // 7 / 0.7.
    let sizes = story.hold(7, 600);
    assert!(sizes.iter().all(|size| *size == 10), "{sizes:?}");
    assert_eq!((story.input("aim"), story.input("panic")), (0.7, 0.0));
}

#[test]
fn twice_as_much_as_is_ready_is_panic_which_never_shrinks() {
    let mut story = Story::new(Concurrency::default());
    story.hold(7, 200);
    let sizes = story.hold(28, 6);
    assert_eq!(*sizes.last().unwrap(), 40, "{sizes:?}");
    assert_eq!(story.input("panic"), 1.0);
    let sizes = story.hold(7, 50);
    assert!(sizes.iter().all(|size| *size >= 40), "{sizes:?}");
    assert_eq!(*story.hold(7, 120).last().unwrap(), 10);
}

#[test]
fn a_slow_rise_follows_the_stable_window() {
    let mut story = Story::new(Concurrency::default());
    story.hold(7, 200);
    // Half as much again is no panic: a sixtieth of the way each second.
    let sizes = story.hold(10, 60);
    assert_eq!(story.input("panic"), 0.0);
    assert!(sizes[29] == 13 && sizes[59] == 15, "{sizes:?}");
}

#[test]
fn it_falls_to_zero_when_the_stable_window_is_empty() {
    let mut story = Story::new(Concurrency::default());
    story.hold(1, 200);
    let sizes = story.hold(0, 62);
    assert!(sizes[..58].iter().all(|size| *size >= 1), "{sizes:?}");
    assert_eq!(sizes[61], 0);
    assert_eq!(story.hold(1, 1), [1]);
    // Not again before a stable window has passed since.
    let sizes = story.hold(0, 55);
    assert!(sizes.iter().all(|size| *size >= 1), "{sizes:?}");
}

#[test]
fn the_target_and_the_concurrency_of_the_service_both_count() {
    let mut story = Story::new(Concurrency::new(ConcurrencySettings {
        target: Some(4.0),
        ..ConcurrencySettings::default()
    }));
    story.hold(14, 200);
    assert_eq!(story.size, 5);
    let many = Load { concurrency: 0, ..Load::default() };
    assert_eq!(Concurrency::default().aim(&many), 70.0);
    let eight = Load { concurrency: 8, ..Load::default() };
    assert_eq!(Concurrency::default().aim(&eight), 5.6);
}
