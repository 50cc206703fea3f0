//! The routes below `/_jobs`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::BodyExt;
use longshore_jobs::{
    Change, Filter, Import, ImportError, Job, JobId, Millis, Outcome, Status, Store, StoreError, export,
};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::wish::LONGEST_WAIT;
use super::{JobView, Jobs, answer, unavailable, watch};
use crate::gateway::body::ResponseBody;
use crate::gateway::stream::StreamError;
use crate::problem::Problem;

/// Jobs on a page, if the client does not say, and at the most.
const PAGE: (usize, usize) = (50, 1000);

/// How often a change is tried again when somebody else was faster.
const TRIES: usize = 20;

/// A comment in a stream of events that is silent otherwise.
const ALIVE: Duration = Duration::from_secs(15);

type Answered = Result<Response<ResponseBody>, Problem>;

/// A page of jobs.
#[derive(Serialize)]
struct Page {
    jobs: Vec<JobView>,
    /// What to give as `after` for the next page.
    next: Option<String>,
}

/// What became of many jobs.
#[derive(Default, Serialize)]
struct Deleted {
    cancelled: u64,
    forgotten: u64,
}

impl Jobs {
    /// Answers a request for one of the jobs' own paths, which lie below `root` where it was sent.
    pub async fn api<B>(self: &Arc<Self>, parts: Parts, body: B, root: &str) -> Response<ResponseBody>
    where
        B: http_body::Body<Data = Bytes> + Unpin + Send,
        B::Error: std::fmt::Display,
    {
        let path = parts.uri.path().strip_prefix(root).unwrap_or_default().to_owned();
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let answered = match (&parts.method, &segments[..]) {
            (&Method::POST, ["import"]) => self.import(&parts, body).await,
            (method, segments) => self.route(method, segments, &parts).await,
        };
        answered
            .unwrap_or_else(|problem| problem.response(None, None, &parts.headers).map(ResponseBody::from))
    }

    async fn route(self: &Arc<Self>, method: &Method, segments: &[&str], parts: &Parts) -> Answered {
        let query = Query::of(parts);
        let reads = [Method::GET, Method::HEAD].contains(method);
        match (method, segments) {
            (_, []) if reads => self.list(&query).await,
            (&Method::DELETE, []) => self.delete_all(&query).await,
            (_, ["export"]) if reads => self.export(None).await,
            (_, [id]) if reads => {
                let (store, job) = self.job(id).await?;
                self.status(&store, &job, &parts.headers).await
            }
            (&Method::DELETE, [id]) => self.delete(id).await,
            (_, [id, "result"]) if reads => self.result(id, &query, method, &parts.headers).await,
            (_, [id, "events"]) if reads => self.events(id).await,
            (_, [id, "export"]) if reads => {
                let (_, job) = self.job(id).await?;
                self.export(Some(job)).await
            }
            (&Method::POST, [id, "cancel"]) => self.cancel(id).await,
            (&Method::POST, [id, "retry"]) => self.retry(id).await,
            (
                _,
                [] | ["export" | "import"] | [_] | [_, "result" | "events" | "export" | "cancel" | "retry"],
            ) => Err(Problem::MethodNotAllowed(format!("{} does not know {method}", parts.uri.path()))),
            (_, _) => Err(Problem::NotFound(format!(
                "jobs have no such path; {} lists them, {0}/ID is one of them",
                self.config.path
            ))),
        }
    }

    async fn job(self: &Arc<Self>, id: &str) -> Result<(Arc<dyn Store>, Job), Problem> {
        let unknown =
            || Problem::NotFound(format!("there is no job {id}: it was never there, or is forgotten"));
        let store = self.opened().ok_or_else(unknown)?;
        let id: JobId = id.parse().map_err(|_| unknown())?;
        let job = store.get(id).await.map_err(|error| unavailable(&error))?;
        Ok((store.clone(), job.ok_or_else(unknown)?))
    }

