//! The size of a service over the admin API: set, set back, explained.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use longshore_pool::Decision;
use longshore_pool::scaling::Damping;
use serde_json::Value;

use super::Refusal;
use super::routes::{BODY_LIMIT, Shared, known, refused, service_view};
use super::view::{DampingView, DecisionView, Decisions, LoadView};
use crate::config::SizeError;
use crate::control::Control;
use crate::problem::Problem;

/// `PUT /services/NAME/size`.
pub(super) async fn set(
    State(admin): Shared,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let control = match known(&admin, &name) {
        Ok(control) => control,
        Err(problem) => return refused(&problem),
    };
    let sizing = control.service().sizing.clone();
    let size = body.map_err(|error| unread(&error)).and_then(|body| {
        let asked = asked(&body)?;
        let at = |error: SizeError| Refusal::at(format!("/size{}", error.pointer), error.message);
        sizing.understand(&asked).map_err(at)
    });
    match size {
        Ok(size) => {
            tracing::info!(service = %name, size = %size.form(), "size set");
            sizing.set(size);
            Json(service_view(&control)).into_response()
        }
        Err(refusal) => refusal.response(),
    }
}

/// What the body asks for, whatever the Content-Type says: `curl -d` claims that it sends a form.
fn asked(body: &[u8]) -> Result<Value, Refusal> {
    let whole = |what: String| {
        Refusal::at(String::new(), format!("the body must be JSON such as {{\"size\": 3}}: {what}"))
    };
    let mut object = match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => object,
        Ok(other) => return Err(whole(format!("it is {}", kind(&other)))),
        Err(error) => return Err(whole(error.to_string())),
    };
    let size = object.remove("size");
    match (object.keys().next(), size) {
        (Some(key), _) => {
            let pointer = format!("/{}", key.replace('~', "~0").replace('/', "~1"));
            Err(Refusal::at(pointer, format!("unknown key {key:?}: the only key here is \"size\"")))
        }
        (None, Some(size)) => Ok(size),
        (None, None) => Err(whole("it has no \"size\"".to_owned())),
    }
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn unread(error: &BytesRejection) -> Refusal {
    let problem = match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::BodyTooLarge(format!(
            "a request to the admin API has a body of up to {BODY_LIMIT} bytes"
        )),
        _ => Problem::Invalid("the body broke off".to_owned()),
    };
    Refusal { problem, mistakes: Vec::new() }
}

/// `DELETE /services/NAME/size`.
pub(super) async fn reset(State(admin): Shared, Path(name): Path<String>) -> Response {
    match known(&admin, &name) {
        Ok(control) => {
            let sizing = control.service().sizing.clone();
            sizing.reset();
            tracing::info!(service = %name, size = %sizing.present().form(), "size set back to the file's");
            Json(service_view(&control)).into_response()
        }
        Err(problem) => refused(&problem),
    }
}

/// `GET /services/NAME/decisions`.
pub(super) async fn decisions(State(admin): Shared, Path(name): Path<String>) -> Response {
    match known(&admin, &name) {
        Ok(control) => Json(view(&control)).into_response(),
        Err(problem) => refused(&problem),
    }
}

fn view(control: &Control) -> Decisions {
    let service = control.service();
    let (now, unix_now) = (service.clock.now(), service.clock.unix_now());
    let decision = |decision: &Decision| DecisionView {
        at: unix_now - now.since(decision.at).as_secs_f64(),
        age_s: now.since(decision.at).as_secs_f64(),
        since_age_s: now.since(decision.since).as_secs_f64(),
        looks: decision.looks,
        policy: decision.policy.to_owned(),
        load: load(decision),
        inputs: decision.inputs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        recommended: decision.recommended,
        failed: decision.failed,
        damping: decision.damping.iter().map(damping).collect(),
        before: decision.before,
        size: decision.size,
        dry_run: decision.dry_run,
        reason: decision.reason.to_string(),
    };
    let mut decisions: Vec<DecisionView> = service.dispatcher.decisions().iter().map(decision).collect();
    decisions.reverse();
    let size = service.sizing.present();
    Decisions { service: service.name.to_string(), size: size.form(), dry_run: size.dry_run, decisions }
}

fn load(decision: &Decision) -> LoadView {
    let load = &decision.load;
    LoadView {
        queue: load.queue,
        oldest_wait: load.oldest_wait.as_secs_f64(),
        in_flight: load.in_flight,
        ready: load.ready,
        starting: load.starting,
        standby: load.standby,
        size: load.size,
        arrival_rate: load.arrival_rate,
        service_time: load.service_time,
        start_time: load.start_time,
    }
}

fn damping(damping: &Damping) -> DampingView {
    DampingView {
        by: damping.by.to_owned(),
        from: damping.from,
        to: damping.to,
        reason: damping.reason.clone(),
    }
}
