//! One attempt at a request: send it to the leased instance, take the answer, and say exactly how it ended.
//!
//! hyper's errors are opaque; what an attempt's end means is decided here and nowhere else, from the error and from
//! what was seen before it.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use hyper::body::Incoming;
use longshore_pool::Outcome;
use tokio::time::Instant;

use super::body::{AttemptBody, RequestBody, ResponseBody};
use super::connections::Connection;
use super::lease::Lease;
use super::spool::SpoolError;
use super::wire::{Fate, SendError, Wire};

/// A server that closes idle connections does so after a second or more; younger ones break for other reasons.
const STALE_IDLE: Duration = Duration::from_secs(1);

/// A connection that was closed while it lay idle fails as soon as it is written to.
const STALE_FAILURE: Duration = Duration::from_millis(100);

/// How long an instance is left alone that says it is busy and not for how long.
const BUSY_DEFAULT: Duration = Duration::from_millis(500);

/// What an attempt sends, the same each time.
pub struct Attempt<'a> {
    /// The method.
    pub method: &'a Method,
    /// Path and query.
    pub target: &'a Uri,
    /// Header fields, fit for an instance.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a RequestBody,
    /// When the request must be answered.
    pub deadline: Instant,
    /// How long an instance may be silent.
    pub first_byte_timeout: Option<Duration>,
    /// The largest answer that is held until it is complete.
    pub hold: u64,
    /// Statuses that mean "busy".
    pub busy: &'a [u16],
}

/// What came of an attempt.
pub enum Answer {
    /// A complete answer, and the connection if it is still good.
    Held(Response<ResponseBody>, Option<Wire>),
    /// The head of an answer that is to be passed on as it comes.
    Live(Response<Incoming>, Wire),
}

/// How an attempt failed. No byte of an answer has left.
pub enum Failure {
    /// The instance is to blame, or gone.
    Lost {
        /// What happened, for people.
        how: String,
        /// One of a few words, for metrics.
        label: &'static str,
        /// Whether the instance may have seen any of the request.
        sent: bool,
    },
    /// The instance says that it is busy.
    Busy(Duration),
    /// The client's body failed.
    Body(SpoolError),
    /// The request's deadline passed.
    Deadline,
}

impl Failure {
    /// What the pool is told.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Lost { how, sent, .. } => Outcome::Lost { how: how.as_str().into(), sent: *sent },
            Self::Busy(retry_after) => Outcome::Busy { retry_after: *retry_after },
            Self::Body(_) | Self::Deadline => Outcome::Abandoned { broken: false },
        }
    }

    /// The label in `longshore_replays_total`.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Lost { label, .. } => label,
            Self::Busy(_) => "busy",
            Self::Body(_) => "body",
            Self::Deadline => "deadline",
        }
    }
}

