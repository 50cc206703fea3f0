//! The life of one request, from its head to its answer: route, keep its body, wait, attempt, attempt again.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, Version};
use hyper::body::Incoming;
use longshore_pool::{Class, Outcome, RequestId, Time};
use tokio::sync::oneshot;

use super::Gateway;
use super::arrival::{self, Begun, Upload};
use super::attempt::{Answer, Attempt, Failure};
use super::body::{RequestBody, ResponseBody};
use super::downstream::{Asker, Taking};
use super::headers::{self, Origin};
use super::ids::{Trace, plain};
use super::lease::{Entry, Lease};
use super::pace::Pace;
use super::paced::Paced;
use super::resume::{Head, Question, Resume};
use super::route;
use super::serve::{Active, Client};
use super::service::Service;
use super::spans::Spans;
use super::spool::SpoolError;
use super::stream::{Open, Streaming};
use super::told::{self, Told};
use super::tunnel::Tunnel;
use super::upgrade;
use crate::config::ReplayMethods;
use crate::events::Kind;
use crate::problem::{self, Problem};

/// What a request is called: in the pool, in traces, by people.
pub(super) struct Name {
    pub request: RequestId,
    pub trace: Trace,
    pub id: HeaderValue,
    pub spans: Spans,
    pub asker: Asker,
}

pub(super) struct Exchange {
    pub(super) service: Arc<Service>,
    pub(super) parts: Parts,
    pub(super) target: http::Uri,
    upgrade: Option<HeaderValue>,
    request: RequestId,
    class: Class,
    pace: Option<Pace>,
    pub(super) request_id: HeaderValue,
    pub(super) started: Time,
    pub(super) deadline: Time,
    /// Time spent in the queue so far, all waits together.
    waited: Duration,
    /// How long a connection may be silent that nobody sends anything on any more.
    idle: Duration,
    pub(super) answered: bool,
    asker: Asker,
    /// Until it is taken.
    body: Option<Upload>,
    /// Told when the request first has an instance.
    pub(super) told: Option<oneshot::Sender<()>>,
    /// Whether it is asked for again when its answer breaks off.
    pub(super) inside: bool,
    /// Until the answer streams, which ends them then.
    pub(super) spans: Spans,
}

impl Exchange {
    pub(super) fn new(
        gateway: &Gateway,
        client: &Client,
        begun: Begun,
        mut parts: Parts,
        mut name: Name,
        started: Time,
    ) -> Self {
        let Begun { service, target, timeout, class, pace, body, key: _ } = begun;
        let authority =
            parts.uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        // HTTP/1.0 and HTTP/2 do without a Host, an instance's HTTP/1.1 does not: the service's name is one.
        let host = authority
            .or_else(|| parts.headers.get(http::header::HOST).cloned())
            .or_else(|| HeaderValue::from_str(&service.name).ok());
        let settings = gateway.settings.load();
        let origin = Origin {
            sender: client.sender(),
            scheme: client.scheme().name(),
            host: host.as_ref(),
            forwarded: settings.forwarded,
            prefix: service.config.strip_prefix.then(|| route::stripped(&parts.uri, &target)).flatten(),
            request_id: &name.id,
            trace: name.trace,
            sampled: gateway.tracing.samples(name.trace),
        };
        let deadline = started + timeout;
        let upgrade = headers::prepare_request(&mut parts.headers, parts.version, &origin);
        let waited = Duration::ZERO;
        name.spans.routed(&service.name, &name.id);
        Self {
            service,
            parts,
            target,
            upgrade,
            request: name.request,
            class,
            pace,
            request_id: name.id,
            started,
            deadline,
            waited,
            idle: settings.timeouts.idle,
            answered: false,
            asker: name.asker,
            body: Some(body),
            told: None,
            inside: false,
            spans: name.spans,
        }
    }

    pub(super) async fn run(&mut self, active: Active) -> Result<Response<ResponseBody>, Problem> {
        let body = self.take().await?;
        let since = if body.is_empty() { self.started } else { self.service.clock.now() };
        self.perform(body, since, active).await
    }

    /// Takes the body from the client, as far as it is taken before the request waits.
    pub(super) async fn take(&mut self) -> Result<RequestBody, Problem> {
        let until = self.service.clock.instant(self.deadline);
        match tokio::time::timeout_at(until, self.take_body()).await {
            Ok(body) => body.map_err(|error| self.body_problem(&error)),
            Err(_) => Err(arrival::late_body()),
        }
    }

