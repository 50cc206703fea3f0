//! The content of a request, from whichever kind of connection it comes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::socket::{ContentError, Shared};

/// The content of a request.
pub enum Content {
    /// There is none.
    None,
    /// Over HTTP/2, it comes from hyper.
    Hyper(Incoming),
    /// Over HTTP/1.1, from the socket.
    Socket(FromSocket),
}

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
            Self::Hyper(incoming) => Pin::new(incoming).poll_frame(cx).map_err(ContentError::Hyper),
            Self::Socket(content) => content.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Hyper(incoming) => incoming.is_end_stream(),
            Self::Socket(content) => content.over || content.left == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Hyper(incoming) => incoming.size_hint(),
            Self::Socket(content) => content.left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
