//! Requests over HTTP/2 in the clear, and gRPC calls made by hand.

use std::net::SocketAddr;

use bytes::Bytes;
use http::request::Builder;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::client::{AnyBody, Reply};

/// A connection; clones share it.
#[derive(Clone, Debug)]
pub struct Http2 {
    sender: SendRequest<AnyBody>,
}

impl Http2 {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket has that option");
        Self::over(stream).await
    }

    /// Speaks over a connection that is there.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.expect("the server speaks HTTP/2");
        // Its failure is the answer's failure.
        tokio::spawn(connection);
        Self { sender }
    }

    /// Sends a request for `http://calc/…`; the answer's body is still to be read.
    ///
    /// # Errors
    /// Whatever broke.
    pub async fn open<B>(&self, request: Builder, body: B) -> Result<Response<Incoming>, String>
    where
        B: Body<Data = Bytes, Error = std::io::Error> + Send + 'static,
    {
        let request = request.body(body.boxed_unsync()).map_err(|error| error.to_string())?;
        self.sender.clone().send_request(request).await.map_err(|error| format!("{error:?}"))
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Panics
    /// Without one.
    pub async fn send(&self, request: Builder, body: impl Into<Bytes>) -> Reply {
        let body = Full::new(body.into()).map_err(|never| match never {});
        let response = self.open(request, body).await.expect("an answer");
        Reply::collect(response).await.expect("a whole answer")
    }

    /// Calls a method of the model server's gRPC service with one message.
    ///
    /// # Panics
    /// Without a whole answer.
    pub async fn call(&self, request: Builder, message: &[u8]) -> Reply {
        self.send(request, frame(message)).await
    }
}

/// A request for a method of the model server's gRPC service.
pub fn grpc(method: &str) -> Builder {
    Request::post(format!("http://calc/longshore.Echo/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
}

/// A message as gRPC frames it.
pub fn frame(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
    [&[0], &length[..], message].concat().into()
}

/// The messages in an answer.
///
/// # Panics
/// When the last one is not whole.
pub fn messages(mut body: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    while !body.is_empty() {
        let length = u32::from_be_bytes(body[1..5].try_into().expect("four bytes")) as usize;
        out.push(String::from_utf8_lossy(&body[5..5 + length]).into_owned());
        body = &body[5 + length..];
    }
    out
}

/// The status of a call, wherever it stands.
pub fn status(reply: &Reply) -> String {
    let field = reply.trailers.get("grpc-status").or_else(|| reply.headers.get("grpc-status"));
    field.and_then(|value| value.to_str().ok()).unwrap_or("none").to_owned()
}
