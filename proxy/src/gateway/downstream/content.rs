//! The content of a request, from whichever kind of connection it comes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::socket::{ContentError, Shared};

/// The content of a request.
pub enum Content {
    /// There is none.
    None,
    /// Over HTTP/2, it comes from hyper.
    Hyper(FromHyper),
    /// Over HTTP/1.1, from the socket.
    Socket(FromSocket),
}

/// Content of a stream of HTTP/2. What nobody wants is read and dropped for a while: a stream that is reset while its client
/// still sends is a failure to many clients, although its answer is complete.
pub struct FromHyper(Option<Incoming>);

/// So much is dropped at the most, in bytes.
const DROPPED: usize = 32 << 20;

/// And for so long.
const DROPPING: Duration = Duration::from_secs(5);

/// Content that is read from the socket as it is taken.
pub struct FromSocket {
    socket: Shared,
    turn: u64,
    left: Option<u64>,
    over: bool,
}

impl Content {
    /// The content of the request whose turn it is, of which so much is left, where that is known.
    pub fn of(socket: &Shared, turn: u64, left: Option<u64>) -> Self {
        match left {
            Some(0) => Self::None,
            Some(_) | None => Self::Socket(FromSocket { socket: socket.clone(), turn, left, over: false }),
        }
    }
}

impl From<Incoming> for Content {
    fn from(incoming: Incoming) -> Self {
        if incoming.is_end_stream() { Self::None } else { Self::Hyper(FromHyper(Some(incoming))) }
    }
}

impl Drop for FromHyper {
    fn drop(&mut self) {
        let Some(mut rest) = self.0.take().filter(|rest| !rest.is_end_stream()) else { return };
        let dropping = async move {
            let mut left = DROPPED;
            while let Some(Ok(frame)) = rest.frame().await {
                match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                    Some(less) => left = less,
                    None => return,
                }
            }
        };
        // Without a runtime there is no connection any more.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(DROPPING, dropping));
        }
    }
}

impl FromSocket {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ContentError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let polled = self.socket.poll_content(self.turn, cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let count = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.left = self.left.map(|left| left.saturating_sub(count));
                self.over = frame.is_trailers();
            }
            Poll::Ready(None | Some(Err(_))) => self.over = true,
            Poll::Pending => {}
        }
        polled
    }
}

impl Drop for FromSocket {
    fn drop(&mut self) {
        if !self.over && self.left != Some(0) {
            self.socket.drop_content(self.turn);
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = ContentError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ContentError>>> {
        match self.get_mut() {
            Self::None => Poll::Ready(None),
            Self::Hyper(FromHyper(incoming)) => match incoming {
                Some(incoming) => Pin::new(incoming).poll_frame(cx).map_err(ContentError::Hyper),
                None => Poll::Ready(None),
            },
            Self::Socket(content) => content.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Hyper(FromHyper(incoming)) => incoming.as_ref().is_none_or(Body::is_end_stream),
            Self::Socket(content) => content.over || content.left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Hyper(FromHyper(incoming)) => {
                incoming.as_ref().map_or_else(SizeHint::default, Body::size_hint)
            }
            Self::Socket(content) => content.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
