//! Longshore's own errors, and the one place where an error becomes a status code (RFC 9457 problem details).

mod accept;
mod grpc;
mod page;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use longshore_pool::{DeathCause, RejectReason, Retry};
use nix::sys::signal::Signal;

pub use accept::prefers_html;
pub use grpc::is_grpc;
pub use page::escape;

/// What went wrong, as a client may see it. The kinds, their statuses and fields are interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Malformed or ambiguous framing; the connection is closed.
    BadRequest(String),
    /// A token is demanded.
    Unauthorized(String),
    /// What this client may not do.
    Forbidden(String),
    /// No rule matches the request. With the names of the services that there are.
    NoService(String, Vec<Arc<str>>),
    /// Something named in an admin request does not exist.
    NotFound(String),
    /// A value in an admin request is wrong.
    Invalid(String),
    /// The body is larger than `max_body`.
    BodyTooLarge(String),
    /// The header section is larger than the limit.
    HeadersTooLarge(String),
    /// The request took longer to arrive than allowed.
    RequestTimeout(String),
    /// The request was lost on too many instances.
    AttemptsExhausted(String),
    /// A client asks too much at once, or too often.
    ClientLimit(String, Duration),
    /// As many connections are open as there may be.
    Overloaded(String, Duration),
    /// Too much waits already.
    QueueFull(String, Duration),
    /// No instance can be started.
    CannotStart(String, Duration),
    /// The service's size is 0 and nothing will raise it, or its restart policy has stopped it.
    Stopped(String),
    /// Longshore is ending.
    ShuttingDown(String),
    /// Waited for a slot as long as the service allows.
    QueueTimeout(String),
    /// The request's own deadline passed.
    Timeout(String),
    /// The path does not know the method. With the methods that it knows, as `Allow` names them.
    MethodNotAllowed(String, &'static str),
    /// A client expects what is not promised.
    Expectation(String),
    /// The job has no result any more, or never will.
    Gone(String),
    /// The job's state does not allow it.
    Conflict(String),
    /// The `Idempotency-Key` stands for another request.
    KeyReused(String),
    /// The job store does not answer.
    JobsUnavailable(String),
    /// What the job store kept of a job is not what was put there.
    JobDamaged(String),
    /// The disk that keeps waiting bodies is full or gone.
    Storage(String),
}

impl Problem {
    /// What becomes of a request that the pool rejects.
    pub fn from_reject(reason: &RejectReason, service: &str) -> Self {
        match reason {
            RejectReason::QueueFull { retry_after } => Self::QueueFull(
                format!("the queue of {service} is full; try again in {}", seconds(*retry_after)),
                *retry_after,
            ),
            RejectReason::QueueTimeout => Self::QueueTimeout(format!(
                "no instance of {service} had a free slot within the queue timeout"
            )),
            RejectReason::DeadlinePassed => {
                Self::Timeout(format!("{service} did not answer before the request's deadline"))
            }
            RejectReason::AttemptsExhausted { attempts } => {
                let list: Vec<_> =
                    attempts.iter().map(|(instance, how)| format!("{service}-{instance}: {how}")).collect();
                let instances: BTreeSet<_> = attempts.iter().map(|(instance, _)| instance).collect();
                let times = match attempts.len() {
                    times if times > instances.len() => format!(", {times} times in all,"),
                    _ => String::new(),
                };
                Self::AttemptsExhausted(format!(
                    "the request was lost on {}{times} and is not tried again ({})",
                    count(instances.len(), "instance"),
                    list.join("; ")
                ))
            }
            RejectReason::CannotStart { cause, retry_after } => Self::CannotStart(
                format!("no instance of {service} can be started: {}", death(cause)),
                *retry_after,
            ),
            RejectReason::Stopped { cause: Some(cause) } => Self::Stopped(format!(
                "{service} is stopped by its restart policy, which does not start again what has ended: {}; start it with \
                 `longshore restart {service}`",
                death(cause)
            )),
            RejectReason::Stopped { cause: None } => Self::Stopped(format!(
                "{service} is stopped (its size is 0); start it with `longshore scale {service}=1`"
            )),
            RejectReason::ShuttingDown => Self::ShuttingDown("longshore is shutting down".to_owned()),
        }
    }