    /// Waits for a slot, counted from `since`, and sends the request until there is an answer.
    pub(super) async fn perform(
        &mut self,
        mut body: RequestBody,
        mut since: Time,
        active: Active,
    ) -> Result<Response<ResponseBody>, Problem> {
        self.spans.accepted(since);
        let mut entry = self.arrive(since);
        loop {
            if let Entry::Waiting(_) = entry {
                body.compact();
            }
            let granted = self.granted(entry, &body).await;
            let lease = granted.inspect_err(|problem| self.spans.rejected(since, problem))?;
            if let Some(told) = self.told.take() {
                // Who wanted to know may have gone.
                let _ = told.send(());
            }
            self.spans.queued(since, lease.dispatched());
            let traceparent = self.spans.attempt(&lease);
            let wait = lease.dispatched().since(since);
            self.waited += wait;
            self.service.metrics.waited(wait);
            match self.attempt(&body, traceparent).run(&lease).await {
                Ok(answer) => return Ok(self.answer(answer, lease, &body, active)),
                Err(failure) => {
                    since = self.service.clock.now();
                    self.spans.lost(since, failure.label(), failure.how());
                    entry = self.again(lease, failure, since)?;
                }
            }
        }
    }

    fn arrive(&self, now: Time) -> Entry {
        let (request, replayable) = (self.request, self.replayable());
        self.service.dispatcher.arrive(
            (request, &self.request_id),
            self.deadline,
            replayable,
            self.class,
            now,
        )
    }

    async fn take_body(&mut self) -> Result<RequestBody, SpoolError> {
        let body = match self.body.take() {
            Some(Upload::Unread(body)) => {
                let body = Paced::new(body, self.pace);
                RequestBody::take(body, &self.service.space, self.parts.version).await?
            }
            Some(Upload::Begun(body)) => body,
            None => return Ok(RequestBody::Empty),
        };
        body.begun(&self.service.space).await?;
        Ok(body)
    }

    /// Waits for a slot, and reads the body meanwhile: so a departing client is seen.
    async fn granted(&self, entry: Entry, body: &RequestBody) -> Result<Lease, Problem> {
        let decided = match entry {
            Entry::Granted(lease) => return Ok(lease),
            Entry::Refused(reason) => Err(reason),
            Entry::Waiting(mut waiter) => {
                tokio::select! {
                    biased;
                    decided = waiter.decided() => decided,
                    error = body.failure() => return Err(self.body_problem(&error)),
                }
            }
        };
        decided.map_err(|reason| {
            let problem = Problem::from_reject(&reason, &self.service.name);
            if matches!(problem, Problem::AttemptsExhausted(_)) {
                self.service.metrics.lost();
                tracing::warn!(
                    service = %self.service.name, request_id = %plain(&self.request_id), request = self.request.0,
                    detail = problem.detail(), "a request is given up"
                );
                let (kind, events) = (Kind::RequestQuarantined, &self.service.events);
                events.request(kind, &self.request_id, None, problem.detail());
            }
            problem
        })
    }

    fn attempt<'b>(&'b self, body: &'b RequestBody, traceparent: Option<HeaderValue>) -> Attempt<'b> {
        let config = &self.service.config;
        Attempt {
            method: &self.parts.method,
            target: &self.target,
            headers: &self.parts.headers,
            asker: &self.asker,
            // What is kept for others is looked at.
            as_it_comes: self.service.cache.is_none() && self.asker.takes_lines(),
            traceparent,
            body,
            upgrade: self.upgrade.is_some(),
            deadline: self.service.clock.instant(self.deadline),
            first_byte_timeout: config.first_byte_timeout,
            hold: config.replay.hold,
            space: &self.service.space,
            replayable: self.replayable(),
            // An answer that must not be asked for twice is passed on as it is.
            busy: if self.replayable() { &config.replay.busy } else { &[] },
        }
    }

    fn replayable(&self) -> bool {
        match self.service.config.replay.methods {
            ReplayMethods::All => true,
            ReplayMethods::Idempotent => self.parts.method.is_idempotent(),
            ReplayMethods::None => false,
        }
    }

    /// The attempt failed: back into the queue, or the end. Whoever refuses it says so.
    fn again(&self, lease: Lease, failure: Failure, now: Time) -> Result<Entry, Problem> {
        let (link, attempt, outcome) = (lease.link().clone(), lease.attempt(), failure.outcome());
        let label = failure.label();
        let how = match failure {
            Failure::Lost { how, .. } => Some(how),
            Failure::Busy(_) => None,
            Failure::Body(error) => {
                lease.finish(outcome, now);
                return Err(self.body_problem(&error));
            }
            Failure::Deadline => {
                lease.finish(outcome, now);
                return Err(Problem::Timeout(format!(
                    "{} did not answer before the request's deadline",
                    self.service.name
                )));
            }
        };
        let entry = lease.retry(outcome, &self.request_id, now);
        if !matches!(entry, Entry::Refused(_)) {
            if let Some(how) = how {
                tracing::info!(
                    service = %self.service.name, instance = %plain(link.name()),
                    request_id = %plain(&self.request_id), attempt, how, "an attempt was lost: the request goes back to the head of the queue"
                );
                self.service.events.replayed(&self.request_id, link.name(), &how);
            }
            self.service.metrics.replayed(label);
        }
        Ok(entry)
    }

