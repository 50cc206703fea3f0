//! Cancelling, deleting, trying again: each is one change of a job, whoever else changes it meanwhile.

use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode};
use longshore_jobs::{Change, Filter, Job, JobId, Millis, Outcome, Store};
use serde::Serialize;

use super::list::PAGE;
use super::{Answered, Asked, Asker};
use crate::gateway::body::ResponseBody;
use crate::jobs::{Jobs, answer, unavailable};
use crate::problem::Problem;

/// How often a change is tried again when somebody else was faster.
const TRIES: usize = 20;

/// What became of many jobs.
#[derive(Default, Serialize)]
struct Deleted {
    cancelled: u64,
    forgotten: u64,
}

impl Jobs {
    /// Changes a job, whoever else does meanwhile.
    async fn change(
        self: &Arc<Self>,
        id: &str,
        asker: Asker<'_>,
        change: impl Fn(&Job) -> Result<Option<Job>, Problem>,
    ) -> Result<(Arc<dyn Store>, Option<Job>), Problem> {
        for _ in 0..TRIES {
            let (store, job) = self.job(id, asker).await?;
            let next = change(&job)?;
            let swap = match next.clone() {
                Some(next) => Change::update(job, next),
                None => Change::forget(job),
            };
            let outcomes = store.swap(vec![swap]).await.map_err(|error| unavailable(&error))?;
            if outcomes.first() == Some(&Outcome::Made) {
                if next.as_ref().is_some_and(Job::is_calling) {
                    self.callbacks.wake();
                }
                return Ok((store, next));
            }
        }
        Err(Problem::Conflict(format!("job {id} changes all the time: try again")))
    }

    /// Calls off what waits or runs, forgets what has ended.
    pub(super) async fn delete(self: &Arc<Self>, id: &str, asked: &Asked<'_>) -> Answered {
        self.can_export_after(asked)?;
        let deleted = |job: &Job| Ok(job.cancelled(Millis::now()).ok());
        let (store, job) = self.change(id, asked.asker, deleted).await?;
        self.export_after(asked).await?;
        match job {
            Some(job) => self.status(&store, &job, &HeaderMap::new()).await,
            None => {
                let mut response = Response::new(ResponseBody::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                Ok(response)
            }
        }
    }

    /// Calls off what waits or runs; unlike `DELETE` it leaves alone what has ended.
    pub(super) async fn cancel(self: &Arc<Self>, id: &str, asked: &Asked<'_>) -> Answered {
        let cancelled = |job: &Job| {
            let cancelled = job.cancelled(Millis::now());
            cancelled.map(Some).map_err(|error| Problem::Conflict(error.to_string()))
        };
        match self.change(id, asked.asker, cancelled).await? {
            (store, Some(job)) => self.status(&store, &job, asked.headers).await,
            (_, None) => Err(Problem::NotFound(format!("there is no job {id}"))),
        }
    }

    /// The same for all jobs, or all of a service, that the asker may see.
    pub(super) async fn delete_all(self: &Arc<Self>, asked: &Asked<'_>) -> Answered {
        self.can_export_after(asked)?;
        let mut filter = Filter {
            owner: asked.asker.key().map(str::to_owned),
            service: asked.query.get("service").map(str::to_owned),
            ..Filter::default()
        };
        let mut deleted = Deleted::default();
        let Some(store) = self.known_store().await? else {
            return Ok(answer::json(StatusCode::OK, &deleted));
        };
        loop {
            let page = store.page(&filter, PAGE.1).await.map_err(|error| unavailable(&error))?;
            let Some(last) = page.last() else { break };
            filter.after = Some(last.id);
            self.delete_page(&store, page, asked.asker, &mut deleted).await?;
        }
        self.export_after(asked).await?;
        Ok(answer::json(StatusCode::OK, &deleted))
    }

    /// All of a page in one transaction, and those that somebody else changed meanwhile one by one.
    async fn delete_page(
        self: &Arc<Self>,
        store: &Arc<dyn Store>,
        page: Vec<Job>,
        asker: Asker<'_>,
        deleted: &mut Deleted,
    ) -> Result<(), Problem> {
        let now = Millis::now();
        let next: Vec<Option<Job>> = page.iter().map(|job| job.cancelled(now).ok()).collect();
        let ids: Vec<JobId> = page.iter().map(|job| job.id).collect();
        let changes = page.into_iter().zip(next.clone()).map(|(job, next)| match next {
            Some(next) => Change::update(job, next),
            None => Change::forget(job),
        });
        let outcomes = store.swap(changes.collect()).await.map_err(|error| unavailable(&error))?;
        let mut calls = false;
        for ((id, next), outcome) in ids.into_iter().zip(next).zip(outcomes) {
            let gone = |job: &Job| Ok(job.cancelled(Millis::now()).ok());
            let next = match outcome {
                Outcome::Made => Ok(next),
                Outcome::Stale | Outcome::Taken(_) => {
                    self.change(&id.to_string(), asker, gone).await.map(|(_, next)| next)
                }
            };
            match next {
                Ok(Some(next)) => {
                    deleted.cancelled += 1;
                    calls |= next.is_calling();
                }
                Ok(None) => deleted.forgotten += 1,
                // It has gone by itself.
                Err(Problem::NotFound(_)) => {}
                Err(problem) => return Err(problem),
            }
        }
        if calls {
            self.callbacks.wake();
        }
        Ok(())
    }

    pub(super) async fn retry(self: &Arc<Self>, id: &str, asked: &Asked<'_>) -> Answered {
        let retried = |job: &Job| {
            let waiting = job.retried(Millis::now());
            waiting.map(Some).map_err(|error| Problem::Conflict(error.to_string()))
        };
        let (store, job) = self.change(id, asked.asker, retried).await?;
        self.feed.wake();
        match job {
            Some(job) => self.ticket(&store, &job, false, asked.headers).await,
            None => Err(Problem::NotFound(format!("there is no job {id}"))),
        }
    }
}
