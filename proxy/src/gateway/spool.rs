//! A request body that can be sent more than once.
//!
//! While the request waits, the body is read from the client: so its departure is seen, and a slow sender costs no
//! slot. What was read is kept, in memory first and then in an unnamed temporary file, until a byte of the answer has
//! left; each attempt reads it from the start and goes on live. After that nothing is kept.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use super::paced::{Paced, PacedError};
use super::space::{Room, Space};

/// What is read from the temporary file at once.
const FILE_CHUNK: usize = 64 * 1024;

/// Why a body could not be taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SpoolError {
    /// Larger than `max_body`.
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    /// The service's waiting bodies together are larger than `queue.max_bytes`.
    #[error("the bodies that wait take more than {0} bytes together")]
    QueueFull(u64),
    /// The temporary file failed.
    #[error("failed to keep the body in {0}: {1}")]
    Storage(PathBuf, Arc<std::io::Error>),
    /// The client broke off, or framed its body wrongly.
    #[error("failed to read the body: {0}")]
    Client(Arc<hyper::Error>),
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
    kept: Kept,
    room: Room,
    /// Bytes read from the source so far.
    read: u64,
    complete: bool,
    trailers: Option<HeaderMap>,
    error: Option<SpoolError>,
    /// Whether nothing more needs to be kept.
    released: bool,
    /// Counts attempts: only the newest may read.
    reader: u64,
}

enum Kept {
    Memory(Vec<u8>),
    File(File),
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
            kept: Kept::Memory(Vec::new()),
            room: Room::none(space.clone()),
            read: 0,
            complete: false,
            trailers: None,
            error: None,
            released: false,
            reader: 0,
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
        state.released = true;
        state.source.release();
    }

    /// The body from its start, for one more attempt. Earlier readers end with an error.
    pub fn reader(self: &Arc<Self>) -> SpoolReader {
        let mut state = self.state.lock();
        state.reader += 1;
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
        let (at, size) = (state.read, data.len() as u64);
        state.read += size;
        if state.read > self.space.max_body {
            return Err(SpoolError::TooLarge(self.space.max_body));
        }
        if state.released {
            return Ok(data);
        }
        state.room.grow(size)?;
        if let Kept::Memory(memory) = &state.kept
            && !state.room.grow_in_memory(size)
        {
            state.kept = Kept::File(self.spill(memory).map_err(|error| self.storage(error))?);
            state.room.leave_memory();
        }
        match &mut state.kept {
            Kept::Memory(memory) => memory.extend_from_slice(&data),
            Kept::File(file) => file.write_all_at(&data, at).map_err(|error| self.storage(error))?,
        }
        Ok(data)
    }

    fn spill(&self, memory: &[u8]) -> std::io::Result<File> {
        let file = tempfile::tempfile_in(&self.space.directory)?;
        file.write_all_at(memory, 0)?;
        Ok(file)
    }

    fn storage(&self, error: std::io::Error) -> SpoolError {
        SpoolError::Storage(self.space.directory.clone(), Arc::new(error))
    }

    /// What was kept from `at` on, up to one chunk. Only called with `at` below what was read and kept.
    fn read_kept(&self, state: &State, at: u64) -> Result<Bytes, SpoolError> {
        match &state.kept {
            Kept::Memory(memory) => {
                let rest = usize::try_from(at).ok().and_then(|at| memory.get(at..)).unwrap_or_default();
                Ok(Bytes::copy_from_slice(&rest[..rest.len().min(FILE_CHUNK)]))
            }
            Kept::File(file) => {
                let size = FILE_CHUNK.min(usize::try_from(state.read - at).unwrap_or(FILE_CHUNK));
                let mut chunk = vec![0; size];
                file.read_exact_at(&mut chunk, at).map_err(|error| self.storage(error))?;
                Ok(chunk.into())
            }
        }
    }
}

impl State {
    fn forget(&mut self) {
        self.kept = Kept::Memory(Vec::new());
        self.room.clear();
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
                let data = self.spool.read_kept(&state, self.at)?;
                self.at += data.len() as u64;
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if state.released && !state.room.is_empty() {
                state.forget();
            }
            if state.complete {
                // Trailers stay for a later attempt; this one has them once, by moving past the end.
                let trailers = if self.at == u64::MAX { None } else { state.trailers.clone() };
                self.at = u64::MAX;
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            }
            if let Some(data) = ready!(self.spool.poll_source(&mut state, cx))? {
                self.at += data.len() as u64;
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
