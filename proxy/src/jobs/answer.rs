//! What clients are answered: tickets, states and results.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::StreamBody;
use longshore_jobs::{Answer, Body, Job, Reader, State, Store};

use super::page::{self, Preview};
use super::stored::Sized;
use super::{JobView, Jobs, range, unavailable};
use crate::gateway::body::ResponseBody;
use crate::gateway::stream::StreamError;
use crate::problem::{Problem, prefers_html};

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const LONGSHORE_JOB: HeaderName = HeaderName::from_static("longshore-job");

/// Seconds after which a client may look again.
const LOOK_AGAIN: (u64, u64) = (1, 60);

/// A larger JSON answer is not looked into in the `poll` mode.
const MERGED: u64 = 1 << 20;

impl Jobs {
    /// What a client is told of a job.
    pub(super) async fn view(&self, store: &Arc<dyn Store>, job: &Job) -> Result<JobView, Problem> {
        // Both at once: a shared store is a way off.
        let (load, ahead) = tokio::join!(self.load(store, &job.service), ahead(store, job));
        let mut view = JobView::new(job, &self.location(job), load?);
        if let (Some(in_store), State::Queued { order, .. }) = (ahead?, &job.state) {
            let ahead = in_store + self.feed.ahead(&job.service, (*order, job.id));
            view.position = Some(ahead);
            view.estimate_seconds = self.estimate(&job.service, ahead);
        }
        Ok(view)
    }

    async fn load(&self, store: &Arc<dyn Store>, service: &str) -> Result<u64, Problem> {
        store.queued(service).await.map_err(|error| unavailable(&error))
    }

    /// When a job with so many before it is likely to be started, in seconds.
    fn estimate(&self, service: &str, ahead: u64) -> Option<u64> {
        let gateway = self.gateway()?;
        let routes = gateway.routes.load();
        let service = routes.service(service)?;
        let load = service.dispatcher.load();
        let slots = u64::from(load.ready.max(1)) * u64::from(service.config.concurrency.max(1));
        let each = load.service_time;
        // Requests that are no jobs wait there, too.
        let others = (load.queue as u64).saturating_sub(self.feed.known(&service.name));
        // Where all slots are taken, one of them has to become free first.
        let taken = u64::from(load.in_flight as u64 >= slots && service.config.concurrency > 0);
        let before = ahead + others + taken;
        (each > 0.0).then(|| (before as f64 * each / slots as f64).ceil() as u64)
    }

    /// 202: it is durable, and not done yet. A browser gets a page that goes on to the job's own.
    pub(super) async fn ticket(
        &self,
        store: &Arc<dyn Store>,
        job: &Job,
        preferred: bool,
        asked: &HeaderMap,
    ) -> Result<Response<ResponseBody>, Problem> {
        let view = self.view(store, job).await?;
        let mut response = if prefers_html(asked) {
            page::response(StatusCode::ACCEPTED, &view, &self.location(job), &Preview::None)
        } else {
            json(StatusCode::ACCEPTED, &view)
        };
        let headers = response.headers_mut();
        let location = HeaderValue::try_from(self.location(job));
        headers.insert(header::LOCATION, location.unwrap_or_else(|_| HeaderValue::from_static("/")));
        let after = view.estimate_seconds.unwrap_or(LOOK_AGAIN.0).clamp(LOOK_AGAIN.0, LOOK_AGAIN.1);
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after));
        if preferred {
            headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static("respond-async"));
        }
        Ok(response)
    }

    /// The status of a job, as JSON or as a page.
    pub(super) async fn status(
        &self,
        store: &Arc<dyn Store>,
        job: &Job,
        asked: &HeaderMap,
    ) -> Result<Response<ResponseBody>, Problem> {
        let view = self.view(store, job).await?;
        let mut response = if prefers_html(asked) {
            let preview = Preview::of(store, job).await.map_err(|error| unavailable(&error))?;
            page::response(StatusCode::OK, &view, &self.location(job), &preview)
        } else {
            json(StatusCode::OK, &view)
        };
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
        Ok(response)
    }
}

/// How many jobs come before one that waits.
async fn ahead(store: &Arc<dyn Store>, job: &Job) -> Result<Option<u64>, Problem> {
    match &job.state {
        State::Queued { hold: Some(_), .. } => Ok(Some(0)),
        State::Queued { hold: None, .. } => {
            store.ahead(job).await.map(Some).map_err(|error| unavailable(&error))
        }
        State::Running { .. }
        | State::Done { .. }
        | State::Failed { .. }
        | State::Cancelled { .. }
        | State::Expired { .. } => Ok(None),
    }
}

