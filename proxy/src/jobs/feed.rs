//! Jobs go into the services' queues. Only so many of a service at once: what else waits stays in the store, so that the
//! memory of a hundred thousand jobs is that of a few.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use longshore_jobs::{Change, Job, JobId, Millis, Outcome, Status, Store};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::{Bell, Jobs, work};
use crate::gateway::service::Service;

/// Jobs of a service in its queue beyond those that its instances can work on at once: enough to keep them busy, and for
/// sizing policies to see that more is waiting.
const AHEAD: usize = 16;

/// Jobs of a service in its queue at the most.
const MOST: usize = 512;

/// How often the store is looked at when nothing is heard: others may share it.
const LOOK: Duration = Duration::from_secs(1);

/// What is under way.
#[derive(Default)]
pub(super) struct Feed {
    bell: Bell,
    over: Notify,
    closed: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    running: HashMap<JobId, Under>,
    /// Services that cannot take anything now.
    pauses: HashMap<String, Instant>,
}

/// A job under way.
struct Under {
    service: String,
    /// Rung when somebody else has changed the job.
    changed: Arc<Notify>,
    has_instance: bool,
}

impl Feed {
    /// Something may be there to be taken.
    pub(super) fn wake(&self) {
        self.bell.notify_one();
    }

    /// Takes nothing more; what has no instance yet is given back.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let inner = self.inner.lock();
        inner.running.values().for_each(|under| under.changed.notify_one());
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether anything is under way.
    pub(super) fn is_busy(&self) -> bool {
        !self.inner.lock().running.is_empty()
    }

    /// When something under way has ended.
    pub(super) async fn ended(&self) {
        self.over.notified().await;
    }

    /// The service takes nothing for so long.
    pub(super) fn pause(&self, service: &str, duration: Duration) {
        self.inner.lock().pauses.insert(service.to_owned(), Instant::now() + duration);
    }

    /// The job has an instance.
    pub(super) fn has_instance(&self, id: JobId) {
        if let Some(under) = self.inner.lock().running.get_mut(&id) {
            under.has_instance = true;
        }
    }

    fn room(&self, service: &Service) -> usize {
        let mut inner = self.inner.lock();
        let now = Instant::now();
        inner.pauses.retain(|_, until| *until > now);
        if inner.pauses.contains_key(&*service.name) {
            return 0;
        }
        let under = inner.running.values().filter(|under| *under.service == *service.name).count();
        window(service).saturating_sub(under)
    }

    fn begin(&self, job: &Job) -> Arc<Notify> {
        let changed = Arc::new(Notify::new());
        let under = Under { service: job.service.clone(), changed: changed.clone(), has_instance: false };
        self.inner.lock().running.insert(job.id, under);
        changed
    }

    fn end(&self, id: JobId) {
        self.inner.lock().running.remove(&id);
        self.over.notify_one();
        self.wake();
    }

    fn heard(&self, id: JobId, status: Option<Status>) {
        if status.is_none_or(|status| !status.is_pending())
            && let Some(under) = self.inner.lock().running.get(&id)
        {
            under.changed.notify_one();
        }
    }
}

/// How many jobs of a service may be in its queue.
fn window(service: &Service) -> usize {
    let load = service.dispatcher.load();
    let instances = (load.ready + load.starting).max(1) as usize;
    let slots = match service.config.concurrency {
        0 => MOST,
        concurrency => instances.saturating_mul(concurrency as usize),
    };
    (slots.saturating_mul(2)).saturating_add(AHEAD).min(MOST).min(service.config.queue.limit.max(1))
}

/// Feeds the services for as long as the process lives.
pub(super) async fn run(jobs: Arc<Jobs>, store: Arc<dyn Store>) {
    let mut news = store.news();
    loop {
        if jobs.feed.is_closed() {
            return;
        }
        let Some(gateway) = jobs.gateway() else { return };
        let services: Vec<Arc<Service>> = gateway.routes.load().services().cloned().collect();
        drop(gateway);
        for service in services {
            if let Err(error) = feed(&jobs, &store, &service).await {
                tracing::error!(%error, service = %service.name, "failed to take jobs from the store");
            }
        }
        let look = tokio::time::sleep(LOOK);
        tokio::pin!(look);
        loop {
            tokio::select! {
                () = &mut look => break,
                () = jobs.feed.bell.notified() => break,
                told = news.recv() => match told {
                    Ok(told) => {
                        jobs.feed.heard(told.id, told.status);
                        if store.is_shared() && told.status == Some(Status::Queued) {
                            break;
                        }
                    }
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }
}

/// Takes as many jobs of a service as there is room for.
async fn feed(
    jobs: &Arc<Jobs>,
    store: &Arc<dyn Store>,
    service: &Service,
) -> Result<(), longshore_jobs::StoreError> {
    let room = jobs.feed.room(service);
    if room == 0 {
        return Ok(());
    }
    let now = Millis::now();
    let until = now.after(jobs.config.lease);
    let waiting = store.heads(&service.name, room).await?;
    // What is overdue is left to the sweeper.
    let waiting = waiting.into_iter().filter(|job| !job.is_overdue(now));
    let (held, changes): (Vec<Job>, Vec<Change>) = waiting
        .filter_map(|job| {
            let held = job.held(&jobs.owner, until).ok()?;
            Some((held.clone(), Change::note(job, held)))
        })
        .unzip();
    let outcomes = store.swap(changes).await?;
    for (job, outcome) in held.into_iter().zip(outcomes) {
        // Another proxy may have been faster, or somebody has cancelled it.
        if outcome == Outcome::Made {
            let changed = jobs.feed.begin(&job);
            let (jobs, store) = (jobs.clone(), store.clone());
            tokio::spawn(async move {
                let id = job.id;
                work::work(&jobs, &store, job, &changed).await;
                jobs.feed.end(id);
            });
        }
    }
    Ok(())
}
