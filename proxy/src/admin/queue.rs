//! `GET /services/NAME/queue`: who waits, and for how long yet.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::routes::{Shared, known, refused, wrong_query};
use super::view::{InQueueView, Queue};
use crate::control::Control;
use crate::gateway::lease::InQueue;

/// So many are shown when nobody says how many, and at the most: each is looked up by itself.
const SHOWN: usize = 100;
const MOST: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    #[serde(default = "shown")]
    limit: usize,
}

const fn shown() -> usize {
    SHOWN
}

pub(super) async fn queue(
    State(admin): Shared,
    Path(name): Path<String>,
    wish: Result<Query<Wish>, QueryRejection>,
) -> Response {
    let limit = match wish {
        Ok(Query(Wish { limit })) if limit <= MOST => limit,
        Ok(_) | Err(_) => return wrong_query(&format!("`limit`, and nothing else, from 0 to {MOST}")),
    };
    match known(&admin, &name) {
        Ok(control) => Json(view(&control, limit)).into_response(),
        Err(problem) => refused(&problem),
    }
}

fn view(control: &Control, limit: usize) -> Queue {
    let service = control.service();
    let requests = service.dispatcher.queue(limit).iter().map(request).collect();
    let snapshot = service.dispatcher.snapshot();
    Queue {
        service: service.name.to_string(),
        waiting: snapshot.waiting,
        drain_rate: snapshot.drain_rate,
        requests,
    }
}

fn request(one: &InQueue) -> InQueueView {
    let standing = &one.standing;
    InQueueView {
        request_id: String::from_utf8_lossy(one.name.as_bytes()).into_owned(),
        position: standing.ahead,
        estimated_wait_s: standing.wait.map(|wait| wait.as_secs_f64()),
        age_s: standing.age.as_secs_f64(),
        attempts: standing.attempts,
    }
}
