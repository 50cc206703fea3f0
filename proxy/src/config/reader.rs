//! Reads a parsed document table by table. A mistake is noted at its place and the reading goes on, so that one
//! run finds them all.
//!
//! A [`Table`] hands out its keys one by one; what is left at [`Table::finish`] is unknown, or known to later versions
//! only ([`unavailable`]).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use toml::de::DeTable;

use super::diagnostics::{Diagnostic, Places};
use super::unavailable;
use super::value::Value;

/// The document, what its variables stand for, and the mistakes found so far.
pub(super) struct Reader<'a> {
    pub(super) text: &'a str,
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    /// Where relative paths begin.
    pub(super) folder: PathBuf,
    found: RefCell<Vec<Diagnostic>>,
    files: RefCell<Places>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, folder: PathBuf, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { text, env, folder, found: RefCell::default(), files: RefCell::default() }
    }

    pub(super) fn report(&self, diagnostic: Diagnostic) {
        self.found.borrow_mut().push(diagnostic);
    }

    /// The mistakes, and where files are named.
    pub(super) fn found(self) -> (Vec<Diagnostic>, Places) {
        (self.found.into_inner(), self.files.into_inner())
    }

    pub(super) fn root(&'a self, table: &'a DeTable<'a>) -> Table<'a> {
        Table::new(self, String::new(), String::new(), 0..0, table)
    }

    /// A path of the file system: what is relative begins at the file's folder.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.folder.join(text)
    }

    /// The path of a file that has to be there; where it is named is remembered.
    pub(super) fn file(&self, value: &Value<'_>) -> Option<PathBuf> {
        let text = value.string()?;
        self.files.borrow_mut().insert(value.path().to_owned(), value.span.clone());
        Some(self.path(&text))
    }
}

/// A table that is being read.
pub(super) struct Table<'a> {
    pub(super) reader: &'a Reader<'a>,
    /// Its dotted name; empty for the document.
    path: String,
    /// The same with `*` in place of a service's name.
    section: String,
    /// Where the table is named.
    pub(super) key: Range<usize>,
    entries: BTreeMap<&'a str, Value<'a>>,
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    pub(super) fn new(
        reader: &'a Reader<'a>,
        path: String,
        section: String,
        key: Range<usize>,
        table: &'a DeTable<'a>,
    ) -> Self {
        let entry = |(key, value): (&'a toml::Spanned<_>, &'a toml::Spanned<_>)| {
            let name: &'a std::borrow::Cow<'a, str> = key.get_ref();
            let value = Value {
                reader,
                section: section.clone(),
                path: joined(&path, name),
                name,
                key: key.span(),
                span: value.span(),
                value: value.get_ref(),
            };
            (&**name, value)
        };
        let entries = table.iter().map(entry).collect();
        Self { reader, path, section, key, entries, known: Vec::new() }
    }

    /// Whether a key stands there and was not taken.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// The value of a key, if it stands there.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Value<'a>> {
        self.known.push(key);
        self.entries.remove(key)
    }

    /// Puts the value of a key in its place, if it stands there and is right.
    pub(super) fn set<T>(
        &mut self,
        key: &'static str,
        place: &mut T,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) {
        if let Some(value) = self.take(key).as_ref().and_then(read) {
            *place = value;
        }
    }

    /// The same for what is absent by default.
    pub(super) fn set_some<T>(
        &mut self,
        key: &'static str,
        place: &mut Option<T>,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) {
        if let Some(value) = self.take(key).as_ref().and_then(read) {
            *place = Some(value);
        }
    }

    /// Reads a table below this one, if it stands there.
    pub(super) fn below(&mut self, key: &'static str, read: impl FnOnce(&mut Table<'a>)) {
        if let Some(mut table) = self.take(key).and_then(|value| value.table()) {
            read(&mut table);
            table.finish();
        }
    }

    /// All entries that are left, in the order of the file: for tables whose keys are names.
    pub(super) fn drain(&mut self) -> Vec<Value<'a>> {
        let mut entries: Vec<_> = std::mem::take(&mut self.entries).into_values().collect();
        entries.sort_by_key(|entry| entry.key.start);
        entries
    }

    /// Reports what nobody took.
    pub(super) fn finish(mut self) {
        for entry in self.drain() {
            match unavailable::find(&self.section, entry.name) {
                Some(row) => entry.must_be_default(&row.later),
                None => self.unknown(&entry),
            }
        }
    }

    fn unknown(&self, entry: &Value<'a>) {
        let mut known: Vec<&str> =
            self.known.iter().copied().chain(unavailable::keys(&self.section)).collect();
        known.sort_unstable();
        let place = if self.path.is_empty() { String::new() } else { format!(" in [{}]", self.path) };
        let mut diagnostic =
            Diagnostic::new(entry.key.clone(), format!("unknown key `{}`{place}", entry.name));
        diagnostic = match nearest(entry.name, &known) {
            Some(near) => diagnostic.label(format!("did you mean `{near}`?")),
            None => diagnostic.help(format!("the keys here are {}", known.join(", "))),
        };
        self.reader.report(diagnostic);
    }
}

/// The dotted name of `name` in the table `path`.
pub(super) fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The word that `wrong` was probably meant to be.
pub(super) fn nearest<'w>(wrong: &str, words: &[&'w str]) -> Option<&'w str> {
    let distance = |word: &str| strsim::damerau_levenshtein(&wrong.to_lowercase(), word);
    let near = words.iter().copied().min_by_key(|word| distance(word))?;
    let allowed = (wrong.chars().count().max(near.len()) / 3).max(1);
    (distance(near) <= allowed).then_some(near)
}
