//! Requests whose service is known only from their body: it is taken, and its beginning read, before there is a
//! service. What it takes counts among no service's bodies until then.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Method, header};

use super::body::RequestBody;
use super::model_name::ModelName;
use super::paced::Paced;
use super::route::Routes;
use super::service::Service;
use super::space::Space;
use super::spool::SpoolError;
use crate::problem::Problem;

/// Where such a body is kept.
#[derive(Debug)]
pub struct Unrouted {
    /// Its room until it has a service.
    pub space: Arc<Space>,
    /// How long it may take until then.
    pub patience: Duration,
}

/// Why such a request has no service.
pub enum Unchosen {
    /// Its body could not be taken.
    Body(SpoolError),
    /// Its body did not come in time.
    Late,
    /// No service has its model, and none is the default.
    Problem(Problem),
}

/// Whether the body may be a JSON object. Many clients send one without saying so, as a form or as a text.
pub fn may_name_model(method: &Method, headers: &HeaderMap) -> bool {
    if [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method)
        || headers.contains_key(header::CONTENT_ENCODING)
    {
        return false;
    }
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return true };
    let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let is = |known: &str| kind.eq_ignore_ascii_case(known);
    is("application/json")
        || is("text/json")
        || is("text/plain")
        || is("application/x-www-form-urlencoded")
        || kind.len() > 5 && kind.as_bytes()[kind.len() - 5..].eq_ignore_ascii_case(b"+json")
}

impl Unrouted {
    /// Takes the body, and reads at most `head` bytes of it; `asked` is the client's own limit of time. Chooses by the model that it names: the service that has it, else the default one.
    pub async fn choose(
        &self,
        routes: &Routes,
        parts: &Parts,
        body: Paced,
        head: u64,
        asked: Option<Duration>,
    ) -> Result<(Arc<Service>, RequestBody), Unchosen> {
        let mut name = None;
        let mut taken = RequestBody::Empty;
        if !body.is_end_stream() {
            let patience = asked.map_or(self.patience, |asked| asked.min(self.patience));
            let read = self.read(parts, body, head);
            (taken, name) = tokio::time::timeout(patience, read)
                .await
                .map_err(|_| Unchosen::Late)?
                .map_err(Unchosen::Body)?;
        }
        let service = routes.with_model(name.as_deref()).map_err(Unchosen::Problem)?.clone();
        taken.rehome(&service.space).map_err(Unchosen::Body)?;
        Ok((service, taken))
    }

    async fn read(
        &self,
        parts: &Parts,
        body: Paced,
        head: u64,
    ) -> Result<(RequestBody, Option<String>), SpoolError> {
        let taken = RequestBody::take(body, &self.space, parts.version).await?;
        let (mut model, mut read) = (ModelName::default(), 0);
        taken
            .peek(|part| {
                let rest = usize::try_from(head - read).unwrap_or(usize::MAX);
                let part = &part[..part.len().min(rest)];
                read += part.len() as u64;
                model.read(part) || read == head
            })
            .await?;
        Ok((taken, model.name()))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_body_that_may_be_json_is_read() {
        let post = |kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            may_name_model(&Method::POST, &headers)
        };
        for kind in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/vnd.api+json",
            "application/x-www-form-urlencoded",
            "text/plain;charset=UTF-8",
        ] {
            assert!(post(kind), "{kind}");
        }
        for kind in
            ["multipart/form-data; boundary=x", "application/octet-stream", "application/grpc", "+json"]
        {
            assert!(!post(kind), "{kind}");
        }
        let mut headers = HeaderMap::new();
        assert!(may_name_model(&Method::POST, &headers));
        assert!(!may_name_model(&Method::GET, &headers));
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(!may_name_model(&Method::POST, &headers), "nobody unpacks it");
    }
}
