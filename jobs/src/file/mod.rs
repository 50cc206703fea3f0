//! The store in a folder: records and small bodies in one database file, each larger body in a file of its own.
//!
//! | module | owns |
//! | --- | --- |
//! | this one | opening, and reading |
//! | `table` | the database file: its format, and what is wrong with one |
//! | `commit` | the one thread that writes: many changes, one sync |
//! | `bodies` | the files of larger bodies |
//!
//! A body's file is synced before the record that names it, so a record that is there has its bodies. What no record
//! names after a crash is removed when the store is opened.

mod bodies;
mod commit;
mod table;

use std::collections::HashSet;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use self::commit::Committer;
use self::table::Table;
use crate::body::{Body, BodyId, CHUNK, Quota, Writer};
use crate::id::JobId;
use crate::index::Index;
use crate::job::{Job, Millis};
use crate::memory::NEWS;
use crate::store::{Change, Counts, Filter, Limits, News, Outcome, Store, StoreError};

/// Keeps jobs in a folder, which one process has open at a time.
pub struct FileStore {
    /// Dropped first: when its thread has ended, nobody holds the file any more.
    committer: Committer,
    folder: PathBuf,
    shared: Arc<Shared>,
}

/// What the readers and the writing thread share.
struct Shared {
    table: Table,
    index: Mutex<Index>,
    quota: Arc<Quota>,
    news: broadcast::Sender<News>,
    bodies: PathBuf,
}

impl FileStore {
    /// Opens the folder, or makes it. Reads every record, which finds what is damaged; jobs that were at work when the last
    /// process ended wait again. Blocks: about a second for 100,000 jobs.
    pub fn open(folder: &Path, limits: Limits) -> Result<Self, StoreError> {
        let bodies = folder.join("bodies");
        // What requests hold is nobody else's to read.
        let mut private = std::fs::DirBuilder::new();
        let made = private.recursive(true).mode(0o700).create(&bodies);
        made.map_err(|error| failed(&bodies, &error))?;
        let table = Table::open(folder)?;
        let mut index = Index::default();
        let (mut interrupted, mut named) = (Vec::new(), HashSet::new());
        table.each(|job| {
            named.extend(job.bodies().filter(|body| !body.is_small()).map(|body| body.id));
            index.apply(None, Some(&job));
            if let Ok(waiting) = job.released() {
                interrupted.push((job, waiting));
            }
        })?;
        bodies::sweep(&bodies, &named)?;
        for chunk in interrupted.chunks(RELEASE_AT_ONCE) {
            table.put(chunk.iter().map(|(_, waiting)| waiting))?;
        }
        for (was, waiting) in &interrupted {
            index.apply(Some(was), Some(waiting));
        }
        let quota = Quota::new(limits.max_bytes, Some(folder));
        quota.set_used(index.bytes());
        let news = broadcast::Sender::new(NEWS);
        let shared = Arc::new(Shared { table, index: Mutex::new(index), quota, news, bodies });
        let committer = Committer::start(shared.clone())?;
        Ok(Self { committer, folder: folder.to_owned(), shared })
    }

    fn all(&self, find: impl FnOnce(&Index) -> Vec<JobId>) -> Result<Vec<Job>, StoreError> {
        let ids = find(&self.shared.index.lock());
        // One that has been forgotten since is not there any more.
        self.shared.table.get(&ids).map(|jobs| jobs.into_iter().flatten().collect())
    }
}

/// Records written at once when a store is opened.
const RELEASE_AT_ONCE: usize = 1000;

#[async_trait]
impl Store for FileStore {
    fn name(&self) -> String {
        format!("file:{}", self.folder.display())
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn swap(&self, changes: Vec<Change>) -> Result<Vec<Outcome>, StoreError> {
        self.committer.swap(changes).await
    }

    async fn get(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        Ok(self.shared.table.get(&[id])?.into_iter().flatten().next())
    }

    async fn heads(&self, service: &str, count: usize) -> Result<Vec<Job>, StoreError> {
        self.all(|index| index.heads(service, count))
    }

    async fn ahead(&self, job: &Job) -> Result<u64, StoreError> {
        Ok(self.shared.index.lock().ahead(job))
    }

    async fn due(&self, now: Millis, count: usize) -> Result<Vec<Job>, StoreError> {
        self.all(|index| index.due(now, count))
    }

    async fn page(&self, filter: &Filter, count: usize) -> Result<Vec<Job>, StoreError> {
        self.all(|index| index.page(filter, count))
    }

    async fn queued(&self, service: &str) -> Result<u64, StoreError> {
        Ok(self.shared.index.lock().queued(service))
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        Ok(self.shared.index.lock().counts())
    }

    fn write(&self) -> Result<Writer, StoreError> {
        let id = BodyId::new();
        let sink = bodies::FileSink::new(&self.shared.bodies, id);
        Ok(Writer::new(id, Box::new(sink), &self.shared.quota))
    }

    async fn read(&self, body: Body, at: u64) -> Result<Bytes, StoreError> {
        if !body.is_small() {
            return bodies::read(&self.shared.bodies, body, at).await;
        }
        let whole = self.shared.table.body(body.id)?;
        let rest = usize::try_from(at).ok().filter(|at| *at < whole.len()).map(|at| whole.slice(at..));
        Ok(rest.map(|mut rest| rest.split_to(rest.len().min(CHUNK))).unwrap_or_default())
    }

    fn news(&self) -> broadcast::Receiver<News> {
        self.shared.news.subscribe()
    }
}

fn failed(path: &Path, error: &std::io::Error) -> StoreError {
    let text = format!("{}: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            StoreError::Full(format!("{text}: make room there"))
        }
        _ => StoreError::Unavailable(text),
    }
}

#[cfg(test)]
mod tests;
