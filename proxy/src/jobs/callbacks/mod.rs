//! Callbacks: the result of a job is posted to whoever wanted that, until it is taken. What is still to be done stands in
//! the job's record, so that the next process goes on with it, and any proxy of a shared store can do it.
//!
//! | module | owns |
//! | --- | --- |
//! | this one | whose turn it is, and what comes of an attempt |
//! | `target` | where a callback may go |
//! | `sign` | its signature |
//! | `post` | one attempt |

mod post;
mod sign;
mod target;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use longshore_jobs::{Answer, Change, Job, Millis, Outcome, Reader, Store, StoreError};
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::post::Failure;
use self::sign::Signature;
use self::target::Target;
use super::Jobs;
use super::stored::Sized;
use crate::config;
use crate::metrics::CallbackEnd;
use crate::problem::Problem;

pub(super) const LONGSHORE_CALLBACK: HeaderName = HeaderName::from_static("longshore-callback");

/// Attempts under way at once: of all hosts, and of one, so that one that hangs does not keep the others from theirs.
const AT_ONCE: (usize, usize) = (64, 8);

/// A callback that has to wait for others looks again after about so long.
const TURN: Duration = Duration::from_secs(2);

/// How much longer than an attempt may take its job is left alone by whoever else looks.
const MARGIN: Duration = Duration::from_secs(10);

/// How long an attempt may go on when the process ends.
const LAST: Duration = Duration::from_secs(5);

/// Fields of an answer without which its body cannot be understood.
const OF_BODY: [HeaderName; 3] = [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE];

type Sent = Pin<Box<dyn http_body::Body<Data = Bytes, Error = StoreError> + Send>>;

/// What is under way.
pub(super) struct Callbacks {
    config: config::Callbacks,
    /// Attempts, by host and port.
    under: Arc<Mutex<HashMap<String, usize>>>,
    /// Rung when a job has ended whose result somebody waits for.
    bell: Notify,
}

/// The right to one attempt.
pub(super) struct Turn {
    host: String,
    under: Arc<Mutex<HashMap<String, usize>>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut under = self.under.lock();
        if let Some(count) = under.get_mut(&self.host) {
            *count -= 1;
            if *count == 0 {
                under.remove(&self.host);
            }
        }
    }
}

impl Callbacks {
    pub(super) fn new(config: config::Callbacks) -> Self {
        Self { config, under: Arc::default(), bell: Notify::new() }
    }

    /// Where the result of a new job is to be posted, if anywhere.
    pub(super) fn wanted(&self, headers: &HeaderMap) -> Result<Option<String>, Problem> {
        let mut values = headers.get_all(&LONGSHORE_CALLBACK).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let refused = |why: String| Problem::Invalid(format!("Longshore-Callback: {why}"));
        if values.next().is_some() {
            return Err(refused("a result is posted to one place, and there are several".to_owned()));
        }
        let url = value.to_str().map_err(|_| refused("it is no URL".to_owned()))?.trim();
        Target::new(url, &self.config.hosts).map_err(refused)?;
        Ok(Some(url.to_owned()))
    }

    /// Some may be due.
    pub(super) fn wake(&self) {
        self.bell.notify_one();
    }

    /// Until some may be due.
    pub(super) async fn woken(&self) {
        self.bell.notified().await;
    }

    /// What becomes of a job whose callback is due: it is tried now, or looked at again later.
    pub(super) fn turn(&self, job: &Job, now: Millis) -> (Job, Option<Turn>) {
        let url = job.callback.as_ref().map(|callback| callback.url.parse::<http::Uri>());
        let host = match &url {
            Some(Ok(url)) => url.authority().map_or("", |authority| authority.as_str()),
            Some(Err(_)) | None => "",
        };
        let mut under = self.under.lock();
        let of_host = under.get(host).copied().unwrap_or(0);
        if under.values().sum::<usize>() >= AT_ONCE.0 || of_host >= AT_ONCE.1 {
            return (job.calling_later(now.after(TURN.mul_f64(0.5 + fastrand::f64()))), None);
        }
        under.insert(host.to_owned(), of_host + 1);
        let turn = Turn { host: host.to_owned(), under: self.under.clone() };
        (job.calling_back(now.after(self.config.timeout + MARGIN)), Some(turn))
    }

    /// The delay after so many attempts have failed: twice the last one, less up to a quarter by chance.
    fn delay(&self, attempts: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1).min(30));
        let delay = self.config.backoff_initial.saturating_mul(doubled).min(self.config.backoff_max);
        delay.mul_f64(1.0 - fastrand::f64() / 4.0)
    }
}

/// Makes one attempt for a job that has its turn, and keeps what came of it.
pub(super) async fn attempt(jobs: &Arc<Jobs>, store: &Arc<dyn Store>, job: Job, turn: Turn) {
    let limit = jobs.callbacks.config.timeout;
    let cut = async {
        jobs.closed().await;
        tokio::time::sleep(LAST).await;
    };
    let tried = tokio::select! {
        tried = tokio::time::timeout(limit, deliver(jobs, store, &job)) => tried,
        // The next process makes another one.
        () = cut => return,
    };
    let late = || Err(Failure::from(format!("no answer within {}", humantime::format_duration(limit))));
    let outcome = match tried.unwrap_or_else(|_| late()) {
        Ok(()) => Ok(Millis::now()),
        Err(failure) => {
            let next = jobs.callbacks.next(&job, &failure);
            Err((failure.why, next))
        }
    };
    drop(turn);
    tell(jobs, &job, &outcome);
    let kept = store.swap(vec![Change::update(job.clone(), job.called_back(outcome))]).await;
    match kept.map(|outcomes| outcomes.first().copied()) {
        Ok(Some(Outcome::Made)) => {}
        // It was deleted, run again, or has expired meanwhile.
        Ok(Some(Outcome::Stale | Outcome::Taken(_)) | None) => {}
        Err(error) => {
            tracing::error!(job = %job.id, %error, "failed to keep what came of a callback: it is made again")
        }
    }
    jobs.callbacks.wake();
}

