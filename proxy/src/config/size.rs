//! The forms of `size`, in cluster.toml and over the admin API: an integer, an expression, a table with a policy.
//!
//! One reader for both: [`Keys`] is what it needs of a table, wherever that is written.

use std::ops::RangeInclusive;
use std::time::Duration;

use longshore_pool::PoolConfig;
use longshore_pool::scaling::{ConcurrencySettings, WaitSettings};
use serde_json::{Map, Value as Json};

use crate::policies::{self, Expression, Policy, Schedule, Webhook, Zone};

mod from_json;
mod from_toml;
#[cfg(test)]
mod tests;

pub use from_json::{SizeError, parse_size, size_instead_of, typed_size};
pub(super) use from_toml::read;

/// The most instances that a service may have.
pub const MAX_SIZE: u32 = 1_000;

/// How many instances a service should have, who decides that, and within which bounds: `min <= max <= MAX_SIZE`, and a
/// fixed size lies between them.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSize {
    /// Who decides.
    pub policy: Policy,
    /// Fewest that may be asked for.
    pub min: u32,
    /// Most that may be asked for.
    pub max: u32,
    /// Time between two decisions.
    pub interval: Duration,
    /// Instances added by one decision at the most.
    pub up_step: u32,
    /// The size falls only to the highest recommendation of this window.
    pub down_delay: Duration,
    /// Whether decisions are only recorded.
    pub dry_run: bool,
    /// Instances kept paused beyond the size.
    pub standby: u32,
}

impl Default for ServiceSize {
    fn default() -> Self {
        Self::of(Policy::Fixed(1))
    }
}

impl ServiceSize {
    /// A policy with everything else at its default.
    ///
    /// `wait` holds instances for as long as is worth it, so that it is not held a second time; `queue` has the bounds of
    /// the rule that it is.
    pub fn of(policy: Policy) -> Self {
        let pool = PoolConfig::default();
        let (min, max) = match &policy {
            Policy::Queue { .. } => (1, 5),
            Policy::Fixed(_)
            | Policy::Concurrency(_)
            | Policy::Wait(_)
            | Policy::Expression(_)
            | Policy::Webhook(_)
            | Policy::Schedule(_) => (0, MAX_SIZE),
        };
        let down_delay = match &policy {
            Policy::Wait(_) => Duration::ZERO,
            Policy::Fixed(_)
            | Policy::Queue { .. }
            | Policy::Concurrency(_)
            | Policy::Expression(_)
            | Policy::Webhook(_)
            | Policy::Schedule(_) => pool.down_delay,
        };
        let (interval, up_step) = (pool.scale_interval, pool.up_step);
        Self { policy, min, max, interval, up_step, down_delay, dry_run: false, standby: 0 }
    }

    /// A number, everything else at its default.
    pub fn fixed(size: u32) -> Self {
        Self::of(Policy::Fixed(size))
    }

    /// The number, if it is one.
    pub fn number(&self) -> Option<u32> {
        match &self.policy {
            Policy::Fixed(size) => Some(*size),
            Policy::Queue { .. }
            | Policy::Concurrency(_)
            | Policy::Wait(_)
            | Policy::Expression(_)
            | Policy::Webhook(_)
            | Policy::Schedule(_) => None,
        }
    }

    /// The policy itself.
    pub fn make(&self) -> Box<dyn longshore_pool::ScalingPolicy> {
        self.policy.make(self.min, self.max)
    }

    /// A pool's configuration with this size in it.
    pub fn within(&self, config: PoolConfig) -> PoolConfig {
        PoolConfig {
            min: self.min,
            max: self.max,
            scale_interval: self.interval,
            up_step: self.up_step,
            down_delay: self.down_delay,
            dry_run: self.dry_run,
            standby: self.standby,
            ..config
        }
    }

    /// As it is written in `size`: a number or an expression where that says it all, else a table of what is not at its
    /// default.
    pub fn form(&self) -> Json {
        let usual = Self::of(self.policy.usual());
        let mut settings = self.settings();
        let defaults = usual.settings();
        settings.retain(|key, value| self.policy.needs(key) || defaults.get(key) != Some(value));
        match &self.policy {
            Policy::Fixed(size) if settings.len() == 1 => (*size).into(),
            Policy::Expression(expression) if settings.len() == 1 => expression.text().into(),
            Policy::Fixed(_)
            | Policy::Queue { .. }
            | Policy::Concurrency(_)
            | Policy::Wait(_)
            | Policy::Expression(_)
            | Policy::Webhook(_)
            | Policy::Schedule(_) => {
                settings.insert("policy".into(), self.policy.name().into());
                settings.into()
            }
        }
    }

