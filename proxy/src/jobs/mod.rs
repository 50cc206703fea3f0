//! Asynchronous jobs: a job is a request whose caller comes back later. It goes through the same queue, balancer and
//! replay as any other; what stands in place of the connection is a store.
//!
//! | module | owns |
//! | --- | --- |
//! | this one | the store, opened when it is first needed, and what runs beside it |
//! | `wish` | what a client asks for |
//! | `submit` | a request becomes a job |
//! | `names` | one that is sent twice is one job |
//! | `feed` | jobs go into the services' queues, a bounded number at a time |
//! | `work`, `keep` | one job: the request is made, the answer kept |
//! | `stored` | that request, with its body read from the store |
//! | `sweep` | what is due: expired, forgotten, taken over from a dead proxy |
//! | `callbacks` | results are posted to whoever wanted that |
//! | `exports` | all of them, written elsewhere |
//! | `watch` | waiting for a job to end |
//! | `api`, `view`, `answer`, `range`, `page` | the routes below `/_jobs` |

mod answer;
mod api;
mod callbacks;
mod exports;
mod feed;
mod keep;
mod names;
mod page;
mod range;
mod stored;
mod submit;
mod sweep;
mod view;
mod watch;
mod wish;
mod work;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use longshore_jobs::{
    Counts, FileStore, Job, JobId, Limits, MemoryStore, RedisStore, Status, Store, StoreError,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell, watch as watch_channel};
use tokio_util::task::TaskTracker;

pub use self::api::Asker;
pub use self::submit::Submission;
pub use self::view::JobView;
pub use self::wish::{Wish, wish};
use crate::config::{JobStore, JobsConfig};
use crate::gateway::Gateway;
use crate::metrics::{CallbackEnd, Metrics};
use crate::problem::Problem;

/// How long requests wait for a store that another process has: as long as one that ends may take, by default.
const UNLOCKED_WITHIN: Duration = Duration::from_secs(30);

/// How often such a store is tried.
const LOCKED_LOOK: Duration = Duration::from_millis(100);

/// The jobs of a cluster.
pub struct Jobs {
    config: JobsConfig,
    cluster: String,
    /// What this process calls itself in a shared store.
    owner: String,
    store: OnceCell<Arc<dyn Store>>,
    gateway: OnceLock<Weak<Gateway>>,
    feed: feed::Feed,
    callbacks: callbacks::Callbacks,
    exports: exports::Exports,
    /// Another process had the store when this one began.
    locked: AtomicBool,
    begun: AtomicBool,
    closing: watch_channel::Sender<bool>,
    /// What runs beside the store.
    tasks: TaskTracker,
    /// As of the last look.
    counts: Mutex<Counts>,
}

impl Jobs {
    /// Jobs whose store is not open yet.
    pub fn new(config: JobsConfig, cluster: &str) -> Arc<Self> {
        Arc::new(Self {
            callbacks: callbacks::Callbacks::new(config.callbacks.clone()),
            config,
            cluster: cluster.to_owned(),
            owner: JobId::new().to_string(),
            store: OnceCell::new(),
            gateway: OnceLock::new(),
            feed: feed::Feed::default(),
            exports: exports::Exports::default(),
            locked: AtomicBool::new(false),
            begun: AtomicBool::new(false),
            closing: watch_channel::Sender::new(false),
            tasks: TaskTracker::new(),
            counts: Mutex::default(),
        })
    }

