//! Who answers a request: an instance, through an exchange; the jobs; or the proxy itself, which refuses it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};

use super::Gateway;
use super::arrival::{self, Absent, Begun, Early};
use super::body::ResponseBody;
use super::downstream::{Asker, Content};
use super::exchange::{Exchange, Name};
use super::headers;
use super::keys::Key;
use super::serve::Client;
use super::service::Service;
use crate::jobs::{self, Jobs, Submission, Wish};
use crate::problem::Problem;

/// Answers one request. Dropping the future (the client has left) gives back whatever it holds.
pub async fn handle(
    gateway: &Gateway,
    client: &Client,
    request: Request<Content>,
    asker: Asker,
) -> Response<ResponseBody> {
    let mut active = client.begin();
    let started = gateway.clock.now();
    let (request_in_pool, trace) = gateway.ids.next();
    let request_id = headers::request_id(request.headers()).unwrap_or_else(|| trace.request_id());
    let (mut parts, body) = request.into_parts();
    let mut spans = gateway.tracing.begin(&parts, || client.address(&parts.headers), trace, started);
    let answered = match arrival::begin(gateway, &mut parts, client, &mut active, body, started).await {
        Ok(begun) if let Some((jobs, wish)) = job(gateway, &begun, &parts) => {
            let (headers, service) = (parts.headers.clone(), begun.service.clone());
            let bare = parts.method == Method::HEAD;
            let request = Submission { begun, client, parts, id: request_id.clone() };
            let submitted = jobs.submit(request, wish).await;
            let took = gateway.clock.now().since(started);
            match submitted {
                Ok(mut response) => {
                    headers::name(response.headers_mut(), &request_id);
                    spans.answered(started, response.status().as_u16());
                    spans.end(None);
                    Ok(response)
                }
                Err(problem) => {
                    spans.refused(&problem);
                    Err(Refusal { problem, service: Some(service), bare, headers, took })
                }
            }
        }
        Ok(begun) => {
            let name = Name { request: request_in_pool, trace, id: request_id.clone(), spans, asker };
            let mut exchange = Exchange::new(gateway, client, begun, parts, name, started);
            let answered = match exchange.service.cache.clone() {
                None => exchange.run(active).await,
                Some(cache) => exchange.share(&cache, active).await,
            };
            exchange.answered = true;
            if let Ok(response) = &answered {
                exchange.spans.shared(response.status().as_u16());
            }
            answered.map_err(|problem| {
                exchange.spans.refused(&problem);
                Refusal::from(&exchange, problem)
            })
        }
        Err(Early::Jobs(jobs, body, key)) => {
            let asker = jobs::Asker::of(key.as_deref().map(Key::name));
            let id = request_id.to_str().ok();
            let mut response = jobs.api(parts, body, jobs.path(), asker, id).await;
            headers::name(response.headers_mut(), &request_id);
            spans.answered(started, response.status().as_u16());
            spans.end(None);
            return response;
        }
        Err(Early::Own(mut response)) => {
            spans.answered(started, StatusCode::OK.as_u16());
            spans.end(None);
            headers::name(response.headers_mut(), &request_id);
            return response.map(ResponseBody::from);
        }
        Err(Early::Problem(problem)) => {
            let (headers, bare) = (parts.headers, parts.method == Method::HEAD);
            gateway.refused.count(problem.kind());
            spans.refused(&problem);
            Err(Refusal { problem, service: None, bare, headers, took: Duration::ZERO })
        }
    };
    answered.unwrap_or_else(|refusal| refusal.response(&request_id))
}

/// What the client of a request wants of its job, if it is to be one.
fn job<'g>(gateway: &'g Gateway, begun: &Begun, parts: &Parts) -> Option<(&'g Arc<Jobs>, Wish)> {
    let jobs = gateway.jobs.as_ref()?;
    Some((jobs, jobs::wish(begun.service.config.jobs.mode, parts)?))
}

/// Carries a request for somebody who is not connected. An answer that breaks off is to be asked for again.
pub async fn absent(gateway: &Gateway, request: Absent) -> Result<Response<ResponseBody>, Problem> {
    let client = Client::absent(gateway, request.peer, request.scheme);
    let (active, started) = (client.begin(), gateway.clock.now());
    let (name, trace) = gateway.ids.next();
    let id = headers::request_id(&request.parts.headers).unwrap_or_else(|| trace.request_id());
    let address = || client.address(&request.parts.headers);
    let spans = gateway.tracing.begin(&request.parts, address, trace, started);
    let (begun, parts, told) = arrival::absent(gateway, &client, request)?;
    let name = Name { request: name, trace, id, spans, asker: Asker::default() };
    let mut exchange = Exchange::new(gateway, &client, begun, parts, name, started);
    exchange.told = Some(told);
    exchange.inside = true;
    let answered = exchange.run(active).await;
    exchange.answered = true;
    answered.inspect_err(|problem| exchange.spans.refused(problem))
}

/// The answer to what is no request, or to a connection that is not let in: it is the last, and has a name all the same.
pub fn turned_away(gateway: &Gateway, problem: &Problem) -> Response<Bytes> {
    let id = gateway.ids.next().1.request_id();
    tracing::debug!(kind = problem.kind(), detail = problem.detail(), request_id = ?id, "turned away");
    let mut response = problem.response(None, id.to_str().ok(), &http::HeaderMap::new());
    response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// An answer of Longshore's own.
struct Refusal {
    problem: Problem,
    service: Option<Arc<Service>>,
    /// Whether only the head of an answer was asked for.
    bare: bool,
    headers: http::HeaderMap,
    took: Duration,
}

impl Refusal {
    fn from(exchange: &Exchange, problem: Problem) -> Self {
        Self {
            problem,
            service: Some(exchange.service.clone()),
            bare: exchange.parts.method == Method::HEAD,
            headers: exchange.parts.headers.clone(),
            took: exchange.service.clock.now().since(exchange.started),
        }
    }

    fn response(self, request_id: &HeaderValue) -> Response<ResponseBody> {
        if let Some(service) = &self.service {
            service.metrics.rejected(self.problem.kind());
            service.metrics.answered(self.problem.status().as_u16(), self.took);
        }
        tracing::debug!(kind = self.problem.kind(), detail = self.problem.detail(), "refused");
        let name = self.service.as_ref().map(|service| &*service.name);
        let mut response = self.problem.response(name, request_id.to_str().ok(), &self.headers);
        if self.bare {
            // hyper leaves out the body that belongs to a HEAD in HTTP/1.1 only.
            let length = HeaderValue::from(response.body().len());
            response.headers_mut().insert(http::header::CONTENT_LENGTH, length);
            return response.map(|_| ResponseBody::empty());
        }
        response.map(ResponseBody::from)
    }
}
