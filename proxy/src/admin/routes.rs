//! The routes of the admin API, and how a pool's snapshot becomes its JSON.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get, post, put};
use http::{HeaderMap, StatusCode, header};
use longshore_pool::{Event, InstanceId, Snapshot, StateView, Time};
use serde::Deserialize;

use super::view::{InstanceView, QueueView, ServiceView, Services, SizeView};
use super::{Admin, Order, events, guard, queue, reload, size};
use crate::config::Source;
use crate::control::Control;
use crate::jobs::Asker;
use crate::problem::{Problem, death};

/// Lines of a log shown when nobody says how many.
const LOG_TAIL: usize = 200;

/// Bytes of a request body; the largest is a size.
pub(super) const BODY_LIMIT: usize = 64 * 1024;

/// Where jobs are found here, whatever their path on the proxy's own listeners is.
const JOBS: &str = "/_jobs";

pub(super) type Shared = State<Arc<Admin>>;

/// Every route.
pub fn router(admin: Arc<Admin>) -> axum::Router {
    axum::Router::new()
        .route("/services", get(services))
        .route("/services/{name}", get(service))
        .route("/services/{name}/size", put(size::set).delete(size::reset))
        .route("/services/{name}/queue", get(queue::queue))
        .route("/services/{name}/decisions", get(size::decisions))
        .route("/services/{name}/restart", post(restart))
        .route("/services/{name}/instances/{id}", delete(replace))
        .route("/services/{name}/instances/{id}/kill", post(kill))
        .route("/services/{name}/instances/{id}/logs", get(logs))
        .route("/events", get(events::events))
        .route("/metrics", get(metrics))
        .route("/shutdown", post(shutdown))
        .route("/reload", post(reload::reload))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route(JOBS, any(jobs))
        .route("/_jobs/{*rest}", any(jobs))
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .layer(axum::extract::DefaultBodyLimit::max(BODY_LIMIT))
        .layer(axum::middleware::from_fn_with_state(admin.clone(), guard::guard))
        .with_state(admin)
}

/// A problem as an answer.
pub fn refuse(problem: &Problem, headers: &HeaderMap) -> Response {
    problem.response(None, None, headers).map(Body::from)
}

pub(super) fn refused(problem: &Problem) -> Response {
    refuse(problem, &HeaderMap::new())
}

/// A query that cannot be understood; `wanted` is what it may say.
pub(super) fn wrong_query(wanted: &str) -> Response {
    refused(&Problem::Invalid(format!("the query is wrong: {wanted}")))
}

async fn nowhere() -> Response {
    refused(&Problem::NotFound("the admin API has no such path; it begins at GET /services".to_owned()))
}

async fn wrong_method() -> Response {
    let mut response =
        refused(&Problem::MethodNotAllowed("this path does not know that method".to_owned(), ""));
    // The router names those of the path.
    response.headers_mut().remove(header::ALLOW);
    response
}

/// The jobs, as on the proxy's own listeners: there is a token here.
async fn jobs(State(admin): Shared, request: axum::extract::Request) -> Response {
    let (parts, body) = request.into_parts();
    admin.jobs.api(parts, body, JOBS, Asker::Anybody, None).await.map(Body::new)
}

async fn services(State(admin): Shared) -> Json<Services> {
    let services = admin.services.load().iter().map(|control| service_view(control)).collect();
    let proxy = (**admin.proxy.load()).clone();
    Json(Services { cluster: admin.cluster.clone(), backend: admin.backend.to_owned(), proxy, services })
}

async fn service(State(admin): Shared, Path(name): Path<String>) -> Response {
    match known(&admin, &name) {
        Ok(control) => Json(service_view(&control)).into_response(),
        Err(problem) => refused(&problem),
    }
}

async fn restart(State(admin): Shared, Path(name): Path<String>) -> Response {
    match known(&admin, &name) {
        Ok(control) if matches!(control.service().config.source, Source::Addresses(_)) => {
            refused(&Problem::Conflict(format!(
                "the servers of {name} already ran, and are not Longshore's to restart: start them again where they \
                 were started, and they are used as soon as their probes pass"
            )))
        }
        Ok(control) => {
            control.service().dispatcher.tell(Event::Restart);
            tracing::info!(service = %name, "rolling restart asked for");
            (StatusCode::ACCEPTED, Json(service_view(&control))).into_response()
        }
        Err(problem) => refused(&problem),
    }
}

