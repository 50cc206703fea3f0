//! The disk that keeps bodies is full, or gone: what the client is told, and what the log says.

use std::io::{Error, ErrorKind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Clock;
use crate::problem::Problem;

/// Seconds between two lines of the log: every request that comes meanwhile fails of the same cause.
const EVERY: u64 = 10;

/// When the log was told last, in seconds from 1; 0 is never.
static TOLD: AtomicU64 = AtomicU64::new(0);

/// A request's body cannot be kept while it waits. What was kept before stays.
pub fn problem(folder: &Path, cause: &Error) -> Problem {
    let (what, advice) = words(cause);
    if is_due(Clock::coarse().as_secs() + 1) {
        tracing::error!(
            folder = %folder.display(), error = %cause,
            "failed to keep waiting bodies, their requests get 507: {advice}, or start longshore with another TMPDIR"
        );
    }
    Problem::Storage(format!(
        "the body cannot be kept while it waits: {what}; what was accepted before is not lost, try again later"
    ))
}

fn is_due(now: u64) -> bool {
    let told = TOLD.load(Ordering::Relaxed);
    (told == 0 || now.saturating_sub(told) >= EVERY)
        && TOLD.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

/// What is wrong, and what helps.
fn words(cause: &Error) -> (&'static str, &'static str) {
    match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            ("the disk for temporary files is full", "make room there")
        }
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            ("the folder for temporary files is missing", "make that folder")
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            ("the folder for temporary files cannot be written to", "give longshore the right to write there")
        }
        _ => ("the disk for temporary files fails", "see to that disk"),
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn the_client_is_told_what_is_wrong_and_not_where() {
        for (errno, what) in [
            (Errno::ENOSPC, "disk for temporary files is full"),
            (Errno::EDQUOT, "disk for temporary files is full"),
            (Errno::EFBIG, "disk for temporary files is full"),
            (Errno::ENOENT, "folder for temporary files is missing"),
            (Errno::EROFS, "cannot be written to"),
            (Errno::EACCES, "cannot be written to"),
            (Errno::EIO, "disk for temporary files fails"),
        ] {
            let problem = problem(Path::new("/secret/place"), &errno.into());
            assert_eq!((problem.kind(), problem.status().as_u16()), ("storage", 507));
            let detail = problem.detail();
            assert!(detail.contains(what) && !detail.contains("secret"), "{errno}: {detail}");
        }
    }
}
