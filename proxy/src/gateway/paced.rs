//! A client's body, read at the pace that is demanded of it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::downstream::{Content, ContentError};
use super::pace::{Pace, Patience};
use crate::clock::Clock;

/// Why there is no more of it.
#[derive(Debug)]
pub enum PacedError {
    /// The client broke off, or framed its body wrongly.
    Client(ContentError),
    /// It comes too slowly.
    Slow,
}

/// A body and how long it is waited for. Nothing is timed while it comes as fast as it is read.
pub struct Paced {
    source: Content,
    waiting: Option<Waiting>,
}

struct Waiting {
    pace: Pace,
    patience: Patience,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    /// Reads `source`, at whatever pace if none is demanded.
    pub fn new(source: Content, pace: Option<Pace>) -> Self {
        let waiting = pace.map(|pace| Waiting { pace, patience: pace.patience(), alarm: None });
        Self { source, waiting }
    }

    /// From now on at whatever pace: the instance answers already, and may well be waiting for what it has asked for.
    pub fn release(&mut self) {
        self.waiting = None;
    }

    /// Whether it is over before it began.
    pub fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    /// How long it is, where the client said so.
    pub fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }

    /// The next piece.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, PacedError>>> {
        match Pin::new(&mut self.source).poll_frame(cx) {
            Poll::Ready(frame) => {
                if let (Some(waiting), Some(Ok(frame))) = (&mut self.waiting, &frame) {
                    waiting.moved(frame.data_ref().map_or(0, Bytes::len));
                }
                Poll::Ready(frame.map(|frame| frame.map_err(PacedError::Client)))
            }
            Poll::Pending => match &mut self.waiting {
                Some(waiting) => waiting.poll_over(cx).map(|()| Some(Err(PacedError::Slow))),
                None => Poll::Pending,
            },
        }
    }
}

impl Waiting {
    fn moved(&mut self, bytes: usize) {
        if self.patience.is_worn(self.pace) {
            self.patience.moved(self.pace, bytes, Clock::coarse());
        }
    }

    /// Whether the client has been waited for too long. The alarm is set for when that may be so at the earliest, and
    /// left where it is while bytes come.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.patience.wait(Clock::coarse());
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep(left)));
        while alarm.as_mut().poll(cx).is_ready() {
            let left = self.patience.wait(Clock::coarse());
            if left.is_zero() {
                return Poll::Ready(());
            }
            // A little more, since the coarse time lags behind.
            alarm.as_mut().reset(Instant::now() + left + std::time::Duration::from_millis(5));
        }
        Poll::Pending
    }
}
