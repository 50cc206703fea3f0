//! `size` of cluster.toml.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::diagnostics::Diagnostic;
use super::super::reader::Table;
use super::super::value::Value;
use super::{Keys, MAX_SIZE, ServiceSize, compiled, table};
use crate::policies::Zone;

/// Reads a size; what is wrong with it is noted where it stands.
pub(in super::super) fn read(value: &Value<'_>) -> Option<ServiceSize> {
    if value.is_table() {
        let mut keys = TomlKeys { table: value.table()?, taken: BTreeMap::new(), whole: value, right: true };
        let size = table(&mut keys);
        if size.is_none() && keys.is_unknown_policy() {
            // Its other keys belong to a policy that is not there: a message for each would say nothing more.
            keys.table.drain();
        }
        let right = keys.right;
        keys.table.finish();
        return size.filter(|_| right);
    }
    if value.is_string() {
        let text = value.string()?;
        return match compiled(&text, Zone::local()) {
            Ok(policy) => Some(ServiceSize::of(policy)),
            Err(error) => value.reject(format!("`{}`: {error}", value.path())),
        };
    }
    Some(ServiceSize::fixed(value.integer(0..=MAX_SIZE)?))
}

struct TomlKeys<'v, 'a> {
    table: Table<'a>,
    // What was taken, so that a mistake that shows only later is shown in its place.
    taken: BTreeMap<&'static str, Value<'a>>,
    whole: &'v Value<'a>,
    right: bool,
}

impl<'a> TomlKeys<'_, 'a> {
    fn take(&mut self, key: &'static str) -> Option<Value<'a>> {
        let value = self.table.take(key)?;
        self.taken.insert(key, value.clone());
        Some(value)
    }

    fn read<T>(&mut self, key: &'static str, read: impl FnOnce(&Value<'a>) -> Option<T>) -> Option<T> {
        let value = self.take(key)?;
        let read = read(&value);
        self.right &= read.is_some();
        read
    }

    fn is_unknown_policy(&self) -> bool {
        self.taken.len() == 1 && self.taken.contains_key("policy")
    }
}

impl Keys for TomlKeys<'_, '_> {
    fn has(&self, key: &str) -> bool {
        self.table.has(key)
    }

    fn word(&mut self, key: &'static str, words: &'static [&'static str]) -> Option<&'static str> {
        let words: Vec<_> = words.iter().map(|word| (*word, *word)).collect();
        self.read(key, |value| value.word(&words))
    }

    fn integer(&mut self, key: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        self.read(key, |value| value.integer(range))
    }

    fn number(&mut self, key: &'static str, range: RangeInclusive<f64>) -> Option<f64> {
        self.read(key, |value| {
            let number = value.positive_number()?;
            if range.contains(&number) {
                return Some(number);
            }
            let (least, most) = (range.start(), range.end());
            value.reject(format!("`{}` must be from {least} to {most}", value.path()))
        })
    }

    fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.read(key, Value::duration)
    }

    fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.read(key, Value::boolean)
    }

    fn text(&mut self, key: &'static str) -> Option<String> {
        self.read(key, Value::string)
    }

    fn sizes(&mut self, key: &'static str) -> Option<Vec<(String, u32)>> {
        self.read(key, |value| {
            let entries = value.table()?.drain();
            let size = |entry: &Value<'_>| Some((entry.name.to_owned(), entry.integer(0..=MAX_SIZE)?));
            entries.iter().map(size).collect()
        })
    }

    fn wrong(&mut self, key: &'static str, message: String) {
        self.right = false;
        let span = self.taken.get(key).map_or_else(|| self.whole.span.clone(), |value| value.span.clone());
        self.whole.reader.report(Diagnostic::new(span, message));
    }
}
