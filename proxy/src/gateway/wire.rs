//! What carries one request to an instance: an HTTP/1.1 connection of its own, or a stream of a shared HTTP/2 one.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio_util::task::AbortOnDropHandle;

use super::body::{AttemptBody, RequestBody, ResponseBody};
use super::downstream::Asker;
use super::held;
use super::http1::Http1;
use super::multiplex::Http2;
use super::plain::{self, Expected, Why};
use super::trace_context::TRACEPARENT;

/// What carries one request.
pub enum Wire {
    /// A whole connection.
    Http1(Http1),
    /// A stream of a connection that others use, too.
    Http2(Http2),
}

/// A request on its way to an instance, the same at each attempt.
pub struct Outgoing<'a> {
    /// The method.
    pub method: &'a Method,
    /// Path and query.
    pub target: &'a Uri,
    /// Header fields, fit for an instance.
    pub headers: &'a HeaderMap,
    /// Who has spelled them, and is told what comes before the answer.
    pub asker: &'a Asker,
    /// In place of the one among them, where the attempt is recorded.
    pub traceparent: Option<&'a HeaderValue>,
    /// Whether they take the lines of an answer as they come.
    pub as_it_comes: bool,
    /// The body.
    pub body: &'a RequestBody,
    /// Whether the connection is to become another protocol's.
    pub upgrade: bool,
    /// The largest answer that is held until it is complete, in bytes.
    pub hold: u64,
}

/// How an answer has begun.
pub enum Answered {
    /// And ended: it is plain, and all of it is here.
    Whole(Response<ResponseBody>),
    /// Plainly: the rest comes by [`Wire::content`].
    Plain(Box<Expected>),
    /// In any other way: the rest comes by hyper.
    Begun(Response<Incoming>),
}

/// Why there is no answer.
pub struct SendError {
    /// What happened.
    pub error: Broke,
    /// What is known of the request itself.
    pub fate: Fate,
}

/// What broke an exchange.
#[derive(Debug)]
pub enum Broke {
    /// hyper's word for it.
    Hyper(hyper::Error),
    /// That of a plain exchange.
    Plain(Why),
}

impl From<hyper::Error> for Broke {
    fn from(error: hyper::Error) -> Self {
        Self::Hyper(error)
    }
}

impl From<Why> for Broke {
    fn from(why: Why) -> Self {
        Self::Plain(why)
    }
}

/// Before a byte of the request was sent.
impl<E: Into<Broke>> From<E> for SendError {
    fn from(error: E) -> Self {
        Self { error: error.into(), fate: Fate::Untouched }
    }
}

impl SendError {
    /// The request has been sent before, by other means.
    pub fn after_all(self) -> Self {
        Self { fate: Fate::Unknown, ..self }
    }
}

/// How far a request came that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The instance has not seen it, or says that it did nothing with it: the connection was ending.
    Untouched,
    /// The instance says that it did nothing with it, because it has enough to do.
    Refused,
    /// The instance may have worked on it.
    Unknown,
}

/// A connection whose answer is passed on as it comes.
pub enum Carrier {
    /// Polled along with the answer, and used again after it.
    Wire(Wire),
    /// Driven by a task of its own, because the request is still being sent, and must go on being sent while the client
    /// does not read its answer. Not used again.
    Task(AbortOnDropHandle<()>),
}

impl Wire {
    /// Polls something that comes over it, and moves meanwhile what can be moved in both directions.
    pub fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut awaited: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        match self {
            Self::Http1(wire) => wire.poll(cx, awaited),
            Self::Http2(_) => awaited(cx),
        }
    }

    /// Waits for something that comes over it.
    pub async fn driving<F: Future>(&mut self, awaited: F) -> F::Output {
        let mut awaited = pin!(awaited);
        poll_fn(|cx| self.poll(cx, |cx| awaited.as_mut().poll(cx))).await
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn send(&mut self, outgoing: &Outgoing<'_>) -> Result<Answered, SendError> {
        match self {
            Self::Http1(wire) => wire.send(outgoing).await,
            Self::Http2(wire) => wire.send(outgoing.request()).await.map(Answered::Begun),
        }
    }

    /// The rest of a plain answer.
    ///
    /// # Errors
    /// Where it does not come.
    pub async fn content(&mut self, expected: Expected) -> Result<Response<Bytes>, Broke> {
        match self {
            Self::Http1(wire) => wire.content(expected).await,
            Self::Http2(_) => Err(Why::Closed.into()),
        }
    }

    /// Whether an answer, whose fields are those that came, has no other end than that of its connection (RFC 9112, 6.3).
    pub fn ends_with(&self, response: &Response<Incoming>) -> bool {
        match self {
            Self::Http1(_) => {
                let body = response.body();
                !body.is_end_stream()
                    && body.size_hint().exact().is_none()
                    && !response.headers().contains_key(header::TRANSFER_ENCODING)
            }
            Self::Http2(_) => false,
        }
    }

    /// As the carrier of an answer that has begun; `sent` says whether the request has been sent whole.
    pub fn carry(mut self, sent: bool) -> Carrier {
        match &self {
            Self::Http1(_) if !sent => {
                let endless = async move { self.driving(std::future::pending()).await };
                Carrier::Task(AbortOnDropHandle::new(tokio::spawn(endless)))
            }
            Self::Http1(_) | Self::Http2(_) => Carrier::Wire(self),
        }
    }
}

impl<'a> Outgoing<'a> {
    /// For hyper.
    pub fn request(&self) -> Request<AttemptBody> {
        let mut request = Request::new(self.body.attempt());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = self.headers.clone();
        if let Some(traceparent) = self.traceparent {
            request.headers_mut().insert(TRACEPARENT, traceparent.clone());
        }
        request
    }

    /// For a plain exchange, if it may be one.
    pub fn plain(&self) -> Option<plain::Request<'a>> {
        let body = match self.body {
            RequestBody::Empty => None,
            RequestBody::Whole(chunks) => Some(chunks),
            RequestBody::Spooled(_) | RequestBody::Elsewhere(_) => return None,
        };
        let Self { method, target, headers, asker, traceparent, .. } = *self;
        let (spelling, interim) = (asker.spelling(), Some(asker));
        let hold = self.hold.min(held::SMALL);
        (!self.upgrade).then_some(plain::Request {
            method,
            target,
            headers,
            spelling,
            traceparent,
            body,
            hold,
            interim,
            as_it_comes: self.as_it_comes,
        })
    }
}
