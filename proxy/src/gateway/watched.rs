//! A client's socket, watched: no connection stays idle, or dribbles its header, for longer than allowed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::downstream::ClientStream;
use super::pace::{Pace, Patience};
use super::serve::Activity;
use super::unread::Unread;
use crate::clock::Clock;
use crate::config::Limits;

/// How patient a connection is.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a whole header section.
    pub header: Duration,
    /// Without any request.
    pub idle: Duration,
    /// Whether a client that has finished sending is still there.
    pub half_close: bool,
}

/// A socket and what is known of the requests on it.
pub struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    timeouts: Timeouts,
    /// Whether HTTP/1.1 is spoken.
    http1: bool,
    /// When the first byte of a header came that is not complete yet. Of HTTP/2, that is known of the first request only:
    /// what comes later may be anything, a ping for one.
    head_since: Option<Duration>,
    idle_since: Duration,
    alarm: Pin<Box<Sleep>>,
    /// Whether a request was under way at the last look.
    was_active: bool,
    /// How many requests had begun at the last look: when one more has, the header before it is complete.
    begun: usize,
    /// Until when a client that has been told of its idleness may still ask.
    leaves_by: Option<Duration>,
    /// How long the client is waited for to take its answer, if that is limited.
    patience: Option<(Pace, Patience)>,
    /// A client of whom nothing is read.
    unread: Unread,
    /// Until when what the client still sends is read and dropped, once its answer is out.
    lingers_until: Option<Instant>,
}

/// How long a client is heard out that still sends when it has its last answer, without a byte and in all. Closing at
/// once would reset the connection, and the answer (a refusal, most likely) with it.
const LINGER_IDLE: Duration = Duration::from_millis(300);
const LINGER: Duration = Duration::from_secs(5);

/// How long a client of HTTP/2 may take to hear that its connection ends for being idle.
const LEAVE: Duration = Duration::from_secs(1);

impl<S: AsyncRead + AsyncWrite + Unpin> Watched<S> {
    /// Watches a socket that has just sent its first bytes.
    pub fn new(
        stream: S,
        activity: Arc<Activity>,
        timeouts: Timeouts,
        limits: &Limits,
        http1: bool,
        unread: Unread,
    ) -> Self {
        let now = Clock::coarse();
        let alarm = Box::pin(tokio::time::sleep(timeouts.header));
        Self {
            stream,
            activity,
            begun: 0,
            timeouts,
            http1,
            head_since: Some(now),
            idle_since: now,
            alarm,
            was_active: false,
            leaves_by: None,
            patience: Pace::of(limits).map(|pace| (pace, pace.patience())),
            unread,
            lingers_until: None,
        }
    }

    /// It has sent nothing of a request yet: until then it is idle.
    pub fn silent(mut self) -> Self {
        self.head_since = None;
        self
    }

    fn is_active(&mut self) -> bool {
        let begun = self.activity.begun.load(Ordering::Relaxed);
        if begun != self.begun {
            self.begun = begun;
            self.head_since = None;
            self.idle_since = Clock::coarse();
        }
        self.was_active = self.activity.active.load(Ordering::Relaxed) > 0;
        self.was_active
    }

    /// Whether the client has been silent for too long. Looks at the clock only when the alarm rings: setting it anew
    /// for each request would cost more than a late look.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.alarm.as_mut().poll(cx).is_ready() {
            let now = Clock::coarse();
            let until = if self.is_active() {
                now + self.timeouts.header.min(self.timeouts.idle)
            } else {
                match self.head_since {
                    Some(since) => since + self.timeouts.header,
                    None => (self.idle_since + self.timeouts.idle).min(now + self.timeouts.header),
                }
            };
            let over = match self.head_since {
                Some(_) => until <= now,
                None => !self.was_active && self.idle_since + self.timeouts.idle <= now,
            };
            if over && !self.may_still_ask(now) {
                return Poll::Ready(());
            }
            let until = if over { now + LEAVE } else { until };
            let until = match &mut self.patience {
                Some((pace, patience)) if patience.is_worn(*pace) => until.min(now + patience.wait(now)),
                Some(_) | None => until,
            };
            // A little more, since the coarse time lags behind.
            let rest = until.saturating_sub(now) + Duration::from_millis(5);
            self.alarm.as_mut().reset(Instant::now() + rest);
        }
        Poll::Pending
    }

    /// A client of HTTP/2 is told before it is cut off, so that it sends no request at that very moment.
    fn may_still_ask(&mut self, now: Duration) -> bool {
        if self.http1 {
            return false;
        }
        self.activity.overdue.store(true, Ordering::Relaxed);
        now < *self.leaves_by.get_or_insert(now + LEAVE)
    }

    /// What a write has come to; an error when the client has not taken its answer for too long.
    fn paced(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let Some((pace, patience)) = &mut self.patience else { return written };
        match written {
            Poll::Ready(Ok(bytes)) => {
                if patience.is_worn(*pace) {
                    patience.moved(*pace, bytes, Clock::coarse());
                }
                written
            }
            Poll::Ready(Err(_)) => written,
            Poll::Pending => {
                let left = patience.wait(Clock::coarse());
                if left.is_zero() {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                // A little more, since the coarse time lags behind.
                let due = Instant::now() + left + Duration::from_millis(5);
                if self.alarm.deadline() > due {
                    self.alarm.as_mut().reset(due);
                }
                while self.alarm.as_mut().poll(cx).is_ready() {
                    self.alarm.as_mut().reset(due);
                }
                Poll::Pending
            }
        }
    }

    /// Hears the client out: ready when it has closed, too, or has had its time.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        let until = *self.lingers_until.get_or_insert_with(|| {
            self.alarm.as_mut().reset(now + LINGER_IDLE);
            now + LINGER
        });
        let mut dropped = [0; 16 * 1024];
        loop {
            let mut dropped = ReadBuf::new(&mut dropped);
            match Pin::new(&mut self.stream).poll_read(cx, &mut dropped) {
                Poll::Ready(Ok(())) if !dropped.filled().is_empty() => {
                    self.alarm.as_mut().reset(until.min(Instant::now() + LINGER_IDLE));
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.alarm.as_mut().poll(cx),
            }
            if Instant::now() >= until {
                return Poll::Ready(());
            }
        }
    }
}

/// An answer of Longshore's own as bytes, for a connection that hyper does not serve.
pub fn render(response: &Response<Bytes>) -> Bytes {
    let mut text = format!("HTTP/1.1 {}\r\n", response.status()).into_bytes();
    for (name, value) in response.headers() {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(format!("content-length: {}\r\n\r\n", response.body().len()).as_bytes());
    text.extend_from_slice(response.body());
    text.into()
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ClientStream for Watched<S> {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !(self.unread.is_overlooked() && self.is_active()) {
            return Poll::Pending;
        }
        let finished = !self.timeouts.half_close && !self.activity.taken_over.load(Ordering::Relaxed);
        self.unread.poll_gone(cx, finished)
    }

    fn abort(&mut self) {
        self.unread.reset();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let was_active = self.was_active;
        let active = self.is_active();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.unread.read(read.is_pending());
        match read {
            Poll::Ready(result) => {
                if self.http1 && !active && self.head_since.is_none() && buf.filled().len() > before {
                    self.head_since = Some(Clock::coarse());
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                if was_active && !active {
                    self.idle_since = Clock::coarse();
                }
                match self.poll_patience(cx) {
                    Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.paced(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.paced(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingers_until.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        if self.http1 {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
