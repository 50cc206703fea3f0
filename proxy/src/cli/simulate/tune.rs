//! Looks for the settings of a policy that meet an objective at the least cost.
//!
//! One setting after the other is tried at every value of its list while the rest stays, and the best is kept, twice
//! around. That finds no optimum for certain, but the costs fall and rise once along each setting in nearly all cases,
//! and the same workload gives the same answer.

use std::time::Duration;

use longshore_pool::scaling::{ConcurrencySettings, WaitSettings};
use longshore_pool::simulate::Report;
use serde_json::{Value as Json, json};

use super::contest::{Contest, Kind};
use super::table;
use crate::config::{MAX_SIZE, ServiceSize};
use crate::policies::Policy;

/// The best of one policy.
pub(super) struct Tuned {
    pub(super) size: ServiceSize,
    pub(super) report: Report,
    /// Seconds by which it misses the objective.
    pub(super) missed_by: f64,
    /// How many settings were tried.
    pub(super) tried: usize,
}

impl Tuned {
    /// The fewest instance-seconds of those that meet the objective; else who misses it by the least.
    fn better_than(&self, other: &Self) -> bool {
        let key = |it: &Self| (it.missed_by, it.report.instance_seconds);
        key(self) < key(other)
    }
}

/// A setting: what it makes of a size, one for each value that it may have.
type Setting = Vec<Box<dyn Fn(&mut ServiceSize)>>;

/// The policies that were named, or those that are worth tuning; the best first.
pub(super) fn tune(contest: &Contest) -> Vec<Tuned> {
    let sizes: Vec<ServiceSize> = if contest.named {
        contest.contestants.iter().filter_map(|it| it.kind.size()).collect()
    } else {
        let policies = [
            Policy::Wait(WaitSettings::default()),
            Policy::Concurrency(ConcurrencySettings::default()),
            Policy::Fixed(1),
        ];
        let ServiceSize { min, max, standby, .. } = contest.service.size;
        let within = |policy| ServiceSize { min, max, standby, ..ServiceSize::of(policy) };
        policies.into_iter().map(within).collect()
    };
    let mut tuned: Vec<Tuned> = sizes.into_iter().map(|size| search(contest, size)).collect();
    tuned.sort_by(|one, other| {
        let key = |it: &Tuned| (it.missed_by, it.report.instance_seconds);
        let (one, other) = (key(one), key(other));
        one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1))
    });
    tuned
}

fn run(contest: &Contest, size: ServiceSize) -> Tuned {
    let report = contest.run_one(&Kind::Size(size.clone()));
    let missed_by = contest.objective.missed_by(&report);
    Tuned { size, report, missed_by, tried: 1 }
}

fn search(contest: &Contest, size: ServiceSize) -> Tuned {
    if size.number().is_some() {
        return search_number(contest, &size);
    }
    let settings = settings(contest, &size.policy);
    // The bounds of a service are what it may cost, and no setting to look for.
    let bounded = (contest.service.size.min, contest.service.size.max) != (0, MAX_SIZE);
    let bounds = (size.min, size.max);
    let mut best = run(contest, size);
    let mut tried = 1;
    for _ in 0..2 {
        for setting in &settings {
            let from = best.size.clone();
            for value in setting {
                let mut size = from.clone();
                value(&mut size);
                if size == best.size || (bounded && (size.min, size.max) != bounds) {
                    continue;
                }
                let candidate = run(contest, size);
                tried += 1;
                if candidate.better_than(&best) {
                    best = candidate;
                }
            }
        }
    }
    Tuned { tried, ..best }
}

/// The smallest number that meets the objective, or the largest there is.
fn search_number(contest: &Contest, size: &ServiceSize) -> Tuned {
    let with = |number| ServiceSize { policy: Policy::Fixed(number), ..size.clone() };
    let (mut low, mut high) = (size.min.max(1), size.max.min(MAX_SIZE));
    let mut tried = 0;
    while low < high {
        let middle = low + (high - low) / 2;
        tried += 1;
        if run(contest, with(middle)).missed_by > 0.0 { low = middle + 1 } else { high = middle }
    }
    Tuned { tried: tried + 1, ..run(contest, with(low)) }
}

