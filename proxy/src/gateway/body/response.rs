//! What a client gets.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::gateway::cache::Kept;
use crate::gateway::held::HeldBody;
use crate::gateway::spelling::Spelling;
use crate::gateway::stream::{StreamError, Streaming};

/// What a client gets.
pub enum ResponseBody {
    /// Complete.
    Held(HeldBody),
    /// The same in one piece, with what came before it.
    Plain(Bytes, Came),
    /// The same, with fields after it.
    Trailed(HeldBody, Option<Box<HeaderMap>>),
    /// As the instance sends it.
    Streaming(Box<Streaming>),
    /// Longshore's own, as it is made.
    Own(OwnBody),
    /// The same, and kept for others.
    Kept(Box<Kept>),
}

/// What came before the content of an answer, beside the fields of the answer.
pub enum Came {
    /// How those were spelled.
    Spelled(Spelling),
    /// All of them as lines, and the answer has none of its own.
    Lines(Vec<u8>),
}

impl Came {
    /// As lines, if they are to be.
    pub fn of(lines: Option<Vec<u8>>, spelling: Spelling) -> Self {
        lines.map_or(Self::Spelled(spelling), Self::Lines)
    }

    const fn spelling(&self) -> Option<&Spelling> {
        match self {
            Self::Spelled(spelling) => Some(spelling),
            Self::Lines(_) => None,
        }
    }
}

/// An answer of Longshore's own, as it is made.
pub type OwnBody = Pin<Box<dyn Body<Data = Bytes, Error = StreamError> + Send>>;

impl ResponseBody {
    /// Nothing.
    pub fn empty() -> Self {
        Self::Held(Vec::new().into())
    }

    /// The fields before it as lines, where they are passed on as they came.
    pub fn lines(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_, Came::Lines(lines)) => Some(lines),
            _ => None,
        }
    }

    /// The same, to be added to.
    pub const fn lines_mut(&mut self) -> Option<&mut Vec<u8>> {
        match self {
            Self::Plain(_, Came::Lines(lines)) => Some(lines),
            _ => None,
        }
    }

    /// How the head that came with it was spelled.
    pub fn spelling(&self) -> Option<&Spelling> {
        match self {
            Self::Plain(_, came) => came.spelling(),
            Self::Kept(kept) => kept.spelling(),
            Self::Held(_) | Self::Trailed(..) | Self::Streaming(_) | Self::Own(_) => None,
        }
    }
}

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        Self::Held(vec![bytes].into())
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        match self.get_mut() {
            Self::Held(held) => {
                let next = held.next().map(|piece| piece.map(Frame::data).map_err(StreamError::Storage));
                Poll::Ready(next)
            }
            Self::Plain(content, _) => {
                let content = std::mem::take(content);
                Poll::Ready((!content.is_empty()).then(|| Ok(Frame::data(content))))
            }
            Self::Trailed(held, trailers) => {
                let next = held.next().map(|piece| piece.map(Frame::data).map_err(StreamError::Storage));
                Poll::Ready(next.or_else(|| trailers.take().map(|trailers| Ok(Frame::trailers(*trailers)))))
            }
            Self::Streaming(streaming) => streaming.poll_frame(cx),
            Self::Own(body) => body.as_mut().poll_frame(cx),
            Self::Kept(kept) => kept.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Held(held) => held.left() == 0,
            Self::Plain(content, _) => content.is_empty(),
            Self::Trailed(_, trailers) => trailers.is_none(),
            Self::Streaming(_) | Self::Kept(_) => false,
            Self::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Held(held) | Self::Trailed(held, _) => SizeHint::with_exact(held.left()),
            Self::Plain(content, _) => SizeHint::with_exact(content.len() as u64),
            Self::Streaming(streaming) => streaming.size_hint(),
            Self::Own(body) => body.size_hint(),
            Self::Kept(kept) => kept.size_hint(),
        }
    }
}
