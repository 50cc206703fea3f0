//! A request becomes a job: its body goes to the store as it comes, and once the job is durable its client is told.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::Body as _;
use longshore_jobs::{
    CREDENTIALS, Change, Fields, Head, IdempotencyKey, Job, Millis, NewJob, Outcome, Staged, Store,
    StoreError, Ttl,
};
use sha2::{Digest, Sha256};

use super::callbacks::LONGSHORE_CALLBACK;
use super::wish::PREFER;
use super::{Jobs, Wish, answer, names, unavailable};
use crate::config::Scheme;
use crate::config::{Credentials, ServiceJobs};
use crate::gateway::arrival::{Begun, Upload, body_problem};
use crate::gateway::body::{AttemptBody, ResponseBody};
use crate::gateway::keys::Key;
use crate::gateway::pace::Pace;
use crate::gateway::paced::Paced;
use crate::gateway::route::LONGSHORE_SERVICE;
use crate::gateway::serve::Client;
use crate::gateway::service::Service;
use crate::gateway::spool::SpoolError;
use crate::problem::Problem;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a client is told that wants a callback of what is no job.
const NO_JOB: &str = "Longshore-Callback: only the result of a job is posted, and this request becomes none: send \
                      `Prefer: respond-async` with it, and no Upgrade";

/// The fields that end here: they made the request a job, or belong to the connection that it came on.
const DROPPED: [HeaderName; 8] = [
    PREFER,
    LONGSHORE_CALLBACK,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::EXPECT,
    header::TE,
    header::UPGRADE,
];

/// A request that is to become a job.
pub struct Submission<'a> {
    /// Whose it is, and its body.
    pub begun: Begun,
    /// Who sends it.
    pub client: &'a Client,
    /// Its head.
    pub parts: Parts,
    /// Its id.
    pub id: HeaderValue,
}

/// What was taken in of a request.
struct Taken {
    staged: Option<Staged>,
    /// A digest of method, target, type and body.
    digest: String,
}

impl Jobs {
    /// Makes a job of a request, and answers it as its client wishes.
    pub async fn submit(
        self: &Arc<Self>,
        submission: Submission<'_>,
        wish: Wish,
    ) -> Result<Response<ResponseBody>, Problem> {
        if wish == Wish::Unfit {
            return Err(Problem::Invalid(NO_JOB.to_owned()));
        }
        let store = self.store().await.map_err(|error| unavailable(&error))?;
        let Submission { begun, client, parts, id } = submission;
        let Begun { service, body, pace, key: holder, .. } = begun;
        let holder = holder.as_deref().map(Key::name);
        let key = names::key(&parts.headers)?;
        let callback = self.callbacks.wanted(&parts.headers)?;
        let timeout = service.config.timeout;
        let taken = tokio::time::timeout(timeout, take(store, &parts, Source::new(body, pace), &service));
        let taken = taken.await.map_err(|_| {
            Problem::RequestTimeout("the body did not arrive within the timeout".to_owned())
        })??;
        let key = key.map(|key| IdempotencyKey {
            key,
            scope: names::scope(holder, &parts.headers),
            fingerprint: taken.digest.clone(),
        });
        let identity = (wish == Wish::Poll).then(|| names::identity(&taken.digest, holder, &parts.headers));
        let asked = parts.headers.clone();
        let new = NewJob {
            service: service.name.to_string(),
            request: head(parts, client, holder, &id, service.config.jobs.credentials),
            input: taken.staged.as_ref().map(|staged| staged.body),
            ttl: ttl(&service.config.jobs),
            key,
            identity,
            callback,
        };
        let job = self.create(store, Job::new(new, Millis::now()), taken.staged).await?;
        match wish {
            Wish::Ticket { wait } => {
                let job = self.settled(store, job, wait).await?;
                match job {
                    job if job.status().is_pending() => self.ticket(store, &job, true, &asked).await,
                    job => answer::result(self, store, &job, &http::Method::GET, &HeaderMap::new()).await,
                }
            }
            // What is unfit was refused above.
            Wish::Poll | Wish::Unfit => self.polled(store, job, &asked).await,
        }
    }

