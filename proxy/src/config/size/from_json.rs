//! `size` over the admin API, and on the command line.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::super::values;
use super::{Keys, MAX_SIZE, Policy, ServiceSize, compiled, table};
use crate::policies::Zone;

/// A size that somebody asked for and cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SizeError {
    /// Where in the size the mistake is, as a JSON pointer (RFC 6901) relative to it: empty for the whole.
    pub pointer: String,
    /// What is allowed and what was asked for.
    pub message: String,
}

/// The size that a JSON value means: an integer, an expression, or a table with a policy. The bounds of the service are
/// not looked at.
pub fn parse_size(value: &Json) -> Result<ServiceSize, SizeError> {
    match value {
        Json::Object(object) => parse_table(object),
        Json::String(text) => match compiled(text, Zone::local()) {
            Ok(policy) => Ok(ServiceSize::of(policy)),
            Err(message) => Err(SizeError { pointer: String::new(), message }),
        },
        Json::Number(_) | Json::Null | Json::Bool(_) | Json::Array(_) => {
            integer("", "size", value, &(0..=MAX_SIZE)).map(ServiceSize::fixed)
        }
    }
}

fn parse_table(object: &Map<String, Json>) -> Result<ServiceSize, SizeError> {
    let whole = |message: &str| Err(SizeError { pointer: String::new(), message: message.to_owned() });
    let Some(policy) = object.get("policy") else {
        return whole(
            r#"size is an integer, an expression, or a table such as {"policy": "wait", "max": 8}; "policy" is missing"#,
        );
    };
    if policy == "fixed" && !object.contains_key("size") {
        return whole(r#"a fixed size needs "size", such as {"policy": "fixed", "size": 3}"#);
    }
    let mut keys = JsonKeys { object, taken: Vec::new(), error: None };
    let size = table(&mut keys);
    keys.finish();
    match (size, keys.error) {
        (_, Some(error)) => Err(error),
        (Some(size), None) => Ok(size),
        (None, None) => whole("this is no size"),
    }
}

fn integer(pointer: &str, name: &str, value: &Json, range: &RangeInclusive<u32>) -> Result<u32, SizeError> {
    let number = value.as_u64().and_then(|size| u32::try_from(size).ok());
    number.filter(|number| range.contains(number)).ok_or_else(|| {
        let (least, most) = (range.start(), range.end());
        let message = format!("{name} must be an integer from {least} to {most}, got {}", shortened(value));
        SizeError { pointer: pointer.to_owned(), message }
    })
}

/// What was sent, as JSON, cut where it is long.
fn shortened(value: &Json) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn pointer(key: &str) -> String {
    format!("/{}", key.replace('~', "~0").replace('/', "~1"))
}

struct JsonKeys<'a> {
    object: &'a Map<String, Json>,
    taken: Vec<&'static str>,
    error: Option<SizeError>,
}

impl<'a> JsonKeys<'a> {
    fn read<T>(
        &mut self,
        key: &'static str,
        wanted: &str,
        read: impl FnOnce(&'a Json) -> Option<T>,
    ) -> Option<T> {
        self.taken.push(key);
        let value = self.object.get(key)?;
        let read = read(value);
        if read.is_none() {
            self.fail(pointer(key), format!("{key} must be {wanted}, got {}", shortened(value)));
        }
        read
    }

    /// The first mistake is the one that is told.
    fn fail(&mut self, pointer: String, message: String) {
        self.error.get_or_insert(SizeError { pointer, message });
    }

    /// Every key must have been asked for.
    fn finish(&mut self) {
        if self.error.is_some() {
            return;
        }
        let Some(unknown) = self.object.keys().find(|key| !self.taken.contains(&key.as_str())) else {
            return;
        };
        let message = format!("unknown key {unknown:?}: the keys here are {}", self.taken.join(", "));
        self.fail(pointer(unknown), message);
    }
}

impl Keys for JsonKeys<'_> {
    fn has(&self, key: &str) -> bool {
        self.object.contains_key(key)
    }

    fn word(&mut self, key: &'static str, words: &'static [&'static str]) -> Option<&'static str> {
        let wanted = format!("one of {}", words.join(", "));
        self.read(key, &wanted, |value| words.iter().find(|word| value == *word).copied())
    }

    fn integer(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let wanted = format!("an integer from {} to {}", range.start(), range.end());
        self.read(key, &wanted, |value| integer("", key, value, &range).ok())
    }

    fn number(&mut self, key: &'static str, range: RangeInclusive<f64>) -> Option<f64> {
        let wanted = format!("a number from {} to {}", range.start(), range.end());
        self.read(key, &wanted, |value| value.as_f64().filter(|number| range.contains(number)))
    }

    fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.read(key, "a duration such as \"30s\"", |value| values::duration(value.as_str()?).ok())
    }

    fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.read(key, "true or false", Json::as_bool)
    }

    fn text(&mut self, key: &'static str) -> Option<String> {
        let text = |value: &Json| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        self.read(key, "a string", text)
    }

    fn sizes(&mut self, key: &'static str) -> Option<Vec<(String, u32)>> {
        self.read(key, "a table of cron lines with a size each", |value| {
            let size = |(name, size): (&String, &Json)| {
                Some((name.clone(), integer("", "", size, &(0..=MAX_SIZE)).ok()?))
            };
            value.as_object()?.iter().map(size).collect()
        })
    }

    fn wrong(&mut self, key: &'static str, message: String) {
        self.fail(if key.is_empty() { String::new() } else { pointer(key) }, message);
    }
}

/// The size that somebody asks for instead of a service's `own`, whose bounds and standby stay where none are named. A
/// number outside these bounds is taken as it is: who minds has to look.
pub fn size_instead_of(own: &ServiceSize, asked: &Json) -> Result<ServiceSize, SizeError> {
    let (min, max, standby) = (own.min, own.max, own.standby);
    let Json::Object(table) = asked else {
        let size = parse_size(asked)?;
        let outside = size.number().is_some_and(|number| !(min..=max).contains(&number));
        return Ok(if outside { size } else { ServiceSize { min, max, standby, ..size } });
    };
    let mut table = table.clone();
    let bounded = (min, max) != (0, MAX_SIZE);
    for (key, value, named) in
        [("min", min, bounded), ("max", max, bounded), ("standby", standby, standby > 0)]
    {
        if named {
            table.entry(key).or_insert_with(|| value.into());
        }
    }
    parse_size(&Json::Object(table))
}

/// A size as it is typed on a command line, instead of a service's `own`: the name of a policy, JSON, or an expression.
pub fn typed_size(text: &str, own: &ServiceSize) -> Result<ServiceSize, SizeError> {
    if let Some(name) = Policy::NAMES.iter().find(|name| **name == text) {
        return size_instead_of(own, &serde_json::json!({ "policy": name }));
    }
    let value = serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.to_owned()));
    size_instead_of(own, &value)
}
