//! One value of a document, read as what it should be. What it is not is reported at its place, and nothing comes back.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::de::DeValue;

use super::diagnostics::Diagnostic;
use super::reader::{Reader, Table, joined, nearest};
use super::unavailable::{self, Later};
use super::values;

/// A value with its name and its place.
#[derive(Clone)]
pub(super) struct Value<'a> {
    pub(super) reader: &'a Reader<'a>,
    /// Of the table that it stands in.
    pub(super) section: String,
    /// Its dotted name.
    pub(super) path: String,
    /// The last part of that.
    pub(super) name: &'a str,
    pub(super) key: Range<usize>,
    pub(super) span: Range<usize>,
    pub(super) value: &'a DeValue<'a>,
}

impl<'a> Value<'a> {
    /// Notes a mistake at the value.
    pub(super) fn reject<T>(&self, message: impl Into<String>) -> Option<T> {
        self.reader.report(Diagnostic::new(self.span.clone(), message));
        None
    }

    /// Notes that the value is not `wanted`.
    fn wrong_type<T>(&self, wanted: &str) -> Option<T> {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let diagnostic = Diagnostic::new(self.span.clone(), format!("`{}` must be {wanted}", self.path));
        self.reader.report(diagnostic.label(format!("found {found}")));
        None
    }