    /// Opens a store that is named, or there already, so that what is wrong with it is known before anything is started.
    /// One that another process has open is no reason not to serve.
    pub async fn prepare(&self) -> Result<(), StoreError> {
        let wanted = match &self.config.store {
            JobStore::File { folder, named } => *named || folder.exists(),
            JobStore::Memory | JobStore::Redis(_) => true,
        };
        if !wanted {
            return Ok(());
        }
        match self.store.get_or_try_init(|| self.open()).await {
            Ok(_) => Ok(()),
            Err(StoreError::Locked(why)) => {
                tracing::warn!(why, "jobs wait until then");
                self.locked.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Goes on with what an earlier process has left, before anything new comes.
    pub async fn start(self: &Arc<Self>, gateway: &Arc<Gateway>, metrics: &Metrics) {
        // It is started once.
        let _ = self.gateway.set(Arc::downgrade(gateway));
        if self.config.export.is_some() {
            let _ = self.exports.metrics.set(metrics.job_exports());
        }
        if let Some(store) = self.store.get() {
            self.begin(store).await;
        } else if self.locked.load(Ordering::Relaxed) {
            tokio::spawn(self.clone().open_later());
        }
    }

    /// Another process has the store, perhaps the one that this one takes over from: it is opened when that lets go.
    async fn open_later(self: Arc<Self>) {
        while let Err(error) = self.store().await {
            if !matches!(error, StoreError::Locked(_)) {
                tracing::error!(%error, "no jobs are taken");
                return;
            }
        }
    }

    /// The store, opened if it is not yet. While another process has it, it is waited for: that may be on its way out.
    async fn store(self: &Arc<Self>) -> Result<&Arc<dyn Store>, StoreError> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let opened = tokio::time::timeout(UNLOCKED_WITHIN, self.store.get_or_try_init(|| self.unlocked()));
        let store = match opened.await {
            Ok(opened) => opened?,
            Err(_) => return Err(StoreError::Locked("another process has the job store open".to_owned())),
        };
        if self.gateway.get().is_some() {
            self.begin(store).await;
        }
        Ok(store)
    }

    /// The store, when no other process has it any more.
    async fn unlocked(&self) -> Result<Arc<dyn Store>, StoreError> {
        loop {
            match self.open().await {
                Err(StoreError::Locked(_)) => tokio::time::sleep(LOCKED_LOOK).await,
                opened => return opened,
            }
        }
    }

    /// The store if there is one: one that was never opened has no jobs, one that is locked is waited for.
    async fn known_store(self: &Arc<Self>) -> Result<Option<Arc<dyn Store>>, Problem> {
        match self.store.get() {
            Some(store) => Ok(Some(store.clone())),
            None if self.locked.load(Ordering::Relaxed) => {
                let store = self.store().await.map_err(|error| unavailable(&error))?;
                Ok(Some(store.clone()))
            }
            None => Ok(None),
        }
    }

    /// What runs beside an open store: begun once.
    async fn begin(self: &Arc<Self>, store: &Arc<dyn Store>) {
        if self.begun.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::info!(store = store.name(), "jobs are kept");
        let news = store.news();
        feed::round(self, store).await;
        self.tasks.spawn(feed::run(self.clone(), store.clone(), news));
        self.tasks.spawn(sweep::run(self.clone(), store.clone()));
        self.tasks.spawn(exports::run(self.clone(), store.clone()));
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

    /// Whether a path is one of the jobs' own.
    pub fn serves(&self, path: &str) -> bool {
        path.strip_prefix(&self.config.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether it has a folder open, which nobody else can open meanwhile.
    pub fn has_folder(&self) -> bool {
        matches!(self.config.store, JobStore::File { .. }) && self.store.get().is_some()
    }

    /// How many jobs of a service are in each state, every state named, as of a moment ago.
    pub fn gauges(&self, service: &str) -> Vec<(&'static str, u64)> {
        let counts = self.counts.lock();
        let count = |status: Status| counts.get(&(service.to_owned(), status)).copied().unwrap_or(0);
        Status::ALL.into_iter().map(|status| (status.name(), count(status))).collect()
    }

    /// Takes no more jobs into the queues; those that an instance works on are finished, the others wait for the next
    /// process, and so do those who wait for one: they are told to ask again. Returns when nothing is under way.
    pub async fn drain(&self) {
        self.closing.send_replace(true);
        self.feed.close();
        while self.feed.is_busy() {
            tokio::select! {
                () = self.feed.ended() => {}
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Hears when this process ends.
    fn closing(&self) -> watch_channel::Receiver<bool> {
        self.closing.subscribe()
    }

    /// When this process ends.
    async fn closed(&self) {
        // It has ended if nobody says so any more.
        let _ = self.closing().wait_for(|closing| *closing).await;
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

    /// A callback of the service was made.
    fn called_back(&self, service: &str, end: CallbackEnd) {
        let Some(gateway) = self.gateway() else { return };
        if let Some(service) = gateway.routes.load().service(service) {
            service.metrics.called_back(end);
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
