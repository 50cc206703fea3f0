//! What is computed: the three models, and what each of them answers besides.

use std::fmt;

use bytes::Bytes;
use clap::ValueEnum;
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::body::{Content, full};
use crate::digest::Summary;
use crate::state::State;

mod calculator;
mod common;
mod echo;
mod grpc;
mod sleep;
mod stream;

pub(crate) use stream::Streaming;

/// A model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Model {
    /// GET /add/3/4 answers 7; add, sub, mul, div.
    Calculator,
    /// Any request is answered with what arrived, as JSON.
    Echo,
    /// GET /sleep/250ms answers after so long.
    Sleep,
}

/// A request whose body has been received.
pub(crate) struct Input {
    /// Method, target, fields.
    pub(crate) head: Parts,
    /// What is left of the body.
    pub(crate) body: Summary,
    /// Fields after the body.
    pub(crate) trailers: HeaderMap,
}

/// An answer.
pub(crate) struct Reply {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Fields besides the content's type and digest.
    pub(crate) headers: HeaderMap,
    /// What its content is; `None` where there is none.
    pub(crate) content_type: Option<&'static str>,
    /// Of the content, where it is known beforehand.
    pub(crate) digest: Option<Summary>,
    /// Its body.
    pub(crate) content: Content,
}

impl Reply {
    /// Plain text.
    pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        Self::whole(status, "text/plain; charset=utf-8", text.into())
    }

    /// A JSON value.
    pub(crate) fn json(value: &Value) -> Self {
        Self::whole(StatusCode::OK, "application/json", value.to_string().into())
    }

    /// 400 with the mistake.
    pub(crate) fn bad_request(error: impl fmt::Display) -> Self {
        Self::text(StatusCode::BAD_REQUEST, format!("{error}\n"))
    }

    /// 404 with what there is.
    pub(crate) fn not_found(path: &str, model: Model) -> Self {
        let hint = model.example();
        Self::text(StatusCode::NOT_FOUND, format!("{path} is unknown to the model {model}; try {hint}\n"))
    }

    /// A body that is sent as it comes.
    pub(crate) fn stream(content_type: &'static str, content: Content) -> Self {
        Self {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            content_type: Some(content_type),
            digest: None,
            content,
        }
    }

    fn whole(status: StatusCode, content_type: &'static str, bytes: Bytes) -> Self {
        let digest = Some(Summary::of(&bytes));
        Self {
            status,
            headers: HeaderMap::new(),
            content_type: Some(content_type),
            digest,
            content: full(bytes),
        }
    }
}

impl Model {
    fn example(self) -> &'static str {
        match self {
            Self::Calculator => "/add/3/4",
            Self::Echo => "/any/path?and=query",
            Self::Sleep => "/sleep/250ms",
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Calculator => "calculator",
            Self::Echo => "echo",
            Self::Sleep => "sleep",
        })
    }
}

/// Answers: first what every model has, then the model's own.
pub(crate) async fn answer(state: &State, input: Input) -> Reply {
    if let Some(reply) = common::answer(state, &input).await {
        return reply;
    }
    if let Some(reply) = grpc::answer(&input) {
        return reply;
    }
    match state.model {
        Model::Calculator => calculator::answer(&input),
        Model::Echo => echo::answer(&input),
        Model::Sleep => sleep::answer(&input).await,
    }
}

/// What arrived in the body.
fn body_json(body: &Summary) -> Value {
    json!({ "length": body.length, "sha256": body.hex() })
}
