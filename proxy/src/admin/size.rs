//! The size of a service over the admin API: set, set back, explained.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use longshore_pool::Decision;
use longshore_pool::scaling::Damping;

use super::routes::{Shared, known, refused, service_view};
use super::view::{DampingView, DecisionView, Decisions, LoadView, SizeRequest};
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
    // Read whatever the Content-Type says: `curl -d` claims that it sends a form.
    let asked = body
        .map_err(|error| error.body_text())
        .and_then(|body| serde_json::from_slice::<SizeRequest>(&body).map_err(|error| error.to_string()))
        .map_err(|error| format!("the body must be JSON such as {{\"size\": 3}}: {error}"));
    let sizing = control.service().sizing.clone();
    let size = asked.and_then(|request| {
        sizing.understand(&request.size).map_err(|error| match error.pointer.as_str() {
            "" => error.message,
            pointer => format!("/size{pointer}: {}", error.message),
        })
    });
    match size {
        Ok(size) => {
            tracing::info!(service = %name, size = %size.form(), "size set");
            sizing.set(size);
            Json(service_view(&control)).into_response()
        }
        Err(detail) => refused(&Problem::Invalid(detail)),
    }
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
