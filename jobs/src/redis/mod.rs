//! The store in a Redis, which several proxies may share. What has lasted there is what that Redis keeps: with
//! `appendonly yes` and `appendfsync always` every acknowledged job, with others what they promise.
//!
//! | module | owns |
//! | --- | --- |
//! | this one | reading, and bodies |
//! | `link` | the connection, and what is tried again |
//! | `keys` | every key's name, and what a change does to them |
//! | `news` | hearing of changes, on a connection of its own |

mod keys;
mod link;
mod news;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use redis::{FromRedisValue, Script, cmd};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use uuid::Uuid;

use self::keys::{Keys, pieces};
use self::link::Link;
use crate::body::{Body, BodyId, CHUNK, Quota, Sink, Writer};
use crate::id::JobId;
use crate::job::{Job, Millis, Status};
use crate::memory::NEWS;
use crate::store::{Change, Counts, Filter, Limits, News, Outcome, Store, StoreError};

/// A body that no record names goes after so many seconds.
const STAGED_SECONDS: u32 = 24 * 60 * 60;

/// Swaps one record for another; see `keys` for what it is given.
const SWAP: &str = include_str!("swap.lua");

/// Keeps jobs in a Redis.
pub struct RedisStore {
    link: Link,
    keys: Keys,
    swap: Script,
    limit: u64,
    quota: Arc<Quota>,
    news: broadcast::Sender<News>,
    listening: JoinHandle<()>,
}

impl RedisStore {
    /// Connects to `url` (`redis://[:password@]host[:port][/database]`, `unix:///path`). Clusters of different names have
    /// different jobs in one Redis.
    pub async fn open(url: &str, cluster: &str, limits: Limits) -> Result<Self, StoreError> {
        let client = link::client(url)?;
        let link = Link::open(client.clone(), url).await?;
        let keys = Keys::new(cluster);
        let news = broadcast::Sender::new(NEWS);
        let listening = tokio::spawn(news::listen(client, keys.news(), news.clone()));
        let store = Self {
            link,
            keys,
            swap: Script::new(SWAP),
            limit: limits.max_bytes,
            // What is kept is counted where it is kept.
            quota: Quota::new(limits.max_bytes, None),
            news,
            listening,
        };
        store.check_format().await?;
        Ok(store)
    }

    /// Whether `url` is one that [`open`](Self::open) understands; the error says what is wrong with it.
    pub fn understands(url: &str) -> Result<(), String> {
        link::understood(url).map(drop)
    }

    /// What an older longshore has written would be brought to the present format here.
    async fn check_format(&self) -> Result<(), StoreError> {
        let key = self.keys.format();
        let set: Option<u64> =
            self.link.ask(cmd("SET").arg(&key).arg(keys::FORMAT).arg("NX").arg("GET")).await?;
        match set {
            None | Some(keys::FORMAT) => Ok(()),
            Some(other) => Err(StoreError::Corrupt(format!(
                "{} has jobs in format {other}, and this longshore knows format {}: use the longshore that wrote them, or \
                 another `name` of the cluster",
                self.link.name(),
                keys::FORMAT
            ))),
        }
    }

    async fn swap_one(&self, change: Change) -> Result<Outcome, StoreError> {
        let Some(id) = change.id() else { return Ok(Outcome::Stale) };
        let rev = |job: Option<&Job>| job.map_or_else(String::new, |job| job.rev.to_string());
        let record = change.to.as_ref().map_or_else(String::new, record);
        let unique: Vec<String> =
            change.to.iter().flat_map(Job::unique).map(|name| self.keys.unique(&name)).collect();
        let mut invocation = self.swap.prepare_invoke();
        invocation
            .key(self.keys.job(id))
            .key(self.keys.bytes())
            .arg(rev(change.from.as_ref()))
            .arg(rev(change.to.as_ref()))
            .arg(record)
            .arg(json(&self.keys.effects(&change)))
            .arg(json(&unique))
            .arg(id.to_string())
            .arg(self.keys.news())
            .arg(change.news().map_or_else(String::new, |news| news::line(&news)))
            .arg(keys::growth(&change))
            .arg(self.limit_of(&change))
            // Another one for each call, and the same however often it is sent.
            .arg(Uuid::now_v7().simple().to_string());
        for staged in &change.staged {
            if let Some(small) = &staged.small {
                invocation.arg(self.keys.piece(staged.body.id, 0)).arg(&**small);
            }
        }
        let answer: String = self.link.invoke(&invocation).await?;
        match answer.as_str() {
            "made" => {
                change.staged.into_iter().for_each(crate::body::Staged::keep);
                Ok(Outcome::Made)
            }
            "stale" => Ok(Outcome::Stale),
            "full" => Err(StoreError::Full(format!(
                "the jobs in {} take {} bytes (jobs.max_bytes): delete some, or allow more",
                self.link.name(),
                self.limit
            ))),
            owner => owner.parse().map(Outcome::Taken).map_err(|_| self.damaged(&format!("{owner:?}"))),
        }
    }

    /// What is new must fit, and so must an answer; what is noted of a job that is there is not refused for want of room.
    fn limit_of(&self, change: &Change) -> String {
        let must_fit = change.from.is_none() || !change.staged.is_empty();
        if must_fit { self.limit.to_string() } else { String::new() }
    }

