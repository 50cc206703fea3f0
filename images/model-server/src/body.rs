//! An answer's body that can end early, and that knows when the work on its request is over.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::socket::Ending;
use crate::state::Work;

/// What a model answers with.
pub(crate) type Content = UnsyncBoxBody<Bytes, io::Error>;

/// A body that is there as a whole.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Content {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// How an answer ends before its end.
pub(crate) enum Cut {
    Crash { code: u8 },
    Hang,
    Reset(Ending),
    Close,
}

impl Cut {
    /// Ends it; what is returned ends the connection. `None`: it stands still.
    pub(crate) fn happen(&self) -> Option<io::Error> {
        match self {
            Self::Crash { code } => {
                eprintln!("model-server: fault: crash, exit {code}");
                std::process::exit(i32::from(*code))
            }
            Self::Hang => None,
            Self::Reset(ending) => {
                ending.reset();
                Some(io::ErrorKind::ConnectionReset.into())
            }
            Self::Close => Some(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

/// A body with what happens to it.
pub(crate) struct Answer {
    content: Content,
    cut: Option<Pending>,
    // Dropped with the body: hyper drops it once the last byte is on its way.
    _work: Option<Work>,
}

struct Pending {
    cut: Cut,
    /// Bytes that may still be sent.
    left: u64,
    /// Runs once nothing is left: what was sent before has then left the buffers.
    flush: Option<Pin<Box<Sleep>>>,
}

/// Long enough for hyper to write what it holds, and for the other side to read it before the end.
const FLUSH: Duration = Duration::from_millis(20);

impl Answer {
    /// `content`, cut after so many bytes if there is a `cut`; always before its last byte, so that it is a cut.
    pub(crate) fn new(content: Content, cut: Option<(u64, Cut)>, work: Option<Work>) -> Self {
        let last = content.size_hint().exact().map_or(u64::MAX, |size| size.saturating_sub(1));
        let cut = cut.map(|(bytes, cut)| Pending { cut, left: bytes.min(last), flush: None });
        Self { content, cut, _work: work }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        if let Some(pending) = &mut this.cut
            && pending.left == 0
        {
            return pending.poll_end(context);
        }
        let frame = std::task::ready!(Pin::new(&mut this.content).poll_frame(context));
        Poll::Ready(match (&mut this.cut, frame) {
            (Some(pending), Some(Ok(frame))) => Some(Ok(pending.shorten(frame))),
            (Some(pending), None) => {
                pending.left = 0;
                return pending.poll_end(context);
            }
            (Some(_), Some(Err(error))) => Some(Err(error)),
            (None, frame) => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.cut.is_none() && self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }
}

impl Pending {
    fn shorten(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_data() {
            Ok(mut data) => {
                data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= data.len() as u64;
                Frame::data(data)
            }
            Err(trailers) => trailers,
        }
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let flush = self.flush.get_or_insert_with(|| Box::pin(sleep(FLUSH)));
        std::task::ready!(flush.as_mut().poll(context));
        match self.cut.happen() {
            Some(error) => Poll::Ready(Some(Err(error))),
            // Nothing wakes it again, only the end of the connection.
            None => Poll::Pending,
        }
    }
}