impl Callbacks {
    /// When a callback that has failed is tried again, if it is.
    fn next(&self, job: &Job, failure: &Failure) -> Option<Millis> {
        let attempts = job.callback.as_ref().map_or(0, |callback| callback.attempts);
        if failure.is_final || attempts >= self.config.attempts {
            return None;
        }
        let delay = self.delay(attempts).max(failure.after.unwrap_or_default());
        Some(Millis::now().after(delay))
    }
}

fn tell(jobs: &Arc<Jobs>, job: &Job, outcome: &Result<Millis, (String, Option<Millis>)>) {
    let (url, attempt) = job.callback.as_ref().map_or(("", 0), |callback| (&callback.url, callback.attempts));
    let end = match outcome {
        Ok(_) => {
            tracing::debug!(job = %job.id, url, attempt, "a callback was taken");
            CallbackEnd::Delivered
        }
        Err((why, Some(next))) => {
            let again_seconds = next.since(Millis::now()).as_secs();
            tracing::info!(job = %job.id, url, attempt, why, again_seconds, "a callback has failed and is tried again");
            CallbackEnd::Failed
        }
        Err((why, None)) => {
            tracing::warn!(job = %job.id, url, attempt, why, "a callback is given up: the result was not delivered");
            CallbackEnd::GivenUp
        }
    };
    jobs.called_back(&job.service, end);
}

async fn deliver(jobs: &Arc<Jobs>, store: &Arc<dyn Store>, job: &Job) -> Result<(), Failure> {
    let config = &jobs.callbacks.config;
    let Some(callback) = &job.callback else { return Ok(()) };
    // The list may have got shorter since the job was taken.
    let target = Target::new(&callback.url, &config.hosts).map_err(|why| Failure {
        why,
        is_final: true,
        after: None,
    })?;
    let unread = |error: StoreError| Failure::from(format!("the result cannot be read: {error}"));
    let message = message(jobs, store, job).await?;
    let mut headers = about(job);
    let timestamp = Millis::now().0 / 1000;
    headers.insert("webhook-timestamp", timestamp.into());
    if let Some(secrets) = &config.secrets {
        let mut signature = Signature::new(&secrets.list, &name(job), timestamp);
        // Read twice, since the signature comes first: it may be larger than what fits into memory.
        let mut body = message.open(store);
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(unread)?.into_data() {
                signature.update(&data);
            }
        }
        put(&mut headers, "webhook-signature", &signature.finish());
    }
    message.describe(&mut headers);
    post::post(&target, &config.hosts, headers, message.open(store)).await
}

/// What is posted.
enum Message<'j> {
    /// An instance's answer, or Longshore's own in its place.
    Answer(&'j Answer),
    /// The status of a job that has none.
    Status(Bytes),
}

async fn message<'j>(jobs: &Arc<Jobs>, store: &Arc<dyn Store>, job: &'j Job) -> Result<Message<'j>, Failure> {
    if let Some(answer) = job.answer() {
        return Ok(Message::Answer(answer));
    }
    let view = jobs.view(store, job).await.map_err(|problem| Failure::from(problem.detail().to_owned()))?;
    Ok(Message::Status(serde_json::to_vec(&view).unwrap_or_default().into()))
}

impl Message<'_> {
    /// Its bytes from the first on.
    fn open(&self, store: &Arc<dyn Store>) -> Sent {
        let bytes = match self {
            Self::Status(text) => text.clone(),
            Self::Answer(Answer { body: None, .. }) => Bytes::new(),
            Self::Answer(Answer { body: Some(body), .. }) => {
                let reader = Reader::new(store.clone(), *body);
                let pieces = futures_util::stream::try_unfold(reader, |mut reader| async move {
                    let piece = reader.next().await?;
                    Ok(piece.map(|piece| (Frame::data(piece), reader)))
                });
                return Box::pin(Sized { body: StreamBody::new(pieces.boxed()), length: body.length });
            }
        };
        Box::pin(Full::new(bytes).map_err(|never| match never {}))
    }

    /// What its bytes are.
    fn describe(&self, headers: &mut HeaderMap) {
        match self {
            Self::Status(_) => put(headers, "content-type", "application/json"),
            Self::Answer(answer) => {
                put(headers, "longshore-response-status", &answer.status.to_string());
                for (name, value) in answer.headers.iter() {
                    let name = OF_BODY.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name));
                    if let (Some(name), Ok(value)) = (name, HeaderValue::from_bytes(&value)) {
                        headers.append(name, value);
                    }
                }
            }
        }
    }
}

/// Which job it is about.
fn about(job: &Job) -> HeaderMap {
    let mut headers = HeaderMap::new();
    put(&mut headers, "webhook-id", &name(job));
    put(&mut headers, "longshore-job", &job.id.to_string());
    put(&mut headers, "longshore-job-status", job.status().name());
    put(&mut headers, "longshore-service", &job.service);
    headers
}

/// The message's name, the same at each attempt: the job, how it ended and when.
fn name(job: &Job) -> String {
    format!("{}.{}.{}", job.id, job.status().name(), job.ended_at().unwrap_or_default().0)
}

fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

#[cfg(test)]
mod tests;
