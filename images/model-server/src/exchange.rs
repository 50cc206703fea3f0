//! One request, from its head to its answer, with the faults that it meets on its way.
//!
//! 1. The head has arrived: faults `after=arrival`; the limit on work.
//! 2. The body is read and added up, unless it is sent straight back; `Content-Digest` is compared.
//! 3. The body has arrived: faults `after=body`, then latency.
//! 4. The model answers.
//! 5. The answer is sent: faults `after=headers` and `bytes=N`.
//!
//! /healthz and /stats are exempt from the limit, from the counting and from faults given by flags.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};
use tokio::time::sleep;

use crate::body::{Answer, Content, Cut, full};
use crate::digest::{CONTENT_DIGEST, Summary, Summing};
use crate::fault::{Fault, FaultError, Kind, Point};
use crate::models::{self, Input, Reply, Streaming};
use crate::socket::Ending;
use crate::state::{Refusal, State};

/// Answers one request; an error ends its connection without an answer.
pub(crate) async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
    ending: Ending,
) -> io::Result<Response<Answer>> {
    let exempt = matches!(request.uri().path(), "/healthz" | "/stats");
    // hyper leaves out the body that belongs to a HEAD in HTTP/1.1 only.
    let bare = request.version() == Version::HTTP_2 && request.method() == Method::HEAD;
    let faults = match faults(&request, &state, exempt) {
        Ok(faults) => faults,
        Err(error) => return Ok(Reply::bad_request(error).into_response(&state).map(whole)),
    };
    let work = if exempt { None } else { Some(state.begin()) };
    let mut course = Course { faults, state: state.clone(), ending };
    let early = course.meet(Point::Arrival).await?;
    let (refusal, work) = match work.transpose() {
        Ok(work) => (None, work),
        Err(refusal) => (Some(refused(refusal)), None),
    };
    let streaming = Streaming::of(&request).filter(|_| refusal.is_none());
    let (reply, work) = match (early, streaming) {
        (Some(reply), _) => (reply, work),
        (None, Some(streaming)) => streaming.answer(request, work),
        (None, None) => (course.read_and_answer(request, refusal).await?, work),
    };
    if !exempt {
        state.count_served();
    }
    let cut = course.cut();
    let response = reply.into_response(&state);
    let response = if bare { without_body(response) } else { response };
    Ok(response.map(|content| Answer::new(content, cut, work)))
}

fn without_body(mut response: Response<Content>) -> Response<Content> {
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response.map(|_| full(""))
}

fn whole(content: Content) -> Answer {
    Answer::new(content, None, None)
}

fn faults(request: &Request<Incoming>, state: &State, exempt: bool) -> Result<Vec<Fault>, FaultError> {
    let mut faults = if exempt { Vec::new() } else { state.faults.clone() };
    for value in request.headers().get_all("fault") {
        faults.extend(Fault::parse_list(&String::from_utf8_lossy(value.as_bytes()))?);
    }
    faults.retain(|fault| state.meets(fault));
    Ok(faults)
}

fn refused(refusal: Refusal) -> Reply {
    match refusal {
        Refusal::Busy => busy(503, Some(1)),
        Refusal::Violation => Reply::text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "violation: this server works on one request at a time\n",
        ),
    }
}

