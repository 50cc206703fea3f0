//! Waiting for a job to end.

use std::sync::Arc;
use std::time::Duration;

use longshore_jobs::{Job, JobId, News, Store};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::{Jobs, unavailable};
use crate::problem::Problem;

/// How often a job is looked at when nothing is heard of it: news of a shared store may be missed.
const LOOK: Duration = Duration::from_secs(2);

impl Jobs {
    /// The job as it is when it has ended, or after `wait`, or when this process ends.
    pub(super) async fn settled(
        &self,
        store: &Arc<dyn Store>,
        job: Job,
        wait: Duration,
    ) -> Result<Job, Problem> {
        if wait.is_zero() || !job.status().is_pending() {
            return Ok(job);
        }
        let (id, until) = (job.id, Instant::now() + wait);
        let (mut news, mut closing) = (store.news(), self.closing());
        let mut last = job;
        loop {
            // Looked at after the news are listened to: nothing falls between.
            match store.get(id).await.map_err(|error| unavailable(&error))? {
                Some(job) if job.status().is_pending() && Instant::now() < until => last = job,
                Some(job) => return Ok(job),
                None => return Ok(last),
            }
            // Whether it was heard of or the time is over, it is looked at.
            let looked = tokio::time::timeout_at(until, heard(&mut news, id));
            tokio::select! {
                _ = looked => {}
                // The next process knows more.
                _ = closing.wait_for(|closing| *closing) => return Ok(last),
            }
        }
    }
}

/// Until there is news of the job, or it is time to look.
pub(super) async fn heard(news: &mut broadcast::Receiver<News>, id: JobId) {
    let told = async {
        loop {
            match news.recv().await {
                Ok(told) if told.id == id => return,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => std::future::pending().await,
            }
        }
    };
    // Either way it is looked at.
    let _ = tokio::time::timeout(LOOK, told).await;
}