    async fn list(self: &Arc<Self>, query: &Query) -> Answered {
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
            service: query.get("service").map(str::to_owned),
            status: status.transpose()?,
            after: after.transpose()?,
        };
        let Some(store) = self.opened() else {
            return Ok(answer::json(StatusCode::OK, &Page { jobs: Vec::new(), next: None }));
        };
        let jobs = store.page(&filter, limit + 1).await.map_err(|error| unavailable(&error))?;
        let next = jobs.get(limit).and_then(|_| jobs.get(limit - 1)).map(|job| job.id.to_string());
        let counts = store.counts().await.map_err(|error| unavailable(&error))?;
        let view = |job: &Job| {
            let load = counts.get(&(job.service.clone(), Status::Queued)).copied().unwrap_or(0);
            JobView::new(job, &self.location(job), load)
        };
        let jobs = jobs.iter().take(limit).map(view).collect();
        Ok(answer::json(StatusCode::OK, &Page { jobs, next }))
    }

    async fn result(
        self: &Arc<Self>,
        id: &str,
        query: &Query,
        method: &Method,
        asked: &HeaderMap,
    ) -> Answered {
        let (store, job) = self.job(id).await?;
        let wait = query.get("wait").map(wait).transpose()?.unwrap_or_default();
        let job = self.settled(&store, job, wait).await?;
        answer::result(self, &store, &job, method, asked).await
    }

    /// The status at once and after each change, until the job has ended.
    async fn events(self: &Arc<Self>, id: &str) -> Answered {
        let (store, job) = self.job(id).await?;
        let (out, pieces) = mpsc::channel(4);
        let jobs = self.clone();
        tokio::spawn(async move {
            // Whoever listened has gone, or the store has: the stream ends.
            let _ = jobs.tell(&store, job, &out).await;
        });
        Ok(answer::streamed("text/event-stream", ReceiverStream::new(pieces)))
    }

    async fn tell(
        &self,
        store: &Arc<dyn Store>,
        mut job: Job,
        out: &mpsc::Sender<Result<Bytes, StreamError>>,
    ) -> Option<()> {
        let mut news = store.news();
        let (mut told, mut spoken) = (None, tokio::time::Instant::now());
        loop {
            let view = self.view(store, &job).await.ok()?;
            if told.as_ref() != Some(&view) {
                let data = serde_json::to_string(&view).ok()?;
                out.send(Ok(format!("event: status\ndata: {data}\n\n").into())).await.ok()?;
                (told, spoken) = (Some(view), tokio::time::Instant::now());
            } else if spoken.elapsed() > ALIVE {
                out.send(Ok(Bytes::from_static(b": still here\n\n"))).await.ok()?;
                spoken = tokio::time::Instant::now();
            }
            if !job.status().is_pending() {
                return Some(());
            }
            tokio::select! {
                () = watch::heard(&mut news, job.id) => {}
                () = out.closed() => return None,
            }
            job = store.get(job.id).await.ok()??;
        }
    }

    /// Changes a job, whoever else does meanwhile.
    async fn change(
        self: &Arc<Self>,
        id: &str,
        change: impl Fn(&Job) -> Result<Option<Job>, Problem>,
    ) -> Result<(Arc<dyn Store>, Option<Job>), Problem> {
        for _ in 0..TRIES {
            let (store, job) = self.job(id).await?;
            let next = change(&job)?;
            let swap = match next.clone() {
                Some(next) => Change::update(job, next),
                None => Change::forget(job),
            };
            let outcomes = store.swap(vec![swap]).await.map_err(|error| unavailable(&error))?;
            if outcomes.first() == Some(&Outcome::Made) {
                return Ok((store, next));
            }
        }
        Err(Problem::Conflict(format!("job {id} changes all the time: try again")))
    }

    /// Calls off what waits or runs, forgets what has ended.
    async fn delete(self: &Arc<Self>, id: &str) -> Answered {
        let deleted = |job: &Job| Ok(job.cancelled(Millis::now()).ok());
        let (store, job) = self.change(id, deleted).await?;
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
    async fn cancel(self: &Arc<Self>, id: &str) -> Answered {
        let cancelled = |job: &Job| {
            let cancelled = job.cancelled(Millis::now());
            cancelled.map(Some).map_err(|error| Problem::Conflict(error.to_string()))
        };
        match self.change(id, cancelled).await? {
            (store, Some(job)) => self.status(&store, &job, &HeaderMap::new()).await,
            (_, None) => Err(Problem::NotFound(format!("there is no job {id}"))),
        }
    }

    async fn delete_all(self: &Arc<Self>, query: &Query) -> Answered {
        let mut filter = Filter { service: query.get("service").map(str::to_owned), ..Filter::default() };
        let mut deleted = Deleted::default();
        let Some(store) = self.opened() else { return Ok(answer::json(StatusCode::OK, &deleted)) };
        loop {
            let page = store.page(&filter, PAGE.1).await.map_err(|error| unavailable(&error))?;
            let Some(last) = page.last() else { break };
            filter.after = Some(last.id);
            for job in page {
                match self.change(&job.id.to_string(), |job| Ok(job.cancelled(Millis::now()).ok())).await {
                    Ok((_, Some(_))) => deleted.cancelled += 1,
                    Ok((_, None)) => deleted.forgotten += 1,
                    // It has gone by itself.
                    Err(Problem::NotFound(_)) => {}
                    Err(problem) => return Err(problem),
                }
            }
        }
        Ok(answer::json(StatusCode::OK, &deleted))
    }

    async fn retry(self: &Arc<Self>, id: &str) -> Answered {
        let retried = |job: &Job| {
            let waiting = job.retried(Millis::now());
            waiting.map(Some).map_err(|error| Problem::Conflict(error.to_string()))
        };
        let (store, job) = self.change(id, retried).await?;
        self.feed.wake();
        match job {
            Some(job) => self.ticket(&store, &job, false).await,
            None => Err(Problem::NotFound(format!("there is no job {id}"))),
        }
    }

    async fn export(self: &Arc<Self>, one: Option<Job>) -> Answered {
        let store = self.store().await.map_err(|error| unavailable(&error))?.clone();
        let (out, mut lines) = mpsc::channel::<Result<Bytes, StoreError>>(4);
        tokio::spawn(export(store, one, out));
        let pieces = futures_util::stream::poll_fn(move |cx| lines.poll_recv(cx));
        let pieces = futures_util::StreamExt::map(pieces, |piece| {
            piece.map_err(|error| StreamError::Own(error.to_string()))
        });
        Ok(answer::streamed("application/x-ndjson", pieces))
    }

    async fn import<B>(self: &Arc<Self>, parts: &Parts, mut body: B) -> Answered
    where
        B: http_body::Body<Data = Bytes> + Unpin + Send,
        B::Error: std::fmt::Display,
    {
        let overwrite = Query::of(parts).get("overwrite").is_some_and(|value| value != "false");
        let store = self.store().await.map_err(|error| unavailable(&error))?;
        let mut import = Import::new().map_err(not_imported)?;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Problem::BadRequest(format!("the file broke off: {error}")))?;
            if let Ok(data) = frame.into_data() {
                import.write(&data).map_err(not_imported)?;
            }
        }
        let imported = import.finish(store, overwrite).await.map_err(not_imported)?;
        self.feed.wake();
        Ok(answer::json(StatusCode::OK, &imported))
    }
}

fn not_imported(error: ImportError) -> Problem {
    match error {
        ImportError::Line { .. } => Problem::Invalid(format!("nothing was imported: {error}")),
        ImportError::Store(error) => unavailable(&error),
        ImportError::Io(_) => Problem::Storage(error.to_string()),
    }
}

/// `30s`, or a number of seconds.
fn wait(text: &str) -> Result<Duration, Problem> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let wait = seconds.or_else(|| humantime::parse_duration(text).ok());
    let wait = wait.ok_or_else(|| Problem::Invalid("wait is a duration such as 30s".to_owned()))?;
    Ok(wait.min(LONGEST_WAIT))
}

/// What stands behind the `?`.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(parts: &Parts) -> Self {
        let pairs = parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), value.to_owned())
        });
        Self(decoded.collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}
