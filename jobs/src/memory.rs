//! The store that ends with the process.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::body::{Body, BodyId, CHUNK, Quota, Sink, Writer};
use crate::id::JobId;
use crate::index::Index;
use crate::job::{Job, Millis};
use crate::store::{Change, Counts, Filter, Limits, News, Outcome, Store, StoreError};

/// News that a slow reader may be behind.
pub(crate) const NEWS: usize = 1024;

/// Keeps jobs in memory.
pub struct MemoryStore {
    inner: Mutex<Inner>,
    bodies: Arc<Bodies>,
    quota: Arc<Quota>,
    news: broadcast::Sender<News>,
}

#[derive(Default)]
struct Inner {
    index: Index,
    records: HashMap<JobId, Job>,
}

type Bodies = Mutex<HashMap<BodyId, Vec<Bytes>>>;

impl MemoryStore {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        Self {
            inner: Mutex::default(),
            bodies: Arc::default(),
            quota: Quota::new(limits.max_bytes, None),
            news: broadcast::Sender::new(NEWS),
        }
    }

    fn change(&self, change: Change) -> Result<Outcome, StoreError> {
        let mut inner = self.inner.lock();
        let outcome = inner.index.verdict(&change);
        if outcome != Outcome::Made {
            return Ok(outcome);
        }
        if change.from.is_none() {
            self.quota.check(change.new_record_bytes())?;
        }
        inner.index.apply(change.from.as_ref(), change.to.as_ref());
        self.quota.set_used(inner.index.bytes());
        let (orphans, news) = (change.orphans(), change.news());
        let mut bodies = self.bodies.lock();
        for mut staged in change.staged {
            if let Some(small) = staged.small.take() {
                bodies.insert(staged.body.id, vec![small]);
            }
            staged.keep();
        }
        for body in orphans {
            bodies.remove(&body.id);
        }
        match (change.from, change.to) {
            (_, Some(job)) => {
                inner.records.insert(job.id, job);
            }
            (Some(job), None) => {
                inner.records.remove(&job.id);
            }
            (None, None) => {}
        }
        if let Some(news) = news {
            // Nobody may be listening.
            let _ = self.news.send(news);
        }
        Ok(Outcome::Made)
    }

    fn all(&self, find: impl FnOnce(&Index) -> Vec<JobId>) -> Vec<Job> {
        let inner = self.inner.lock();
        find(&inner.index).iter().filter_map(|id| inner.records.get(id).cloned()).collect()
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn name(&self) -> String {
        "memory:".to_owned()
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn swap(&self, changes: Vec<Change>) -> Result<Vec<Outcome>, StoreError> {
        changes.into_iter().map(|change| self.change(change)).collect()
    }

    async fn get(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        Ok(self.inner.lock().records.get(&id).cloned())
    }

    async fn heads(&self, service: &str, count: usize) -> Result<Vec<Job>, StoreError> {
        Ok(self.all(|index| index.heads(service, count)))
    }

    async fn ahead(&self, job: &Job) -> Result<u64, StoreError> {
        Ok(self.inner.lock().index.ahead(job))
    }

    async fn due(&self, now: Millis, count: usize) -> Result<Vec<Job>, StoreError> {
        Ok(self.all(|index| index.due(now, count)))
    }

    async fn page(&self, filter: &Filter, count: usize) -> Result<Vec<Job>, StoreError> {
        Ok(self.all(|index| index.page(filter, count)))
    }

    async fn queued(&self, service: &str) -> Result<u64, StoreError> {
        Ok(self.inner.lock().index.queued(service))
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        Ok(self.inner.lock().index.counts())
    }

    fn write(&self) -> Result<Writer, StoreError> {
        let id = BodyId::new();
        let sink = Pieces { id, bodies: self.bodies.clone(), kept: false };
        Ok(Writer::new(id, Box::new(sink), &self.quota))
    }

    async fn read(&self, body: Body, at: u64) -> Result<Bytes, StoreError> {
        let bodies = self.bodies.lock();
        let Some(pieces) = bodies.get(&body.id) else {
            return Err(StoreError::Corrupt(format!("the body {} is gone", body.id)));
        };
        let (piece, offset) = (at / CHUNK as u64, at % CHUNK as u64);
        let piece = usize::try_from(piece).ok().and_then(|piece| pieces.get(piece));
        let rest = piece.zip(usize::try_from(offset).ok()).filter(|(piece, offset)| *offset < piece.len());
        Ok(rest.map(|(piece, offset)| piece.slice(offset..)).unwrap_or_default())
    }

    fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }
}

struct Pieces {
    id: BodyId,
    bodies: Arc<Bodies>,
    kept: bool,
}

#[async_trait]
impl Sink for Pieces {
    async fn put(&mut self, piece: Bytes) -> Result<(), StoreError> {
        self.bodies.lock().entry(self.id).or_default().push(piece);
        Ok(())
    }

    async fn close(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        if !self.kept {
            self.bodies.lock().remove(&self.id);
        }
    }
}
