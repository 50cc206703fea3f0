//! The routes below `/_jobs`.
//!
//! | module | owns |
//! | --- | --- |
//! | this one | which route it is, and who may see which jobs |
//! | `list` | pages of jobs |
//! | `change` | cancelling, deleting, trying again |
//! | `events` | a job's states as they come |
//! | `moves` | export and import |
//! | `openapi` | all of this as an OpenAPI document |

mod change;
mod events;
mod list;
mod moves;
mod openapi;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Response};
use longshore_jobs::{Job, JobId, Store};

use super::wish::LONGEST_WAIT;
use super::{Jobs, answer, unavailable};
use crate::gateway::body::ResponseBody;
use crate::problem::Problem;

/// What is no job's id.
const WORDS: [&str; 3] = ["export", "import", "openapi.json"];

type Answered = Result<Response<ResponseBody>, Problem>;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum Asker<'a> {
    /// Somebody who may see all jobs: an operator, or a client where no keys are needed.
    Anybody,
    /// The holder of this key, who may see the jobs that came with it.
    Key(&'a str),
}

impl<'a> Asker<'a> {
    /// The holder of a key, if one was needed.
    pub fn of(key: Option<&'a str>) -> Self {
        key.map_or(Self::Anybody, Self::Key)
    }

    const fn key(self) -> Option<&'a str> {
        match self {
            Self::Anybody => None,
            Self::Key(name) => Some(name),
        }
    }

    fn sees(self, job: &Job) -> bool {
        self.key().is_none_or(|name| job.is_of(name))
    }

    /// What only an operator may do.
    fn must_be_anybody(self, what: &str) -> Result<(), Problem> {
        match self {
            Self::Anybody => Ok(()),
            Self::Key(_) => Err(Problem::Forbidden(format!("{what} is done on the admin listener"))),
        }
    }
}

/// One request for one of the jobs' own paths.
struct Asked<'a> {
    asker: Asker<'a>,
    method: &'a Method,
    headers: &'a HeaderMap,
    query: Query,
}

impl Jobs {
    /// Answers a request for one of the jobs' own paths, which lie below `root` where it was sent.
    pub async fn api<B>(
        self: &Arc<Self>,
        parts: Parts,
        body: B,
        root: &str,
        asker: Asker<'_>,
        request_id: Option<&str>,
    ) -> Response<ResponseBody>
    where
        B: http_body::Body<Data = Bytes> + Unpin + Send,
        B::Error: std::fmt::Display,
    {
        let path = parts.uri.path().strip_prefix(root).unwrap_or_default();
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let query = Query::of(&parts);
        let asked = Asked { asker, method: &parts.method, headers: &parts.headers, query };
        let answered = match (&parts.method, &segments[..]) {
            (&Method::POST, ["import"]) => self.import(&asked, body).await,
            (_, segments) => self.route(segments, &asked, parts.uri.path()).await,
        };
        answered.unwrap_or_else(|problem| {
            problem.response(None, request_id, &parts.headers).map(ResponseBody::from)
        })
    }

    async fn route(self: &Arc<Self>, segments: &[&str], asked: &Asked<'_>, path: &str) -> Answered {
        let reads = [Method::GET, Method::HEAD].contains(asked.method);
        match (asked.method, segments) {
            (_, []) if reads => self.list(asked).await,
            (&Method::DELETE, []) => self.delete_all(asked).await,
            (_, ["openapi.json"]) if reads => Ok(openapi::document(&self.config.path)),
            (_, ["export"]) if reads => self.export(None, asked).await,
            (&Method::POST, ["export"]) => self.export_now(asked).await,
            (_, [id]) if reads && !WORDS.contains(id) => {
                let (store, job) = self.job(id, asked.asker).await?;
                self.status(&store, &job, asked.headers).await
            }
            (&Method::DELETE, [id]) if !WORDS.contains(id) => self.delete(id, asked).await,
            (_, [id, "result"]) if reads => self.result(id, asked).await,
            (_, [id, "events"]) if reads => self.events(id, asked).await,
            (_, [id, "export"]) if reads => {
                let (_, job) = self.job(id, asked.asker).await?;
                self.export(Some(job), asked).await
            }
            (&Method::POST, [id, "cancel"]) => self.cancel(id, asked).await,
            (&Method::POST, [id, "retry"]) => self.retry(id, asked).await,
            (method, segments) => Err(match allowed(segments) {
                Some(allowed) => Problem::MethodNotAllowed(
                    format!("{path} does not know {method}; it knows {allowed}"),
                    allowed,
                ),
                None => Problem::NotFound(format!(
                    "jobs have no such path; {} lists them, {0}/ID is one of them",
                    self.config.path
                )),
            }),
        }
    }

