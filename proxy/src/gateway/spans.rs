//! The spans of one request, where it is recorded: the whole (a server's span), and in it `accept` (until its body is
//! taken), and for each attempt `queue` and `attempt` (a client's span, which the instance's own spans are part of), and
//! `response` (from the head of the answer to its last byte).
//!
//! Where nothing is recorded a request holds nothing of it, and no clock is read for it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderValue;
use http::header::{self, HeaderMap};
use http::request::Parts;
use longshore_pool::Time;

use super::ids::{self, Trace};
use super::lease::Lease;
use super::trace_context::{self, TRACESTATE};
use crate::clock::Clock;
use crate::problem::Problem;
use crate::telemetry::{Kind, Recorded, Sampler, Span, Tracer, Value};

/// What records requests: resolved once, at the start.
pub struct Tracing {
    /// None where there is no collector.
    tracer: Option<Arc<Tracer>>,
    sampler: Sampler,
    clock: Clock,
}

/// The spans of a request; empty where it is not recorded.
#[derive(Default)]
pub struct Spans(Option<Box<Recording>>);

struct Recording {
    tracer: Arc<Tracer>,
    clock: Clock,
    /// Nanoseconds from 1970 to the clock's zero.
    zero: u64,
    begun: Time,
    /// When the answer began, once it has.
    answered: Option<Time>,
    attempt: Option<(Time, Span)>,
    /// The request's own span.
    whole: Span,
    recorded: Recorded,
}

impl Tracing {
    /// Records what `sampler` takes, if there is somebody to take it.
    pub const fn new(tracer: Option<Arc<Tracer>>, sampler: Sampler, clock: Clock) -> Self {
        Self { tracer, sampler, clock }
    }

    /// Whether a trace that begins here is marked as sampled.
    pub const fn samples(&self, trace: Trace) -> bool {
        self.sampler.samples(trace.random())
    }

    /// A request has come. It is recorded if the client records its trace, or if it begins one that is sampled.
    pub fn begin(
        &self,
        parts: &Parts,
        client: impl FnOnce() -> Option<IpAddr>,
        trace: Trace,
        begun: Time,
    ) -> Spans {
        let Some(tracer) = &self.tracer else { return Spans(None) };
        let parent = trace_context::parent(&parts.headers);
        let (sampled, id) = match &parent {
            Some(parent) => (parent.sampled, parent.trace),
            None => (self.samples(trace), trace.id()),
        };
        if !sampled {
            return Spans(None);
        }
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = self.clock.now().as_nanos();
        let zero = u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX).saturating_sub(now);
        let mut attributes = described(parts);
        attributes.extend(client().map(|client| ("client.address", text(client.to_string()))));
        let whole = Span {
            id: ids::span(),
            parent: parent.map(|parent| parent.span),
            name: parts.method.as_str().to_owned().into(),
            kind: Kind::Server,
            begun: zero + begun.as_nanos(),
            ended: 0,
            attributes,
            error: None,
        };
        let state = if parent.is_some() { state(&parts.headers) } else { String::new() };
        let recorded = Recorded { trace: id, state, spans: Vec::with_capacity(5) };
        let (tracer, clock) = (tracer.clone(), self.clock);
        Spans(Some(Box::new(Recording {
            tracer,
            clock,
            zero,
            begun,
            answered: None,
            attempt: None,
            whole,
            recorded,
        })))
    }
}

impl Spans {
    /// The service is known, and what people call the request.
    pub fn routed(&mut self, service: &str, request_id: &HeaderValue) {
        let Some(recording) = &mut self.0 else { return };
        let whole = &mut recording.whole;
        whole.name = format!("{} {service}", whole.name).into();
        whole.attributes.push(("longshore.service", text(service.to_owned())));
        let id = String::from_utf8_lossy(request_id.as_bytes()).into_owned();
        whole.attributes.push(("longshore.request_id", text(id)));
    }

    /// The body is taken, as far as that is waited for.
    pub fn accepted(&mut self, now: Time) {
        if let Some(recording) = &mut self.0 {
            recording.inside("accept", recording.begun, now, None);
        }
    }

    /// A wait in the queue is over: there is a slot.
    pub fn queued(&mut self, since: Time, now: Time) {
        if let Some(recording) = &mut self.0 {
            recording.inside("queue", since, now, None);
        }
    }

    /// A wait in the queue is over: there will be no slot.
    pub fn rejected(&mut self, since: Time, problem: &Problem) {
        if let Some(recording) = &mut self.0 {
            let now = recording.clock.now();
            recording.inside("queue", since, now, Some(problem.kind().into()));
        }
    }

    /// An attempt begins. What its `traceparent` says, if it is recorded.
    pub fn attempt(&mut self, lease: &Lease) -> Option<HeaderValue> {
        let recording = self.0.as_mut()?;
        let begun = lease.dispatched();
        let address = lease.link().address();
        let instance = String::from_utf8_lossy(lease.link().name().as_bytes()).into_owned();
        let attributes = vec![
            ("longshore.instance", text(instance)),
            ("longshore.attempt", Value::Int(i64::from(lease.attempt()))),
            ("server.address", text(address.ip().to_string())),
            ("server.port", Value::Int(i64::from(address.port()))),
        ];
        let span = recording.span("attempt", Kind::Client, attributes);
        let traceparent = trace_context::write(recording.recorded.trace, span.id, true);
        recording.attempt = Some((begun, span));
        Some(traceparent)
    }

