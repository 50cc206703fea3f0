//! Requests and answers over HTTP/1.1, on connections that are kept.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Builder;
use http::{HeaderMap, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::digest;

/// Longest wait for a whole answer, unless the caller has a shorter one.
const ANSWER: Duration = Duration::from_secs(120);

/// Any body.
pub type AnyBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// A client of one server. Clones share their idle connections.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    idle: Arc<Mutex<Vec<SendRequest<AnyBody>>>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.address)
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Fields after its body.
    pub trailers: HeaderMap,
}

impl Client {
    /// A client that is not connected yet.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, idle: Arc::default() }
    }

    /// Of the server.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// `GET` of the default service.
    ///
    /// # Panics
    /// Without a whole answer.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path), Bytes::new()).await
    }

    /// `GET` of a service, by name.
    pub async fn get_from(&self, service: &str, path: &str) -> Reply {
        self.send(Request::get(path).header("longshore-service", service), Bytes::new()).await
    }

    /// `GET` with a `Fault` for the model server.
    pub async fn get_with_fault(&self, path: &str, fault: &str) -> Reply {
        self.send(Request::get(path).header("fault", fault), Bytes::new()).await
    }

    /// `POST` with a `Content-Digest`.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Reply {
        let body = body.into();
        self.send(Request::post(path).header("content-digest", digest::field(&body)), body).await
    }

    /// Any request.
    ///
    /// # Panics
    /// Without a whole answer.
    pub async fn send(&self, request: Builder, body: Bytes) -> Reply {
        self.try_send(request, body)
            .await
            .unwrap_or_else(|error| panic!("no answer from {}: {error}", self.address))
    }

    /// Any request; without a whole answer, why.
    ///
    /// # Errors
    /// Whatever broke.
    pub async fn try_send(&self, request: Builder, body: Bytes) -> Result<Reply, String> {
        let whole = async {
            let (response, sender) =
                self.open(request, Full::new(body).map_err(|never| match never {})).await?;
            let reply = Reply::collect(response).await?;
            self.idle.lock().push(sender);
            Ok(reply)
        };
        tokio::time::timeout(ANSWER, whole).await.unwrap_or_else(|_| Err(format!("silent for {ANSWER:?}")))
    }

    /// Sends a request with any body; the answer's body is still to be read, and the connection is the caller's.
    ///
    /// # Errors
    /// Whatever broke.
    pub async fn open<B>(
        &self,
        request: Builder,
        body: B,
    ) -> Result<(Response<Incoming>, SendRequest<AnyBody>), String>
    where
        B: Body<Data = Bytes, Error = std::io::Error> + Send + 'static,
    {
        let mut request = request.body(body.boxed_unsync()).map_err(|error| error.to_string())?;
        if !request.headers().contains_key(header::HOST) {
            let host = self.address.to_string().parse().map_err(|_| "no host")?;
            request.headers_mut().insert(header::HOST, host);
        }
        let mut sender = self.connection().await?;
        let response = sender.send_request(request).await.map_err(|error| format!("{error:?}"))?;
        Ok((response, sender))
    }

    async fn connection(&self) -> Result<SendRequest<AnyBody>, String> {
        loop {
            let Some(mut sender) = self.idle.lock().pop() else { break };
            // One that the server has closed meanwhile fails here; one that is still busy with its last answer waits.
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
        let stream = TcpStream::connect(self.address).await.map_err(|error| format!("connect: {error}"))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let handshake = http1::Builder::new()
            .preserve_header_case(true)
            .max_headers(1_000)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|error| error.to_string())?;
        tokio::spawn(async move {
            // Its failure is the answer's failure.
            let _ = connection.with_upgrades().await;
        });
        Ok(sender)
    }
}

/// A request body that is sent part by part, at the sender's pace; its length is not known unless a field tells it.
pub fn channel() -> (mpsc::Sender<Bytes>, Parts) {
    let (sender, receiver) = mpsc::channel(2);
    (sender, Parts(receiver))
}

/// The other end of [`channel`].
#[derive(Debug)]
pub struct Parts(mpsc::Receiver<Bytes>);

impl Body for Parts {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(context).map(|part| part.map(|part| Ok(Frame::data(part))))
    }
}

impl Reply {
    /// Reads an answer to its end.
    ///
    /// # Errors
    /// When it breaks off.
    pub async fn collect<B: Body<Data = Bytes>>(response: Response<B>) -> Result<Self, String>
    where
        B::Error: std::fmt::Debug,
    {
        let (head, body) = response.into_parts();
        let status = head.status.as_u16();
        let body = body.collect().await.map_err(|error| format!("{status}, then broken off: {error:?}"))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Self { status, headers: head.headers, body: body.to_bytes(), trailers })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// A field's value; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The last part of a problem's `type`.
    ///
    /// # Panics
    /// When it is no problem document, or contradicts its status.
    pub fn problem(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{} {}",
            self.status,
            self.text()
        );
        let body = self.json();
        assert_eq!(body["status"], self.status);
        let kind = body["type"].as_str().and_then(|kind| kind.strip_prefix("urn:longshore:"));
        kind.unwrap_or_else(|| panic!("no type: {body}")).to_owned()
    }

    /// A problem's `detail`.
    pub fn detail(&self) -> String {
        self.json()["detail"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether the body is the one that the server's `Content-Digest` speaks of.
    pub fn is_intact(&self) -> bool {
        self.header("content-digest") == digest::field(&self.body)
    }
}
