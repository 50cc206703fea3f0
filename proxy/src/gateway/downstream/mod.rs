//! HTTP/1.1 with a client: request after request on one connection, each answered before the next is looked at.
//!
//! Of a proxy's work on a small request most is done here, if every message is taken apart and put together in halves that
//! talk over channels, as a general server has to (gateway design F). Here a head is read by httparse, content is read
//! from the socket by whoever takes it, and an answer leaves with its head in one write. And a client's words stay as they
//! were: the case and order of its fields, and what an instance says before its answer.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body as _;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

mod asker;
mod content;
mod decode;
mod encode;
mod head;
mod outbox;
mod socket;
mod takeover;
#[cfg(test)]
mod tests;

pub use asker::Asker;
pub use content::Content;
pub use socket::{ClientStream, ContentError};
pub use takeover::Taking;

use self::encode::{Asked, Came, Ending};
use self::head::Head;
use self::outbox::Outbox;
use self::socket::{Next, Shared};
use self::takeover::TakenOver;
use super::admission::Rules;
use super::body::ResponseBody;
use super::ending::{Notice, say_last};
use super::serve::{Client, later};
use super::{Gateway, front};
use crate::problem::Problem;

/// So much of an answer is taken from its instance before the client has taken it, in bytes.
const AHEAD: usize = 64 * 1024;

/// How long the rest of a content that nobody wants is waited for.
const DRAIN: Duration = Duration::from_secs(1);

/// A connection on which HTTP/1.1 is spoken.
pub struct Connection {
    gateway: Arc<Gateway>,
    client: Client,
    rules: Arc<Rules>,
    /// Whether a client that has finished sending is still there.
    half_close: bool,
    socket: Shared,
    outbox: Outbox,
}

/// What becomes of a connection after an answer.
enum After {
    /// Another request.
    Next,
    /// It is closed; the client is heard out.
    Close,
    /// It is another protocol's, which is told so.
    TakenOver(oneshot::Sender<TakenOver>),
    /// It is no more.
    Over,
}

/// An answer on its way to the client.
struct Sending {
    body: ResponseBody,
    ending: Ending,
    /// Bytes that are still to come, where that is known.
    left: u64,
    /// Whether there was no chunk yet.
    first: bool,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Under,
    Complete,
    Broken,
}

impl Connection {
    /// On a stream of which nothing has been read.
    pub fn new(
        gateway: Arc<Gateway>,
        client: Client,
        rules: Arc<Rules>,
        half_close: bool,
        stream: Box<dyn ClientStream>,
    ) -> Self {
        let outbox = Outbox::new(!stream.is_write_vectored());
        Self { gateway, client, rules, half_close, socket: Shared::new(stream), outbox }
    }

    /// Until it ends, or, once it is to, until its last answer is out.
    pub async fn serve(mut self, notice: Notice) {
        let mut closed = pin!(later(notice.clone().closed(), Instant::now()));
        let mut end = End { notice, registered: false, come: false };
        loop {
            let next = {
                let (socket, limits) = (&self.socket, &self.rules.limits);
                std::future::poll_fn(|cx| {
                    let polled = socket.with(|socket| socket.poll_next(cx, limits));
                    let leaves = polled.is_pending() && end.poll(closed.as_mut(), cx);
                    // Somebody who has begun to ask is answered.
                    if leaves && socket.with(|socket| socket.is_idle()) {
                        Poll::Ready(Next::Over)
                    } else {
                        polled
                    }
                })
                .await
            };
            let after = match next {
                Next::Request(head) => self.answer(head).await,
                Next::Refused(problem) => self.refuse(&problem).await,
                Next::Over => After::Over,
            };
            match after {
                After::Next => self.outbox.rest(),
                After::Close => return self.close().await,
                After::TakenOver(taking) => {
                    if let Some(taken) = TakenOver::of(&self.socket) {
                        // Who is not there any more lets it end.
                        let _ = taking.send(taken);
                    }
                    return;
                }
                After::Over => return,
            }
        }
    }

    /// Answers a request.
    async fn answer(&mut self, head: Head) -> After {
        let Head { mut parts, spelling, content, keeps, expects, upgrades } = head;
        let (bare, old) = (encode::is_bare(&parts.method), encode::is_old(parts.version));
        let left = content.left();
        let turn = self.socket.with(|socket| socket.begin(content, expects));
        let taken_over = upgrades.then(|| takeover::promise(&mut parts.extensions));
        let request = Request::from_parts(parts, Content::of(&self.socket, turn, left));
        let asker = Asker::new(spelling, &self.socket, !old);
        let Some(mut response) = self.handled(request, asker).await else { return After::Over };
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if self.client.is_last() {
            say_last(&mut response);
        }
        let keeps = keeps && self.socket.with(|socket| socket.may_go_on() && !socket.has_ended());
        let asked = Asked { bare, old, keeps: keeps || switches };
        let after = self.send(response, asked).await;
        match (after, taken_over.filter(|_| switches)) {
            (After::Next, Some(taken_over)) => After::TakenOver(taken_over),
            (After::Next, None) => self.finish().await,
            (after, _) => after,
        }
    }