    async fn jobs(&self, ids: Vec<String>) -> Result<Vec<Job>, StoreError> {
        let ids: Vec<JobId> = ids.iter().filter_map(|id| id.parse().ok()).collect();
        let records = futures_util::future::join_all(ids.into_iter().map(|id| self.get(id))).await;
        // One that has been forgotten since is not there any more.
        records.into_iter().filter_map(Result::transpose).collect()
    }

    async fn count(&self, service: &str, status: Status) -> Result<u64, StoreError> {
        self.ids(cmd("ZCARD").arg(self.keys.list(Some(service), Some(status)))).await
    }

    async fn ids<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, StoreError> {
        self.link.ask(command).await
    }

    fn damaged(&self, what: &str) -> StoreError {
        StoreError::Corrupt(format!(
            "{} holds something that longshore did not write: {what}",
            self.link.name()
        ))
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

#[async_trait]
impl Store for RedisStore {
    fn name(&self) -> String {
        self.link.name().to_owned()
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn swap(&self, changes: Vec<Change>) -> Result<Vec<Outcome>, StoreError> {
        let swaps = changes.into_iter().map(|change| self.swap_one(change));
        futures_util::future::join_all(swaps).await.into_iter().collect()
    }

    async fn get(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let record: Option<Vec<u8>> = self.link.ask(cmd("HGET").arg(self.keys.job(id)).arg("record")).await?;
        let Some(record) = record else { return Ok(None) };
        let job = serde_json::from_slice(&record);
        job.map(Some).map_err(|error| self.damaged(&format!("the record of job {id}: {error}")))
    }

    async fn heads(&self, service: &str, count: usize) -> Result<Vec<Job>, StoreError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let ids = self.ids(cmd("ZRANGE").arg(self.keys.queue(service)).arg(0).arg(count - 1)).await?;
        self.jobs(ids).await
    }

    async fn ahead(&self, job: &Job) -> Result<u64, StoreError> {
        let rank: Option<u64> =
            self.ids(cmd("ZRANK").arg(self.keys.queue(&job.service)).arg(job.id.to_string())).await?;
        Ok(rank.unwrap_or(0))
    }

    async fn due(&self, now: Millis, count: usize) -> Result<Vec<Job>, StoreError> {
        let mut range = cmd("ZRANGEBYSCORE");
        range.arg(self.keys.due()).arg("-inf").arg(now.0).arg("LIMIT").arg(0).arg(count);
        let ids = self.ids(&range).await?;
        self.jobs(ids).await
    }

    async fn page(&self, filter: &Filter, count: usize) -> Result<Vec<Job>, StoreError> {
        let newest = filter.after.map_or_else(|| "+".to_owned(), |id| format!("({id}"));
        let mut range = cmd("ZREVRANGEBYLEX");
        range.arg(self.keys.filtered(filter)).arg(newest).arg("-").arg("LIMIT").arg(0).arg(count);
        let ids = self.ids(&range).await?;
        self.jobs(ids).await
    }

    async fn queued(&self, service: &str) -> Result<u64, StoreError> {
        self.count(service, Status::Queued).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let services: Vec<String> = self.ids(cmd("SMEMBERS").arg(self.keys.services())).await?;
        let kinds = services.iter().flat_map(|service| Status::ALL.map(|status| (service, status)));
        let counts = kinds.map(async |(service, status)| {
            Ok(((service.clone(), status), self.count(service, status).await?))
        });
        let counts: Result<Counts, StoreError> =
            futures_util::future::join_all(counts).await.into_iter().collect();
        Ok(counts?.into_iter().filter(|(_, count)| *count > 0).collect())
    }

    fn write(&self) -> Result<Writer, StoreError> {
        let id = BodyId::new();
        let sink = Pieces { id, link: self.link.clone(), keys: self.keys.clone(), put: 0, kept: false };
        Ok(Writer::new(id, Box::new(sink), &self.quota))
    }

    async fn read(&self, body: Body, at: u64) -> Result<Bytes, StoreError> {
        let (index, offset) = (at / CHUNK as u64, at % CHUNK as u64);
        if at >= body.length {
            return Ok(Bytes::new());
        }
        let mut range = cmd("GETRANGE");
        range.arg(self.keys.piece(body.id, index)).arg(offset).arg(-1);
        let piece: Vec<u8> = self.ids(&range).await?;
        Ok(piece.into())
    }

    fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }
}

struct Pieces {
    id: BodyId,
    link: Link,
    keys: Keys,
    put: u64,
    kept: bool,
}

#[async_trait]
impl Sink for Pieces {
    async fn put(&mut self, piece: Bytes) -> Result<(), StoreError> {
        let mut set = cmd("SET");
        set.arg(self.keys.piece(self.id, self.put)).arg(&*piece).arg("EX").arg(STAGED_SECONDS);
        self.put += 1;
        self.link.ask::<()>(&set).await
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
        if self.kept || self.put == 0 {
            return;
        }
        let (link, keys) = (self.link.clone(), pieces(&self.keys, self.id, self.put));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // What cannot be removed now goes by itself, after a day.
            runtime.spawn(async move { link.ask::<u64>(cmd("UNLINK").arg(keys)).await });
        }
    }
}

fn record(job: &Job) -> String {
    // A record holds nothing that JSON cannot.
    serde_json::to_string(job).unwrap_or_default()
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
