//! A request becomes a job: its body goes to the store as it comes, and once the job is durable its client is told.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::Body as _;
use longshore_jobs::{
    CREDENTIALS, Change, Fields, Head, IdempotencyKey, Job, JobId, Millis, NewJob, Outcome, Staged, Store,
    StoreError, Ttl,
};
use sha2::{Digest, Sha256};

use super::callbacks::LONGSHORE_CALLBACK;
use super::wish::PREFER;
use super::{Jobs, Wish, answer, unavailable};
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

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// What a client is told that wants a callback of what is no job.
const NO_JOB: &str = "Longshore-Callback: only the result of a job is posted, and this request becomes none: send \
                      `Prefer: respond-async` with it, and no Upgrade";

/// A longer key is refused: it is kept with every job.
const LONGEST_KEY: usize = 255;

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
        let key = key(&parts.headers)?;
        let callback = self.callbacks.wanted(&parts.headers)?;
        let timeout = service.config.timeout;
        let taken = tokio::time::timeout(timeout, take(store, &parts, Source::new(body, pace), &service));
        let taken = taken.await.map_err(|_| {
            Problem::RequestTimeout("the body did not arrive within the timeout".to_owned())
        })??;
        let key = key.map(|key| IdempotencyKey {
            key,
            scope: scope(holder, &parts.headers),
            fingerprint: taken.digest.clone(),
        });
        // Whoever has credentials of their own may be answered otherwise.
        let identity =
            (wish == Wish::Poll).then(|| format!("{}{}", taken.digest, scope(holder, &parts.headers)));
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
            Some(Outcome::Taken(owner)) => self.found(store, *owner, &job).await,
            Some(Outcome::Stale) | None => {
                Err(unavailable(&StoreError::Unavailable("it has another job of this name".to_owned())))
            }
        }
    }

    /// The job that has the name already: the same one, if it is the same request.
    async fn found(&self, store: &Arc<dyn Store>, owner: JobId, new: &Job) -> Result<Job, Problem> {
        let owner = store.get(owner).await.map_err(|error| unavailable(&error))?;
        let gone =
            || Problem::Conflict("the job of this key has just gone: send the request again".to_owned());
        let owner = owner.ok_or_else(gone)?;
        match (&owner.key, &new.key) {
            (Some(theirs), Some(ours))
                if theirs.key == ours.key && theirs.fingerprint != ours.fingerprint =>
            {
                Err(Problem::KeyReused(format!(
                    "the Idempotency-Key {:?} stands for another request, which is job {}: use a new key",
                    ours.key, owner.id
                )))
            }
            _ => calls_back_as_wanted(&owner, new).map(|()| owner),
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

/// Whether a job that is there already does for a request what it asks for: its result is posted to one place, so whoever
/// wants it elsewhere is refused, and whoever wants no callback is not bothered by another's.
fn calls_back_as_wanted(there: &Job, new: &Job) -> Result<(), Problem> {
    let url = |job: &Job| job.callback.as_ref().map(|callback| callback.url.clone());
    let Some(wanted) = url(new).filter(|wanted| url(there).as_ref() != Some(wanted)) else { return Ok(()) };
    let place = url(there).map_or_else(|| "nowhere".to_owned(), |url| format!("to {url}"));
    let what = format!("job {}, whose result is posted {place} and not to {wanted}", there.id);
    Err(match &new.key {
        Some(key) => Problem::KeyReused(format!(
            "the Idempotency-Key {:?} stands for {what}: use a new key, or leave Longshore-Callback as it was",
            key.key
        )),
        None => Problem::Conflict(format!(
            "identical input is one job, and is already {what}: ask for it, without Longshore-Callback"
        )),
    })
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
    Ok(Taken { staged, digest: hex(&digest.finalize()) })
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

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(&IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.to_str().map(|text| text.trim().trim_matches('"')).unwrap_or_default();
    if key.is_empty() || key.len() > LONGEST_KEY {
        return Err(Problem::Invalid(format!(
            "Idempotency-Key must be from 1 to {LONGEST_KEY} visible characters"
        )));
    }
    Ok(Some(key.to_owned()))
}

/// Whose key it is: two clients with credentials of their own do not share keys.
fn scope(key: Option<&str>, headers: &HeaderMap) -> String {
    if let Some(key) = key {
        return key.to_owned();
    }
    let credentials = [header::AUTHORIZATION, X_API_KEY].into_iter().find_map(|name| headers.get(name));
    credentials.map(|value| hex(&Sha256::digest(value.as_bytes())[..8])).unwrap_or_default()
}

fn ttl(jobs: &ServiceJobs) -> Ttl {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Ttl { input: millis(jobs.input_ttl), result: millis(jobs.result_ttl) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
