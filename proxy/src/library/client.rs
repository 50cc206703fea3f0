//! Requests of this process to the services of a cluster in it.
//!
//! They come to the gateway over connections that are memory, served by the code that serves sockets: one way for all.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{self};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::DuplexStream;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use crate::config::Scheme;
use crate::gateway::ending::Notice;
use crate::gateway::{Gateway, serve};

/// Bytes that a connection holds, each way, until the other end takes them.
const BUFFER: usize = 64 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Sent = UnsyncBoxBody<Bytes, BoxError>;

/// A client of a cluster's services, which are hosts to it: `http://calc/add/3/4`. It is a `tower` service too.
#[derive(Clone)]
pub struct Client {
    inner: legacy::Client<Inside, Sent>,
}

/// Why a request got no answer at all. (What the proxy refuses is answered: with a status and a problem as JSON.)
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// This is no URI.
    #[error("not a URI: {0}")]
    Uri(http::Error),
    /// The cluster has been closed, or the request's own body failed.
    #[error("no answer: {0}")]
    NoAnswer(#[from] legacy::Error),
}

impl Client {
    pub(super) fn new(gateway: Arc<Gateway>, shutdown: Notice, connections: TaskTracker) -> Self {
        let inside = Inside { gateway, shutdown, connections };
        Self { inner: legacy::Client::builder(TokioExecutor::new()).build(inside) }
    }

    /// Asks for `uri`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get<U>(&self, uri: U) -> Result<Response<Incoming>, ClientError>
    where
        U: TryInto<Uri>,
        U::Error: Into<http::Error>,
    {
        let request = Request::get(uri).body(Empty::new()).map_err(ClientError::Uri)?;
        self.request(request).await
    }

    /// Sends any request; its URI names the service.
    ///
    /// # Errors
    /// [`ClientError::NoAnswer`].
    pub async fn request<B>(&self, request: Request<B>) -> Result<Response<Incoming>, ClientError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        Ok(self.inner.request(request).await?)
    }
}

impl<B> Service<Request<B>> for Client
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Incoming>;
    type Error = ClientError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let client = self.clone();
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        Box::pin(async move { Ok(client.inner.request(request).await?) })
    }
}

/// Connects to the gateway, whatever the host.
#[derive(Clone)]
struct Inside {
    gateway: Arc<Gateway>,
    shutdown: Notice,
    connections: TaskTracker,
}

impl Service<Uri> for Inside {
    type Response = TokioIo<Pipe>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let (here, there) = tokio::io::duplex(BUFFER);
        // To a cluster that is closed, or about to be, there is no way: whoever asks hears that nobody answers.
        if !self.shutdown.is_given() {
            let (gateway, shutdown) = (self.gateway.clone(), self.shutdown.clone());
            self.connections.spawn(serve::connection(gateway, Box::new(there), Scheme::Http, shutdown));
        }
        std::future::ready(Ok(TokioIo::new(Pipe(here))))
    }
}

/// This end of a connection.
struct Pipe(DuplexStream);

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl tokio::io::AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl tokio::io::AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
