//! What is decided of a request before it has a place in a queue: whether it is let in, which service it is for, and how
//! long it may take.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, Version};
use longshore_pool::{Class, Time};

use tokio::sync::oneshot;

use super::Gateway;
use super::admission::Requester;
use super::body::RequestBody;
use super::by_model::Unchosen;
use super::downstream::Content;
use super::keys::Key;
use super::pace::Pace;
use super::paced::Paced;
use super::route::{self, Choice, Routes};
use super::serve::{Active, Client};
use super::service::Service;
use super::spool::SpoolError;
use super::{class, deadline, forwards, framing, headers, shortage, upgrade};
use crate::config::Scheme;
use crate::jobs::Jobs;
use crate::problem::Problem;

/// A request that has a service.
pub struct Begun {
    /// The service.
    pub service: Arc<Service>,
    /// What an instance is asked for.
    pub target: http::Uri,
    /// From acceptance to the last byte.
    pub timeout: Duration,
    /// What queue and balancer know of it.
    pub class: Class,
    /// How slowly its body may come.
    pub pace: Option<Pace>,
    /// Its body.
    pub body: Upload,
    /// The key that it came with.
    pub key: Option<Arc<Key>>,
}

/// A request whose client does not wait on a connection, and was let in when it came.
pub struct Absent {
    /// Its head, which names its service.
    pub parts: Parts,
    /// Its body.
    pub body: RequestBody,
    /// Whom it came from.
    pub peer: Option<IpAddr>,
    /// How it came.
    pub scheme: Scheme,
    /// The name of the key that it came with.
    pub key: Option<String>,
    /// Told when it has an instance for the first time.
    pub started: oneshot::Sender<()>,
}

/// A request's body, of which something may have been read.
pub enum Upload {
    /// Nothing.
    Unread(Content),
    /// Enough to know its service.
    Begun(RequestBody),
}

/// What is answered before there is a service.
pub enum Early {
    /// A problem.
    Problem(Problem),
    /// This.
    Own(Response<Bytes>),
    /// What the jobs have to say, to the holder of a key if one is needed.
    Jobs(Arc<Jobs>, Content, Option<Arc<Key>>),
}

impl From<Problem> for Early {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// Checks what can be checked before a byte of the body is read, and reads on where its service is known from there.
pub async fn begin(
    gateway: &Gateway,
    parts: &mut Parts,
    client: &Client,
    active: &mut Active,
    body: Content,
    now: Time,
) -> Result<Begun, Early> {
    upgrade::from_http2(parts);
    framing::check(parts)?;
    if parts.method == Method::TRACE && !gateway.settings.load().trace {
        let refused = "TRACE is not served (proxy.trace)".to_owned();
        return Err(Problem::MethodNotAllowed(refused, forwards::ALLOWED).into());
    }
    let sender = Requester { connected: client.connected(), address: client.address(&parts.headers) };
    let (permits, key) = gateway.admission.admit(&sender, &mut parts.headers, now)?;
    active.hold(permits);
    if let Some(answer) = forwards::count(parts) {
        return Err(Early::Own(answer));
    }
    if let Some(jobs) = gateway.jobs.as_ref().filter(|jobs| jobs.serves(parts.uri.path())) {
        return Err(Early::Jobs(jobs.clone(), body, key));
    }
    let asked = deadline::of(&parts.headers, parts.version == Version::HTTP_2)?;
    let host = match parts.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()),
    };
    let pace = gateway.admission.pace(&parts.headers);
    let routes = gateway.routes.load();
    let (service, target, body) = match routes.choose(parts, host)? {
        Choice::Service(route) => {
            (route.service.clone(), route::target(&parts.uri, route.strip), Upload::Unread(body))
        }
        Choice::ByModel => {
            let routes = Guard::into_inner(routes);
            let head = gateway.settings.load().model_head;
            let (service, taken) = by_model(&routes, parts, Paced::new(body, pace), head, asked).await?;
            (service, route::target(&parts.uri, None), Upload::Begun(taken))
        }
        Choice::Own(answer) => return Err(Early::Own(headers::json(answer))),
    };
    let timeout = service.config.timeout;
    let class = class::of(parts, sender.address, key.as_deref().map(Key::name), &service.config)?;
    Ok(Begun {
        target,
        timeout: asked.map_or(timeout, |asked| asked.min(timeout)),
        class,
        pace,
        service,
        body,
        key,
    })
}

/// Finds the service of a request that was let in before.
pub fn absent(
    gateway: &Gateway,
    client: &Client,
    request: Absent,
) -> Result<(Begun, Parts, oneshot::Sender<()>), Problem> {
    let Absent { mut parts, body, peer: _, scheme: _, key, started } = request;
    let asked = deadline::of(&parts.headers, parts.version == Version::HTTP_2)?;
    let routes = gateway.routes.load();
    let Choice::Service(route) = routes.choose(&parts, None)? else {
        return Err(Problem::NoService("the request does not say whose it is".to_owned(), Vec::new()));
    };
    let (service, target) = (route.service.clone(), route::target(&parts.uri, route.strip));
    // It has done its work: an instance sees what the client has sent.
    parts.headers.remove(route::LONGSHORE_SERVICE);
    let class = class::of(&parts, client.address(&parts.headers), key.as_deref(), &service.config)?;
    let timeout = service.config.timeout;
    let timeout = asked.map_or(timeout, |asked| asked.min(timeout));
    let begun = Begun { service, target, timeout, class, pace: None, body: Upload::Begun(body), key: None };
    Ok((begun, parts, started))
}

async fn by_model(
    routes: &Routes,
    parts: &Parts,
    body: Paced,
    head: u64,
    asked: Option<Duration>,
) -> Result<(Arc<Service>, RequestBody), Problem> {
    let Some(unrouted) = routes.unrouted() else {
        return Ok((routes.with_model(None)?.clone(), RequestBody::Empty));
    };
    unrouted.choose(routes, parts, body, head, asked).await.map_err(|unchosen| match unchosen {
        Unchosen::Body(error) => body_problem(&error, "a service that is not chosen yet"),
        Unchosen::Late => late_body(),
        Unchosen::Problem(problem) => problem,
    })
}

/// What becomes of a request whose body could not be taken.
pub fn body_problem(error: &SpoolError, service: &str) -> Problem {
    match error {
        SpoolError::TooLarge(limit) => Problem::BodyTooLarge(format!(
            "the body is larger than the {limit} bytes that are taken (max_body)"
        )),
        SpoolError::NeverFits(limit) => Problem::BodyTooLarge(format!(
            "the body is larger than the {limit} bytes that all bodies waiting for {service} may take \
             (services.{service}.queue.max_bytes)"
        )),
        SpoolError::QueueFull(limit) => Problem::QueueFull(
            format!("the bodies waiting for {service} take all of {limit} bytes (queue.max_bytes)"),
            Duration::from_secs(1),
        ),
        SpoolError::Storage(folder, cause) => shortage::problem(folder, cause),
        SpoolError::Kept(cause) => {
            tracing::error!(cause, "failed to read the body of a job");
            Problem::JobsUnavailable("the body of the job cannot be read".to_owned())
        }
        SpoolError::Slow => Problem::RequestTimeout(
            "the body comes too slowly: it was waited for as long as a client may take (min_rate)".to_owned(),
        ),
        SpoolError::Client(_) | SpoolError::Superseded => {
            Problem::BadRequest("the body broke off or is not framed as its header says".to_owned())
        }
    }
}

/// What becomes of one whose body did not come in time.
pub fn late_body() -> Problem {
    Problem::RequestTimeout("the body did not arrive within the timeout".to_owned())
}
