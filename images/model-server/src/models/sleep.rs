//! `/sleep/250ms`: an answer that takes its time.

use hyper::StatusCode;

use super::{Input, Model, Reply};
use crate::args::duration;

/// Answers after the time in the path: `/sleep/250ms`, `/250ms`, or a bare number of milliseconds.
pub(crate) async fn answer(input: &Input) -> Reply {
    let path = input.head.uri.path();
    let text = path.strip_prefix("/sleep").unwrap_or(path).trim_start_matches('/');
    let Ok(time) = duration(text) else {
        return Reply::not_found(path, Model::Sleep);
    };
    tokio::time::sleep(time).await;
    Reply::text(StatusCode::OK, format!("slept {}\n", humantime::format_duration(time)))
}
