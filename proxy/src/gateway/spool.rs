//! A request body that can be sent more than once.
//!
//! While the request waits, the body is read from the client: so its departure is seen, and a slow sender costs no
//! slot. What was read is kept, in memory first and then in an unnamed temporary file, until a byte of the answer has
//! left; each attempt reads it from the start and goes on live. After that nothing is kept.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

mod ahead;

use super::downstream::ContentError;
use super::kept::Kept;
use super::paced::{Paced, PacedError};
use super::space::{Room, Space};

/// Why a body could not be taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SpoolError {
    /// Larger than `max_body`.
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    /// Larger than `queue.max_bytes`, with nothing else waiting.
    #[error("the body is larger than all {0} bytes that bodies which wait may take")]
    NeverFits(u64),
    /// The service's waiting bodies together are larger than `queue.max_bytes`.
    #[error("the bodies that wait take more than {0} bytes together")]
    QueueFull(u64),
    /// The temporary file failed.
    #[error("failed to keep the body in {0}: {1}")]
    Storage(PathBuf, Arc<std::io::Error>),
    /// The client broke off, or framed its body wrongly.
    #[error("failed to read the body: {0}")]
    Client(Arc<ContentError>),
    /// Where it is kept, it cannot be read.
    #[error("failed to read the body: {0}")]
    Kept(String),
    /// It comes more slowly than a client may be (`proxy.limits.min_rate`).
    #[error("the body comes too slowly")]
    Slow,
    /// A newer attempt reads the body now.
    #[error("superseded")]
    Superseded,
}

/// A body on its way from the client, kept for replay.
pub struct Spool {
    space: Arc<Space>,
    length: Option<u64>,
    state: Mutex<State>,
}

struct State {
    source: Paced,
    /// All that was read, until it is forgotten.
    kept: Kept,
    /// Bytes read from the source so far.
    read: u64,
    complete: bool,
    trailers: Option<HeaderMap>,
    error: Option<SpoolError>,
    keeping: Keeping,
    /// Counts attempts: only the newest may read.
    reader: u64,
    /// Bytes that it has taken.
    taken: u64,
    /// It waits for the client, and is to be woken by whoever else reads.
    awaited: Option<Waker>,
}

/// Whether what is read must be there for one more attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    /// It must: what finds no room ends the request.
    Must,
    /// It should: without room the answer goes on, and cannot be asked for again.
    Should,
    /// No attempt will follow.
    No,
}

impl From<PacedError> for SpoolError {
    fn from(error: PacedError) -> Self {
        match error {
            PacedError::Client(error) => Self::Client(Arc::new(error)),
            PacedError::Slow => Self::Slow,
        }
    }
}

impl Spool {
    /// Begins to read `source`, which is kept in `space`.
    pub fn new(source: Paced, space: &Arc<Space>) -> Arc<Self> {
        let length = source.size_hint().exact();
        let state = State {
            source,
            kept: Kept::new(Room::none(space.clone())),
            read: 0,
            complete: false,
            trailers: None,
            error: None,
            keeping: Keeping::Must,
            reader: 0,
            taken: 0,
            awaited: None,
        };
        Arc::new(Self { space: space.clone(), length, state: Mutex::new(state) })
    }

    /// Reads all of it. Cancel-safe: what was read is kept.
    pub async fn fill(&self) -> Result<(), SpoolError> {
        std::future::poll_fn(|cx| {
            let mut state = self.state.lock();
            loop {
                if let Some(error) = &state.error {
                    return Poll::Ready(Err(error.clone()));
                }
                if state.complete {
                    return Poll::Ready(Ok(()));
                }
                ready!(self.poll_source(&mut state, cx))?;
            }
        })
        .await
    }