/// JSON, never to be cached.
pub(super) fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<ResponseBody> {
    // What is shown here is made of texts and numbers.
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    let mut response = Response::new(ResponseBody::from(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer of a job that has ended, as it was.
pub(super) async fn result(
    jobs: &Jobs,
    store: &Arc<dyn Store>,
    job: &Job,
    method: &Method,
    asked: &HeaderMap,
) -> Result<Response<ResponseBody>, Problem> {
    match &job.state {
        State::Queued { .. } | State::Running { .. } => jobs.ticket(store, job, false, asked).await,
        State::Done { answer, .. } | State::Failed { answer, .. } => {
            Ok(verbatim(store, job, answer, method, asked))
        }
        State::Cancelled { .. } => {
            Err(Problem::Gone(format!("job {} was cancelled: it has no result", job.id)))
        }
        State::Expired { finished_at: None, .. } => Err(Problem::Gone(format!(
            "job {} expired: no instance of {} had taken it within input_ttl",
            job.id, job.service
        ))),
        State::Expired { finished_at: Some(_), .. } => {
            Err(Problem::Gone(format!("the result of job {} has expired (result_ttl)", job.id)))
        }
    }
}

fn verbatim(
    store: &Arc<dyn Store>,
    job: &Job,
    answer: &Answer,
    method: &Method,
    asked: &HeaderMap,
) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
    for (name, value) in answer.headers.iter() {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(&value)) {
            response.headers_mut().append(name, value);
        }
    }
    if let Ok(id) = HeaderValue::try_from(job.id.to_string()) {
        response.headers_mut().insert(LONGSHORE_JOB, id);
    }
    let Some(body) = answer.body else {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(0));
        return response;
    };
    let whole = 0..body.length;
    let asked_for = match response.status() {
        StatusCode::OK => range::asked(method, asked, response.headers(), body.length),
        _ => None,
    };
    let range = match asked_for {
        None => whole,
        Some(Some(range)) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let said = format!("bytes {}-{}/{}", range.start, range.end - 1, body.length);
            response.headers_mut().insert(header::CONTENT_RANGE, text(&said));
            range
        }
        Some(None) => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            response.headers_mut().insert(header::CONTENT_RANGE, text(&format!("bytes */{}", body.length)));
            0..0
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    if *method != Method::HEAD && range.end > range.start {
        *response.body_mut() = stored(store, body, range);
    }
    response
}

fn text(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn stored(store: &Arc<dyn Store>, body: Body, range: std::ops::Range<u64>) -> ResponseBody {
    let length = range.end - range.start;
    let reader = Reader::range(store.clone(), body, range.start, range.end);
    let pieces = futures_util::stream::try_unfold(reader, |mut reader| async move {
        let piece = reader.next().await.map_err(|error| StreamError::Own(error.to_string()))?;
        Ok(piece.map(|piece| (Frame::data(piece), reader)))
    });
    ResponseBody::Own(Box::pin(Sized { body: StreamBody::new(pieces.boxed()), length }))
}

/// The answer to a request that is repeated until it is answered. A JSON object that does not say whether it is `done` is
/// made to say so, beside the `load`: a client that polls finds both in every answer.
pub(super) async fn polled(
    jobs: &Jobs,
    store: &Arc<dyn Store>,
    job: &Job,
) -> Result<Response<ResponseBody>, Problem> {
    // What the request says of ranges was the instance's to answer.
    let nothing = HeaderMap::new();
    let plain = |jobs, store| result(jobs, store, job, &Method::GET, &nothing);
    let Some((answer, body)) = job.answer().and_then(|answer| Some((answer, answer.body?))) else {
        return plain(jobs, store).await;
    };
    let is_json = answer.headers.iter().any(|(name, value)| {
        name.eq_ignore_ascii_case("content-type")
            && value.to_ascii_lowercase().starts_with(b"application/json")
    });
    let fits = is_json && body.length <= MERGED && (200..300).contains(&answer.status);
    if !fits {
        return plain(jobs, store).await;
    }
    let mut reader = Reader::new(store.clone(), body);
    let mut whole = Vec::new();
    while let Some(piece) = reader.next().await.map_err(|error| unavailable(&error))? {
        whole.extend_from_slice(&piece);
    }
    let Ok(serde_json::Value::Object(mut object)) = serde_json::from_slice(&whole) else {
        return plain(jobs, store).await;
    };
    if object.contains_key("done") {
        return plain(jobs, store).await;
    }
    object.insert("done".to_owned(), true.into());
    let load = jobs.load(store, &job.service).await?;
    object.entry("load").or_insert_with(|| load.into());
    let mut response = verbatim(store, job, answer, &Method::GET, &nothing);
    let text = serde_json::Value::Object(object).to_string();
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
    *response.body_mut() = ResponseBody::from(Bytes::from(text));
    Ok(response)
}

/// An answer that is made piece by piece.
pub(super) fn streamed(
    kind: &'static str,
    pieces: impl futures_util::Stream<Item = Result<Bytes, StreamError>> + Send + 'static,
) -> Response<ResponseBody> {
    let frames: Pin<Box<dyn futures_util::Stream<Item = _> + Send>> =
        Box::pin(pieces.map(|piece| piece.map(Frame::data)));
    let mut response = Response::new(ResponseBody::Own(Box::pin(StreamBody::new(frames))));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
