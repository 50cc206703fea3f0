//! Pages of jobs. The next page begins behind a job's id, and ids sort by age: jobs that come and go meanwhile move nothing.

use std::sync::Arc;

use http::StatusCode;
use longshore_jobs::{Filter, Job, JobId, Status, Store};
use serde::Serialize;

use super::{Answered, Asked};
use crate::jobs::{JobView, Jobs, answer, unavailable};
use crate::problem::Problem;

/// Jobs on a page, if the client does not say, and at the most.
pub(super) const PAGE: (usize, usize) = (50, 1000);

/// A page of jobs.
#[derive(Serialize)]
struct Page {
    jobs: Vec<JobView>,
    /// What to give as `after` for the next page.
    next: Option<String>,
}

impl Jobs {
    pub(super) async fn list(self: &Arc<Self>, asked: &Asked<'_>) -> Answered {
        let query = &asked.query;
        let status = query.get("status").map(|text| {
            let names = Status::ALL.map(Status::name).join(", ");
            text.parse::<Status>().map_err(|()| Problem::Invalid(format!("status is one of {names}")))
        });
        let after = query
            .get("after")
            .map(|text| text.parse::<JobId>().map_err(|error| Problem::Invalid(format!("after: {error}"))));
        let limit = query.get("limit").map(|text| {
            let limit = text.parse().ok().filter(|limit| (1..=PAGE.1).contains(limit));
            limit.ok_or_else(|| Problem::Invalid(format!("limit is from 1 to {}", PAGE.1)))
        });
        let limit = limit.transpose()?.unwrap_or(PAGE.0);
        let filter = Filter {
            owner: asked.asker.key().map(str::to_owned),
            service: query.get("service").map(str::to_owned),
            status: status.transpose()?,
            after: after.transpose()?,
        };
        let Some(store) = self.known_store().await? else {
            return Ok(answer::json(StatusCode::OK, &Page { jobs: Vec::new(), next: None }));
        };
        let (jobs, next) = page(&store, &filter, limit).await?;
        let counts = store.counts().await.map_err(|error| unavailable(&error))?;
        let view = |job: &Job| {
            let load = counts.get(&(job.service.clone(), Status::Queued)).copied().unwrap_or(0);
            JobView::new(job, &self.location(job), load)
        };
        let jobs = jobs.iter().map(view).collect();
        Ok(answer::json(StatusCode::OK, &Page { jobs, next: next.map(|id| id.to_string()) }))
    }
}

/// So many jobs, and behind which one to go on if there are more.
async fn page(
    store: &Arc<dyn Store>,
    filter: &Filter,
    limit: usize,
) -> Result<(Vec<Job>, Option<JobId>), Problem> {
    let mut jobs = store.page(filter, limit + 1).await.map_err(|error| unavailable(&error))?;
    let more = jobs.len() > limit;
    jobs.truncate(limit);
    let next = jobs.last().map(|job| job.id).filter(|_| more);
    Ok((jobs, next))
}
