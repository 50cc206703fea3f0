//! One attempt at a request: send it to the leased instance, take the answer, and say exactly how it ended.
//!
//! hyper's errors are opaque; what an attempt's end means is decided here and nowhere else, from the error and from
//! what was seen before it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use http_body::Body;
use hyper::body::Incoming;
use longshore_pool::Outcome;
use tokio::time::Instant;

use super::body::{Came, RequestBody, ResponseBody};
use super::connections::Connection;
use super::downstream::Asker;
use super::framing;
use super::held::Holding;
use super::lease::Lease;
use super::plain::{Expected, Why};
use super::space::Space;
use super::spool::SpoolError;
use super::wire::{Answered, Broke, Fate, Outgoing, SendError, Wire};

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
    /// Where the attempt is recorded: its place in the trace.
    pub traceparent: Option<HeaderValue>,
    /// Who has spelled them, and is told what comes before the answer.
    pub asker: &'a Asker,
    /// Whether they take the lines of an answer as they come.
    pub as_it_comes: bool,
    /// The body.
    pub body: &'a RequestBody,
    /// Whether the connection is to become another protocol's.
    pub upgrade: bool,
    /// When the request must be answered.
    pub deadline: Instant,
    /// How long an instance may be silent.
    pub first_byte_timeout: Option<Duration>,
    /// The largest answer that is held until it is complete.
    pub hold: u64,
    /// Where it is held.
    pub space: &'a Arc<Space>,
    /// Whether it may be sent again after an instance may have seen it.
    pub replayable: bool,
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

    /// What happened, for people, where it is more than the label says.
    pub fn how(&self) -> Option<&str> {
        match self {
            Self::Lost { how, .. } => Some(how),
            Self::Busy(_) | Self::Body(_) | Self::Deadline => None,
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
        let (answered, wire) = self.send(lease).await?;
        let response = match answered {
            Answered::Begun(response) => response,
            Answered::Whole(response) => {
                return match self.is_busy(&response) {
                    Some(busy) => Err(busy),
                    None => Ok(Answer::Held(response, Some(wire))),
                };
            }
            Answered::Plain(expected) => return self.plainly(lease, *expected, wire).await,
        };
        framing::check_answer(&response, self.headers).map_err(|why| Failure::Lost {
            how: format!("its answer is not HTTP: {why}"),
            label: "malformed",
            sent: true,
        })?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            if let Some(busy) = self.is_busy(&response) {
                return Err(busy);
            }
            if let Some(holding) = self.holding(&response) {
                return self.hold(lease, response, wire, holding).await;
            }
        }
        Ok(Answer::Live(response, wire))
    }

    /// Whether the instance says that it has enough to do.
    fn is_busy<B>(&self, response: &Response<B>) -> Option<Failure> {
        let busy = self.busy.contains(&response.status().as_u16());
        busy.then(|| Failure::Busy(retry_after(response.headers())))
    }

    async fn plainly(
        &self,
        lease: &Lease,
        mut expected: Expected,
        mut wire: Wire,
    ) -> Result<Answer, Failure> {
        if let Some(busy) = self.is_busy(expected.head()) {
            return Err(busy);
        }
        let came = Came::of(expected.take_lines(), expected.spelling().clone());
        let content = tokio::time::timeout_at(self.deadline, wire.content(expected)).await;
        let content = content.map_err(|_| Failure::Deadline)?;
        let response = content.map_err(|broke| cut(lease, &seen_of(&broke).0))?;
        Ok(Answer::Held(response.map(|content| ResponseBody::Plain(content, came)), Some(wire)))
    }

    async fn send(&self, lease: &Lease) -> Result<(Answered, Wire), Failure> {
        let mut fresh = false;
        // How a connection ended on which the instance may have seen the request.
        let mut seen: Option<Broke> = None;
        loop {
            let reused = if fresh { None } else { lease.link().idle(lease.dispatched()).await };
            let Connection { mut wire, idle_for } = match reused {
                Some(connection) => connection,
                None => lease.link().open().await.map_err(|error| match &seen {
                    Some(broke) => lost(lease, broke, true),
                    None => not_connected(lease, &error),
                })?,
            };
            let slept = idle_for.is_some_and(|idle| idle >= STALE_IDLE);
            // The clock is read only where it matters.
            let sent_at = (slept || self.first_byte_timeout.is_some()).then(Instant::now);
            let answer = self.answer_in_time(&mut wire, sent_at).await?;
            let SendError { error, fate } = match answer {
                Ok(answered) => return Ok((answered, wire)),
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
            if idle_for.is_none() || !(unsent || (stale && self.replayable)) || fresh {
                return Err(lost(lease, &error, !unsent || seen.is_some()));
            }
            // The server had closed this connection in its sleep, as it seems: a new one will tell.
            fresh = stale;
            seen = seen.or_else(|| (!unsent).then_some(error));
        }
    }

    async fn answer_in_time(
        &self,
        wire: &mut Wire,
        sent_at: Option<Instant>,
    ) -> Result<Result<Answered, SendError>, Failure> {
        let silence = self.first_byte_timeout.zip(sent_at).map(|(limit, at)| (at + limit, limit));
        let until = silence.map_or(self.deadline, |(at, _)| at.min(self.deadline));
        let outgoing = self.outgoing();
        let answer = self.body.attended(wire.send(&outgoing));
        match tokio::time::timeout_at(until, answer).await {
            Ok(answer) => answer.map_err(Failure::Body),
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

    fn outgoing(&self) -> Outgoing<'_> {
        let Self { method, target, headers, asker, as_it_comes, body, upgrade, hold, .. } = *self;
        Outgoing {
            method,
            target,
            headers,
            asker,
            as_it_comes,
            traceparent: self.traceparent.as_ref(),
            body,
            upgrade,
            hold,
        }
    }

    /// Room for an answer that is to be held: its length must be known, and hyper must see to it that it is kept.
    fn holding(&self, response: &Response<Incoming>) -> Option<Holding> {
        let length = response.body().size_hint().exact().filter(|length| *length <= self.hold)?;
        Holding::begin(self.space, length)
    }

    async fn hold(
        &self,
        lease: &Lease,
        response: Response<Incoming>,
        mut wire: Wire,
        mut holding: Holding,
    ) -> Result<Answer, Failure> {
        let (head, mut source) = response.into_parts();
        let mut trailers = None;
        if !source.is_end_stream() {
            let collected = self.body.attended(wire.driving(collect(lease, &mut source, &mut holding)));
            let collected = tokio::time::timeout_at(self.deadline, collected).await;
            trailers = collected.map_err(|_| Failure::Deadline)?.map_err(Failure::Body)??;
        }
        let body = match trailers {
            None => ResponseBody::Held(holding.whole()),
            Some(trailers) => ResponseBody::Trailed(holding.whole(), Some(Box::new(trailers))),
        };
        let response = Response::from_parts(head, body);
        Ok(Answer::Held(response, self.body.is_complete().then_some(wire)))
    }
}

/// Gives the fields after the body: HTTP/2 has them beside a known length, too.
async fn collect(
    lease: &Lease,
    source: &mut Incoming,
    holding: &mut Holding,
) -> Result<Option<HeaderMap>, Failure> {
    let mut trailers = None;
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut *source).poll_frame(cx)).await {
        match frame.map_err(|error| broken_off(lease, &error))?.into_data() {
            Ok(data) => holding.push(data).map_err(Failure::Body)?,
            Err(other) => trailers = other.into_trailers().ok(),
        }
    }
    Ok(trailers)
}

