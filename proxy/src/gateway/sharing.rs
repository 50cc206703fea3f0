//! A request to a service whose answers are shared: it gets one that is there, waits for one that is being made, or has
//! one made, which is kept for others.

use std::sync::Arc;

use http::Response;

use super::arrival;
use super::body::{RequestBody, ResponseBody};
use super::cache::{self, Asked, Cache, End, Found, Id, Keeping, Known, Run, Stored, Terms, Way};
use super::exchange::Exchange;
use super::headers::X_REQUEST_ID;
use super::serve::Active;
use crate::metrics::Cached;
use crate::problem::Problem;

impl Exchange {
    /// Answers the request with the help of `cache`.
    pub(super) async fn share(
        &mut self,
        cache: &Arc<Cache>,
        active: Active,
    ) -> Result<Response<ResponseBody>, Problem> {
        let asked = Asked::of(&self.parts.method, &self.parts.headers);
        let mut body = self.take().await?;
        let Asked::Shared(terms) = asked else { return self.pass_by(cache, asked, body, active).await };
        let Some(id) = self.id(cache, &body).await? else {
            return self.pass_by(cache, Asked::Past, body, active).await;
        };
        loop {
            let run = match cache.find(id, &terms, &self.parts.headers, self.service.clock.now()) {
                Found::Hit(stored) => {
                    return Ok(self.shared(&stored, &terms, Way::Hit, Cached::Hit));
                }
                Found::Miss(keeping, way) => return self.lead(keeping, way, body, active).await,
                Found::Running(run) => run,
                Found::Nothing => {
                    return Err(Problem::Timeout(
                        "nothing is kept, and the request wants nothing else".to_owned(),
                    ));
                }
            };
            body.compact();
            match self.end_of(&run).await? {
                End::Shared(stored) if stored.is_for(id, &self.parts.headers) => {
                    return Ok(self.shared(&stored, &terms, Way::Collapsed, Cached::Collapsed));
                }
                // It was another's answer, or whoever asked has left: there is something for this one now, or it asks.
                End::Shared(_) | End::Gone => {}
                End::Alone => return self.alone(Way::Miss, Cached::Miss, body, active).await,
                End::Failed(problem) => return Err(problem),
            }
        }
    }

    /// What the request is known by; nothing where its body is too large for that, or comes piece by piece.
    async fn id(&self, cache: &Cache, body: &RequestBody) -> Result<Option<Id>, Problem> {
        let mut known = Known::of(&self.parts.method, &self.target, &self.parts.headers);
        if body.is_empty() {
            return Ok(Some(known.id()));
        }
        if body.length().is_none_or(|length| length > cache.max_entry()) {
            return Ok(None);
        }
        known.kind(&self.parts.headers);
        let read = async {
            body.fill().await?;
            body.read(|piece| known.body(piece)).await
        };
        let until = self.service.clock.instant(self.deadline);
        match tokio::time::timeout_at(until, read).await {
            Ok(Ok(true)) => Ok(Some(known.id())),
            Ok(Ok(false)) => Ok(None),
            Ok(Err(error)) => Err(self.body_problem(&error)),
            Err(_) => Err(arrival::late_body()),
        }
    }

    /// Asks an instance, while others may wait for the answer.
    async fn lead(
        &mut self,
        keeping: Box<Keeping>,
        way: Way,
        body: RequestBody,
        active: Active,
    ) -> Result<Response<ResponseBody>, Problem> {
        self.service.metrics.cached(Cached::Miss).inc();
        let now = self.service.clock.now();
        match self.perform(body, now, active).await {
            Ok(response) => {
                let mut response = keeping.carry(response, self.service.clock);
                cache::tell(response.headers_mut(), way, None);
                Ok(response)
            }
            Err(problem) => {
                keeping.failed(&problem);
                Err(problem)
            }
        }
    }

    /// Asks an instance for itself.
    async fn alone(
        &mut self,
        way: Way,
        result: Cached,
        body: RequestBody,
        active: Active,
    ) -> Result<Response<ResponseBody>, Problem> {
        self.service.metrics.cached(result).inc();
        let now = self.service.clock.now();
        let mut response = self.perform(body, now, active).await?;
        cache::tell(response.headers_mut(), way, None);
        Ok(response)
    }

    /// Goes past the cache. What changes things makes it forget what it has of the same target.
    async fn pass_by(
        &mut self,
        cache: &Cache,
        asked: Asked,
        body: RequestBody,
        active: Active,
    ) -> Result<Response<ResponseBody>, Problem> {
        let response = self.alone(Way::Past, Cached::Bypass, body, active).await?;
        match asked {
            Asked::Changes if response.status().is_success() || response.status().is_redirection() => {
                cache.forget(Known::of(&http::Method::GET, &self.target, &self.parts.headers).id());
            }
            Asked::Changes | Asked::Past | Asked::Shared(_) => {}
        }
        Ok(response)
    }

    /// Waits for somebody else's run, no longer than for an own one.
    async fn end_of(&self, run: &Run) -> Result<End, Problem> {
        let until = self.service.clock.instant(self.deadline);
        tokio::time::timeout_at(until, run.end()).await.map_err(|_| {
            Problem::Timeout(format!("{} did not answer before the request's deadline", self.service.name))
        })
    }

    fn shared(&self, stored: &Stored, terms: &Terms, way: Way, result: Cached) -> Response<ResponseBody> {
        let now = self.service.clock.now();
        let mut response = stored.answer(terms, &self.parts.headers, way, now);
        response.headers_mut().insert(X_REQUEST_ID, self.request_id.clone());
        self.service.metrics.cached(result).inc();
        self.service.metrics.answered(response.status().as_u16(), now.since(self.started));
        response.map(|body| if body.is_empty() { ResponseBody::empty() } else { body.into() })
    }
}
