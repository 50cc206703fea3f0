//! What a pool has seen of its traffic lately: arrivals, service and start times, waits.
//!
//! The pool keeps it whoever is in charge of the size, so that a policy that is put in charge knows what came before.

use std::collections::VecDeque;
use std::time::Duration;

use crate::simulate::Job;
use crate::time::Time;
use crate::window::{PerSecond, Samples};

/// Seconds of arrivals kept.
const SECONDS: u64 = 320;
/// Answered requests whose service times are kept.
const SERVICES: usize = 500;
/// Starts whose times are kept.
const STARTS: usize = 15;
/// Idle times kept.
const GAPS: usize = 50;
/// Answers that wait to be taken, at the most: whoever records looks more often than they come.
const LONGEST_RECORD: usize = 1_000_000;
/// Seconds over which the arrival rate of [`Load`](super::Load) is taken.
const RATE_SPAN: u64 = 30;

/// Arrivals, times and waits as far back as any policy looks. Every note costs O(1).
#[derive(Clone, Debug)]
pub struct Traffic {
    began: Time,
    arrivals: PerSecond,
    services: Samples,
    starts: VecDeque<f64>,
    starting: Vec<Time>,
    running_ages: f64,
    waits: Waits,
    late_after: Duration,
    // Requests that wait or are worked on, since when, and their sum over time before that.
    level: usize,
    level_since: Time,
    load_seconds: f64,
    idle_since: Option<Time>,
    idle_gaps: VecDeque<f64>,
    // What was answered since somebody took it, if somebody does.
    record: Option<Vec<Job>>,
}

/// Dispatches, and those of them that came late, by stretch of time.
#[derive(Clone, Debug, Default)]
struct Waits {
    stretches: VecDeque<(u64, u64, u64)>,
    dispatched: u64,
    late: u64,
}

impl Traffic {
    /// The span over which late dispatches are counted.
    const LATE_SPAN: u64 = 900;
    const STRETCH: u64 = 10;

    /// No traffic yet.
    pub fn new(now: Time) -> Self {
        Self {
            began: now,
            arrivals: PerSecond::new(SECONDS, now),
            services: Samples::new(SERVICES),
            starts: VecDeque::new(),
            starting: Vec::new(),
            running_ages: 0.0,
            waits: Waits::default(),
            late_after: Duration::MAX,
            level: 0,
            level_since: now,
            load_seconds: 0.0,
            idle_since: Some(now),
            idle_gaps: VecDeque::new(),
            record: None,
        }
    }

    /// Arrivals in each of the last so many whole seconds, at most 320 and not before the pool began, the newest first.
    pub fn arrivals(&self, seconds: u64) -> impl Iterator<Item = u32> {
        self.arrivals.newest_first(seconds)
    }

    /// Whole seconds for which arrivals are known.
    pub fn seconds(&self) -> u64 {
        self.arrivals.known()
    }

    /// Arrivals a second over the last half minute; zero in the first second.
    pub fn arrival_rate(&self) -> f64 {
        let seconds = self.seconds().min(RATE_SPAN);
        if seconds == 0 {
            return 0.0;
        }
        self.arrivals(seconds).map(f64::from).sum::<f64>() / seconds as f64
    }

    /// Mean and squared coefficient of variation of the service times lately, in seconds, and of how many; the mean is
    /// zero when nothing was answered yet.
    pub fn service(&self) -> (f64, f64, usize) {
        let (mean, variance) = (self.services.mean(), self.services.variance());
        let cv2 = if mean > 0.0 { variance / (mean * mean) } else { 0.0 };
        (mean, cv2, self.services.len())
    }

    /// How long all requests that are being worked on have been, in seconds together. Kept only while few have been
    /// answered: then it says more about service times than the answers.
    pub fn running_ages(&self) -> f64 {
        self.running_ages
    }

    /// How long a start takes in seconds: the median of the last 15; nothing before the first.
    pub fn start_time(&self) -> Option<f64> {
        let mut sorted: Vec<f64> = self.starts.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }

    /// When each start that is under way was asked for.
    pub fn starting(&self) -> &[Time] {
        &self.starting
    }

    /// Requests dispatched in the last quarter of an hour, and how many of them had waited for longer than the policy's
    /// [`late_after`](super::ScalingPolicy::late_after).
    pub fn late(&self) -> (u64, u64) {
        (self.waits.dispatched, self.waits.late)
    }

    /// The sum over all time of the requests that waited or were worked on, in request-seconds: the difference of two
    /// readings over the time between is the mean.
    pub fn load_seconds(&self, now: Time) -> f64 {
        self.load_seconds + self.level as f64 * now.since(self.level_since).as_secs_f64()
    }

    /// Since when nothing waits or is worked on.
    pub fn idle_since(&self) -> Option<Time> {
        self.idle_since
    }

    /// The last 50 times in seconds for which nothing waited or was worked on, oldest first.
    pub fn idle_gaps(&self) -> impl ExactSizeIterator<Item = f64> {
        self.idle_gaps.iter().copied()
    }

    /// Whether the ages of running requests are worth counting.
    pub(crate) fn wants_ages(&self) -> bool {
        self.services.len() < 20
    }

    pub(crate) fn note_arrival(&mut self, now: Time) {
        self.arrivals.count(now);
    }

    pub(crate) fn note_dispatch(&mut self, waited: Duration, now: Time) {
        self.waits.note(waited > self.late_after, self.second(now));
    }

    pub(crate) fn note_answer(&mut self, job: Job) {
        self.services.push(job.service.as_secs_f64());
        if let Some(record) = self.record.as_mut().filter(|record| record.len() < LONGEST_RECORD) {
            record.push(job);
        }
    }