fn busy(status: u16, retry_after: Option<u32>) -> Reply {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let mut reply = Reply::text(status, "busy\n");
    if let Some(seconds) = retry_after {
        reply.headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    reply
}

/// A request on its way, with the faults that are still ahead of it.
struct Course {
    faults: Vec<Fault>,
    state: Arc<State>,
    ending: Ending,
}

impl Course {
    async fn read_and_answer(
        &mut self,
        request: Request<Incoming>,
        refusal: Option<Reply>,
    ) -> io::Result<Reply> {
        let (head, body) = request.into_parts();
        let (summary, trailers) = receive(body).await?;
        if let Some(reply) = self.meet(Point::Body).await?.or(refusal) {
            return Ok(reply);
        }
        if let Err(error) = summary.verify(&head.headers) {
            return Ok(Reply::bad_request(error));
        }
        let latency = self.latency();
        // The timer counts in milliseconds: even a sleep of nothing would take one.
        if !latency.is_zero() {
            sleep(latency).await;
        }
        Ok(models::answer(&self.state, Input { head, body: summary, trailers }).await)
    }

    /// Lets happen what happens at this point. A reply takes the place of the model's.
    async fn meet(&mut self, point: Point) -> io::Result<Option<Reply>> {
        for fault in &self.faults {
            match &fault.kind {
                Kind::Freeze { time } if point == Point::Arrival => freeze(*time),
                Kind::Unhealthy if point == Point::Arrival => self.state.become_unhealthy(),
                Kind::Memory { bytes } if point == Point::Arrival => take_memory(*bytes),
                Kind::Busy { at, status, retry_after } if *at == point => {
                    return Ok(Some(busy(*status, *retry_after)));
                }
                Kind::Crash { at, .. } | Kind::Hang { at } | Kind::Reset { at } | Kind::Truncate { at }
                    if *at == point =>
                {
                    let cut = self.cut_of(&fault.kind).and_then(|(_, cut)| cut.happen());
                    return match cut {
                        Some(error) => Err(error),
                        None => pending().await,
                    };
                }
                Kind::Freeze { .. } | Kind::Unhealthy | Kind::Memory { .. } | Kind::Busy { .. } => {}
                Kind::Latency { .. } | Kind::Crash { .. } | Kind::Hang { .. } => {}
                Kind::Reset { .. } | Kind::Truncate { .. } => {}
            }
        }
        Ok(None)
    }

    fn latency(&self) -> Duration {
        self.faults.iter().fold(Duration::ZERO, |sum, fault| match fault.kind {
            Kind::Latency { time } => sum.saturating_add(time),
            Kind::Crash { .. } | Kind::Hang { .. } | Kind::Reset { .. } | Kind::Truncate { .. } => sum,
            Kind::Freeze { .. } | Kind::Busy { .. } | Kind::Unhealthy | Kind::Memory { .. } => sum,
        })
    }

    /// The first fault that cuts the answer, with the bytes before it.
    fn cut(&self) -> Option<(u64, Cut)> {
        self.faults.iter().find_map(|fault| match self.cut_of(&fault.kind)? {
            (Point::Answer { bytes }, cut) => Some((bytes, cut)),
            (Point::Arrival | Point::Body, _) => None,
        })
    }

    fn cut_of(&self, kind: &Kind) -> Option<(Point, Cut)> {
        match kind {
            Kind::Crash { at, code } => Some((*at, Cut::Crash { code: *code })),
            Kind::Hang { at } => Some((*at, Cut::Hang)),
            Kind::Reset { at } => Some((*at, Cut::Reset(self.ending.clone()))),
            Kind::Truncate { at } => Some((*at, Cut::Close)),
            Kind::Latency { .. } | Kind::Freeze { .. } | Kind::Busy { .. } => None,
            Kind::Unhealthy | Kind::Memory { .. } => None,
        }
    }
}

/// Reads a body to its end; nothing of it is kept but its length and its digest.
async fn receive(mut body: Incoming) -> io::Result<(Summary, HeaderMap)> {
    let mut sum = Summing::default();
    let mut trailers = HeaderMap::new();
    while let Some(frame) = body.frame().await {
        match frame.map_err(io::Error::other)?.into_data() {
            Ok(data) => sum.add(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    Ok((sum.finish(), trailers))
}

/// Blocks the only thread there is, so that nothing at all answers any more.
fn freeze(time: Option<Duration>) {
    eprintln!("model-server: fault: freeze");
    let begun = Instant::now();
    while time.is_none_or(|time| begun.elapsed() < time) {
        let left = time.map_or(Duration::MAX, |time| time.saturating_sub(begun.elapsed()));
        std::thread::park_timeout(left.min(Duration::from_secs(60)));
    }
}

/// Touches every page, so that a memory limit notices.
fn take_memory(bytes: usize) {
    eprintln!("model-server: fault: {bytes} bytes of memory are taken");
    const STEP: usize = 1 << 20;
    for _ in 0..bytes.div_ceil(STEP) {
        // The box keeps the compiler from leaving out memory that nobody reads.
        std::hint::black_box(Vec::leak(vec![1_u8; STEP]));
    }
}

impl Reply {
    fn into_response(self, state: &State) -> Response<Content> {
        let mut response = Response::new(self.content);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        let headers = response.headers_mut();
        if let Some(content_type) = self.content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        if let Some(digest) = self.digest.and_then(|digest| HeaderValue::try_from(digest.field()).ok()) {
            headers.insert(CONTENT_DIGEST, digest);
        }
        if let Ok(instance) = HeaderValue::try_from(&state.instance) {
            headers.insert("model-instance", instance);
        }
        response
    }
}