    /// Waits for the answer, and looks after the client meanwhile: nothing if it leaves.
    async fn handled(&self, request: Request<Content>, asker: Asker) -> Option<Response<ResponseBody>> {
        let mut handling = pin!(front::handle(&self.gateway, &self.client, request, asker));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(response) = handling.as_mut().poll(cx) {
                return Poll::Ready(Some(response));
            }
            self.socket.with(|socket| match socket.poll_interim(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(None),
                Poll::Ready(Ok(())) | Poll::Pending => socket.poll_gone(cx, self.half_close).map(|()| None),
            })
        })
        .await
    }

    /// Sends an answer as it comes.
    async fn send(&mut self, response: Response<ResponseBody>, asked: Asked) -> After {
        let (parts, body) = response.into_parts();
        let length = body.size_hint().exact();
        let (ending, keeps) = {
            let came = match body.lines() {
                Some(lines) => Came::Lines(lines),
                None => Came::Spelled(body.spelling().or_else(|| parts.extensions.get())),
            };
            self.outbox.begin(|out| encode::head(out, &parts, came, length, asked))
        };
        drop(parts);
        let mut sending = Sending::new(body, ending);
        self.socket.with(socket::Socket::begin_answer);
        let (socket, outbox, half_close) = (&self.socket, &mut self.outbox, self.half_close);
        let after = std::future::poll_fn(|cx| {
            let sent = sending.poll_send(cx, socket, outbox);
            if sent.is_pending() && socket.with(|socket| socket.poll_gone(cx, half_close)).is_ready() {
                return Poll::Ready(After::Over);
            }
            sent
        })
        .await;
        match after {
            After::Next if !keeps => After::Close,
            after => after,
        }
    }

    /// The answer is out: so is what is left of the request, or else the connection ends.
    async fn finish(&self) -> After {
        let drained = std::future::poll_fn(|cx| self.socket.with(|socket| socket.poll_drain(cx)));
        if self.socket.with(|socket| socket.is_whole()) || matches!(timeout(DRAIN, drained).await, Ok(true)) {
            After::Next
        } else {
            After::Close
        }
    }

    /// Answers what is no request.
    async fn refuse(&mut self, problem: &Problem) -> After {
        self.gateway.refused.count(problem.kind());
        let response = front::turned_away(&self.gateway, problem).map(ResponseBody::from);
        let asked = Asked { bare: false, old: false, keeps: false };
        self.send(response, asked).await
    }

    async fn close(&self) {
        // It ends, whether the client takes notice or not.
        let _ = std::future::poll_fn(|cx| self.socket.with(|socket| socket.poll_close(cx))).await;
    }
}

impl Sending {
    fn new(body: ResponseBody, ending: Ending) -> Self {
        let state = if ending == Ending::None { State::Complete } else { State::Under };
        let left = if let Ending::Length(left) = &ending { *left } else { 0 };
        Self { body, ending, left, first: true, state }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, socket: &Shared, outbox: &mut Outbox) -> Poll<After> {
        loop {
            let waits = self.poll_take(cx, outbox);
            if ready!(socket.with(|socket| socket.poll_send(cx, outbox))).is_err() {
                return Poll::Ready(After::Over);
            }
            match self.state {
                State::Complete => return Poll::Ready(After::Next),
                State::Broken => {
                    if self.ending == Ending::Close {
                        // Its end would look like that of the answer.
                        socket.with(|socket| socket.abort());
                    }
                    return Poll::Ready(After::Over);
                }
                State::Under if waits => return Poll::Pending,
                State::Under => {}
            }
        }
    }

    /// Takes what there is of the answer, as far as it may go ahead of the client. Returns whether more is waited for.
    fn poll_take(&mut self, cx: &mut Context<'_>, outbox: &mut Outbox) -> bool {
        while self.state == State::Under && outbox.remaining() < AHEAD {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.push(data, outbox),
                    Err(frame) => self.end(frame.into_trailers().ok().as_ref(), outbox),
                },
                Poll::Ready(Some(Err(_))) => self.state = State::Broken,
                Poll::Ready(None) => self.end(None, outbox),
                Poll::Pending => return true,
            }
        }
        false
    }

    fn push(&mut self, mut data: Bytes, outbox: &mut Outbox) {
        match &self.ending {
            Ending::None => {}
            Ending::Close => outbox.push(data),
            Ending::Length(_) => {
                // More than was announced would be taken for another answer.
                data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= data.len() as u64;
                outbox.push(data);
            }
            Ending::Chunked if data.is_empty() => {}
            Ending::Chunked => {
                outbox.push(encode::chunk(data.len(), std::mem::take(&mut self.first)).into());
                outbox.push(data);
            }
        }
    }

    fn end(&mut self, trailers: Option<&HeaderMap>, outbox: &mut Outbox) {
        if self.ending == Ending::Chunked {
            outbox.push(encode::last(trailers, self.first).into());
        }
        self.state = if self.left == 0 { State::Complete } else { State::Broken };
    }
}

/// Whether the connection is to end.
struct End {
    notice: Notice,
    registered: bool,
    come: bool,
}

impl End {
    /// A task's waker stays the same: one look registers it, the next is due when there is news.
    fn poll(&mut self, closed: Pin<&mut impl Future<Output = ()>>, cx: &mut Context<'_>) -> bool {
        if !self.come && (!self.registered || self.notice.is_given()) {
            self.registered = true;
            self.come = closed.poll(cx).is_ready();
        }
        self.come
    }
}