    /// A job, if it is there and the asker may see it: who may not is told the same as if it were not there.
    async fn job(self: &Arc<Self>, id: &str, asker: Asker<'_>) -> Result<(Arc<dyn Store>, Job), Problem> {
        let unknown =
            || Problem::NotFound(format!("there is no job {id}: it was never there, or is forgotten"));
        let store = self.known_store().await?.ok_or_else(unknown)?;
        let id: JobId = id.parse().map_err(|_| unknown())?;
        let job = store.get(id).await.map_err(|error| unavailable(&error))?;
        Ok((store, job.filter(|job| asker.sees(job)).ok_or_else(unknown)?))
    }

    async fn result(self: &Arc<Self>, id: &str, asked: &Asked<'_>) -> Answered {
        let (store, job) = self.job(id, asked.asker).await?;
        let wait = asked.query.get("wait").map(wait).transpose()?.unwrap_or_default();
        let job = self.settled(&store, job, wait).await?;
        answer::result(self, &store, &job, asked.method, asked.headers).await
    }
}

/// The methods that a path knows, if there is one: what `route` takes, as `Allow` names it.
fn allowed(segments: &[&str]) -> Option<&'static str> {
    Some(match segments {
        ["openapi.json"] | [_, "result" | "events" | "export"] => "GET, HEAD",
        ["export"] => "GET, HEAD, POST",
        ["import"] | [_, "cancel" | "retry"] => "POST",
        [] | [_] => "GET, HEAD, DELETE",
        [_, ..] => return None,
    })
}

/// `30s`, or a number of seconds.
fn wait(text: &str) -> Result<Duration, Problem> {
    let seconds = text.parse().ok().map(Duration::from_secs);
    let wait = seconds.or_else(|| humantime::parse_duration(text).ok());
    let wait = wait.ok_or_else(|| Problem::Invalid("wait is a duration such as 30s".to_owned()))?;
    Ok(wait.min(LONGEST_WAIT))
}

/// What stands behind the `?`.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(parts: &Parts) -> Self {
        let pairs = parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let decoded = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), decoded(value))
        });
        Self(decoded.collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether it says so: there, and not `false`.
    fn says(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !["false", "0", "no"].contains(&value))
    }
}

/// `%2F` and the like as what they stand for; what stands for nothing stays.
fn decoded(text: &str) -> String {
    let (mut out, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let hex = |bytes: &[u8]| u8::from_str_radix(std::str::from_utf8(bytes).ok()?, 16).ok();
        match (first, after.get(..2).and_then(hex)) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => {
                out.push(b' ');
                rest = after;
            }
            (other, _) => {
                out.push(*other);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_behind_the_question_mark_is_decoded() {
        let request =
            http::Request::get("/_jobs?service=a%2Db&wait=1+s&overwrite&x=%zz&y=100%").body(()).unwrap();
        let query = Query::of(&request.into_parts().0);
        assert_eq!((query.get("service"), query.get("wait")), (Some("a-b"), Some("1 s")));
        assert_eq!((query.get("x"), query.get("y"), query.get("z")), (Some("%zz"), Some("100%"), None));
        assert!(query.says("overwrite") && !query.says("z"));
        assert_eq!(wait("1500ms").ok(), Some(Duration::from_millis(1500)));
        assert_eq!(wait("7").ok(), Some(Duration::from_secs(7)));
        assert_eq!(wait("99999").ok(), Some(LONGEST_WAIT));
        assert!(wait("soon").is_err());
    }
}
