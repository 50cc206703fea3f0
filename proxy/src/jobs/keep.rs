//! An instance's answer to a job goes into the store.

use std::pin::Pin;
use std::sync::Arc;

use http::Response;
use http_body::Body as _;
use longshore_jobs::{Answer, Body, Fields, Staged, Store, StoreError};

use crate::gateway::body::ResponseBody;
use crate::problem::Problem;

/// An answer, its body, and how many instances it took.
pub(super) struct Answered {
    pub(super) answer: Answer,
    pub(super) staged: Option<Staged>,
    pub(super) attempts: u32,
}

/// What came of asking.
pub(super) enum Asked {
    Answered(Answered),
    Broken(String),
    Refused(Problem),
}

/// Takes the answer into the store, if there is room: to ask for it again and again until there is would keep instances busy
/// for nothing.
pub(super) async fn kept(
    store: &Arc<dyn Store>,
    response: Response<ResponseBody>,
) -> Result<Asked, StoreError> {
    match keep(store, response).await {
        Err(StoreError::Full(why)) => Ok(Asked::Refused(no_room(&why))),
        kept => kept,
    }
}

/// What stands in place of an answer for which there is no room.
pub(super) fn no_room(why: &str) -> Problem {
    Problem::Storage(format!(
        "an instance has answered, but its answer did not fit into the job store: {why}; then retry the job"
    ))
}

/// Takes the answer into the store as it comes.
async fn keep(store: &Arc<dyn Store>, response: Response<ResponseBody>) -> Result<Asked, StoreError> {
    let (parts, mut body) = response.into_parts();
    let mut writer = store.write()?;
    let mut trailers = Fields::default();
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Ok(Asked::Broken(error.to_string())),
        };
        match frame.into_data() {
            Ok(data) => writer.write(&data).await?,
            Err(other) => {
                for (name, value) in other.into_trailers().iter().flatten() {
                    trailers.push(name.as_str(), value.as_bytes());
                }
            }
        }
    }
    let staged = writer.finish().await?;
    let response = Response::from_parts(parts, ());
    let attempts =
        response.headers().get("longshore-attempts").and_then(|value| value.to_str().ok()?.parse().ok());
    let mut answer = head(&response, staged.as_ref().map(|staged| staged.body));
    answer.trailers = trailers;
    Ok(Asked::Answered(Answered { answer, staged, attempts: attempts.unwrap_or(1) }))
}

pub(super) fn head<B>(response: &Response<B>, body: Option<Body>) -> Answer {
    let mut headers = Fields::default();
    for (name, value) in response.headers() {
        if *name != http::header::CONTENT_LENGTH {
            headers.push(name.as_str(), value.as_bytes());
        }
    }
    Answer { status: response.status().as_u16(), headers, body, trailers: Fields::default() }
}
