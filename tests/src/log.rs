//! What a child process writes to stderr, kept, and searched for errors that no test has announced.

use std::io::{BufRead as _, BufReader};
use std::process::ChildStderr;
use std::sync::Arc;

use parking_lot::Mutex;

/// The lines so far. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Reads until the process closes its end.
    pub(crate) fn follow(source: ChildStderr) -> Self {
        let log = Self::default();
        let lines = log.0.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                lines.lock().push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        log
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }

    /// What stands between `before` and the next blank or comma in the first line that has it.
    pub(crate) fn word_after(&self, before: &str) -> Option<String> {
        self.0.lock().iter().find_map(|line| {
            let (_, rest) = line.split_once(before)?;
            rest.split([' ', ',']).next().map(str::to_owned)
        })
    }

    /// Lines of the level ERROR, and panics, that contain none of `expected`.
    pub(crate) fn errors(&self, expected: &[String]) -> Vec<String> {
        let is_error =
            |line: &str| line.split_whitespace().nth(1) == Some("ERROR") || line.contains("panicked at");
        let lines = self.0.lock();
        let errors = lines.iter().filter(|line| is_error(line));
        errors.filter(|line| !expected.iter().any(|text| line.contains(text))).cloned().collect()
    }

    /// The end of it, for a failure's message.
    pub(crate) fn tail(&self, count: usize) -> String {
        let lines = self.0.lock();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}
