//! A job as clients see it.

use longshore_jobs::{Callback, Job, Millis, State, Status};
use serde::{Deserialize, Serialize};

/// The status of a job, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Its name.
    pub id: String,
    /// Whose instances work on it.
    pub service: String,
    /// `queued`, `running`, `done`, `failed`, `cancelled` or `expired`.
    pub status: String,
    /// Whether it has been answered.
    pub done: bool,
    /// Jobs that come before it; nothing once it is taken.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub position: Option<u64>,
    /// Jobs of the service that wait.
    pub load: u64,
    /// How many instances have worked on it.
    pub attempts: u32,
    /// The method and target of its request.
    pub request: String,
    /// When it was taken.
    pub submitted_at: String,
    /// Since when an instance works on it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finished_at: Option<String>,
    /// Seconds until it is likely to be started.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub estimate_seconds: Option<u64>,
    /// The status code of its answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub response_status: Option<u16>,
    /// Where its result is, or will be.
    pub result: String,
    /// What has become of its callback, if it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub callback: Option<CallbackView>,
}

/// A callback, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackView {
    /// To whom.
    pub url: String,
    /// `waiting` for the job to end, `pending`, `delivered`, or `failed` for good.
    pub status: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_at: Option<String>,
    /// When it was taken.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub delivered_at: Option<String>,
    /// What went wrong the last time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

impl CallbackView {
    fn new(callback: &Callback, pending: bool) -> Self {
        let status = match (pending, callback.delivered_at, callback.next) {
            (true, _, _) => "waiting",
            (false, Some(_), _) => "delivered",
            (false, None, Some(_)) => "pending",
            (false, None, None) => "failed",
        };
        Self {
            url: callback.url.clone(),
            status: status.to_owned(),
            attempts: callback.attempts,
            next_at: callback.next.filter(|_| !pending).map(time),
            delivered_at: callback.delivered_at.map(time),
            error: callback.error.clone(),
        }
    }
}

impl JobView {
    /// What is known of a job; `location` is its path.
    pub(super) fn new(job: &Job, location: &str, load: u64) -> Self {
        let (started_at, finished_at) = times(&job.state);
        Self {
            id: job.id.to_string(),
            service: job.service.clone(),
            status: job.status().name().to_owned(),
            done: matches!(job.status(), Status::Done | Status::Failed),
            position: None,
            load,
            attempts: job.attempts,
            request: format!("{} {}", job.request.method, path(&job.request.target)),
            submitted_at: time(job.submitted_at),
            started_at: started_at.map(time),
            finished_at: finished_at.map(time),
            estimate_seconds: None,
            response_status: job.answer().map(|answer| answer.status),
            result: format!("{location}/result"),
            callback: job
                .callback
                .as_ref()
                .map(|callback| CallbackView::new(callback, job.status().is_pending())),
        }
    }
}

/// What stands behind the host, where a target has one: over HTTP/2 they all have.
fn path(target: &str) -> String {
    let uri = target.parse::<http::Uri>().ok();
    let path = uri.as_ref().and_then(|uri| uri.path_and_query()).map(|path| path.as_str());
    path.unwrap_or(target).to_owned()
}

const fn times(state: &State) -> (Option<Millis>, Option<Millis>) {
    match state {
        State::Queued { .. } => (None, None),
        State::Running { started_at, .. } => (Some(*started_at), None),
        State::Done { started_at, finished_at, .. } => (Some(*started_at), Some(*finished_at)),
        State::Failed { started_at, finished_at, .. } => (*started_at, Some(*finished_at)),
        State::Cancelled { at } => (None, Some(*at)),
        State::Expired { at, finished_at } => match finished_at {
            Some(finished_at) => (None, Some(*finished_at)),
            None => (None, Some(*at)),
        },
    }
}

/// As RFC 3339 writes it, in UTC.
fn time(at: Millis) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map(|at| format!("{at:.3}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn a_request_is_shown_without_its_host() {
        for (target, shown) in [
            ("/a?b=1", "/a?b=1"),
            ("http://calc:80/a?b=1", "/a?b=1"),
            ("http://calc", "/"),
            ("*", "*"),
            ("no target", "no target"),
        ] {
            assert_eq!(path(target), shown);
        }
    }
}