    /// Its dotted name, for messages.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    pub(super) fn is_string(&self) -> bool {
        self.value.is_str()
    }

    fn text(&self) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text),
            DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => None,
        }
    }

    pub(super) fn table(&self) -> Option<Table<'a>> {
        self.table_in(joined(&self.section, self.name))
    }

    /// The table of a name that the user chose: its section is that of all such tables.
    pub(super) fn named_table(&self) -> Option<Table<'a>> {
        self.table_in(joined(&self.section, "*"))
    }

    fn table_in(&self, section: String) -> Option<Table<'a>> {
        let Some(table) = self.value.as_table() else { return self.wrong_type("a table") };
        Some(Table::new(self.reader, self.path.clone(), section, self.key.clone(), table))
    }

    /// A string with its variables replaced, not empty.
    pub(super) fn string(&self) -> Option<String> {
        let text = self.any_string("a string")?;
        if text.is_empty() { self.reject(format!("`{}` is empty", self.path)) } else { Some(text) }
    }

    /// A string with its variables replaced.
    pub(super) fn any_string(&self, wanted: &str) -> Option<String> {
        let Some(text) = self.text() else { return self.wrong_type(wanted) };
        let text = match values::substitute(text, self.reader.env) {
            Ok(text) => text,
            Err(error) => {
                let span = self.within(&error.place);
                self.reader.report(Diagnostic::new(span, error.message).help(error.help));
                return None;
            }
        };
        if text.contains('\0') {
            return self.reject(format!("`{}` holds a NUL character", self.path));
        }
        Some(text)
    }

    /// Where a part of the text stands in the file; the whole value when it is written with escapes.
    fn within(&self, part: &str) -> Range<usize> {
        let source = self.reader.text.get(self.span.clone()).unwrap_or_default();
        match source.find(part) {
            Some(at) => self.span.start + at..self.span.start + at + part.len(),
            None => self.span.clone(),
        }
    }

    /// A string as `read` understands it.
    pub(super) fn parsed<T>(&self, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.parsed_as("a string", read)
    }

    fn parsed_as<T>(&self, wanted: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.any_string(wanted)?;
        match read(&text) {
            Ok(value) => Some(value),
            Err(allowed) => {
                self.reader.report(
                    Diagnostic::new(self.span.clone(), format!("`{}` cannot be {text:?}", self.path))
                        .label(allowed),
                );
                None
            }
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.wrong_type("true or false"))
    }

    /// An integer of that range.
    pub(super) fn integer<T>(&self, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + std::fmt::Display,
    {
        let Some(integer) = self.value.as_integer() else { return self.wrong_type("an integer") };
        let value =
            i64::from_str_radix(integer.as_str(), integer.radix()).ok().and_then(|i| T::try_from(i).ok());
        let value = value.filter(|value| range.contains(value));
        if value.is_none() {
            let (first, last) = (range.start(), range.end());
            let diagnostic = Diagnostic::new(
                self.span.clone(),
                format!("`{}` must be an integer from {first} to {last}", self.path),
            );
            self.reader.report(diagnostic.label(format!("got {integer}")));
        }
        value
    }

    /// A number from 0, nothing, to 1, all.
    pub(super) fn part(&self) -> Option<f64> {
        match self.any_number()?.filter(|number| (0.0..=1.0).contains(number)) {
            Some(part) => Some(part),
            None => self.reject(format!("`{}` must be from 0 to 1", self.path)),
        }
    }

    /// An integer or a float, finite and above zero.
    pub(super) fn positive_number(&self) -> Option<f64> {
        match self.any_number()?.filter(|number| number.is_finite() && *number > 0.0) {
            Some(number) => Some(number),
            None => self.reject(format!("`{}` must be above 0", self.path)),
        }
    }

    fn any_number(&self) -> Option<Option<f64>> {
        match self.value {
            DeValue::Integer(integer) if integer.radix() == 10 => Some(integer.as_str().parse().ok()),
            DeValue::Float(float) => Some(float.as_str().parse().ok()),
            DeValue::Integer(_)
            | DeValue::String(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_) => self.wrong_type("a number"),
        }
    }

    /// A duration that may be zero.
    pub(super) fn duration(&self) -> Option<Duration> {
        self.parsed_as("a duration such as \"30s\"", values::duration)
    }

    /// A duration above zero.
    pub(super) fn timeout(&self) -> Option<Duration> {
        let duration = self.duration()?;
        if duration.is_zero() {
            self.reject(format!("`{}` must be above 0", self.path))
        } else {
            Some(duration)
        }
    }

    /// A size in bytes.
    pub(super) fn bytes(&self) -> Option<u64> {
        if self.value.is_integer() {
            let most = i64::MAX.unsigned_abs();
            return self.integer(0..=most);
        }
        self.parsed_as("a size such as \"64KiB\"", values::bytes)
    }

    /// A string or a plain number, as text: what Compose allows for environment values.
    pub(super) fn scalar(&self) -> Option<String> {
        match self.value {
            DeValue::Integer(integer) => Some(integer.to_string()),
            DeValue::Float(float) => Some(float.as_str().to_owned()),
            DeValue::Boolean(boolean) => Some(boolean.to_string()),
            DeValue::String(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                self.any_string("a string or a number")
            }
        }
    }

    /// The elements of an array.
    pub(super) fn array(&self, wanted: &str) -> Option<Vec<Value<'a>>> {
        let Some(array) = self.value.as_array() else { return self.wrong_type(wanted) };
        let element = |(index, element): (usize, &'a toml::Spanned<DeValue<'a>>)| Value {
            path: format!("{}[{index}]", self.path),
            span: element.span(),
            value: element.get_ref(),
            ..self.clone()
        };
        Some(array.iter().enumerate().map(element).collect())
    }

    /// An array of which `read` understands every element; those that it does not are left out, and noted.
    pub(super) fn list<T>(&self, wanted: &str, read: impl FnMut(&Value<'a>) -> Option<T>) -> Option<Vec<T>> {
        Some(self.array(wanted)?.iter().filter_map(read).collect())
    }

    /// One of a few words.
    pub(super) fn word<T: Clone>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.string()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(value.clone());
        }
        let later = unavailable::words(&self.section, self.name);
        if later.contains(&text.as_str()) {
            self.not_available(&self.span, &format!("{} = {text:?}", self.path));
            return None;
        }
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).chain(later.iter().copied()).collect();
        let mut diagnostic =
            Diagnostic::new(self.span.clone(), format!("`{}` cannot be {text:?}", self.path));
        if let Some(near) = nearest(&text, &all) {
            diagnostic = diagnostic.label(format!("did you mean \"{near}\"?"));
        }
        self.reader.report(diagnostic.help(format!("it is one of {}", all.join(", "))));
        None
    }

    fn not_available(&self, span: &Range<usize>, what: &str) {
        self.reader
            .report(Diagnostic::new(span.clone(), format!("`{what}` is not available in this version")));
    }

    /// Notes a key that this version does not act on, unless it stands at its default.
    pub(super) fn must_be_default(&self, later: &Later) {
        let default = match later {
            Later::Key => return self.not_available(&self.key, &self.path),
            Later::Words(_) => return,
            Later::True => self.boolean().map(|is| !is),
        };
        if default == Some(false) {
            let value = self.reader.text.get(self.span.clone()).unwrap_or_default();
            self.not_available(&self.span, &format!("{} = {value}", self.path));
        }
    }
}
