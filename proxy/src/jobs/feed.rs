//! Jobs go into the services' queues. Only so many of a service at once: what else waits stays in the store, so that the
//! memory of a hundred thousand jobs is that of a few.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use longshore_jobs::{Change, Counts, Job, JobId, Millis, News, Outcome, State, Status, Store};
use longshore_pool::Event;
use parking_lot::Mutex;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast};
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
    /// What each service was told last.
    backlog: Mutex<HashMap<Arc<str>, u64>>,
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
    /// Its place among the jobs of the service.
    place: (Millis, JobId),
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
        self.wake();
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

    /// Jobs of the service in its queue that come before this place.
    pub(super) fn ahead(&self, service: &str, place: (Millis, JobId)) -> u64 {
        let inner = self.inner.lock();
        let waiting = inner.running.values().filter(|under| under.service == service && !under.has_instance);
        waiting.filter(|under| under.place < place).count() as u64
    }

    /// Jobs of the service that it has been told of, whether they are in its queue or still in the store.
    pub(super) fn known(&self, service: &str) -> u64 {
        let backlog = self.backlog.lock().get(service).copied().unwrap_or(0);
        backlog + self.waiting(service)
    }

    /// Jobs of the service that are in its queue.
    fn waiting(&self, service: &str) -> u64 {
        let inner = self.inner.lock();
        inner.running.values().filter(|under| under.service == service && !under.has_instance).count() as u64
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
        let order = match &job.state {
            State::Queued { order, .. } | State::Running { order, .. } => *order,
            State::Done { .. } | State::Failed { .. } | State::Cancelled { .. } | State::Expired { .. } => {
                job.submitted_at
            }
        };
        let under = Under {
            service: job.service.clone(),
            place: (order, job.id),
            changed: changed.clone(),
            has_instance: false,
        };
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

/// Takes for each service what there is room for.
pub(super) async fn round(jobs: &Arc<Jobs>, store: &Arc<dyn Store>) {
    let Some(gateway) = jobs.gateway() else { return };
    let services: Vec<Arc<Service>> = gateway.routes.load().services().cloned().collect();
    drop(gateway);
    for service in services {
        if let Err(error) = feed(jobs, store, &service).await {
            tracing::error!(%error, service = %service.name, "failed to take jobs from the store");
        }
    }
}

/// Feeds the services for as long as the process lives.
pub(super) async fn run(jobs: Arc<Jobs>, store: Arc<dyn Store>, mut news: broadcast::Receiver<News>) {
    while !jobs.feed.is_closed() && jobs.gateway().is_some() {
        round(&jobs, &store).await;
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

/// Tells each service how many of its jobs wait in the store, so that its size is decided for those, too.
pub(super) fn tell_backlog(jobs: &Jobs, counts: &Counts) {
    let Some(gateway) = jobs.gateway() else { return };
    let mut told = jobs.feed.backlog.lock();
    for service in gateway.routes.load().services() {
        let queued = counts.get(&(service.name.to_string(), Status::Queued)).copied().unwrap_or(0);
        let requests = queued.saturating_sub(jobs.feed.waiting(&service.name));
        if told.insert(service.name.clone(), requests).unwrap_or(0) != requests {
            let requests = usize::try_from(requests).unwrap_or(usize::MAX);
            service.dispatcher.tell(Event::Backlog { requests });
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