    /// The attempt failed, as `how` says.
    pub fn lost(&mut self, now: Time, label: &'static str, how: Option<&str>) {
        if let Some(recording) = &mut self.0 {
            let error = how.map_or(Cow::Borrowed(label), |how| how.to_owned().into());
            recording.end_attempt(now, ("error.type", Value::Text(label.into())), Some(error));
        }
    }

    /// The same, at this moment.
    pub fn failed(&mut self, label: &'static str, how: Option<&str>) {
        if let Some(now) = self.0.as_ref().map(|recording| recording.clock.now()) {
            self.lost(now, label, how);
        }
    }

    /// The answer broke off, and is to go on with another instance.
    pub fn interrupted(&mut self, how: Option<&str>) {
        if let Some(recording) = &mut self.0
            && let Some(answered) = recording.answered.take()
        {
            let now = recording.clock.now();
            recording.inside("response", answered, now, how.map(|how| how.to_owned().into()));
        }
    }

    /// It goes on.
    pub fn resumed(&mut self, status: u16) {
        if let Some(now) = self.0.as_ref().map(|recording| recording.clock.now()) {
            self.answered(now, status);
        }
    }

    /// The attempt was answered with this status: the answer begins.
    pub fn answered(&mut self, now: Time, status: u16) {
        if let Some(recording) = &mut self.0 {
            let failed = (status >= 500).then(|| format!("status {status}").into());
            recording.end_attempt(now, ("http.response.status_code", Value::Int(status.into())), failed);
            recording.status(status);
            recording.answered = Some(now);
        }
    }

    /// The answer is one that was there already. Where it was not, its spans have gone on with it.
    pub fn shared(&mut self, status: u16) {
        if let Some(recording) = &mut self.0 {
            recording.status(status);
            self.end(None);
        }
    }

    /// Longshore itself answers, with a problem.
    pub fn refused(&mut self, problem: &Problem) {
        if let Some(recording) = &mut self.0 {
            recording.status(problem.status().as_u16());
            recording.whole.attributes.push(("error.type", Value::Text(problem.kind().into())));
            if recording.whole.error.is_some() {
                recording.whole.error = Some(problem.detail().to_owned().into());
            }
        }
        self.end(None);
    }

    /// All is over; `error` says what went wrong after the answer began.
    pub fn end(&mut self, error: Option<&'static str>) {
        let Some(mut recording) = self.0.take() else { return };
        let now = recording.clock.now();
        recording.end_attempt(
            now,
            ("error.type", Value::Text("client-gone".into())),
            error.map(Cow::Borrowed),
        );
        if let Some(answered) = recording.answered {
            recording.inside("response", answered, now, error.map(Cow::Borrowed));
        }
        let Recording { tracer, mut recorded, mut whole, zero, .. } = *recording;
        whole.ended = zero + now.as_nanos();
        whole.error = error.map(Cow::Borrowed).or(whole.error);
        recorded.spans.push(whole);
        tracer.take(recorded);
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        // Nobody has said how it ended: its client has left.
        self.end(Some("the client has left"));
    }
}

impl Recording {
    fn span(&self, name: &'static str, kind: Kind, attributes: Vec<(&'static str, Value)>) -> Span {
        let parent = Some(self.whole.id);
        Span { id: ids::span(), parent, name: name.into(), kind, begun: 0, ended: 0, attributes, error: None }
    }

    fn inside(&mut self, name: &'static str, begun: Time, ended: Time, error: Option<Cow<'static, str>>) {
        let mut span = self.span(name, Kind::Internal, Vec::new());
        span.error = error;
        self.push(span, begun, ended);
    }

    fn push(&mut self, span: Span, begun: Time, ended: Time) {
        let [begun, ended] = [begun, ended.max(begun)].map(|time| self.zero + time.as_nanos());
        self.recorded.spans.push(Span { begun, ended, ..span });
    }

    fn end_attempt(&mut self, now: Time, told: (&'static str, Value), error: Option<Cow<'static, str>>) {
        let Some((begun, mut span)) = self.attempt.take() else { return };
        span.attributes.push(told);
        span.error = error;
        self.push(span, begun, now);
    }

    fn status(&mut self, status: u16) {
        const CODE: &str = "http.response.status_code";
        self.whole.attributes.retain(|(name, _)| *name != CODE);
        self.whole.attributes.push((CODE, Value::Int(status.into())));
        // Of a server's span, the client's own mistakes are no error.
        self.whole.error = (status >= 500).then(|| format!("status {status}").into());
    }
}

/// What a request's head says, by OpenTelemetry's conventions for HTTP.
fn described(parts: &Parts) -> Vec<(&'static str, Value)> {
    let field = |name| parts.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let version = match parts.version {
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_2 => "2",
        _ => "1.1",
    };
    let host = parts.uri.authority().map(|authority| authority.as_str()).or_else(|| field(header::HOST));
    let known = [
        ("http.request.method", Some(text(parts.method.as_str().to_owned()))),
        ("url.path", Some(text(parts.uri.path().to_owned()))),
        ("server.address", host.map(|host| text(host.to_owned()))),
        ("user_agent.original", field(header::USER_AGENT).map(|agent| text(agent.to_owned()))),
        ("network.protocol.version", Some(Value::Text(version.into()))),
    ];
    known.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// The client's `tracestate`, several fields as one.
fn state(headers: &HeaderMap) -> String {
    let fields = headers.get_all(&TRACESTATE).iter().filter_map(|field| field.to_str().ok());
    fields.collect::<Vec<_>>().join(",")
}

fn text(text: String) -> Value {
    Value::Text(text.into())
}