    /// Returns once this much has come, or all. Cancel-safe: what was read is kept.
    pub async fn begin(&self, bytes: u64) -> Result<(), SpoolError> {
        std::future::poll_fn(|cx| {
            let mut state = self.state.lock();
            while !state.complete && state.read < bytes {
                ready!(self.poll_source(&mut state, cx))?;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// How long it is, where the client said so.
    pub const fn length(&self) -> Option<u64> {
        self.length
    }

    /// Reads on and shows what comes, until `look` has seen enough, or all. Cancel-safe: what was read is kept.
    pub async fn peek(&self, mut look: impl FnMut(&[u8]) -> bool) -> Result<(), SpoolError> {
        std::future::poll_fn(|cx| {
            let mut state = self.state.lock();
            while !state.complete {
                let data = ready!(self.poll_source(&mut state, cx))?;
                if data.is_some_and(|data| look(&data)) {
                    break;
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// It belongs to another space from now on.
    pub fn rehome(&mut self, space: &Arc<Space>) -> Result<(), SpoolError> {
        self.space = space.clone();
        self.state.get_mut().kept.rehome(space)
    }

    /// Why the body could not be taken, if that is so.
    pub fn error(&self) -> Option<SpoolError> {
        self.state.lock().error.clone()
    }

    /// Whether every byte has come from the client.
    pub fn is_complete(&self) -> bool {
        self.state.lock().complete
    }

    /// Keeps nothing more from now on: a byte of the answer has left, and no attempt will follow this one.
    pub fn release(&self) {
        let mut state = self.state.lock();
        state.keeping = Keeping::No;
        state.source.release();
    }

    /// An answer has begun that may have to be asked for again: from now on it is kept as long as there is room.
    pub fn relax(&self) {
        let mut state = self.state.lock();
        state.keeping.relax();
        state.source.release();
    }

    /// One more attempt is to follow; says whether there is all that it needs.
    pub fn demand(&self) -> bool {
        let mut state = self.state.lock();
        match state.keeping {
            Keeping::Must | Keeping::Should => state.keeping = Keeping::Must,
            Keeping::No => return false,
        }
        state.error.is_none()
    }

    /// The body from its start, for one more attempt. Earlier readers end with an error.
    pub fn reader(self: &Arc<Self>) -> SpoolReader {
        let mut state = self.state.lock();
        state.reader += 1;
        state.taken = 0;
        state.awaited = None;
        SpoolReader { spool: self.clone(), reader: state.reader, at: 0 }
    }

    /// Takes one frame from the client and keeps it; `None` for a frame without data, and at the end.
    fn poll_source(
        &self,
        state: &mut State,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, SpoolError>> {
        let taken = match ready!(state.source.poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => self.keep(state, data).map(Some),
                Err(other) => {
                    state.trailers = other.into_trailers().ok();
                    Ok(None)
                }
            },
            Some(Err(error)) => Err(error.into()),
            None => {
                state.complete = true;
                Ok(None)
            }
        };
        Poll::Ready(taken.inspect_err(|error| state.error = Some(error.clone())))
    }

    fn keep(&self, state: &mut State, data: Bytes) -> Result<Bytes, SpoolError> {
        state.read += data.len() as u64;
        if state.read > self.space.max_body {
            return Err(SpoolError::TooLarge(self.space.max_body));
        }
        let kept = match state.keeping {
            Keeping::Must => state.kept.append(&data),
            Keeping::Should => state.kept.append(&data).or_else(|error| {
                tracing::info!(%error, "an answer under way cannot be asked for again: its request is not kept");
                state.keeping = Keeping::No;
                Ok(())
            }),
            Keeping::No => Ok(()),
        };
        kept.map(|()| data)
    }
}

impl Keeping {
    fn relax(&mut self) {
        match self {
            Self::Must => *self = Self::Should,
            Self::Should | Self::No => {}
        }
    }
}

/// One attempt's view of a [`Spool`]: from its start, then live.
pub struct SpoolReader {
    spool: Arc<Spool>,
    reader: u64,
    at: u64,
}

impl SpoolReader {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, SpoolError>>> {
        let mut state = self.spool.state.lock();
        if state.reader != self.reader {
            return Poll::Ready(Some(Err(SpoolError::Superseded)));
        }
        loop {
            if let Some(error) = &state.error {
                return Poll::Ready(Some(Err(error.clone())));
            }
            if self.at < state.read {
                let data = state.kept.read(self.at)?;
                self.at += data.len() as u64;
                state.taken = self.at;
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if state.keeping == Keeping::No && !state.kept.is_empty() {
                state.kept.forget();
            }
            if state.complete {
                // Trailers stay for a later attempt; this one has them once, by moving past the end.
                let trailers = if self.at == u64::MAX { None } else { state.trailers.clone() };
                self.at = u64::MAX;
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            }
            let Poll::Ready(data) = self.spool.poll_source(&mut state, cx) else {
                state.awaited = Some(cx.waker().clone());
                return Poll::Pending;
            };
            state.awaited = None;
            if let Some(data) = data? {
                self.at += data.len() as u64;
                state.taken = self.at;
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }
}

impl Body for SpoolReader {
    type Data = Bytes;
    type Error = SpoolError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SpoolError>>> {
        self.get_mut().poll_next(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.spool.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
