//! `GET /events`: what happens in the cluster, as server-sent events.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderMap, header};
use serde::Deserialize;

use super::routes::{Shared, known, refused, wrong_query};
use crate::events::{Asked, KEPT, Told};

/// What may be asked for.
#[derive(Deserialize)]
pub(super) struct EventQuery {
    service: Option<String>,
    #[serde(default)]
    tail: usize,
    #[serde(default = "always")]
    follow: bool,
}

const fn always() -> bool {
    true
}

/// The last `tail` events, of one `service` perhaps, and then each as it comes, unless `follow` is false. Who comes back
/// with a `Last-Event-ID` goes on after that one.
pub(super) async fn events(
    State(admin): Shared,
    headers: HeaderMap,
    query: Result<Query<EventQuery>, QueryRejection>,
) -> Response {
    let Ok(Query(EventQuery { service, tail, follow })) = query else {
        return wrong_query("`service` is a name, `tail` a number of events, and `follow` true or false");
    };
    if let Some(Err(problem)) = service.as_deref().map(|name| known(&admin, name)) {
        return refused(&problem);
    }
    let after = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let told = admin.events.listen(Asked { service, after, tail: tail.min(KEPT), follow });
    let body = Body::from_stream(told.map(|told| Ok::<_, Infallible>(written(&told))));
    ([(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

/// As it goes over the wire.
fn written(told: &Told) -> Bytes {
    match told {
        Told::Event(event) => {
            let data = serde_json::to_string(event).unwrap_or_default();
            format!("id: {}\nevent: {}\ndata: {data}\n\n", event.id, event.kind.name()).into()
        }
        Told::Lost(lost) => format!("event: lost\ndata: {{\"lost\":{lost}}}\n\n").into(),
        Told::Quiet => Bytes::from_static(b": still here\n\n"),
    }
}
