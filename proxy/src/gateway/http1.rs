//! An HTTP/1.1 connection to an instance: spoken plainly where an exchange is plain (`plain`), else by hyper, for as long as
//! that exchange lasts.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, header};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::body::{AttemptBody, Came, ResponseBody};
use super::downstream::Asker;
use super::interim::Interims;
use super::plain::{self, Begun, Expected, Handed, Plain, Progress};
use super::relay::Relay;
use super::spelled::{Heads, Spelled};
use super::wire::{Answered, Broke, Fate, Outgoing, SendError};

/// A connection that was just used and is not ready yet is about to be; one whose server still reads is not.
const READY_TIMEOUT: Duration = Duration::from_millis(20);

/// hyper's side of a connection.
enum Driven {
    /// It can be had back when it is idle.
    Idle(Box<Connection<TokioIo<Spelled<Handed>>, AttemptBody>>),
    /// Another protocol may take it over.
    Upgradeable(Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>),
}

impl Driven {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        match self {
            Self::Idle(connection) => Pin::new(&mut **connection).poll(cx),
            Self::Upgradeable(connection) => connection.as_mut().poll(cx),
        }
    }
}

/// An HTTP/1.1 connection. It does nothing unless it is polled: whoever waits for something that comes over it polls it
/// meanwhile, in the request's own task, so that no other task has to be woken.
pub struct Http1 {
    /// The socket under a second descriptor, by which the link can shut it down.
    socket: Arc<OwnedFd>,
    spoken: Spoken,
}

enum Spoken {
    /// Plainly.
    Plain(Box<Plain>),
    /// By hyper.
    Hyper(Hyper),
    /// No more, or not by us: a plain answer is under way.
    Not,
}

/// A connection in hyper's hands.
struct Hyper {
    sender: http1::SendRequest<AttemptBody>,
    /// None when it has ended.
    connection: Option<Driven>,
    relay: Relay,
    heads: Heads,
    /// It was handed over in the middle of an exchange, and this is to be told of the end of it.
    handed: Option<Arc<Progress>>,
    /// The exchange under way is the last.
    last: bool,
}

impl Http1 {
    /// Over a socket that is connected.
    ///
    /// # Errors
    /// Where there are no more file descriptors.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        let plain = Box::new(Plain::new(stream)?);
        Ok(Self { socket: plain.socket().clone(), spoken: Spoken::Plain(plain) })
    }

    /// The socket under it.
    pub const fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    /// Whether it carries no further request.
    pub const fn is_over(&self) -> bool {
        match &self.spoken {
            Spoken::Plain(_) => false,
            Spoken::Hyper(hyper) => hyper.connection.is_none() || hyper.last,
            Spoken::Not => true,
        }
    }

    /// Polls something that comes over it, and moves meanwhile what can be moved in both directions.
    pub fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut awaited: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        match &mut self.spoken {
            Spoken::Hyper(Hyper { relay, connection, .. }) => {
                relay.poll(cx, awaited, |cx| drive(connection, cx))
            }
            Spoken::Plain(_) | Spoken::Not => awaited(cx),
        }
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn send(&mut self, outgoing: &Outgoing<'_>) -> Result<Answered, SendError> {
        if let Spoken::Plain(_) = &self.spoken
            && let Spoken::Plain(plain) = std::mem::replace(&mut self.spoken, Spoken::Not)
        {
            match outgoing.plain() {
                Some(request) => return self.ask(plain, &request, outgoing).await,
                None => {
                    self.spoken = {
                        let handed = Handed::idle(plain.into_stream());
                        Spoken::Hyper(Hyper::new(handed, outgoing.upgrade).await?)
                    }
                }
            }
        }
        match &mut self.spoken {
            Spoken::Hyper(hyper) => {
                Ok(Answered::Begun(hyper.send(in_chunks(outgoing.request()), outgoing.asker).await?))
            }
            Spoken::Plain(_) | Spoken::Not => Err(plain::Why::Closed.into()),
        }
    }

    /// Asks plainly, and leaves it to hyper to understand any other answer than a plain one.
    async fn ask(
        &mut self,
        plain: Box<Plain>,
        request: &plain::Request<'_>,
        outgoing: &Outgoing<'_>,
    ) -> Result<Answered, SendError> {
        let handed = match plain.ask(request).await {
            Ok(Begun::Plain(mut expected)) if expected.is_complete() => {
                let came = Came::of(expected.take_lines(), expected.spelling().clone());
                let (response, plain) = expected.finish();
                self.keep(plain);
                return Ok(Answered::Whole(response.map(|content| ResponseBody::Plain(content, came))));
            }
            Ok(Begun::Plain(expected)) => return Ok(Answered::Plain(Box::new(expected))),
            Ok(Begun::Other(handed)) => handed,
            Err(broken) => {
                let fate = if broken.sent { Fate::Unknown } else { Fate::Untouched };
                return Err(SendError { error: broken.why.into(), fate });
            }
        };
        let progress = handed.progress();
        let mut hyper = Hyper::new(handed, false).await?;
        (hyper.last, hyper.handed) = (progress.is_none(), progress);
        let response = hyper.send(outgoing.request(), outgoing.asker).await;
        let response = response.map_err(SendError::after_all)?;
        self.spoken = Spoken::Hyper(hyper);
        Ok(Answered::Begun(response))
    }

    /// The rest of a plain answer, after which the connection may be good for another.
    ///
    /// # Errors
    /// Where the rest does not come.
    pub async fn content(&mut self, expected: Expected) -> Result<Response<bytes::Bytes>, Broke> {
        let (response, plain) = expected.content().await.map_err(|broken| broken.why)?;
        self.keep(plain);
        Ok(response)
    }

    /// For the next exchange, if the connection is good for one.
    fn keep(&mut self, plain: Option<Box<Plain>>) {
        if let Some(plain) = plain {
            self.spoken = Spoken::Plain(plain);
        }
    }

    /// Whether it can carry a request, now or very soon.
    pub async fn is_alive(&mut self) -> bool {
        match &mut self.spoken {
            Spoken::Plain(plain) => plain.is_alive(),
            Spoken::Hyper(hyper) => hyper.is_ready().await && self.is_plain_again(),
            Spoken::Not => false,
        }
    }

    /// What hyper does not speak any more is spoken plainly again; says whether the connection is good for anything.
    fn is_plain_again(&mut self) -> bool {
        let Spoken::Hyper(hyper) = std::mem::replace(&mut self.spoken, Spoken::Not) else { return false };
        let stream = match hyper.connection {
            Some(Driven::Idle(connection)) => {
                let parts = connection.into_parts();
                let handed = parts.io.into_inner().into_inner().filter(|_| parts.read_buf.is_empty());
                handed.and_then(Handed::into_stream)
            }
            // It was to be another protocol's.
            Some(Driven::Upgradeable(_)) | None => None,
        };
        let Some(stream) = stream else { return false };
        let plain = Box::new(Plain::over(stream, self.socket.clone()));
        let alive = plain.is_alive();
        self.spoken = Spoken::Plain(plain);
        alive
    }
}