impl Attempt<'_> {
    /// Sends the request to the leased instance until a connection takes it, and takes the answer.
    pub async fn run(&self, lease: &Lease) -> Result<Answer, Failure> {
        let (response, wire) = self.send(lease).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            if self.busy.contains(&response.status().as_u16()) {
                return Err(Failure::Busy(retry_after(response.headers())));
            }
            if let Some(length) = self.holdable(&response) {
                return self.hold(lease, response, wire, length).await;
            }
        }
        Ok(Answer::Live(response, wire))
    }

    async fn send(&self, lease: &Lease) -> Result<(Response<Incoming>, Wire), Failure> {
        let mut fresh = false;
        loop {
            let reused = if fresh { None } else { lease.link().idle(lease.dispatched()).await };
            let Connection { mut wire, idle_for } = match reused {
                Some(connection) => connection,
                None => lease.link().open().await.map_err(|error| not_connected(lease, &error))?,
            };
            let slept = idle_for.is_some_and(|idle| idle >= STALE_IDLE);
            // The clock is read only where it matters.
            let sent_at = (slept || self.first_byte_timeout.is_some()).then(Instant::now);
            let answer = self.answer_in_time(&mut wire, sent_at).await?;
            let SendError { error, fate } = match answer {
                Ok(response) => return Ok((response, wire)),
                Err(error) => error,
            };
            if let Some(error) = self.body.error() {
                return Err(Failure::Body(error));
            }
            let unsent = match fate {
                Fate::Untouched => true,
                Fate::Unknown => false,
                Fate::Refused => return Err(Failure::Busy(BUSY_DEFAULT)),
            };
            let stale = slept && sent_at.is_some_and(|at| at.elapsed() < STALE_FAILURE);
            if idle_for.is_none() || !(unsent || stale) || fresh {
                return Err(lost(lease, &error, !unsent));
            }
            // The server had closed this connection in its sleep: that is no sign of death, a new one will tell.
            fresh = stale;
        }
    }

    async fn answer_in_time(
        &self,
        wire: &mut Wire,
        sent_at: Option<Instant>,
    ) -> Result<Result<Response<Incoming>, SendError>, Failure> {
        let silence = self.first_byte_timeout.zip(sent_at).map(|(limit, at)| (at + limit, limit));
        let until = silence.map_or(self.deadline, |(at, _)| at.min(self.deadline));
        match tokio::time::timeout_at(until, wire.send(self.request())).await {
            Ok(answer) => Ok(answer),
            Err(_) => match silence {
                Some((at, limit)) if at < self.deadline => Err(Failure::Lost {
                    how: format!("no answer began within {}", humantime::format_duration(limit)),
                    label: "hang",
                    sent: true,
                }),
                Some(_) | None => Err(Failure::Deadline),
            },
        }
    }

    fn request(&self) -> Request<AttemptBody> {
        let mut request = Request::new(self.body.attempt());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// The length of an answer that is to be held: it must be known, and hyper must see to it that it is kept.
    fn holdable(&self, response: &Response<Incoming>) -> Option<u64> {
        response.body().size_hint().exact().filter(|length| *length <= self.hold)
    }

    async fn hold(
        &self,
        lease: &Lease,
        response: Response<Incoming>,
        mut wire: Wire,
        length: u64,
    ) -> Result<Answer, Failure> {
        let (head, mut source) = response.into_parts();
        let mut held = Held::default();
        if length > 0 {
            let collected =
                tokio::time::timeout_at(self.deadline, wire.driving(held.collect(&mut source))).await;
            collected.map_err(|_| Failure::Deadline)?.map_err(|error| match lost(lease, &error, true) {
                Failure::Lost { how, .. } => Failure::Lost {
                    how: format!("in the middle of its answer: {how}"),
                    label: "truncated",
                    sent: true,
                },
                other @ (Failure::Busy(_) | Failure::Body(_) | Failure::Deadline) => other,
            })?;
        }
        let response = Response::from_parts(head, held.into_body());
        Ok(Answer::Held(response, self.body.is_complete().then_some(wire)))
    }
}

/// An answer in the making.
#[derive(Default)]
struct Held {
    chunks: Vec<Bytes>,
    /// HTTP/2 has them beside a known length, too.
    trailers: Option<HeaderMap>,
}

impl Held {
    async fn collect(&mut self, source: &mut Incoming) -> Result<(), hyper::Error> {
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut *source).poll_frame(cx)).await {
            match frame?.into_data() {
                Ok(data) => {
                    if self.chunks.is_empty() {
                        self.chunks.reserve_exact(1);
                    }
                    self.chunks.push(data);
                }
                Err(other) => self.trailers = other.into_trailers().ok(),
            }
        }
        Ok(())
    }

    fn into_body(self) -> ResponseBody {
        let chunks = self.chunks.into_iter();
        match self.trailers {
            None => ResponseBody::Held(chunks),
            Some(trailers) => ResponseBody::Trailed(chunks, Some(Box::new(trailers))),
        }
    }
}

fn not_connected(lease: &Lease, error: &std::io::Error) -> Failure {
    let how = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::TimedOut => "connect timed out".to_owned(),
        _ => format!("connect failed: {error}"),
    };
    Failure::Lost { how: fate(lease, how), label: "refused", sent: false }
}

fn lost(lease: &Lease, error: &hyper::Error, sent: bool) -> Failure {
    let source = std::error::Error::source(error);
    let io = source.and_then(|source| source.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    let stream = source.and_then(|source| source.downcast_ref::<h2::Error>());
    let (how, label) =
        if let Some(reason) = stream.filter(|error| error.is_reset()).and_then(h2::Error::reason) {
            (format!("the stream was reset before an answer ({reason})"), "reset")
        } else if error.is_parse() {
            (format!("its answer is not HTTP: {error}"), "malformed")
        } else if io == Some(std::io::ErrorKind::ConnectionReset) {
            ("connection reset before an answer".to_owned(), "died")
        } else if io == Some(std::io::ErrorKind::BrokenPipe)
            || error.is_incomplete_message()
            || error.is_canceled()
            || error.is_closed()
        {
            ("connection closed before an answer".to_owned(), "died")
        } else {
            (error.to_string(), "died")
        };
    Failure::Lost { how: fate(lease, how), label, sent }
}

/// What the backend says of the instance's end is worth more than what the connection saw of it.
fn fate(lease: &Lease, seen: String) -> String {
    lease.link().fate().map_or(seen, str::to_owned)
}

fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    seconds.map_or(BUSY_DEFAULT, Duration::from_secs)
}
