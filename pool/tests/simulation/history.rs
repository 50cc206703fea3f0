//! What happened in one history: its hash, what it covered, and (when asked for) every line of it.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};

use longshore_pool::Time;

/// Everything that crossed the border of the pool.
pub(crate) struct History {
    hash: Fnv,
    lines: Option<Vec<String>>,
    seen: BTreeMap<&'static str, u64>,
}

/// FNV-1a (Fowler, Noll, Vo), over the text of what happened.
struct Fnv(u64);

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

impl History {
    pub(crate) fn new(traced: bool) -> Self {
        let lines = traced.then(Vec::new);
        Self { hash: Fnv(0xcbf2_9ce4_8422_2325), lines, seen: BTreeMap::new() }
    }

    /// Notes an event, a timeout or an action.
    pub(crate) fn note(&mut self, now: Time, kind: &str, what: &dyn Debug) {
        write!(self.hash, "{} {kind} {what:?}", now.as_nanos()).expect("the hash takes everything");
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>12.6} {kind} {what:?}", now.as_nanos() as f64 / 1e9));
        }
    }

    /// Counts that something of interest happened.
    pub(crate) fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.0
    }

    pub(crate) fn seen(&self) -> &BTreeMap<&'static str, u64> {
        &self.seen
    }

    /// The last lines, if they were kept.
    pub(crate) fn tail(&self, count: usize) -> String {
        let lines = self.lines.as_deref().unwrap_or_default();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}