    /// The last part of the `type` URN, and the `kind` label in metrics.
    pub const fn kind(&self) -> &'static str {
        self.facts().0
    }

    /// The status code.
    pub const fn status(&self) -> StatusCode {
        self.facts().1
    }

    /// What happened, for the client.
    pub fn detail(&self) -> &str {
        match self {
            Self::BadRequest(detail)
            | Self::Unauthorized(detail)
            | Self::Forbidden(detail)
            | Self::NoService(detail, _)
            | Self::NotFound(detail)
            | Self::Invalid(detail)
            | Self::BodyTooLarge(detail)
            | Self::HeadersTooLarge(detail)
            | Self::RequestTimeout(detail)
            | Self::AttemptsExhausted(detail)
            | Self::ClientLimit(detail, _)
            | Self::Overloaded(detail, _)
            | Self::QueueFull(detail, _)
            | Self::CannotStart(detail, _)
            | Self::Stopped(detail)
            | Self::ShuttingDown(detail)
            | Self::QueueTimeout(detail)
            | Self::Timeout(detail)
            | Self::MethodNotAllowed(detail, _)
            | Self::Expectation(detail)
            | Self::Gone(detail)
            | Self::Conflict(detail)
            | Self::KeyReused(detail)
            | Self::JobsUnavailable(detail)
            | Self::JobDamaged(detail)
            | Self::Storage(detail) => detail,
        }
    }

    /// The services that there are, where none was found.
    fn services(&self) -> &[Arc<str>] {
        match self {
            Self::NoService(_, services) => services,
            Self::BadRequest(_)
            | Self::Unauthorized(_)
            | Self::Forbidden(_)
            | Self::NotFound(_)
            | Self::Invalid(_)
            | Self::BodyTooLarge(_)
            | Self::HeadersTooLarge(_)
            | Self::RequestTimeout(_)
            | Self::AttemptsExhausted(_)
            | Self::ClientLimit(..)
            | Self::Overloaded(..)
            | Self::QueueFull(..)
            | Self::CannotStart(..)
            | Self::Stopped(_)
            | Self::ShuttingDown(_)
            | Self::QueueTimeout(_)
            | Self::Timeout(_)
            | Self::MethodNotAllowed(..)
            | Self::Expectation(_)
            | Self::Gone(_)
            | Self::Conflict(_)
            | Self::KeyReused(_)
            | Self::JobsUnavailable(_)
            | Self::JobDamaged(_)
            | Self::Storage(_) => &[],
        }
    }

    const fn facts(&self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::BadRequest(_) => ("bad-request", StatusCode::BAD_REQUEST, "Malformed request"),
            Self::Unauthorized(_) => ("unauthorized", StatusCode::UNAUTHORIZED, "Not authorised"),
            Self::Forbidden(_) => ("forbidden", StatusCode::FORBIDDEN, "Not allowed"),
            Self::NoService(..) => ("no-service", StatusCode::NOT_FOUND, "No such service"),
            Self::NotFound(_) => ("not-found", StatusCode::NOT_FOUND, "Not found"),
            Self::Invalid(_) => ("invalid", StatusCode::BAD_REQUEST, "Invalid value"),
            Self::BodyTooLarge(_) => ("body-too-large", StatusCode::PAYLOAD_TOO_LARGE, "Body too large"),
            Self::HeadersTooLarge(_) => {
                ("headers-too-large", StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Header section too large")
            }
            Self::RequestTimeout(_) => ("request-timeout", StatusCode::REQUEST_TIMEOUT, "Request timed out"),
            Self::AttemptsExhausted(_) => ("attempts-exhausted", StatusCode::BAD_GATEWAY, "Instances died"),
            Self::ClientLimit(..) => ("client-limit", StatusCode::TOO_MANY_REQUESTS, "Too many requests"),
            Self::Overloaded(..) => ("overloaded", StatusCode::SERVICE_UNAVAILABLE, "Too many connections"),
            Self::QueueFull(..) => ("queue-full", StatusCode::SERVICE_UNAVAILABLE, "Queue full"),
            Self::CannotStart(..) => {
                ("cannot-start", StatusCode::SERVICE_UNAVAILABLE, "Service cannot start")
            }
            Self::Stopped(_) => ("stopped", StatusCode::SERVICE_UNAVAILABLE, "Service stopped"),
            Self::ShuttingDown(_) => ("shutting-down", StatusCode::SERVICE_UNAVAILABLE, "Shutting down"),
            Self::QueueTimeout(_) => ("queue-timeout", StatusCode::GATEWAY_TIMEOUT, "Waited too long"),
            Self::Timeout(_) => ("timeout", StatusCode::GATEWAY_TIMEOUT, "Timed out"),
            Self::MethodNotAllowed(..) => {
                ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
            }
            Self::Expectation(_) => {
                ("expectation-failed", StatusCode::EXPECTATION_FAILED, "Expectation failed")
            }
            Self::Gone(_) => ("gone", StatusCode::GONE, "No result any more"),
            Self::Conflict(_) => ("conflict", StatusCode::CONFLICT, "Not in this state"),
            Self::KeyReused(_) => {
                ("idempotency-key-reused", StatusCode::UNPROCESSABLE_ENTITY, "Idempotency-Key reused")
            }
            Self::JobsUnavailable(_) => {
                ("jobs-unavailable", StatusCode::SERVICE_UNAVAILABLE, "Job store unavailable")
            }
            Self::JobDamaged(_) => ("job-damaged", StatusCode::INTERNAL_SERVER_ERROR, "Job damaged"),
            Self::Storage(_) => ("storage", StatusCode::INSUFFICIENT_STORAGE, "No room for the body"),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::ClientLimit(_, after)
            | Self::Overloaded(_, after)
            | Self::QueueFull(_, after)
            | Self::CannotStart(_, after) => Some(*after),
            Self::ShuttingDown(_) | Self::JobsUnavailable(_) => Some(Duration::from_secs(5)),
            Self::BadRequest(_)
            | Self::Unauthorized(_)
            | Self::Forbidden(_)
            | Self::NoService(..)
            | Self::NotFound(_)
            | Self::Invalid(_)
            | Self::BodyTooLarge(_)
            | Self::HeadersTooLarge(_)
            | Self::RequestTimeout(_)
            | Self::AttemptsExhausted(_)
            | Self::Stopped(_)
            | Self::QueueTimeout(_)
            | Self::Timeout(_)
            | Self::MethodNotAllowed(..)
            | Self::Expectation(_)
            | Self::Gone(_)
            | Self::Conflict(_)
            | Self::KeyReused(_)
            | Self::JobDamaged(_)
            | Self::Storage(_) => None,
        }
    }

    /// The answer, as `application/problem+json`, as a page where the client's `Accept` prefers HTML, or as gRPC has it.
    pub fn response(
        &self,
        service: Option<&str>,
        request_id: Option<&str>,
        asked: &HeaderMap,
    ) -> Response<Bytes> {
        let mut response =
            self.grpc_response(asked).unwrap_or_else(|| self.document(service, request_id, asked));
        let headers = response.headers_mut();
        if let Some(after) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        if let Some(id) = request_id.and_then(|id| HeaderValue::from_str(id).ok()) {
            headers.insert("x-request-id", id);
        }
        if matches!(self, Self::Unauthorized(_)) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Self::MethodNotAllowed(_, allowed) = self {
            headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        // A client that waits for a sign to send its body gets none, and may send it or not: what comes next is not known.
        let may_send = asked.contains_key(header::EXPECT);
        let is_lost = matches!(
            self,
            Self::BadRequest(_) | Self::HeadersTooLarge(_) | Self::BodyTooLarge(_) | Self::RequestTimeout(_)
        );
        if may_send || is_lost {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn document(
        &self,
        service: Option<&str>,
        request_id: Option<&str>,
        asked: &HeaderMap,
    ) -> Response<Bytes> {
        let (_, status, title) = self.facts();
        let html = accept::prefers_html(asked);
        let body = if html {
            page::page(self, title, service, request_id)
        } else {
            self.json(title, service, request_id)
        };
        let kind = if html { "text/html; charset=utf-8" } else { "application/problem+json" };
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    fn json(&self, title: &str, service: Option<&str>, request_id: Option<&str>) -> String {
        let mut body = serde_json::json!({
            "type": format!("urn:longshore:{}", self.kind()),
            "title": title,
            "status": self.status().as_u16(),
            "detail": self.detail(),
        });
        if let Some(service) = service {
            body["service"] = service.into();
        }
        if let Some(id) = request_id {
            body["request_id"] = id.into();
        }
        format!("{body}\n")
    }
}

/// Why an instance is no more, in words, and its last ones.
pub fn death(cause: &DeathCause) -> String {
    let log = match cause {
        DeathCause::Exited { log, .. }
        | DeathCause::OutOfMemory { log }
        | DeathCause::StartTimeout { log, .. } => log.trim_end(),
        DeathCause::Killed { .. }
        | DeathCause::Vanished
        | DeathCause::Unexplained
        | DeathCause::StartFailed { .. }
        | DeathCause::Hung
        | DeathCause::Stopped => "",
    };
    let what = death_in_a_line(cause);
    if log.is_empty() { what } else { format!("{what}; its last log lines:\n{log}") }
}

/// The same without its last words.
pub fn death_in_a_line(cause: &DeathCause) -> String {
    match cause {
        DeathCause::Exited { code, .. } => format!("exited with code {code}"),
        DeathCause::OutOfMemory { .. } => "killed for want of memory (OOM)".to_owned(),
        DeathCause::Killed { signal } => match Signal::try_from(*signal) {
            Ok(name) => format!("killed by signal {signal} ({name})"),
            Err(_) => format!("killed by signal {signal}"),
        },
        DeathCause::Vanished => "vanished (removed from outside)".to_owned(),
        DeathCause::Unexplained => "its main process is gone".to_owned(),
        DeathCause::StartFailed { error, retry } => match retry {
            Retry::Later | Retry::Futile => error.to_string(),
            Retry::EngineDown => format!("the engine does not answer: {error}"),
        },
        DeathCause::StartTimeout { after, saw, .. } => {
            let after = humantime::format_duration(*after);
            format!("not ready within the start timeout of {after}: {saw}")
        }
        DeathCause::Hung => "hung: it failed its probes, or lost three requests in a row".to_owned(),
        DeathCause::Stopped => "stopped".to_owned(),
    }
}

/// The label of a cause in metrics: one of a fixed few.
pub const fn death_label(cause: &DeathCause) -> &'static str {
    match cause {
        DeathCause::Exited { .. } => "exited",
        DeathCause::OutOfMemory { .. } => "oom",
        DeathCause::Killed { .. } => "killed",
        DeathCause::Vanished => "vanished",
        DeathCause::Unexplained => "unexplained",
        DeathCause::StartFailed { .. } => "start-failed",
        DeathCause::StartTimeout { .. } => "start-timeout",
        DeathCause::Hung => "hung",
        DeathCause::Stopped => "stopped",
    }
}

/// Rounded up: whoever comes back after so long has waited long enough.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1_000).max(1).try_into().unwrap_or(u64::MAX)
}

fn seconds(duration: Duration) -> String {
    count(usize::try_from(duration.as_secs().max(1)).unwrap_or(usize::MAX), "second")
}

fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_the_interface_has_its_status() {
        let text = String::new;
        for (problem, kind, status) in [
            (Problem::BadRequest(text()), "bad-request", 400),
            (Problem::Unauthorized(text()), "unauthorized", 401),
            (Problem::Forbidden(text()), "forbidden", 403),
            (Problem::NoService(text(), Vec::new()), "no-service", 404),
            (Problem::BodyTooLarge(text()), "body-too-large", 413),
            (Problem::HeadersTooLarge(text()), "headers-too-large", 431),
            (Problem::AttemptsExhausted(text()), "attempts-exhausted", 502),
            (Problem::ClientLimit(text(), Duration::ZERO), "client-limit", 429),
            (Problem::Overloaded(text(), Duration::ZERO), "overloaded", 503),
            (Problem::QueueFull(text(), Duration::ZERO), "queue-full", 503),
            (Problem::CannotStart(text(), Duration::ZERO), "cannot-start", 503),
            (Problem::Stopped(text()), "stopped", 503),
            (Problem::ShuttingDown(text()), "shutting-down", 503),
            (Problem::QueueTimeout(text()), "queue-timeout", 504),
            (Problem::Timeout(text()), "timeout", 504),
            (Problem::Gone(text()), "gone", 410),
            (Problem::Conflict(text()), "conflict", 409),
            (Problem::KeyReused(text()), "idempotency-key-reused", 422),
            (Problem::JobsUnavailable(text()), "jobs-unavailable", 503),
            (Problem::JobDamaged(text()), "job-damaged", 500),
            (Problem::Storage(text()), "storage", 507),
        ] {
            assert_eq!((problem.kind(), problem.status().as_u16()), (kind, status));
        }
    }

    #[test]
    fn a_client_gets_problem_details_and_a_browser_a_page() {
        let problem = Problem::QueueFull("full of <b>".to_owned(), Duration::from_millis(100));
        let json = problem.response(Some("calc"), Some("id-1"), &HeaderMap::new());
        assert_eq!(json.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(json.headers()[header::RETRY_AFTER], "1");
        let body: serde_json::Value = serde_json::from_slice(json.body()).unwrap();
        assert_eq!(body["type"], "urn:longshore:queue-full");
        assert_eq!(
            (&body["status"], &body["service"], &body["request_id"]),
            (&503.into(), &"calc".into(), &"id-1".into())
        );
        let mut browser = HeaderMap::new();
        browser.insert(header::ACCEPT, HeaderValue::from_static("text/html,application/xhtml+xml,*/*;q=0.8"));
        let page = problem.response(Some("calc"), None, &browser);
        assert!(String::from_utf8_lossy(page.body()).contains("full of &lt;b&gt;"));
    }

    #[test]
    fn what_killed_an_instance_is_told_with_its_last_words() {
        let cause = DeathCause::Exited { code: 3, log: "no such model\n".into() };
        let reject = RejectReason::CannotStart { cause, retry_after: Duration::from_secs(2) };
        let detail = Problem::from_reject(&reject, "calc").detail().to_owned();
        assert_eq!(
            detail,
            "no instance of calc can be started: exited with code 3; its last log lines:\nno such model"
        );
        for (cause, told) in [
            (DeathCause::Exited { code: 3, log: " \n".into() }, "exited with code 3"),
            (
                DeathCause::StartTimeout {
                    after: Duration::from_secs(9),
                    saw: "status 500".into(),
                    log: "".into(),
                },
                "not ready within the start timeout of 9s: status 500",
            ),
            (DeathCause::Killed { signal: 9 }, "killed by signal 9 (SIGKILL)"),
            (DeathCause::Killed { signal: 99 }, "killed by signal 99"),
        ] {
            assert_eq!((death(&cause), death_in_a_line(&cause)), (told.to_owned(), told.to_owned()));
        }
        let cause = DeathCause::Exited { code: 3, log: "no such model\n".into() };
        assert_eq!(death_in_a_line(&cause), "exited with code 3");
        let reject = RejectReason::Stopped { cause: Some(DeathCause::Killed { signal: 9 }) };
        let problem = Problem::from_reject(&reject, "calc");
        assert_eq!((problem.kind(), problem.status()), ("stopped", StatusCode::SERVICE_UNAVAILABLE));
        assert!(problem.detail().contains("calc is stopped by its restart policy"), "{}", problem.detail());
        assert!(problem.detail().contains(&death(&DeathCause::Killed { signal: 9 })), "{}", problem.detail());
    }
}