fn settings(contest: &Contest, policy: &Policy) -> Vec<Setting> {
    let wait = contest.objective.wait;
    match policy {
        Policy::Wait(_) => vec![
            each([0.2, 0.35, 0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0], move |it, factor| {
                if let Policy::Wait(it) = &mut it.policy {
                    it.objective = rounded(wait.mul_f64(factor));
                }
            }),
            each([0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2], |it, late| {
                if let Policy::Wait(it) = &mut it.policy {
                    it.late = late;
                }
            }),
            each([0, 30, 120, 300], |it, seconds| {
                if let Policy::Wait(it) = &mut it.policy {
                    it.keep_max = Duration::from_secs(seconds);
                }
            }),
            each([1, 3, 10, 30], |it, seconds| {
                if let Policy::Wait(it) = &mut it.policy {
                    it.keep_min = Duration::from_secs(seconds);
                }
            }),
        ],
        Policy::Concurrency(_) => vec![
            each([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], |it, part| {
                if let Policy::Concurrency(it) = &mut it.policy {
                    it.utilization = part;
                }
            }),
            each([20, 60, 180, 600], |it, seconds| {
                if let Policy::Concurrency(it) = &mut it.policy {
                    it.stable_window = Duration::from_secs(seconds);
                    it.panic_window = it.stable_window / 10;
                }
            }),
            each([0, 15, 60, 300], |it, seconds| it.down_delay = Duration::from_secs(seconds)),
        ],
        Policy::Queue { .. } => vec![
            each([1, 2, 5, 10, 20], |it, seconds| {
                if let Policy::Queue { every, .. } = &mut it.policy {
                    *every = Duration::from_secs(seconds);
                }
            }),
            each([5, 10, 20, 50, 200], |it, max| it.max = max.max(it.min)),
            each([0, 1, 2, 5], |it, min| it.min = min.min(it.max)),
        ],
        Policy::Expression(_) | Policy::Schedule(_) => {
            vec![each([0, 15, 60, 300], |it, seconds| it.down_delay = Duration::from_secs(seconds))]
        }
        Policy::Fixed(_) | Policy::Webhook(_) => Vec::new(),
    }
}

fn each<T, const N: usize>(values: [T; N], apply: impl Fn(&mut ServiceSize, T) + Copy + 'static) -> Setting
where
    T: Copy + 'static,
{
    let value =
        |value: T| Box::new(move |it: &mut ServiceSize| apply(it, value)) as Box<dyn Fn(&mut ServiceSize)>;
    values.into_iter().map(value).collect()
}

/// To the millisecond, as it will be written.
fn rounded(duration: Duration) -> Duration {
    Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1))
}

/// What was found, the line to paste last.
pub(super) fn text(contest: &Contest, tuned: &[Tuned]) -> String {
    let mut text = format!("{}\n\n", table::heading(contest));
    for it in tuned {
        let verdict = if it.missed_by > 0.0 { "misses it" } else { "meets it" };
        text += &format!(
            "{} {verdict}: p95 wait {:.2} s, {:.0} instance-seconds, {} starts (of {} settings)\n",
            it.size.policy.name(),
            it.report.wait(0.95),
            it.report.instance_seconds,
            it.report.starts,
            it.tried,
        );
    }
    text += &*match tuned.first() {
        Some(best) if best.missed_by > 0.0 => {
            format!("\nnothing that was tried meets the objective; the nearest:\n{}\n", best.size.line())
        }
        Some(best) => format!("\n{}\n", best.size.line()),
        None => "nothing here has settings to tune\n".to_owned(),
    };
    text
}

/// The same, the best first.
pub(super) fn json(contest: &Contest, tuned: &[Tuned]) -> Json {
    let one = |it: &Tuned| {
        json!({
            "size": it.size.form(),
            "line": it.size.line(),
            "met": it.missed_by == 0.0,
            "report": table::report(contest, it.size.policy.name(), &it.report),
        })
    };
    tuned.iter().map(one).collect()
}