    /// What was answered since the last call; the first one begins the record.
    pub(crate) fn take_record(&mut self) -> Vec<Job> {
        self.record.replace(Vec::new()).unwrap_or_default()
    }

    pub(crate) fn note_start(&mut self, took: Duration) {
        if self.starts.len() == STARTS {
            self.starts.pop_front();
        }
        self.starts.push_back(took.as_secs_f64());
    }

    /// So many wait or are worked on from now on.
    pub(crate) fn note_level(&mut self, level: usize, now: Time) {
        if level == self.level {
            return;
        }
        self.load_seconds = self.load_seconds(now);
        self.level_since = now;
        if level == 0 {
            self.idle_since = Some(now);
        } else if let Some(since) = self.idle_since.take() {
            if self.idle_gaps.len() == GAPS {
                self.idle_gaps.pop_front();
            }
            self.idle_gaps.push_back(now.since(since).as_secs_f64());
        }
        self.level = level;
    }

    /// A policy calls requests late from this wait on; what was counted by another measure is forgotten.
    pub(crate) fn call_late(&mut self, after: Option<Duration>) {
        let after = after.unwrap_or(Duration::MAX);
        if after != self.late_after {
            self.late_after = after;
            self.waits = Waits::default();
        }
    }

    /// Brings everything up to `now`, before a policy looks.
    pub(crate) fn look(&mut self, starting: Vec<Time>, running_ages: f64, now: Time) {
        self.arrivals.turn(now);
        self.waits.forget(self.second(now));
        self.starting = starting;
        self.running_ages = running_ages;
    }

    fn second(&self, now: Time) -> u64 {
        now.since(self.began).as_secs()
    }
}

impl Waits {
    fn note(&mut self, late: bool, second: u64) {
        let stretch = second / Traffic::STRETCH;
        if self.stretches.back().is_none_or(|(last, ..)| *last != stretch) {
            self.forget(second);
            self.stretches.push_back((stretch, 0, 0));
        }
        if let Some((_, dispatched, lates)) = self.stretches.back_mut() {
            *dispatched += 1;
            *lates += u64::from(late);
        }
        self.dispatched += 1;
        self.late += u64::from(late);
    }

    fn forget(&mut self, second: u64) {
        let stretch = second / Traffic::STRETCH;
        while let Some((first, dispatched, late)) = self.stretches.front().copied()
            && first + Traffic::LATE_SPAN / Traffic::STRETCH <= stretch
        {
            self.stretches.pop_front();
            self.dispatched -= dispatched;
            self.late -= late;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(service: Duration) -> Job {
        Job { arrival: Time::ZERO, service, client: 0 }
    }

    fn at(seconds: f64) -> Time {
        Time::ZERO + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn arrivals_are_counted_by_whole_seconds() {
        let mut traffic = Traffic::new(Time::ZERO);
        for when in [0.1, 0.9, 1.5, 3.0, 3.2] {
            traffic.note_arrival(at(when));
        }
        traffic.look(Vec::new(), 0.0, at(4.5));
        assert_eq!(traffic.arrivals(320).collect::<Vec<_>>(), [2, 0, 1, 2]);
        assert_eq!(traffic.arrivals(2).collect::<Vec<_>>(), [2, 0]);
        assert_eq!(traffic.arrival_rate(), 5.0 / 4.0);
        traffic.look(Vec::new(), 0.0, at(1_000.0));
        assert_eq!(traffic.seconds(), SECONDS);
        assert_eq!(traffic.arrivals(SECONDS).sum::<u32>(), 0);
    }

    #[test]
    fn the_load_is_summed_over_time_and_idle_times_are_kept() {
        let mut traffic = Traffic::new(Time::ZERO);
        traffic.note_level(2, at(1.0));
        traffic.note_level(0, at(3.0));
        assert_eq!(traffic.idle_since(), Some(at(3.0)));
        traffic.note_level(1, at(10.0));
        assert_eq!(traffic.load_seconds(at(12.0)), 6.0);
        assert_eq!(traffic.idle_gaps().collect::<Vec<_>>(), [1.0, 7.0]);
        assert_eq!(traffic.idle_since(), None);
    }

    #[test]
    fn late_dispatches_are_forgotten_after_a_quarter_of_an_hour() {
        let mut traffic = Traffic::new(Time::ZERO);
        traffic.call_late(Some(Duration::from_secs(1)));
        traffic.note_dispatch(Duration::from_secs(2), at(5.0));
        traffic.note_dispatch(Duration::from_secs(1), at(600.0));
        assert_eq!(traffic.late(), (2, 1));
        traffic.look(Vec::new(), 0.0, at(899.0));
        assert_eq!(traffic.late(), (2, 1));
        traffic.look(Vec::new(), 0.0, at(901.0));
        assert_eq!(traffic.late(), (1, 0));
    }

    #[test]
    fn times_are_measured_over_the_last_few() {
        let mut traffic = Traffic::new(Time::ZERO);
        assert_eq!((traffic.start_time(), traffic.service()), (None, (0.0, 0.0, 0)));
        for seconds in [1, 9, 2] {
            traffic.note_start(Duration::from_secs(seconds));
        }
        assert_eq!(traffic.start_time(), Some(2.0));
        (0..1_000).for_each(|_| traffic.note_answer(answered(Duration::from_secs(9))));
        for second in (0..500).map(|n| 1 + n % 2 * 2) {
            traffic.note_answer(answered(Duration::from_secs(second)));
        }
        assert_eq!(traffic.service(), (2.0, 0.25, 500));
    }
}