    fn answer(
        &mut self,
        answer: Answer,
        lease: Lease,
        body: &RequestBody,
        active: Active,
    ) -> Response<ResponseBody> {
        let now = self.service.clock.now();
        let told = Told {
            instance: lease.link().name(),
            attempts: lease.attempt(),
            queue: self.waited,
            instance_time: now.since(lease.dispatched()),
            request_id: &self.request_id,
        };
        match answer {
            Answer::Held(mut response, wire) => {
                self.spans.answered(now, response.status().as_u16());
                self.spans.end(None);
                if let Some(lines) = response.body_mut().lines_mut() {
                    told.write(lines);
                } else {
                    *response.version_mut() = http::Version::HTTP_11;
                    headers::prepare_response(response.headers_mut(), false);
                    self.restyle(&mut response);
                    told::tell(response.headers_mut(), &told);
                }
                self.service.metrics.answered(response.status().as_u16(), now.since(self.started));
                if let Some(wire) = wire {
                    lease.link().keep(wire, now);
                }
                lease.finish(Outcome::Answered, now);
                response
            }
            Answer::Live(mut response, wire) => {
                self.spans.answered(now, response.status().as_u16());
                let switch = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                let until_close = !switch && wire.ends_with(&response);
                // The version is the hop's: hyper speaks the client's.
                *response.version_mut() = http::Version::HTTP_11;
                headers::prepare_response(
                    response.headers_mut(),
                    switch && self.parts.version != Version::HTTP_2,
                );
                self.restyle(&mut response);
                told::tell(response.headers_mut(), &told);
                if switch || self.deadline_of(&response).is_none() {
                    lease.streams(now);
                }
                let resume = (!switch).then(|| self.resume(&response, body)).flatten();
                let open = Open {
                    lease,
                    carrier: wire.carry(switch || body.is_complete()),
                    service: self.service.clone(),
                    started: self.started,
                    code: response.status().as_u16(),
                    request_id: self.request_id.clone(),
                    inside: self.inside,
                    grpc: self.parts.version == Version::HTTP_2 && problem::is_grpc(response.headers()),
                    spans: std::mem::take(&mut self.spans),
                };
                match resume {
                    Some(_) => body.relax(),
                    None => body.release(),
                }
                if switch {
                    self.switch(response, open, active)
                } else {
                    self.stream(response, until_close, open, resume, active)
                }
            }
        }
    }

    /// Gives the answer to an extended CONNECT the status that its client expects.
    fn restyle<B>(&self, response: &mut Response<B>) {
        if self.upgrade.is_some() && self.parts.version == Version::HTTP_2 {
            let status = upgrade::to_http2(response.status(), response.headers_mut());
            *response.status_mut() = status;
        }
    }

    /// Passes the answer on as it comes. One of known length must be complete by the deadline; one without end need not.
    fn stream(
        &self,
        response: Response<Incoming>,
        until_close: bool,
        open: Open,
        resume: Option<Box<Resume>>,
        active: Active,
    ) -> Response<ResponseBody> {
        let deadline = self.deadline_of(&response).map(|deadline| self.service.clock.instant(deadline));
        response.map(|source| {
            let streaming = Streaming::new(source, open, deadline, resume, active);
            ResponseBody::Streaming(Box::new(if until_close { streaming.until_close() } else { streaming }))
        })
    }

    /// By when an answer must be complete: one without a known end need not be.
    fn deadline_of(&self, response: &Response<Incoming>) -> Option<Time> {
        http_body::Body::size_hint(response.body()).exact().map(|_| self.deadline)
    }

    /// What the answer needs to go on elsewhere, where that is wanted and allowed.
    fn resume(&self, response: &Response<Incoming>, body: &RequestBody) -> Option<Box<Resume>> {
        // Whoever is inside asks again for the whole of it.
        if self.inside || !self.service.config.replay.resume || !self.replayable() {
            return None;
        }
        let question = Question {
            service: self.service.clone(),
            method: self.parts.method.clone(),
            target: self.target.clone(),
            headers: self.parts.headers.clone(),
            asker: self.asker.clone(),
            body: body.share(),
            deadline: self.deadline_of(response),
            request_id: self.request_id.clone(),
            head: Head::of(response.status(), response.headers()),
        };
        Some(Box::new(Resume::new(question, self.started)))
    }

    /// Joins both connections.
    fn switch(
        &mut self,
        mut response: Response<Incoming>,
        open: Open,
        active: Active,
    ) -> Response<ResponseBody> {
        let upstream = hyper::upgrade::on(&mut response);
        let downstream = Taking::of(&mut self.parts.extensions);
        if let Some(downstream) = downstream.filter(|_| self.upgrade.is_some()) {
            let idle = self.idle;
            tokio::spawn(Tunnel { upstream, downstream, open, active, idle }.run());
        }
        response.map(|_| ResponseBody::empty())
    }

    pub(super) fn body_problem(&self, error: &SpoolError) -> Problem {
        arrival::body_problem(error, &self.service.name)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.answered {
            // The future was dropped before there was an answer: the client has left.
            self.service.metrics.client_gone();
        }
    }
}
