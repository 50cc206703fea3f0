//! Export and import: one JSON document a line, none longer than a piece of a body needs, so that nothing is ever whole in
//! memory. A job's bodies come before its record; the last line says how many jobs there were, so that a file that was cut
//! off is known.

mod export;
mod import;

use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

pub use self::export::export;
pub use self::import::{Import, ImportError, Imported};
use crate::job::Job;

const BASE64: GeneralPurpose = STANDARD;

/// What is written first, and demanded: the format of what follows.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    /// Begins a file.
    Longshore { format: u32 },
    /// A piece of the body that the next record names; pieces come in their order.
    Piece { body: String, data: String },
    /// The pieces since the last record are nobody's: their job has changed while they were written.
    Dropped {},
    /// A record.
    Job(Box<Job>),
    /// Ends a file.
    End { jobs: u64 },
}
