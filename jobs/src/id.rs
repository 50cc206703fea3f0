//! The name of a job: 32 hexadecimal digits that sort by the time they were made at.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A job's name: unique, not to be guessed, and later ones sort behind earlier ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(Uuid);

/// A text that is no job's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job's id is 32 hexadecimal digits")]
pub struct NoJobId;

impl JobId {
    /// A new one.
    #[expect(clippy::new_without_default, reason = "each is another: there is no default")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// As a store keeps it.
    pub const fn to_bits(self) -> u128 {
        self.0.as_u128()
    }

    /// As a store has kept it.
    pub const fn from_bits(bits: u128) -> Self {
        Self(Uuid::from_u128(bits))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for JobId {
    type Err = NoJobId;

    fn from_str(text: &str) -> Result<Self, NoJobId> {
        Uuid::try_parse(text).map(Self).map_err(|_| NoJobId)
    }
}

impl TryFrom<String> for JobId {
    type Error = NoJobId;

    fn try_from(text: String) -> Result<Self, NoJobId> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_ids_sort_behind_earlier_ones_as_numbers_and_as_text() {
        let ids: Vec<JobId> = (0..10_000).map(|_| JobId::new()).collect();
        assert!(ids.is_sorted() && ids.iter().map(JobId::to_string).is_sorted());
    }

    #[test]
    fn an_id_reads_as_it_is_written() {
        let id = JobId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 32);
        assert_eq!("nonsense".parse::<JobId>(), Err(NoJobId));
        assert_eq!(JobId::from_bits(id.to_bits()), id);
    }
}