/// An answer that had begun broke off.
pub fn broken_off(lease: &Lease, error: &hyper::Error) -> Failure {
    cut(lease, &seen(error).0)
}

/// An answer without a known end came to its end because the instance did.
pub fn died_with(lease: &Lease) -> Failure {
    cut(lease, "it ended together with its connection")
}

fn cut(lease: &Lease, seen: &str) -> Failure {
    let how = format!("in the middle of its answer: {seen}");
    Failure::Lost { how: fate(lease, how), label: "truncated", sent: true }
}

fn not_connected(lease: &Lease, error: &std::io::Error) -> Failure {
    let how = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::TimedOut => "connect timed out".to_owned(),
        _ => format!("connect failed: {error}"),
    };
    Failure::Lost { how: fate(lease, how), label: "refused", sent: false }
}

fn lost(lease: &Lease, broke: &Broke, sent: bool) -> Failure {
    let (how, label) = seen_of(broke);
    let how = if label == "malformed" { how } else { format!("{how} before an answer") };
    Failure::Lost { how: fate(lease, how), label, sent }
}

/// What a connection's end looked like, in words and as a label.
fn seen_of(broke: &Broke) -> (String, &'static str) {
    match broke {
        Broke::Hyper(error) => seen(error),
        Broke::Plain(why) => seen_plainly(why),
    }
}

