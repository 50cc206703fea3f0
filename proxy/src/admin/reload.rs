//! `POST /reload`: the file is read again and put in force, or refused with every mistake in it; and how mistakes are
//! answered.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use tokio::sync::oneshot;

use super::Order;
use super::routes::{Shared, refused};
use super::view::MistakeView;
use crate::config::Diagnostics;
use crate::problem::Problem;

/// Why a configuration was not put in force.
#[derive(Debug)]
pub struct Refusal {
    /// What is answered.
    pub problem: Problem,
    /// Each mistake, with its place.
    pub mistakes: Vec<MistakeView>,
}

impl Refusal {
    /// It cannot be put in force.
    pub fn invalid(detail: String) -> Self {
        Self { problem: Problem::Invalid(detail), mistakes: Vec::new() }
    }

    /// The file has mistakes.
    pub fn broken(mistakes: &Diagnostics) -> Self {
        let list = mistakes.places().into_iter().map(|place| MistakeView {
            pointer: place.pointer,
            line: place.line,
            column: place.column,
            detail: place.message,
        });
        Self { problem: Problem::Invalid(mistakes.to_string()), mistakes: list.collect() }
    }

    /// The process is about to end.
    pub fn ending() -> Self {
        let detail = "the proxy is shutting down: its configuration stays as it is".to_owned();
        Self { problem: Problem::ShuttingDown(detail), mistakes: Vec::new() }
    }

    /// One value of a request is wrong, at a JSON pointer (RFC 6901) into its body.
    pub fn at(pointer: String, detail: String) -> Self {
        let mistake =
            MistakeView { pointer: Some(pointer), line: None, column: None, detail: detail.clone() };
        Self { problem: Problem::Invalid(detail), mistakes: vec![mistake] }
    }

    /// Another process is about to take over.
    pub fn taken_over() -> Self {
        let detail = "another process is taking over, and reads the file itself".to_owned();
        Self { problem: Problem::Invalid(detail), mistakes: Vec::new() }
    }

    pub(super) fn response(self) -> Response {
        let answer = self.problem.response(None, None, &HeaderMap::new());
        if self.mistakes.is_empty() {
            return answer.map(Body::from);
        }
        let (mut head, body) = answer.into_parts();
        head.headers.remove(http::header::CONTENT_LENGTH);
        let mut body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        // Where there is one mistake, nobody has to look into a list for its place.
        if let [MistakeView { pointer: Some(pointer), .. }] = &self.mistakes[..] {
            body["pointer"] = pointer.as_str().into();
        }
        body["errors"] = serde_json::to_value(self.mistakes).unwrap_or_default();
        Response::from_parts(head, Body::from(format!("{body}\n")))
    }
}

/// `POST /reload`.
pub(super) async fn reload(State(admin): Shared) -> Response {
    let (sender, answer) = oneshot::channel();
    // Nobody listens any more only when the process is ending.
    if admin.orders.send(Order::Reload(sender)).is_err() {
        return Refusal::ending().response();
    }
    match answer.await {
        Ok(Ok(view)) => Json(view).into_response(),
        Ok(Err(refusal)) => refusal.response(),
        Err(_) => refused(&Refusal::ending().problem),
    }
}
