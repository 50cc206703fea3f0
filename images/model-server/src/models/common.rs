//! What every model answers: its health and its counters, and bodies of any size and pace.

use std::io;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use hyper::{Method, StatusCode};
use tokio::time::{Sleep, sleep};

use super::{Input, Model, Reply, body_json};
use crate::args::duration;
use crate::body::Cut;
use crate::digest::{Summary, Summing};
use crate::state::State;

/// The answer, if the path is one of those that every model has.
pub(crate) async fn answer(state: &State, input: &Input) -> Option<Reply> {
    let path = input.head.uri.path();
    let query = input.head.uri.query().unwrap_or_default();
    let get = input.head.method == Method::GET || input.head.method == Method::HEAD;
    let reply = match path.split('/').skip(1).collect::<Vec<_>>()[..] {
        ["healthz"] if state.is_healthy() => Ok(Reply::text(StatusCode::OK, "ok\n")),
        ["healthz"] => Ok(Reply::text(StatusCode::SERVICE_UNAVAILABLE, "unhealthy\n")),
        ["stats"] => Ok(Reply::json(&state.stats())),
        ["crash"] => {
            Cut::Crash { code: 70 }.happen();
            return None;
        }
        // The echo has no path of its own: this one is echoed like the others.
        [""] if state.model == Model::Echo => return None,
        [""] if get => Ok(describe(state.model)),
        [""] => Ok(Reply::json(&body_json(&input.body))),
        ["status", code] => status(code),
        ["bytes", count] => bytes(count).await,
        ["stream"] => stream(query, &state.instance),
        _ => return None,
    };
    Some(reply.unwrap_or_else(Reply::bad_request))
}

fn describe(model: Model) -> Reply {
    Reply::text(
        StatusCode::OK,
        format!(
            "The model {model}: {}; also /healthz, /stats, /bytes/N, /stream, /reflect, /status/N, /crash\n",
            model.example()
        ),
    )
}

fn status(code: &str) -> Result<Reply, String> {
    let status = code.parse().ok().filter(|code| (200..600).contains(code));
    let status = status.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or_else(|| format!("{code:?} is no status from 200 to 599"))?;
    Ok(Reply::text(status, format!("{status}\n")))
}

/// Content that is the same everywhere, with its length and digest in the head.
async fn bytes(count: &str) -> Result<Reply, String> {
    let count = count.parse().map_err(|_| format!("{count:?} is no number of bytes"))?;
    let mut sum = Summing::default();
    for step in steps(count) {
        sum.add(&PATTERN[..step]);
        // A large body takes a while to add up; others want to be served meanwhile.
        tokio::task::yield_now().await;
    }
    let digest: Summary = sum.finish();
    let content =
        Paced { parts: count.div_ceil(PART as u64), left: count, size: PART, pace: None, length_known: true };
    let mut reply = Reply::stream("application/octet-stream", content.boxed_unsync());
    reply.digest = Some(digest);
    Ok(reply)
}

/// `?chunks=10&interval_ms=50&size=100`, and `sse=1` for server-sent events; `vary=N` puts the instance's name into part
/// N, from 0: a model whose answers are not the same everywhere.
fn stream(query: &str, instance: &str) -> Result<Reply, String> {
    let parts = parameter(query, "chunks", 10_u64)?;
    let size = parameter(query, "size", 100_usize)?;
    let interval = match value(query, "interval_ms") {
        Some(text) => duration(text).map_err(|_| format!("interval_ms cannot be {text:?}"))?,
        None => Duration::from_millis(50),
    };
    let vary = value(query, "vary").map(|text| text.parse().map_err(|_| format!("vary cannot be {text:?}")));
    let name = Named { part: vary.transpose()?, name: instance.to_owned() };
    if value(query, "sse").is_some_and(|value| value != "0") {
        return Ok(Reply::stream("text/event-stream", Events::new(parts, interval, name).boxed_unsync()));
    }
    if !(1..=PART).contains(&size) {
        return Err(format!("size is from 1 to {PART}"));
    }
    let left = parts.saturating_mul(size as u64);
    let content = Paced { parts, left, size, pace: Some(Pace::new(interval)), length_known: false };
    let mut part = 0;
    let content = content.map_frame(move |frame| {
        part += 1;
        match (frame.into_data(), name.at(part - 1)) {
            (Ok(data), Some(name)) => {
                let named = name.bytes().chain(data[name.len().min(data.len())..].iter().copied());
                Frame::data(named.take(data.len()).collect())
            }
            (Ok(data), None) => Frame::data(data),
            (Err(other), _) => other,
        }
    });
    Ok(Reply::stream("application/octet-stream", content.boxed_unsync()))
}

fn value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn parameter<T: FromStr>(query: &str, name: &str, default: T) -> Result<T, String> {
    match value(query, name) {
        Some(text) => text.parse().map_err(|_| format!("{name} cannot be {text:?}")),
        None => Ok(default),
    }
}

/// Largest part that is sent at once.
const PART: usize = 64 * 1024;

/// Bodies repeat this: its byte number i is (i * 31 + i / 251) modulo 256.
static PATTERN: [u8; PART] = {
    let mut pattern = [0; PART];
    let mut index = 0;
    while index < PART {
        pattern[index] = ((index * 31 + index / 251) % 256) as u8;
        index += 1;
    }
    pattern
};

fn steps(count: u64) -> impl Iterator<Item = usize> {
    let whole = count / PART as u64;
    (0..whole).map(|_| PART).chain([usize::try_from(count % PART as u64).unwrap_or(PART)])
}

/// A pause before each part but the first.
struct Pace {
    interval: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    fn new(interval: Duration) -> Self {
        Self { interval, pause: None }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
        }
        // The timer counts in milliseconds: even a sleep of nothing would take one.
        self.pause = (!self.interval.is_zero()).then(|| Box::pin(sleep(self.interval)));
        Poll::Ready(())
    }
}

/// The part of a stream that names its instance, if one does.
struct Named {
    part: Option<u64>,
    name: String,
}

impl Named {
    fn at(&self, part: u64) -> Option<&str> {
        (self.part == Some(part)).then_some(self.name.as_str())
    }
}

/// Parts of [`PATTERN`], each from its beginning.
struct Paced {
    parts: u64,
    left: u64,
    size: usize,
    pace: Option<Pace>,
    length_known: bool,
}

impl Body for Paced {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.parts == 0 {
            return Poll::Ready(None);
        }
        if let Some(pace) = &mut self.pace {
            ready!(pace.poll(context));
        }
        let size = usize::try_from(self.left).unwrap_or(PART).min(self.size);
        self.parts -= 1;
        self.left -= size as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PATTERN[..size])))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts == 0
    }

    fn size_hint(&self) -> SizeHint {
        if self.length_known { SizeHint::with_exact(self.left) } else { SizeHint::default() }
    }
}

/// Server-sent events with the numbers from 0.
struct Events {
    next: u64,
    count: u64,
    pace: Pace,
    name: Named,
}

impl Events {
    fn new(count: u64, interval: Duration, name: Named) -> Self {
        Self { next: 0, count, pace: Pace::new(interval), name }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.next == self.count {
            return Poll::Ready(None);
        }
        ready!(self.pace.poll(context));
        let name = self.name.at(self.next).map_or_else(String::new, |name| format!(" {name}"));
        let event = format!("id: {0}\ndata: {0}{name}\n\n", self.next);
        self.next += 1;
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.next == self.count
    }
}