    /// Puts the job there, or finds the one that is there under its name.
    async fn create(
        self: &Arc<Self>,
        store: &Arc<dyn Store>,
        job: Job,
        staged: Option<Staged>,
    ) -> Result<Job, Problem> {
        let change = Change::create(job.clone(), staged);
        let outcomes = store.swap(vec![change]).await.map_err(|error| unavailable(&error))?;
        match outcomes.first() {
            Some(Outcome::Made) => {
                self.feed.wake();
                Ok(job)
            }
            Some(Outcome::Taken(owner)) => {
                let there = store.get(*owner).await.map_err(|error| unavailable(&error))?;
                names::same(there, &job)
            }
            Some(Outcome::Stale) | None => {
                Err(unavailable(&StoreError::Unavailable("it has another job of this name".to_owned())))
            }
        }
    }

    /// The answer to a request that is repeated until it is answered.
    async fn polled(
        self: &Arc<Self>,
        store: &Arc<dyn Store>,
        job: Job,
        asked: &HeaderMap,
    ) -> Result<Response<ResponseBody>, Problem> {
        if job.status().is_pending() {
            return self.ticket(store, &job, false, asked).await;
        }
        let answered = answer::polled(self, store, &job).await?;
        if job.status() == longshore_jobs::Status::Failed {
            // It is told once: the next request like it tries again. Whoever was faster has done the same.
            let change = Change::update(job.clone(), job.disowned());
            store.swap(vec![change]).await.map_err(|error| unavailable(&error))?;
        }
        Ok(answered)
    }
}

/// Takes the body in.
async fn take(
    store: &Arc<dyn Store>,
    parts: &Parts,
    mut body: Source,
    service: &Service,
) -> Result<Taken, Problem> {
    let mut digest = Sha256::new();
    let kind = parts.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    for part in [parts.method.as_str().as_bytes(), target.as_bytes(), kind] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let max_body = service.space.max_body;
    let too_large = || {
        Problem::BodyTooLarge(format!(
            "the body is larger than the {max_body} bytes that are taken (max_body)"
        ))
    };
    let mut writer = store.write().map_err(|error| unavailable(&error))?;
    while let Some(data) = body.next(&service.name).await? {
        if writer.length() + data.len() as u64 > max_body {
            return Err(too_large());
        }
        digest.update(&data);
        writer.write(&data).await.map_err(|error| unavailable(&error))?;
    }
    let staged = writer.finish().await.map_err(|error| unavailable(&error))?;
    Ok(Taken { staged, digest: names::hex(&digest.finalize()) })
}

/// A body, from where it is by now.
enum Source {
    Client(Paced),
    Taken(AttemptBody),
}

impl Source {
    fn new(body: Upload, pace: Option<Pace>) -> Self {
        match body {
            Upload::Unread(body) => Self::Client(Paced::new(body, pace)),
            Upload::Begun(body) => Self::Taken(body.attempt()),
        }
    }

    /// The next piece of it.
    async fn next(&mut self, service: &str) -> Result<Option<Bytes>, Problem> {
        loop {
            let frame = std::future::poll_fn(|cx| match self {
                Self::Client(body) => {
                    body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(SpoolError::from)))
                }
                Self::Taken(body) => Pin::new(body).poll_frame(cx),
            });
            match frame.await.transpose().map_err(|error| body_problem(&error, service))? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// The request as it is made when its turn has come.
fn head(
    parts: Parts,
    client: &Client,
    key: Option<&str>,
    id: &HeaderValue,
    credentials: Credentials,
) -> Head {
    let mut headers = Fields::default();
    for (name, value) in &parts.headers {
        let kept = match credentials {
            Credentials::Keep => true,
            Credentials::Drop => !CREDENTIALS.contains(&name.as_str()),
        };
        if kept && !DROPPED.contains(name) && *name != X_REQUEST_ID && *name != LONGSHORE_SERVICE {
            headers.push(name.as_str(), value.as_bytes());
        }
    }
    headers.push(X_REQUEST_ID.as_str(), id.as_bytes());
    let peer = client.sender().map(|sender| sender.peer().to_string());
    Head {
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        headers,
        peer,
        tls: client.scheme() == Scheme::Https,
        key: key.map(str::to_owned),
    }
}

fn ttl(jobs: &ServiceJobs) -> Ttl {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Ttl { input: millis(jobs.input_ttl), result: millis(jobs.result_ttl) }
}