async fn replace(State(admin): Shared, Path((name, id)): Path<(String, String)>) -> Response {
    match instance(&admin, &name, &id) {
        Ok((control, instance)) => {
            control.service().dispatcher.tell(Event::InstanceReplace { instance });
            tracing::info!(instance = id, "replacement asked for");
            (StatusCode::ACCEPTED, Json(service_view(&control))).into_response()
        }
        Err(problem) => refused(&problem),
    }
}

async fn kill(State(admin): Shared, Path((name, id)): Path<(String, String)>) -> Response {
    let (control, instance) = match instance(&admin, &name, &id) {
        Ok(found) => found,
        Err(problem) => return refused(&problem),
    };
    let Some((backend, key)) = control.managed(instance) else {
        return refused(&Problem::Invalid(format!("{name} has fixed addresses: there is nothing to kill")));
    };
    if let Some(state) = ended(&control, instance) {
        return refused(&Problem::Conflict(format!("{id} has ended already: it is {}", state.name())));
    }
    match backend.kill(&key).await {
        Ok(()) => {
            tracing::info!(instance = id, "killed, as asked");
            (StatusCode::ACCEPTED, Json(service_view(&control))).into_response()
        }
        Err(error) => refused(&Problem::CannotStart(
            format!("failed to kill {id}: {error}"),
            std::time::Duration::from_secs(1),
        )),
    }
}

/// The state of an instance of which nothing runs.
fn ended(control: &Control, instance: InstanceId) -> Option<StateView> {
    let snapshot = control.service().dispatcher.snapshot();
    let state = snapshot.instances.iter().find(|view| view.instance == instance)?.state;
    state.has_ended().then_some(state)
}

#[derive(Deserialize)]
struct LogQuery {
    #[serde(default)]
    follow: bool,
    tail: Option<usize>,
}

async fn logs(
    State(admin): Shared,
    Path((name, id)): Path<(String, String)>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Response {
    let Ok(Query(query)) = query else {
        return wrong_query("`follow` is true or false, and `tail` a number of lines");
    };
    let (control, instance) = match instance(&admin, &name, &id) {
        Ok(found) => found,
        Err(problem) => return refused(&problem),
    };
    let Some((backend, key)) = control.managed(instance) else {
        return refused(&Problem::Invalid(format!("{name} has fixed addresses: their logs are elsewhere")));
    };
    match backend.logs(&key, query.tail.unwrap_or(LOG_TAIL), query.follow).await {
        Ok(log) => {
            ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from_stream(log)).into_response()
        }
        Err(error) => refused(&Problem::NotFound(format!("no log of {id}: {error}"))),
    }
}

async fn metrics(State(admin): Shared) -> Response {
    for control in admin.services.load().iter() {
        let service = control.service();
        admin.metrics.observe(&service.name, &service.gauges());
        admin.metrics.observe_jobs(&service.name, &admin.jobs.gauges(&service.name));
    }
    match admin.metrics.render() {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "failed to render metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn ready(State(admin): Shared, request: axum::extract::Request) -> Response {
    if admin.ending.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "not ready: shutting down\n").into_response();
    }
    let missing: Vec<String> = admin
        .services
        .load()
        .iter()
        .map(|control| service_view(control))
        .filter(|service| service.size.wanted > 0 && service.size.ready == 0)
        .map(|service| {
            format!("{}: {}", service.name, service.cannot_start.unwrap_or_else(|| "starting".to_owned()))
        })
        .collect();
    if missing.is_empty() {
        return "ready\n".into_response();
    }
    let told = match request.extensions().get::<guard::Stranger>() {
        Some(guard::Stranger) => "not ready\n".to_owned(),
        None => format!("not ready:\n{}\n", missing.join("\n")),
    };
    (StatusCode::SERVICE_UNAVAILABLE, told).into_response()
}

