//! Asynchronous jobs: a job is a request whose caller comes back later. It goes through the same queue, balancer and
//! replay as any other; what stands in place of the connection is a store.
//!
//! | module | owns |
//! | --- | --- |
//! | this one | the store, opened when it is first needed, and what runs beside it |
//! | `wish` | what a client asks for |
//! | `submit` | a request becomes a job |
//! | `feed` | jobs go into the services' queues, a bounded number at a time |
//! | `work` | one job: the request is made, the answer kept |
//! | `sweep` | what is due: expired, forgotten, taken over from a dead proxy |
//! | `watch` | waiting for a job to end |
//! | `api`, `view`, `answer` | the routes below `/_jobs` |

mod answer;
mod api;
mod feed;
mod submit;
mod sweep;
mod view;
mod watch;
mod wish;
mod work;

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use longshore_jobs::{
    Counts, FileStore, Job, JobId, Limits, MemoryStore, RedisStore, Status, Store, StoreError,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell};

pub use self::submit::Submission;
pub use self::view::JobView;
pub use self::wish::{Wish, wish};
use crate::config::{JobStore, JobsConfig};
use crate::gateway::Gateway;
use crate::problem::Problem;

/// The jobs of a cluster.
pub struct Jobs {
    config: JobsConfig,
    cluster: String,
    /// What this process calls itself in a shared store.
    owner: String,
    store: OnceCell<Arc<dyn Store>>,
    gateway: OnceLock<Weak<Gateway>>,
    feed: feed::Feed,
    /// As of the last look.
    counts: Mutex<Counts>,
}

impl Jobs {
    /// Jobs whose store is not open yet.
    pub fn new(config: JobsConfig, cluster: &str) -> Arc<Self> {
        Arc::new(Self {
            config,
            cluster: cluster.to_owned(),
            owner: JobId::new().to_string(),
            store: OnceCell::new(),
            gateway: OnceLock::new(),
            feed: feed::Feed::default(),
            counts: Mutex::default(),
        })
    }

    /// Goes on with what an earlier process has left: a store that is named, or there already, is opened now. One
    /// that another process has open is no reason not to serve.
    pub async fn start(self: &Arc<Self>, gateway: &Arc<Gateway>) -> Result<(), StoreError> {
        // It is started once.
        let _ = self.gateway.set(Arc::downgrade(gateway));
        let wanted = match &self.config.store {
            JobStore::File { folder, named } => *named || folder.exists(),
            JobStore::Memory | JobStore::Redis(_) => true,
        };
        if !wanted {
            return Ok(());
        }
        match self.store().await {
            Ok(_) => Ok(()),
            Err(StoreError::Locked(why)) => {
                tracing::warn!(why, "no jobs are taken until then");
                tokio::spawn(self.clone().open_later());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Another process has the store, perhaps the one that this one takes over from: it is opened when that lets go.
    async fn open_later(self: Arc<Self>) {
        while let Err(error) = self.store().await {
            if !matches!(error, StoreError::Locked(_)) {
                tracing::error!(%error, "no jobs are taken");
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// The store, opened if it is not yet.
    async fn store(self: &Arc<Self>) -> Result<&Arc<dyn Store>, StoreError> {
        self.store
            .get_or_try_init(|| async {
                let store = self.open().await?;
                tracing::info!(store = store.name(), "jobs are kept");
                tokio::spawn(feed::run(self.clone(), store.clone()));
                tokio::spawn(sweep::run(self.clone(), store.clone()));
                Ok(store)
            })
            .await
    }

    async fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        let limits = Limits { max_bytes: self.config.max_bytes };
        match &self.config.store {
            JobStore::Memory => Ok(Arc::new(MemoryStore::new(limits))),
            JobStore::Redis(url) => Ok(Arc::new(RedisStore::open(url, &self.cluster, limits).await?)),
            JobStore::File { folder, .. } => {
                let folder = folder.clone();
                let opened = tokio::task::spawn_blocking(move || FileStore::open(&folder, limits));
                let opened = opened.await.map_err(|error| StoreError::Unavailable(error.to_string()))?;
                Ok(Arc::new(opened?))
            }
        }
    }

    /// The store if it is open. One that is not has no jobs.
    fn opened(&self) -> Option<&Arc<dyn Store>> {
        self.store.get()
    }

    /// Whether a path is one of the jobs' own.
    pub fn serves(&self, path: &str) -> bool {
        path.strip_prefix(&self.config.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether it has a folder open, which nobody else can open meanwhile.
    pub fn has_folder(&self) -> bool {
        matches!(self.config.store, JobStore::File { .. }) && self.opened().is_some()
    }

    /// How many jobs of a service are in each state, every state named, as of a moment ago.
    pub fn gauges(&self, service: &str) -> Vec<(&'static str, u64)> {
        let counts = self.counts.lock();
        let count = |status: Status| counts.get(&(service.to_owned(), status)).copied().unwrap_or(0);
        Status::ALL.into_iter().map(|status| (status.name(), count(status))).collect()
    }

    /// Takes no more jobs into the queues; those that an instance works on are finished, the others wait for the next
    /// process. Returns when nothing is under way.
    pub async fn drain(&self) {
        self.feed.close();
        while self.feed.is_busy() {
            tokio::select! {
                () = self.feed.ended() => {}
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
    }

    fn gateway(&self) -> Option<Arc<Gateway>> {
        self.gateway.get()?.upgrade()
    }

    /// A job of the service has ended so long after it was taken.
    fn took(&self, service: &str, after: Duration) {
        let Some(gateway) = self.gateway() else { return };
        if let Some(service) = gateway.routes.load().service(service) {
            service.metrics.job_took(after);
        }
    }

    /// The path below which jobs are found.
    pub fn path(&self) -> &str {
        &self.config.path
    }

    fn location(&self, job: &Job) -> String {
        format!("{}/{}", self.config.path, job.id)
    }
}

/// What a client is told of the store's failure.
fn unavailable(error: &StoreError) -> Problem {
    match error {
        StoreError::Full(text) => Problem::Storage(text.clone()),
        StoreError::Unavailable(_) | StoreError::Locked(_) | StoreError::Corrupt(_) => {
            tracing::error!(%error, "the job store fails");
            Problem::JobsUnavailable(error.to_string())
        }
    }
}

/// Something happened that somebody may be waiting for.
type Bell = Arc<Notify>;
