//! What no policy can beat, and what one that knows the future can do. One request at a time per instance.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::workload::Workload;
use crate::time::Time;

/// Fewest instance-seconds with which no request waits longer than `wait`, for whoever knows the future and needs
/// `start` for each start: a lower bound, since instances may be split and requests interrupted.
///
/// 1. The work done by a time lies between what must be done by then (everybody has waited as long as allowed) and what
///    can be (nobody has waited at all).
/// 2. The taut string between the two is the course of least cost: its slope is the number of instances at work.
/// 3. Each level of that number is a ski rental: an idle time costs itself or a start, whichever is less.
pub fn bound(workload: &Workload, wait: Duration, start: Duration) -> f64 {
    let step = (wait.as_secs_f64() / 4.0).max(0.25);
    let most = done_by(workload, Duration::ZERO, wait, step);
    let least = done_by(workload, wait, wait, step);
    cost(&taut_string(&least, &most, step), step, start.as_secs_f64())
}

/// Work done at each step of a grid when every request begins this long after its arrival.
pub(super) fn done_by(workload: &Workload, after: Duration, longest: Duration, step: f64) -> Vec<f64> {
    let ends = workload.jobs().iter().map(|job| seconds(job.arrival + longest + job.service));
    let cells = (ends.fold(0.0, f64::max) / step).ceil() as usize + 1;
    // What each cell adds: at once, and from the next cell on.
    let mut gain = vec![0.0; cells + 2];
    let mut slope = vec![0.0; cells + 2];
    let mut ramp = |at: f64, sign: f64| {
        let cell = (at / step).floor() as usize;
        let edge = (cell + 1) as f64 * step;
        gain[cell + 1] += sign * (edge - at);
        slope[(cell + 2).min(cells + 1)] += sign * step;
    };
    for job in workload.jobs() {
        ramp(seconds(job.arrival + after), 1.0);
        ramp(seconds(job.arrival + after + job.service), -1.0);
    }
    let (mut sum, mut rate) = (0.0, 0.0);
    let mut add = |cell: usize| {
        rate += slope[cell];
        sum += gain[cell] + rate;
        sum
    };
    (0..=cells).map(&mut add).collect()
}

/// The shortest course between two bounds that meet at both ends, as slopes over cells of `step`.
pub(super) fn taut_string(least: &[f64], most: &[f64], step: f64) -> Vec<f64> {
    let mut string =
        Funnel { anchor: (0, 0.0), low: VecDeque::new(), high: VecDeque::new(), slopes: Vec::new() };
    let last = least.len() - 1;
    for cell in 1..=last {
        // The end is the same for both: all work is done.
        let (low, high) = if cell == last { (most[last], most[last]) } else { (least[cell], most[cell]) };
        string.widen(true, (cell, high));
        string.widen(false, (cell, low.min(high)));
    }
    string.go_to((last, most[last]));
    string.slopes.iter().map(|slope| slope / step).collect()
}

type Point = (usize, f64);

/// All that can be seen through the bounds from where the string is fixed so far.
struct Funnel {
    anchor: Point,
    // The bounds' hulls from the anchor on: of the lower bound concave, of the upper one convex.
    low: VecDeque<Point>,
    high: VecDeque<Point>,
    slopes: Vec<f64>,
}

fn slope(from: Point, to: Point) -> f64 {
    (to.1 - from.1) / (to.0 - from.0) as f64
}

impl Funnel {
    /// Takes in the next point of one bound. Where that closes the funnel, the string bends at the other bound.
    fn widen(&mut self, upper: bool, point: Point) {
        let (own, sign) = if upper { (&mut self.high, 1.0) } else { (&mut self.low, -1.0) };
        while let Some(last) = own.back().copied() {
            let before = if own.len() > 1 { own[own.len() - 2] } else { self.anchor };
            if sign * slope(before, last) < sign * slope(last, point) {
                break;
            }
            own.pop_back();
        }
        own.push_back(point);
        if own.len() > 1 {
            return;
        }
        while let Some(bend) = if upper { self.low.front() } else { self.high.front() }.copied() {
            if bend.0 >= point.0 || sign * slope(self.anchor, point) >= sign * slope(self.anchor, bend) {
                return;
            }
            self.go_to(bend);
            if upper {
                self.low.pop_front()
            } else {
                self.high.pop_front()
            };
        }
    }

    fn go_to(&mut self, point: Point) {
        if point.0 > self.anchor.0 {
            let slope = slope(self.anchor, point).max(0.0);
            self.slopes.extend(std::iter::repeat_n(slope, point.0 - self.anchor.0));
            self.anchor = point;
        }
    }
}

/// The cost of a number of instances over time, where a level that falls idle may be kept or started again.
pub(super) fn cost(levels: &[f64], step: f64, start: f64) -> f64 {
    let mut total = 0.0;
    // From the bottom: up to which level, and since when idle.
    let mut idle: Vec<(f64, f64)> = Vec::new();
    let (mut present, mut highest) = (0.0, 0.0);
    for (cell, level) in levels.iter().copied().enumerate() {
        let now = cell as f64 * step;
        total += level * step;
        if level < present {
            idle.push((present, now));
        }
        let mut reached: f64 = present;
        while reached < level {
            let Some((top, since)) = idle.last().copied() else { break };
            let to = top.min(level);
            total += (to - reached).max(0.0) * (now - since).min(start);
            reached = reached.max(to);
            if top <= level {
                idle.pop();
            }
        }
        if level > highest {
            total += (level - highest) * start;
            highest = level;
        }
        present = level;
    }
    total
}

/// Instance-seconds of a plain rule that knows the future: each request, in the order of arrival, goes to the instance
/// that became free last of those that are free in time, else to a new one. What it takes can be done.
pub fn greedy(workload: &Workload, wait: Duration, start: Duration) -> f64 {
    let mut free: BTreeMap<Time, u32> = BTreeMap::new();
    let mut total = 0.0;
    for job in workload.jobs() {
        let latest = free.range(..=job.arrival + wait).next_back().map(|(at, _)| *at);
        let begin = match latest {
            Some(at) => {
                let left = free.get_mut(&at).map_or(0, |count| {
                    *count -= 1;
                    *count
                });
                if left == 0 {
                    free.remove(&at);
                }
                total += job.arrival.since(at).min(start).as_secs_f64();
                at.max(job.arrival)
            }
            None => {
                total += start.as_secs_f64();
                job.arrival
            }
        };
        total += job.service.as_secs_f64();
        *free.entry(begin + job.service).or_default() += 1;
    }
    total
}

fn seconds(time: Time) -> f64 {
    time.since(Time::ZERO).as_secs_f64()
}
