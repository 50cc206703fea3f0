//! What is due: jobs expire, are forgotten, are taken over from a proxy that is dead, or their results are posted.

use std::sync::Arc;
use std::time::Duration;

use longshore_jobs::{Change, Job, Lapse, Millis, Outcome, Store, StoreError};

use super::callbacks::Turn;
use super::{Jobs, callbacks, feed};
use crate::metrics::CallbackEnd;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);

/// Jobs looked at together.
const TOGETHER: usize = 256;

/// Sweeps until the process ends.
pub(super) async fn run(jobs: Arc<Jobs>, store: Arc<dyn Store>) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let counted = tokio::select! {
            _ = look.tick() => store.counts().await.map(Some),
            () = jobs.callbacks.woken() => Ok(None),
            () = jobs.closed() => return,
        };
        match (sweep(&jobs, &store).await, counted) {
            (Ok(()), Ok(None)) => {}
            (Ok(()), Ok(Some(counts))) => {
                feed::tell_backlog(&jobs, &counts);
                *jobs.counts.lock() = counts;
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "failed to look for jobs that are due");
            }
        }
    }
}

async fn sweep(jobs: &Arc<Jobs>, store: &Arc<dyn Store>) -> Result<(), StoreError> {
    loop {
        let now = Millis::now();
        let due = store.due(now, TOGETHER).await?;
        let (mut changes, mut turns) = (Vec::new(), Vec::new());
        for (change, turn) in due.into_iter().filter_map(|job| lapsed(jobs, job, now)) {
            changes.push(change);
            turns.push(turn);
        }
        let (many, some) = (changes.len() == TOGETHER, !changes.is_empty());
        let nexts: Vec<Option<Job>> = changes.iter().map(|change| change.to.clone()).collect();
        let outcomes = store.swap(changes).await?;
        for ((outcome, next), turn) in outcomes.into_iter().zip(nexts).zip(turns) {
            if let (Outcome::Made, Some(job), Some(turn)) = (outcome, next, turn) {
                let (jobs, store) = (jobs.clone(), store.clone());
                let tasks = jobs.tasks.clone();
                tasks.spawn(async move { callbacks::attempt(&jobs, &store, job, turn).await });
            }
        }
        if some {
            jobs.feed.wake();
        }
        if !many {
            break;
        }
    }
    Ok(())
}

/// What becomes of a job that is due, and whether it is then the turn of its callback.
fn lapsed(jobs: &Jobs, job: Job, now: Millis) -> Option<(Change, Option<Turn>)> {
    match job.lapse(now) {
        Lapse::Nothing => None,
        Lapse::CallBack if jobs.feed.is_closed() => None,
        Lapse::CallBack => {
            let (next, turn) = jobs.callbacks.turn(&job, now);
            Some((Change::note(job, next), turn))
        }
        Lapse::Becomes(next) => {
            tracing::debug!(job = %job.id, from = job.status().name(), to = next.status().name(), "a job is due");
            if job.is_calling() && !next.is_calling() {
                tracing::warn!(job = %job.id, "a callback is given up: the result has expired");
                jobs.called_back(&job.service, CallbackEnd::GivenUp);
            }
            Some((Change::update(job, *next), None))
        }
        Lapse::Forget => Some((Change::forget(job), None)),
    }
}
