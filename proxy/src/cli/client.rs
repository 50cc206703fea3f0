//! The admin API of a running proxy, and what its refusals mean to a person.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use tokio::time::timeout;

use crate::admin::view::ServiceView;
use crate::http_client::{Server, Unreachable, cause, segment};

/// Longest wait for the head of an answer: the slowest request kills an instance.
const ANSWER: Duration = Duration::from_secs(30);

/// Longest time for a file to be sent and understood.
const LONGEST_UPLOAD: Duration = Duration::from_secs(24 * 3600);

/// Most bytes of an answer that is not a stream.
const LARGEST: usize = 64 << 20;

/// Speaks to one admin API.
#[derive(Clone, Debug)]
pub(super) struct Client {
    url: String,
    server: Server,
    token: Option<String>,
}

/// Why the admin API did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ClientError {
    /// The URL of `--admin` is none.
    #[error("--admin {0:?} is not a URL such as http://127.0.0.1:5001: {1}")]
    Url(String, String),
    /// Nothing, or nothing of ours, listens there.
    #[error("no Longshore answers at {url} ({why}): start one with `longshore up`, or name it with --admin")]
    NoAnswer { url: String, why: String },
    /// A token is wanted.
    #[error("{detail}{hint}")]
    Unauthorized { detail: String, hint: &'static str },
    /// It answered with an error.
    #[error("{detail}")]
    Refused { status: StatusCode, detail: String },
    /// It answered with something that is not the API's.
    #[error("{url} answers, but not as the admin API of Longshore {version} does ({why})", version = env!("CARGO_PKG_VERSION"))]
    Garbled { url: String, why: String },
}

impl Client {
    /// A client for the API at `url`; nothing is sent yet.
    pub(super) fn new(url: &str, token: Option<&str>) -> Result<Self, ClientError> {
        let server = Server::parse(url).map_err(|why| ClientError::Url(url.to_owned(), why))?;
        let token = token.map(str::trim).filter(|token| !token.is_empty()).map(str::to_owned);
        Ok(Self { url: url.to_owned(), server, token })
    }

    /// Where the API is.
    pub(super) const fn server(&self) -> &Server {
        &self.server
    }

    /// `GET /services/NAME`.
    pub(super) async fn service(&self, name: &str) -> Result<ServiceView, ClientError> {
        self.json(Method::GET, &format!("/services/{}", segment(name)), None).await
    }

    /// Kills an instance at once, as a fault would.
    pub(super) async fn kill(&self, name: &str, instance: &str) -> Result<(), ClientError> {
        let path = format!("/services/{}/instances/{}/kill", segment(name), segment(instance));
        self.open(Method::POST, &path, None).await.map(drop)
    }