impl Hyper {
    async fn new(stream: Handed, upgrade: bool) -> Result<Self, SendError> {
        let heads = Heads::default();
        let io = TokioIo::new(Spelled::new(stream, heads.clone()));
        let (sender, connection) =
            http1::Builder::new().max_headers(plain::MAX_FIELDS).handshake(io).await.map_err(Broke::from)?;
        let connection = match upgrade {
            true => Driven::Upgradeable(Box::pin(connection.with_upgrades())),
            false => Driven::Idle(Box::new(connection)),
        };
        let relay = Relay::new();
        Ok(Self { sender, connection: Some(connection), relay, heads, handed: None, last: false })
    }

    async fn send(
        &mut self,
        mut request: Request<AttemptBody>,
        asker: &Asker,
    ) -> Result<Response<Incoming>, SendError> {
        let Self { sender, connection, relay, heads, .. } = self;
        heads.expect(asker.spelling());
        let interims = Interims::of(&mut request, asker, heads);
        // Sent when it is polled first, so that the connection's wake stays inside.
        let mut answer = pin!(async { sender.try_send_request(request).await });
        let answer = poll_fn(|cx| {
            let answer = relay.poll(cx, |cx| answer.as_mut().poll(cx), |cx| drive(connection, cx));
            match interims.flood() {
                Some(why) => Poll::Ready(Err(SendError { error: why.into(), fate: Fate::Unknown })),
                None => answer.map_err(|mut error| {
                    let fate = if error.take_message().is_some() { Fate::Untouched } else { Fate::Unknown };
                    SendError { error: error.into_error().into(), fate }
                }),
            }
        });
        let mut answer = answer.await?;
        answer.extensions_mut().insert(heads.answer());
        Ok(answer)
    }

    async fn is_ready(&mut self) -> bool {
        let Self { sender, connection, relay, .. } = self;
        let ready = poll_fn(|cx| {
            // Driven first: what has come meanwhile may be its end.
            drive(connection, cx);
            relay.poll(cx, |cx| sender.poll_ready(cx).map(|ready| ready.is_ok()), |cx| drive(connection, cx))
        });
        let ready = timeout(READY_TIMEOUT, ready).await.unwrap_or(false);
        if let (true, Some(handed)) = (ready, self.handed.take()) {
            handed.end();
        }
        ready
    }
}

/// A body of unknown length is sent in chunks, whatever the method: of a GET's, hyper believes that there is none, and
/// would drop it unless it is told so.
fn in_chunks(mut request: Request<AttemptBody>) -> Request<AttemptBody> {
    let unusual = request.method() == Method::GET || request.method() == Method::HEAD;
    if unusual && request.body().size_hint().exact().is_none() {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    request
}

/// Moves what can be moved in both directions.
fn drive(connection: &mut Option<Driven>, cx: &mut Context<'_>) {
    // Its failure is also the failure of the request on it, which is where it is told.
    if let Some(driven) = connection
        && driven.poll(cx).is_ready()
    {
        *connection = None;
    }
}
