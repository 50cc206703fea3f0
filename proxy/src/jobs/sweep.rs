//! What is due: jobs expire, are forgotten, or are taken over from a proxy that is dead.

use std::sync::Arc;
use std::time::Duration;

use longshore_jobs::{Change, Job, Lapse, Millis, Store, StoreError};

use super::Jobs;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);

/// Jobs looked at together.
const TOGETHER: usize = 256;

/// Sweeps for as long as the process lives.
pub(super) async fn run(jobs: Arc<Jobs>, store: Arc<dyn Store>) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if let Err(error) = sweep(&jobs, &store).await {
            tracing::error!(%error, "failed to look for jobs that are due");
        }
    }
}

async fn sweep(jobs: &Arc<Jobs>, store: &Arc<dyn Store>) -> Result<(), StoreError> {
    loop {
        let now = Millis::now();
        let due = store.due(now, TOGETHER).await?;
        let changes: Vec<Change> = due.into_iter().filter_map(|job| lapsed(job, now)).collect();
        let (many, some) = (changes.len() == TOGETHER, !changes.is_empty());
        store.swap(changes).await?;
        if some {
            jobs.feed.wake();
        }
        if !many {
            break;
        }
    }
    *jobs.counts.lock() = store.counts().await?;
    Ok(())
}

fn lapsed(job: Job, now: Millis) -> Option<Change> {
    match job.lapse(now) {
        Lapse::Nothing | Lapse::CallBack => None,
        Lapse::Becomes(next) => {
            tracing::debug!(job = %job.id, from = job.status().name(), to = next.status().name(), "a job is due");
            Some(Change::update(job, *next))
        }
        Lapse::Forget => Some(Change::forget(job)),
    }
}
