//! Where mistakes are, for programs: a JSON pointer into the document, line and column.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::diagnostics::{Diagnostic, Diagnostics};

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

/// What cannot be put in force though the file is right: each with the dotted name of the value that says so, where it is
/// known; an element of an array goes by its index.
pub fn shown_in(file: &Path, wrong: &[(Option<String>, String)]) -> Diagnostics {
    // It was read a moment ago.
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let document = DeTable::parse(&text).ok();
    let shown = wrong.iter().map(|(path, message)| {
        let span = document.as_ref().and_then(|document| find(document.get_ref(), path.as_deref()?));
        match span {
            Some(span) => Diagnostic::new(span, message),
            None => Diagnostic::whole(message),
        }
    });
    Diagnostics::new(&file.display().to_string(), &text, shown.collect())
}

fn find(table: &DeTable<'_>, path: &str) -> Option<Range<usize>> {
    let (key, rest) = path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
    let (_, value) = table.iter().find(|(known, _)| known.get_ref() == key)?;
    match (value.get_ref(), rest) {
        (_, None) => Some(value.span()),
        (DeValue::Table(inner), Some(rest)) => find(inner, rest),
        (DeValue::Array(list), Some(index)) => Some(list.get(index.parse::<usize>().ok()?)?.span()),
        (_, Some(_)) => None,
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
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_only_shows_later_is_shown_where_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cluster.toml");
        let text = "name = \"x\"\n[proxy]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n";
        std::fs::write(&file, text).unwrap();
        for (path, pointer, line) in [
            (Some("name"), Some("/name"), Some(1)),
            (Some("proxy.listen.1"), Some("/proxy/listen/1"), Some(3)),
            (Some("proxy.listen.2"), None, None),
            (Some("admin.listen"), None, None),
            (None, None, None),
        ] {
            let shown = shown_in(&file, &[(path.map(str::to_owned), "in use".to_owned())]);
            let place = &shown.places()[0];
            assert_eq!((place.pointer.as_deref(), place.line), (pointer, line), "{path:?}");
            assert_eq!(shown.to_string().contains('^'), line.is_some(), "{shown}");
        }
    }

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