async fn shutdown(State(admin): Shared) -> Response {
    // Nobody listens any more only when the process is ending already.
    let _ = admin.orders.send(Order::Shutdown);
    (StatusCode::ACCEPTED, "shutting down\n").into_response()
}

pub(super) fn known(admin: &Admin, name: &str) -> Result<Arc<Control>, Problem> {
    admin.service(name).ok_or_else(|| {
        let names: Vec<String> =
            admin.services.load().iter().map(|control| control.service().name.to_string()).collect();
        let detail = format!("no service is named {name:?}; the services are: {}", names.join(", "));
        Problem::NoService(detail, Vec::new())
    })
}

/// An instance by its whole name (`calc-0-3`), or by what follows the service's (`0-3`).
fn instance(admin: &Admin, name: &str, id: &str) -> Result<(Arc<Control>, InstanceId), Problem> {
    let control = known(admin, name)?;
    let short = id.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')).unwrap_or(id);
    let snapshot = control.service().dispatcher.snapshot();
    let found = snapshot.instances.iter().find(|view| view.instance.to_string() == short);
    found.map(|view| (control.clone(), view.instance)).ok_or_else(|| {
        let ids: Vec<String> =
            snapshot.instances.iter().map(|view| format!("{name}-{}", view.instance)).collect();
        Problem::NotFound(format!("{name} has no instance {id:?}; it has: {}", ids.join(", ")))
    })
}

pub(super) fn service_view(control: &Control) -> ServiceView {
    let service = control.service();
    let snapshot = service.dispatcher.snapshot();
    let config = &service.config;
    let image = match &config.source {
        Source::Image { spec } => spec.image.clone(),
        Source::Addresses(_) => "addresses".to_owned(),
    };
    ServiceView {
        name: service.name.to_string(),
        image,
        hosts: config.hosts.clone(),
        paths: config.paths.clone(),
        default: config.default,
        size: size_view(control, &snapshot),
        queue: QueueView {
            depth: snapshot.waiting,
            limit: config.queue.limit,
            bytes: service.space.kept(),
            oldest_wait_s: snapshot.oldest_wait.as_secs_f64(),
            drain_rate: snapshot.drain_rate,
            last_wait_s: snapshot.last_wait.map(|wait| wait.as_secs_f64()),
        },
        in_flight: snapshot.in_flight,
        concurrency: config.concurrency,
        cannot_start: snapshot.cannot_start.as_ref().map(death),
        stopped: snapshot.stopped,
        config: config.shown(),
        instances: snapshot.instances.iter().map(|view| instance_view(control, view)).collect(),
    }
}

fn size_view(control: &Control, snapshot: &Snapshot) -> SizeView {
    let count = |state| {
        let count = snapshot.instances.iter().filter(|view| view.state == state).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    };
    SizeView {
        wanted: snapshot.wanted,
        ready: count(StateView::Ready),
        starting: count(StateView::Starting),
        standby: count(StateView::Standby),
        min: snapshot.bounds.0,
        max: snapshot.bounds.1,
        policy: control.service().sizing.present().form(),
        overridden: control.service().sizing.overridden(),
        last_decision: snapshot.last_decision.as_deref().map(str::to_owned),
    }
}

fn instance_view(control: &Control, view: &longshore_pool::InstanceView) -> InstanceView {
    let service = control.service();
    let now = service.clock.now();
    InstanceView {
        id: format!("{}-{}", service.name, view.instance),
        state: view.state.name().to_owned(),
        address: view.address,
        in_flight: view.in_flight,
        age_s: age(control, view, now).as_secs_f64(),
        restarts: view.restarts,
        failures: view.failures,
        last_death: view.last_death.as_ref().map(|(cause, _)| death(cause)),
        last_death_age_s: view.last_death.as_ref().map(|(_, at)| now.since(*at).as_secs_f64()),
        outdated: view.outdated,
    }
}

/// How long ago it was started; of a slot in which nothing runs, how long ago that ended.
fn age(control: &Control, view: &longshore_pool::InstanceView, now: Time) -> Duration {
    match view.state.has_ended() {
        true => now.since(view.since),
        false => control.age(view.instance).unwrap_or_default().max(now.since(view.begun)),
    }
}