    /// Sends a request and understands the answer.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Json>,
    ) -> Result<T, ClientError> {
        let bytes = self.collect(self.open(method, path, body).await?).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.garbled(error.to_string()))
    }

    /// `GET`, as text.
    pub(super) async fn text(&self, path: &str) -> Result<String, ClientError> {
        let bytes = self.collect(self.open(Method::GET, path, None).await?).await?;
        String::from_utf8(bytes.into()).map_err(|error| self.garbled(error.to_string()))
    }

    /// Sends a request; the answer is a success whose body is still to be read.
    pub(super) async fn open(
        &self,
        method: Method,
        path: &str,
        body: Option<&Json>,
    ) -> Result<Response<Incoming>, ClientError> {
        let response = self.sent(self.request(method, path, body)?, ANSWER).await?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response).await) }
    }

    /// `GET`, whatever the status is; the server may take `wait` to answer.
    pub(super) async fn raw(&self, path: &str, wait: Duration) -> Result<Response<Incoming>, ClientError> {
        self.sent(self.request(Method::GET, path, None)?, ANSWER + wait).await
    }

    /// `POST` with a body that is read as it is sent.
    pub(super) async fn upload<T, B>(&self, path: &str, body: B) -> Result<T, ClientError>
    where
        T: DeserializeOwned,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (head, _) = self.request(Method::POST, path, None)?.into_parts();
        let response = self.sent(Request::from_parts(head, body), LONGEST_UPLOAD).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let bytes = self.collect(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.garbled(error.to_string()))
    }

    /// What an answer of [`Client::raw`] means that is no success.
    pub(super) async fn refused(&self, response: Response<Incoming>) -> ClientError {
        self.refusal(response).await
    }

    async fn sent<B>(&self, request: Request<B>, limit: Duration) -> Result<Response<Incoming>, ClientError>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match timeout(limit, self.server.send(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(Unreachable(why))) => Err(ClientError::NoAnswer { url: self.url.clone(), why }),
            Err(_) => {
                let why = format!("silent for {}", super::output::duration(limit));
                Err(ClientError::NoAnswer { url: self.url.clone(), why })
            }
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Json>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder().method(method).uri(self.server.path(path));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(|json| Bytes::from(json.to_string())).unwrap_or_default();
        // Only a token can hold what a header may not.
        request.body(Full::new(body)).map_err(|error| ClientError::Unauthorized {
            detail: format!("--token cannot be sent: {error}"),
            hint: "",
        })
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = Limited::new(response.into_body(), LARGEST);
        let collected = body.collect().await.map_err(|error| {
            let why = error.downcast_ref::<hyper::Error>().map_or_else(|| error.to_string(), cause);
            self.garbled(why)
        })?;
        Ok(collected.to_bytes())
    }

    /// What a status that is no success means: the `detail` of a problem document, or what else there is.
    async fn refusal(&self, response: Response<Incoming>) -> ClientError {
        let status = response.status();
        let bytes = match self.collect(response).await {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        let problem: Option<Json> = serde_json::from_slice(&bytes).ok();
        let detail = problem.as_ref().and_then(|problem| problem.get("detail")).and_then(Json::as_str);
        let Some(detail) = detail.map(str::to_owned) else {
            return self.garbled(format!("status {status}"));
        };
        if status != StatusCode::UNAUTHORIZED {
            return ClientError::Refused { status, detail };
        }
        let hint = match &self.token {
            Some(_) => " (the token that was given is not it)",
            None if detail.contains("--token") => "",
            None => " (give it with --token or LONGSHORE_TOKEN)",
        };
        ClientError::Unauthorized { detail, hint }
    }

    fn garbled(&self, why: String) -> ClientError {
        ClientError::Garbled { url: self.url.clone(), why }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// What a client makes of a server that answers with these bytes and closes.
    async fn answered_with(answer: &'static str, token: Option<&str>) -> Result<Json, ClientError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(head).unwrap()
        });
        let result = Client::new(&url, token).unwrap().json(Method::GET, "/services", None).await;
        let head = server.await.unwrap().to_lowercase();
        assert!(
            head.starts_with("get /services http/1.1\r\n") && head.contains("\r\nhost: 127.0.0.1:"),
            "{head}"
        );
        assert_eq!(head.contains("\r\nauthorization: bearer "), token.is_some());
        result
    }

    #[tokio::test]
    async fn nobody_there_is_told_with_what_to_do() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = Client::new(&url, None).unwrap().service("calc").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "no Longshore answers at {url} (connection refused): start one with `longshore up`, or name it with \
                 --admin"
            )
        );
    }

    #[tokio::test]
    async fn one_that_does_not_speak_tls_is_told_of() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = [0; 64];
            stream.read_exact(&mut hello).await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            // Kept until the client has read it.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        let error = Client::new(&url, None).unwrap().service("calc").await.unwrap_err().to_string();
        assert!(error.contains("it does not speak TLS: is it http:// that is meant?"), "{error}");
    }

    #[tokio::test]
    async fn an_answer_is_understood() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"a\":1}";
        assert_eq!(answered_with(answer, Some("secret")).await, Ok(serde_json::json!({"a": 1})));
    }

    #[tokio::test]
    async fn the_detail_of_a_problem_is_the_error() {
        let answer = "HTTP/1.1 404 Not Found\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\r\n\
                      {\"type\":\"urn:longshore:no-service\",\"detail\":\"no service is named x\"}";
        let error = answered_with(answer, None).await.unwrap_err();
        assert_eq!(error.to_string(), "no service is named x");
    }

    #[tokio::test]
    async fn a_missing_token_is_asked_for() {
        let answer = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 27\r\n\r\n{\"detail\":\"a token please\"}";
        let error = answered_with(answer, None).await.unwrap_err().to_string();
        assert_eq!(error, "a token please (give it with --token or LONGSHORE_TOKEN)");
        let error = answered_with(answer, Some("wrong")).await.unwrap_err().to_string();
        assert_eq!(error, "a token please (the token that was given is not it)");
    }

    #[tokio::test]
    async fn another_server_is_not_taken_for_ours() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>",
            "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 60\r\n\r\n{",
        ] {
            let error = answered_with(answer, None).await.unwrap_err().to_string();
            assert!(error.contains("answers, but not as the admin API of Longshore"), "{error}");
        }
        let error = answered_with("", None).await.unwrap_err().to_string();
        assert!(error.contains("closed before the answer was complete"), "{error}");
    }
}