fn seen(error: &hyper::Error) -> (String, &'static str) {
    let source = std::error::Error::source(error);
    let io = source.and_then(|source| source.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    let stream = source.and_then(|source| source.downcast_ref::<h2::Error>());
    if let Some(reason) = stream.filter(|error| error.is_reset()).and_then(h2::Error::reason) {
        (format!("stream reset ({reason})"), "reset")
    } else if error.is_parse_too_large() {
        let most = super::plain::MAX_FIELDS;
        (format!("its answer has more than {most} fields, or too long ones"), "malformed")
    } else if error.is_parse() {
        (format!("its answer is not HTTP: {error}"), "malformed")
    } else if io == Some(std::io::ErrorKind::ConnectionReset) {
        ("connection reset".to_owned(), "died")
    } else if io == Some(std::io::ErrorKind::BrokenPipe)
        || error.is_incomplete_message()
        || error.is_canceled()
        || error.is_closed()
    {
        ("connection closed".to_owned(), "died")
    } else {
        (error.to_string(), "died")
    }
}

fn seen_plainly(why: &Why) -> (String, &'static str) {
    match why {
        Why::NotHttp(what) => (format!("its answer is not HTTP: {what}"), "malformed"),
        Why::Io(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
            ("connection reset".to_owned(), "died")
        }
        Why::Io(error) if error.kind() != std::io::ErrorKind::BrokenPipe => (error.to_string(), "died"),
        Why::Io(_) | Why::Closed => ("connection closed".to_owned(), "died"),
    }
}

/// What the backend says of the instance's end is worth more than what the connection saw of it.
fn fate(lease: &Lease, seen: String) -> String {
    lease.link().fate().map_or(seen, str::to_owned)
}

/// How long the instance asks to be left alone: in seconds, or until a date.
fn retry_after(headers: &HeaderMap) -> Duration {
    let asked = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::trim);
    asked.and_then(|asked| pause(asked, SystemTime::now())).unwrap_or(BUSY_DEFAULT)
}

fn pause(asked: &str, now: SystemTime) -> Option<Duration> {
    if !asked.is_empty() && asked.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number has: for as long as the pool lets it.
        return Some(Duration::from_secs(asked.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let until = httpdate::parse_http_date(asked).ok()?;
    // A date that has passed: at once.
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (asked, wanted) in [
            ("0", Some(0)),
            ("17", Some(17)),
            ("99999999999999999999999", Some(u64::from(u32::MAX))),
            ("Sun, 06 Nov 1994 08:49:40 GMT", Some(3)),
            ("Sunday, 06-Nov-94 08:49:40 GMT", Some(3)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(pause(asked, now), wanted.map(Duration::from_secs), "{asked:?}");
        }
    }
}