    /// Every setting but the policy's name.
    fn settings(&self) -> Map<String, Json> {
        let mut settings = self.policy.settings();
        settings.insert("min".into(), self.min.into());
        settings.insert("max".into(), self.max.into());
        settings.insert("interval".into(), policies::text(self.interval).into());
        settings.insert("up_step".into(), self.up_step.into());
        settings.insert("down_delay".into(), policies::text(self.down_delay).into());
        settings.insert("dry_run".into(), self.dry_run.into());
        settings.insert("standby".into(), self.standby.into());
        settings
    }

    /// The same in one line, as it is pasted into cluster.toml.
    pub fn line(&self) -> String {
        format!("size = {}", toml_inline(&self.form()))
    }
}

fn toml_inline(value: &Json) -> String {
    match value {
        Json::Object(map) => {
            let key = |key: &str| {
                let bare = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
                if bare && !key.is_empty() { key.to_owned() } else { Json::from(key).to_string() }
            };
            let mut entries: Vec<_> = map.iter().collect();
            // Which policy it is comes first, as a person writes it.
            entries.sort_by_key(|(name, _)| *name != "policy");
            let entry = |(name, value): (&String, &Json)| format!("{} = {}", key(name), toml_inline(value));
            let entries: Vec<String> = entries.into_iter().map(entry).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Json::Array(values) => {
            format!("[{}]", values.iter().map(toml_inline).collect::<Vec<_>>().join(", "))
        }
        // A JSON string is a TOML string: both escape alike.
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => value.to_string(),
    }
}

/// A table of settings, wherever it is written. What is there and wrong is reported where it stands, and is not there.
trait Keys {
    fn has(&self, key: &str) -> bool;
    /// One of a few words.
    fn word(&mut self, key: &'static str, words: &'static [&'static str]) -> Option<&'static str>;
    fn integer(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32>;
    fn number(&mut self, key: &'static str, range: RangeInclusive<f64>) -> Option<f64>;
    fn duration(&mut self, key: &'static str) -> Option<Duration>;
    fn flag(&mut self, key: &'static str) -> Option<bool>;
    fn text(&mut self, key: &'static str) -> Option<String>;
    /// A table of names with a size each.
    fn sizes(&mut self, key: &'static str) -> Option<Vec<(String, u32)>>;
    /// Reports a mistake at a key, or at the whole table where the key is empty.
    fn wrong(&mut self, key: &'static str, message: String);
}

/// Puts what was read in its place, if it was there and right.
fn set<T>(place: &mut T, read: Option<T>) {
    if let Some(value) = read {
        *place = value;
    }
}

/// A table of `size`. `None` after a mistake that leaves nothing to go on with.
fn table<K: Keys>(keys: &mut K) -> Option<ServiceSize> {
    // Asked for even where it is not there, so that it is known to be a key.
    let (named, word) = (keys.has("policy"), keys.word("policy", &Policy::NAMES));
    let name = if named { word? } else { "fixed" };
    let policy = match name {
        "queue" => queue(keys),
        "concurrency" => Some(Policy::Concurrency(concurrency(keys))),
        "wait" => Some(Policy::Wait(wait(keys))),
        "expression" => expression(keys),
        "webhook" => webhook(keys),
        "schedule" => schedule(keys),
        _ => Some(Policy::Fixed(1)),
    };
    let mut size = policy.map_or_else(ServiceSize::default, ServiceSize::of);
    let min = keys.integer("min", 0..=MAX_SIZE);
    let max = keys.integer("max", 0..=MAX_SIZE);
    set(&mut size.min, min);
    // A default gives way to what is written.
    size.max = max.unwrap_or(size.max.max(size.min));
    size.min = min.unwrap_or(size.min.min(size.max));
    set(&mut size.interval, keys.duration("interval"));
    if size.interval < Duration::from_millis(10) {
        keys.wrong("interval", "`interval` must be 10ms or more".into());
    }
    set(&mut size.up_step, keys.integer("up_step", 1..=MAX_SIZE));
    set(&mut size.down_delay, keys.duration("down_delay"));
    set(&mut size.dry_run, keys.flag("dry_run"));
    set(&mut size.standby, keys.integer("standby", 0..=MAX_SIZE));
    if size.min > size.max {
        let message = format!("`max` is {} and below `min`, which is {}", size.max, size.min);
        keys.wrong("max", message);
        return None;
    }
    if let Policy::Fixed(number) = &mut size.policy {
        *number = fixed(keys, size.min, size.max)?;
    }
    Some(size)
}

fn fixed<K: Keys>(keys: &mut K, min: u32, max: u32) -> Option<u32> {
    let (written, size) = (keys.has("size"), keys.integer("size", 0..=MAX_SIZE));
    let size = if written { size? } else { 1.clamp(min, max) };
    if !(min..=max).contains(&size) {
        let message = format!("`size` is {size} and not within `min` and `max`, which are {min} and {max}");
        keys.wrong("size", message);
        return None;
    }
    Some(size)
}

fn queue<K: Keys>(keys: &mut K) -> Option<Policy> {
    let (mut first, mut every) = (3, Duration::from_secs(10));
    set(&mut first, keys.integer("first", 0..=MAX_SIZE));
    set(&mut every, keys.duration("every"));
    Some(Policy::Queue { first, every })
}

fn concurrency<K: Keys>(keys: &mut K) -> ConcurrencySettings {
    let mut it = ConcurrencySettings::default();
    it.target = keys.number("target", 0.01..=1e6).or(it.target);
    set(&mut it.utilization, keys.number("utilization", 0.01..=1.0));
    set(&mut it.stable_window, keys.duration("stable_window"));
    // A tenth of the stable window, as in Knative, unless it is written.
    it.panic_window = keys.duration("panic_window").unwrap_or(it.stable_window / 10);
    set(&mut it.panic_threshold, keys.number("panic_threshold", 1.0..=1e3));
    set(&mut it.up_rate, keys.number("up_rate", 1.01..=1e6));
    set(&mut it.down_rate, keys.number("down_rate", 1.01..=1e6));
    for (key, window) in [("stable_window", it.stable_window), ("panic_window", it.panic_window)] {
        if !(Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&window) {
            keys.wrong(key, format!("`{key}` must be from 100ms to 1h"));
        }
    }
    it
}

fn wait<K: Keys>(keys: &mut K) -> WaitSettings {
    let mut it = WaitSettings::default();
    set(&mut it.objective, keys.duration("objective"));
    set(&mut it.late, keys.number("late", 0.0001..=0.5));
    set(&mut it.keep_min, keys.duration("keep_min"));
    set(&mut it.keep_max, keys.duration("keep_max"));
    set(&mut it.zero_max, keys.duration("zero_max"));
    set(&mut it.service_time, keys.duration("service_time"));
    set(&mut it.start_time, keys.duration("start_time"));
    if it.objective < Duration::from_millis(1) {
        keys.wrong("objective", "`objective` must be 1ms or more".into());
    }
    it
}

fn zone<K: Keys>(keys: &mut K) -> Zone {
    let Some(name) = keys.text("timezone") else { return Zone::local() };
    Zone::named(&name).unwrap_or_else(|error| {
        keys.wrong("timezone", error);
        Zone::local()
    })
}

/// A policy, or a mistake at a key.
fn checked<K: Keys>(keys: &mut K, key: &'static str, made: Result<Policy, String>) -> Option<Policy> {
    made.map_err(|error| keys.wrong(key, error)).ok()
}

/// A text that must be there.
fn needed<K: Keys>(keys: &mut K, key: &'static str, policy: &str) -> Option<String> {
    if !keys.has(key) {
        keys.wrong("", format!("the policy `{policy}` needs `{key}`"));
        return None;
    }
    keys.text(key)
}

fn expression<K: Keys>(keys: &mut K) -> Option<Policy> {
    let zone = zone(keys);
    let text = needed(keys, "expression", "expression")?;
    checked(keys, "expression", compiled(&text, zone))
}

/// An expression as a policy; the error names the text.
fn compiled(text: &str, zone: Zone) -> Result<Policy, String> {
    let shown: String = text.chars().take(40).collect();
    let cut = if shown.len() < text.len() { "…" } else { "" };
    Expression::compile(text, zone)
        .map(Policy::Expression)
        .map_err(|error| format!("this is no expression, got {:?}: {error}", shown + cut))
}

fn webhook<K: Keys>(keys: &mut K) -> Option<Policy> {
    let timeout = keys.duration("timeout").unwrap_or(Webhook::TIMEOUT);
    if timeout.is_zero() {
        keys.wrong("timeout", "`timeout` must be above 0".into());
    }
    let url = needed(keys, "url", "webhook")?;
    checked(keys, "url", Webhook::new(&url, timeout).map(Policy::Webhook))
}

fn schedule<K: Keys>(keys: &mut K) -> Option<Policy> {
    let zone = zone(keys);
    let otherwise = keys.integer("size", 0..=MAX_SIZE).unwrap_or(0);
    if !keys.has("lines") {
        let example = "lines = { \"0 8 * * mon-fri\" = 5, \"0 20 * * *\" = 1 }";
        keys.wrong("", format!("the policy `schedule` needs `lines`, such as {example}"));
        return None;
    }
    let lines = keys.sizes("lines")?;
    checked(keys, "lines", Schedule::new(&lines, zone, otherwise).map(Policy::Schedule))
}
