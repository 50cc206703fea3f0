//! The one table of keys and words that interface.md has and this version does not act on yet. A key may stand at its
//! default; anything else is refused, rather than silently ignored. Whoever builds a feature deletes its rows.

/// What is not there yet.
pub(super) struct Row {
    /// The table that the key stands in, `*` for a service's name.
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    pub(super) later: Later,
}

/// How much of a key is not there yet.
pub(super) enum Later {
    /// All of it.
    Key,
    /// `true`.
    True,
    /// These words, beside others that are there.
    Words(&'static [&'static str]),
}

const ROWS: &[Row] = &[
    row("backend", "kind", Later::Words(&["swarm"])),
    row("backend", "hosts", Later::Key),
    row("backend", "tls", Later::Key),
    row("services.*.health", "docker", Later::True),
];

const fn row(section: &'static str, key: &'static str, later: Later) -> Row {
    Row { section, key, later }
}

/// What is not there yet of a key; nothing when all of it is, or when no version knows it.
pub(super) fn find(section: &str, key: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.section == section && row.key == key)
}

/// The keys of a section that have a row.
pub(super) fn keys(section: &str) -> impl Iterator<Item = &'static str> {
    ROWS.iter().filter(move |row| row.section == section).map(|row| row.key)
}

/// The words of a key that later versions know.
pub(super) fn words(section: &str, key: &str) -> &'static [&'static str] {
    match find(section, key).map(|row| &row.later) {
        Some(Later::Words(words)) => words,
        Some(Later::Key | Later::True) | None => &[],
    }
}
