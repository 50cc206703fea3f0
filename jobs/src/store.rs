//! What every store can do. A store decides nothing: it swaps records, and finds them again.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::broadcast;

use crate::body::{Body, Staged, Writer};
use crate::id::JobId;
use crate::job::{Job, Millis, Status};

/// Why a store did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no room; the text says where, and what to do.
    #[error("{0}")]
    Full(String),
    /// It cannot be reached, or its disk fails.
    #[error("the job store does not answer: {0}")]
    Unavailable(String),
    /// Somebody else has it.
    #[error("{0}")]
    Locked(String),
    /// What it holds is not what was put there.
    #[error("{0}")]
    Corrupt(String),
}

/// How much a store may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of records and bodies together.
    pub max_bytes: u64,
}

/// One record for another.
pub struct Change {
    /// What is believed to be there; nothing for a new job.
    pub from: Option<Job>,
    /// What shall be there; nothing to forget the job. Same id.
    pub to: Option<Job>,
    /// Bodies that `to` names and that were written for it.
    pub staged: Vec<Staged>,
    /// Whether it must have reached the disk when it is acknowledged. What is not lasting may be undone by a crash, back to
    /// `from`.
    pub lasting: bool,
}

impl Change {
    /// A new job.
    pub fn create(job: Job, input: Option<Staged>) -> Self {
        Self { from: None, to: Some(job), staged: input.into_iter().collect(), lasting: true }
    }

    /// A job becomes another.
    pub const fn update(from: Job, to: Job) -> Self {
        Self { from: Some(from), to: Some(to), staged: Vec::new(), lasting: true }
    }

    /// A job becomes another, which a crash may undo.
    pub const fn note(from: Job, to: Job) -> Self {
        Self { from: Some(from), to: Some(to), staged: Vec::new(), lasting: false }
    }

    /// A job is forgotten.
    pub const fn forget(from: Job) -> Self {
        Self { from: Some(from), to: None, staged: Vec::new(), lasting: true }
    }

    /// With a body that was written for it.
    #[must_use]
    pub fn with(mut self, staged: Option<Staged>) -> Self {
        self.staged.extend(staged);
        self
    }

    /// Which job it is.
    pub(crate) fn id(&self) -> Option<JobId> {
        self.to.as_ref().or(self.from.as_ref()).map(|job| job.id)
    }

    /// The bodies that nobody names any more.
    pub(crate) fn orphans(&self) -> Vec<Body> {
        let kept: Vec<Body> = self.to.iter().flat_map(Job::bodies).collect();
        self.from.iter().flat_map(Job::bodies).filter(|body| !kept.contains(body)).collect()
    }

    /// What a new record takes beside its bodies, whose room was taken when they were written.
    pub(crate) fn new_record_bytes(&self) -> u64 {
        let new = self.to.as_ref().filter(|_| self.from.is_none());
        new.map_or(0, |job| job.facets().bytes - job.bodies().map(|body| body.length).sum::<u64>())
    }

    /// What the others are told.
    pub(crate) fn news(&self) -> Option<News> {
        let job = self.to.as_ref().or(self.from.as_ref())?;
        let status = self.to.as_ref().map(Job::status);
        Some(News { id: job.id, service: job.service.clone(), status })
    }
}

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is so now.
    Made,
    /// Something else was there: somebody was faster.
    Stale,
    /// Another job has a name that no two may have.
    Taken(JobId),
}

/// A job has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Which.
    pub id: JobId,
    /// Whose.
    pub service: String,
    /// What it is now; nothing if it is forgotten.
    pub status: Option<Status>,
}

/// Which jobs to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// That came with the key of this name only.
    pub owner: Option<String>,
    /// Of this service only.
    pub service: Option<String>,
    /// In this state only.
    pub status: Option<Status>,
    /// Older than this one only, which need not exist any more.
    pub after: Option<JobId>,
}

/// How many jobs there are, by service and state.
pub type Counts = BTreeMap<(String, Status), u64>;

/// Keeps jobs.
#[async_trait]
pub trait Store: Send + Sync {
    /// What it is, for people.
    fn name(&self) -> String;

    /// Whether other proxies may have it open, too.
    fn is_shared(&self) -> bool;

    /// Makes the changes, each by itself and each of another job; what lasts has lasted when this returns.
    async fn swap(&self, changes: Vec<Change>) -> Result<Vec<Outcome>, StoreError>;

    /// One job.
    async fn get(&self, id: JobId) -> Result<Option<Job>, StoreError>;

    /// The first jobs of a service that wait and that no proxy has, in their order.
    async fn heads(&self, service: &str, count: usize) -> Result<Vec<Job>, StoreError>;

    /// How many of the service's waiting jobs come before this one.
    async fn ahead(&self, job: &Job) -> Result<u64, StoreError>;

    /// Jobs for which something is due, the longest due first.
    async fn due(&self, now: Millis, count: usize) -> Result<Vec<Job>, StoreError>;

    /// A page of jobs, newest first.
    async fn page(&self, filter: &Filter, count: usize) -> Result<Vec<Job>, StoreError>;

    /// How many jobs of a service wait, also those that a proxy has taken already.
    async fn queued(&self, service: &str) -> Result<u64, StoreError>;

    /// How many jobs there are.
    async fn counts(&self) -> Result<Counts, StoreError>;

    /// Begins a body.
    fn write(&self) -> Result<Writer, StoreError>;

    /// A body's bytes from `at` on: at least one and at most [`crate::CHUNK`]; none at its end.
    async fn read(&self, body: Body, at: u64) -> Result<Bytes, StoreError>;

    /// Every change from now on, also those of others where the store is shared. Whoever is slow misses some.
    fn news(&self) -> broadcast::Receiver<News>;
}
