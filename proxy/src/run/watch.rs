//! Whether a file has changed. It is looked at by its name, again and again: editors write another file and
//! rename it, deployments swap a link, and file systems of containers and networks tell of nothing.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// Time between two looks. A file that changes is read once it has stayed the same for as long.
const LOOK: Duration = Duration::from_millis(500);

/// What tells one state of the files from another; none while one is missing.
type Mark = Option<Vec<(u64, u64, u64, i64, i64)>>;

/// Files that are watched, and read together.
pub(super) struct FileWatch {
    paths: Vec<PathBuf>,
    ticks: Interval,
    read: Mark,
    seen: Mark,
}

impl FileWatch {
    /// Begins; the files were read just before.
    pub(super) fn begin(paths: Vec<PathBuf>) -> Self {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mark = mark(&paths);
        Self { paths, ticks, read: mark.clone(), seen: mark }
    }

    /// Returns when a file is another one than at the last return, and all have stayed the same for a moment. Cancel-safe.
    pub(super) async fn changed(&mut self) {
        loop {
            self.ticks.tick().await;
            if self.look(mark(&self.paths)) {
                return;
            }
        }
    }

    /// Somebody reads it now, whatever was seen.
    pub(super) fn is_read(&mut self) {
        self.read = mark(&self.paths);
        self.seen = self.read.clone();
    }

    /// Whether it is to be read now. One that is gone is not: it is being replaced, or somebody erred.
    fn look(&mut self, now: Mark) -> bool {
        let steady = now == self.seen;
        let changed = now.is_some() && now != self.read && steady;
        if changed {
            self.read = now.clone();
        }
        self.seen = now;
        changed
    }
}

fn mark(paths: &[PathBuf]) -> Mark {
    let one = |path: &PathBuf| {
        let it = std::fs::metadata(path).ok()?;
        Some((it.dev(), it.ino(), it.size(), it.mtime(), it.mtime_nsec()))
    };
    paths.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_again_once_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cluster.toml");
        std::fs::write(&path, "one").unwrap();
        let mut watch = FileWatch::begin(vec![path.clone()]);
        let mut look = || {
            let now = mark(std::slice::from_ref(&path));
            watch.look(now)
        };
        assert!(!look() && !look(), "nothing has happened");
        std::fs::write(&path, "another").unwrap();
        assert!(!look(), "it may be in the middle of being written");
        assert!(look());
        assert!(!look(), "once");
        // As an editor does it.
        std::fs::write(folder.path().join("new"), "another").unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        assert!(!look());
        assert!(look());
        std::fs::remove_file(&path).unwrap();
        assert!(!look() && !look() && !look(), "gone is no change");
        std::fs::write(&path, "back").unwrap();
        assert!(!look());
        assert!(look());
    }
}
