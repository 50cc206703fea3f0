//! Where mistakes are, for programs: a JSON pointer into the document, line and column.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::diagnostics::Diagnostics;

/// A mistake and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The key, as a JSON pointer (RFC 6901); none where the text is not TOML, or the whole of it is meant.
    pub pointer: Option<String>,
    /// The line, from 1; none when the whole text is meant.
    pub line: Option<usize>,
    /// The character in the line, from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
}

impl Diagnostics {
    /// Each mistake with its place, in the order of the text.
    pub fn places(&self) -> Vec<Place> {
        let document = DeTable::parse(&self.text).ok();
        let place = |message: &str, span: &Option<Range<usize>>| {
            let at = span.as_ref().map(|span| self.text.floor_char_boundary(span.start.min(self.text.len())));
            let before = at.map(|at| &self.text[..at]);
            let pointer = at.zip(document.as_ref()).and_then(|(at, document)| {
                let mut path = String::new();
                in_table(document.get_ref(), at, &mut path);
                (!path.is_empty()).then_some(path)
            });
            Place {
                pointer,
                line: before.map(|before| before.matches('\n').count() + 1),
                column: before.map(|before| before.rsplit('\n').next().unwrap_or("").chars().count() + 1),
                message: message.to_owned(),
            }
        };
        self.list().iter().map(|one| place(&one.message, &one.span)).collect()
    }
}

/// The way to what stands at `at`. A table that is written in parts, or under a dotted key, spans less than it holds:
/// so the deepest key that fits is looked for, wherever it is.
fn in_table(table: &DeTable<'_>, at: usize, path: &mut String) -> bool {
    for (key, value) in table {
        let before = path.len();
        path.push('/');
        path.push_str(&key.get_ref().replace('~', "~0").replace('/', "~1"));
        let deeper = match value.get_ref() {
            DeValue::Table(inner) => in_table(inner, at, path),
            DeValue::Array(list) => list.iter().enumerate().any(|(index, element)| {
                let here = element.span().contains(&at);
                if here {
                    path.push_str(&format!("/{index}"));
                }
                here
            }),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => false,
        };
        if deeper || key.span().contains(&at) || value.span().contains(&at) {
            return true;
        }
        path.truncate(before);
    }
    false
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_mistake_has_its_pointer_line_and_column() {
        for (text, pointer, line, column) in [
            ("[services.calc]\nimage = \"x\"\nsice = 2", Some("/services/calc/sice"), Some(3), Some(1)),
            (
                "[services.calc]\nimage = \"x\"\nqueue.limit = -1",
                Some("/services/calc/queue/limit"),
                Some(3),
                Some(15),
            ),
            (
                "[services.calc]\nimage = \"x\"\nhosts = [\"a\", 3]",
                Some("/services/calc/hosts/1"),
                Some(3),
                Some(15),
            ),
            ("[services.calc]\nimage = ", None, Some(2), Some(9)),
            ("[services.calc]", Some("/services/calc"), Some(1), Some(11)),
        ] {
            let places = Config::parse(text, "cluster.toml", &|_| None).unwrap_err().places();
            let first = places.first().unwrap();
            assert_eq!(
                (first.pointer.as_deref(), first.line, first.column),
                (pointer, line, column),
                "{text}"
            );
        }
        let whole = Config::parse("", "cluster.toml", &|_| None).unwrap_err().places();
        assert_eq!((&whole[0].pointer, whole[0].line), (&None, None));
    }
}
