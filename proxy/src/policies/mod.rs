//! What may decide a service's size: the policies of `longshore-pool`, and those that need more than that crate may
//! have (a language, a calendar, the network).
//!
//! | module | owns |
//! | --- | --- |
//! | this one | [`Policy`]: which one, with its settings; makes it, and shows it as `size` of cluster.toml |
//! | `expression` | a line of script, sandboxed |
//! | `schedule` | cron lines in a time zone |
//! | `webhook` | asks a URL, outside the pool |
//! | `wall` | the time of day in a time zone |

pub mod expression;
pub mod schedule;
mod wall;
pub mod webhook;

use std::time::Duration;

use longshore_pool::scaling::{Advised, Concurrency, ConcurrencySettings, Queue, Wait, WaitSettings};
use longshore_pool::{Fixed, ScalingPolicy};
use serde_json::{Map, Value as Json, json};

pub use expression::Expression;
pub use schedule::Schedule;
pub use wall::Zone;
pub use webhook::Webhook;

/// A policy with its settings, checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Policy {
    /// Always the same.
    Fixed(u32),
    /// One more while the queue grows.
    Queue {
        /// The size to begin with.
        first: u32,
        /// Time between two looks.
        every: Duration,
    },
    /// Requests per instance.
    Concurrency(ConcurrencySettings),
    /// The wait for a slot.
    Wait(WaitSettings),
    /// A line of script.
    Expression(Expression),
    /// What a URL answers.
    Webhook(Webhook),
    /// By the clock.
    Schedule(Schedule),
}

impl Policy {
    /// The names of all, as they are written.
    pub const NAMES: [&'static str; 7] =
        ["fixed", "queue", "concurrency", "wait", "expression", "webhook", "schedule"];

    /// Its name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Fixed(_) => "fixed",
            Self::Queue { .. } => "queue",
            Self::Concurrency(_) => "concurrency",
            Self::Wait(_) => "wait",
            Self::Expression(_) => "expression",
            Self::Webhook(_) => "webhook",
            Self::Schedule(_) => "schedule",
        }
    }

    /// The policy itself, for sizes from `min` to `max`.
    pub fn make(&self, min: u32, max: u32) -> Box<dyn ScalingPolicy> {
        match self {
            Self::Fixed(size) => Box::new(Fixed(*size)),
            Self::Queue { first, every } => {
                let mut queue = Queue::new(min, max);
                queue.first = (*first).clamp(min, max.max(min));
                queue.every = *every;
                Box::new(queue)
            }
            Self::Concurrency(settings) => Box::new(Concurrency::new(settings.clone())),
            Self::Wait(settings) => Box::new(Wait::new(settings.clone())),
            Self::Expression(expression) => Box::new(expression.clone()),
            Self::Webhook(_) => Box::new(Advised::new("webhook")),
            Self::Schedule(schedule) => Box::new(schedule.clone()),
        }
    }

    /// The same policy with every setting at its default, but for those that it needs.
    pub fn usual(&self) -> Self {
        match self {
            Self::Fixed(size) => Self::Fixed(*size),
            Self::Queue { .. } => Self::Queue { first: 3, every: Duration::from_secs(10) },
            Self::Concurrency(_) => Self::Concurrency(ConcurrencySettings::default()),
            Self::Wait(_) => Self::Wait(WaitSettings::default()),
            Self::Expression(it) => Self::Expression(it.clone().told_in(Zone::local())),
            Self::Webhook(it) => Self::Webhook(it.clone().within(Webhook::TIMEOUT)),
            Self::Schedule(it) => Self::Schedule(it.clone().usual()),
        }
    }

    /// Whether it cannot be without this setting.
    pub fn needs(&self, setting: &str) -> bool {
        match self {
            Self::Fixed(_) => setting == "size",
            Self::Queue { .. } | Self::Concurrency(_) | Self::Wait(_) => false,
            Self::Expression(_) => setting == "expression",
            Self::Webhook(_) => setting == "url",
            Self::Schedule(_) => setting == "lines",
        }
    }

    /// Its own settings as they are written in `size`.
    pub fn settings(&self) -> Map<String, Json> {
        let written = match self {
            Self::Fixed(size) => json!({ "size": size }),
            Self::Queue { first, every } => json!({ "first": first, "every": text(*every) }),
            Self::Concurrency(it) => json!({
                "target": it.target,
                "utilization": it.utilization,
                "stable_window": text(it.stable_window),
                "panic_window": text(it.panic_window),
                "panic_threshold": it.panic_threshold,
                "up_rate": it.up_rate,
                "down_rate": it.down_rate,
            }),
            Self::Wait(it) => json!({
                "objective": text(it.objective),
                "late": it.late,
                "keep_min": text(it.keep_min),
                "keep_max": text(it.keep_max),
                "zero_max": text(it.zero_max),
                "service_time": text(it.service_time),
                "start_time": text(it.start_time),
            }),
            Self::Expression(it) => json!({ "expression": it.text(), "timezone": it.zone().name() }),
            Self::Webhook(it) => json!({ "url": it.url(), "timeout": text(it.timeout()) }),
            Self::Schedule(it) => it.settings(),
        };
        match written {
            Json::Object(mut map) => {
                map.retain(|_, value| !value.is_null());
                map
            }
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => Map::new(),
        }
    }
}

/// A duration as cluster.toml has it: `250ms`, `1m 30s`.
pub fn text(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}
