//! The bodies of both directions: what an attempt sends to an instance, and, in `response`, what a client gets.

mod response;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
pub use response::{Came, OwnBody, ResponseBody};

use super::paced::Paced;
use super::space::{Room, Space};
use super::spool::{Spool, SpoolError, SpoolReader};

/// A request's body, ready to be sent as often as need be.
pub enum RequestBody {
    /// There is none.
    Empty,
    /// All of it is here.
    Whole(Arc<Chunks>),
    /// It comes as it comes.
    Spooled(Arc<Spool>),
    /// It is kept elsewhere.
    Elsewhere(Arc<dyn Elsewhere>),
}

/// A body that is kept elsewhere and can be read as often as need be.
pub trait Elsewhere: Send + Sync {
    /// From its start.
    fn open(&self) -> ElsewhereBody;
    /// Why it could not be read, if that is so.
    fn error(&self) -> Option<SpoolError>;
}

/// A body being read from where it is kept.
pub type ElsewhereBody = Pin<Box<dyn Body<Data = Bytes, Error = SpoolError> + Send>>;

/// A complete body in memory, counted among what the service keeps.
pub struct Chunks {
    list: Vec<Bytes>,
    /// Where the pieces of a larger body are joined.
    joined: Vec<u8>,
    /// Held as long as the pieces are.
    room: Room,
}

/// A body up to this is kept in the buffers that it was read into, which saves copying it; those of a larger one would
/// hold on to much more memory than it is long.
const AS_READ: u64 = 64 * 1024;

impl RequestBody {
    /// Takes the body from the client. One that says it is small is read whole first: it usually lies in the socket
    /// already, and a slow sender holds no slot meanwhile. Others are read while the request waits.
    pub async fn take(mut source: Paced, space: &Arc<Space>, version: Version) -> Result<Self, SpoolError> {
        if source.is_end_stream() {
            return Ok(Self::Empty);
        }
        let Some(length) = source.size_hint().exact() else {
            return Ok(Self::Spooled(Spool::new(source, space)));
        };
        if length > space.max_body {
            return Err(SpoolError::TooLarge(space.max_body));
        }
        let mut room = Room::none(space.clone());
        // A body of known length has no trailers in HTTP/1.1; in HTTP/2 it may, and they are kept with the rest.
        if version == Version::HTTP_2 || !room.grow_in_memory(length) {
            return Ok(Self::Spooled(Spool::new(source, space)));
        }
        room.grow(length)?;
        let mut chunks = Chunks::new(length, room);
        while let Some(frame) = std::future::poll_fn(|cx| source.poll_frame(cx)).await {
            if let Ok(data) = frame?.into_data() {
                chunks.push(data);
            }
        }
        Ok(Self::Whole(Arc::new(chunks.whole())))
    }

    /// Waits for the beginning of one that has a length, as much of it as may lie in memory: before, a slow sender shall
    /// hold no slot. One without a length may depend on what it is answered.
    pub async fn begun(&self, space: &Space) -> Result<(), SpoolError> {
        match self {
            Self::Spooled(spool) if spool.length().is_some() => spool.begin(space.memory_per_body).await,
            Self::Empty | Self::Whole(_) | Self::Spooled(_) | Self::Elsewhere(_) => Ok(()),
        }
    }

    /// It has to wait: it takes no more memory than it is long from now on.
    pub fn compact(&mut self) {
        // No attempt has a part in it yet, or it has been compact since an earlier wait.
        if let Self::Whole(chunks) = self
            && let Some(chunks) = Arc::get_mut(chunks)
            && chunks.list.len() > 1
        {
            chunks.list = vec![chunks.list.concat().into()];
        }
    }

    /// The body from its start.
    pub fn attempt(&self) -> AttemptBody {
        match self {
            Self::Empty => AttemptBody::Empty,
            Self::Whole(chunks) => AttemptBody::Whole { chunks: chunks.clone(), next: 0 },
            Self::Spooled(spool) => AttemptBody::Spooled(spool.reader()),
            Self::Elsewhere(kept) => AttemptBody::Elsewhere(kept.open()),
        }
    }

    /// Reads on from the client, until everything is here. Cancel-safe.
    pub async fn fill(&self) -> Result<(), SpoolError> {
        match self {
            Self::Empty | Self::Whole(_) | Self::Elsewhere(_) => Ok(()),
            Self::Spooled(spool) => spool.fill().await,
        }
    }

    /// How long it is, where that is known before all of it is here.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Whole(chunks) => Some(chunks.list.iter().map(|chunk| chunk.len() as u64).sum()),
            Self::Spooled(spool) => spool.length(),
            // Only what comes from a client is asked.
            Self::Elsewhere(_) => None,
        }
    }

    /// Reads all of it, piece by piece, as an attempt would. Returns whether there is nothing behind it.
    pub async fn read(&self, mut take: impl FnMut(&[u8])) -> Result<bool, SpoolError> {
        let mut body = self.attempt();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            match frame?.into_data() {
                Ok(data) => take(&data),
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Shows the body from its start, as far as it comes, until `look` has seen enough. Before any attempt.
    pub async fn peek(&self, mut look: impl FnMut(&[u8]) -> bool) -> Result<(), SpoolError> {
        match self {
            // What is kept elsewhere has a service already.
            Self::Empty | Self::Elsewhere(_) => Ok(()),
            Self::Whole(chunks) => {
                let _ = chunks.list.iter().any(|part| look(part));
                Ok(())
            }
            Self::Spooled(spool) => spool.peek(look).await,
        }
    }

    /// It belongs to another space from now on. Before any attempt.
    pub fn rehome(&mut self, space: &Arc<Space>) -> Result<(), SpoolError> {
        match self {
            Self::Empty | Self::Elsewhere(_) => Ok(()),
            Self::Whole(chunks) => match Arc::get_mut(chunks) {
                Some(chunks) => chunks.room.move_to(space),
                None => Ok(()),
            },
            Self::Spooled(spool) => match Arc::get_mut(spool) {
                Some(spool) => spool.rehome(space),
                None => Ok(()),
            },
        }
    }

    /// Reads on until the body fails; never ends otherwise.
    pub async fn failure(&self) -> SpoolError {
        match self.fill().await {
            Ok(()) => std::future::pending().await,
            Err(error) => error,
        }
    }

    /// Waits for what an attempt awaits of an instance, and watches over the client meanwhile.
    ///
    /// # Errors
    /// Where the body fails first.
    pub async fn attended<F: Future>(&self, awaited: F) -> Result<F::Output, SpoolError> {
        match self {
            // It is here: hyper sees for itself when its client leaves.
            Self::Empty | Self::Whole(_) | Self::Elsewhere(_) => Ok(awaited.await),
            Self::Spooled(spool) => {
                tokio::select! {
                    biased;
                    output = awaited => Ok(output),
                    error = spool.attend() => Err(error),
                }
            }
        }
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Whether every byte has come from the client.
    pub fn is_complete(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(_) | Self::Elsewhere(_) => true,
            Self::Spooled(spool) => spool.is_complete(),
        }
    }

    /// Why the body could not be taken, if that is so.
    pub fn error(&self) -> Option<SpoolError> {
        match self {
            Self::Empty | Self::Whole(_) => None,
            Self::Spooled(spool) => spool.error(),
            Self::Elsewhere(kept) => kept.error(),
        }
    }

    /// Another handle on the same body.
    pub fn share(&self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Whole(chunks) => Self::Whole(chunks.clone()),
            Self::Spooled(spool) => Self::Spooled(spool.clone()),
            Self::Elsewhere(kept) => Self::Elsewhere(kept.clone()),
        }
    }

    /// An answer has begun that may have to be asked for again: the body is kept as long as there is room.
    pub fn relax(&self) {
        match self {
            Self::Empty | Self::Whole(_) | Self::Elsewhere(_) => {}
            Self::Spooled(spool) => spool.relax(),
        }
    }

    /// One more attempt is to follow; says whether there is all that it needs.
    pub fn demand(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(_) | Self::Elsewhere(_) => true,
            Self::Spooled(spool) => spool.demand(),
        }
    }

    /// No attempt will follow: what was kept may go.
    pub fn release(&self) {
        match self {
            Self::Empty | Self::Whole(_) | Self::Elsewhere(_) => {}
            Self::Spooled(spool) => spool.release(),
        }
    }
}

impl Chunks {
    /// The body, in pieces.
    pub fn pieces(&self) -> &[Bytes] {
        &self.list
    }

    /// How long the body is, in bytes.
    pub fn length(&self) -> u64 {
        self.list.iter().map(|piece| piece.len() as u64).sum()
    }

    /// A body of these pieces.
    #[cfg(test)]
    pub fn of(list: Vec<Bytes>) -> Self {
        use super::space::{BodyMemory, Space};
        let space = Space {
            memory_per_body: 0,
            max_body: 0,
            max_total: 0,
            directory: std::path::PathBuf::new(),
            memory: BodyMemory::default(),
            kept: Default::default(),
        };
        Self { list, joined: Vec::new(), room: Room::none(Arc::new(space)) }
    }

    fn new(length: u64, room: Room) -> Self {
        let joined = if length > AS_READ { usize::try_from(length).unwrap_or_default() } else { 0 };
        let list = if joined > 0 { Vec::new() } else { Vec::with_capacity(4) };
        Self { list, joined: Vec::with_capacity(joined), room }
    }

    /// Pieces as they came from the socket; tiny ones are joined, so that a dribbling client costs no memory each.
    fn push(&mut self, data: Bytes) {
        const SMALL: usize = 1024;
        if self.joined.capacity() > 0 {
            self.joined.extend_from_slice(&data);
        } else if data.len() < SMALL
            && let Some(last) = self.list.last_mut()
            && last.len() < SMALL * 16
        {
            let mut joined = Vec::with_capacity(last.len() + data.len());
            joined.extend_from_slice(last);
            joined.extend_from_slice(&data);
            *last = joined.into();
        } else {
            self.list.push(data);
        }
    }

    /// The last piece has come.
    fn whole(mut self) -> Self {
        if !self.joined.is_empty() {
            self.list.push(std::mem::take(&mut self.joined).into());
        }
        self
    }
}

/// What one attempt sends.
pub enum AttemptBody {
    /// Nothing.
    Empty,
    /// From memory.
    Whole {
        /// All of it.
        chunks: Arc<Chunks>,
        /// The next piece.
        next: usize,
    },
    /// From the spool.
    Spooled(SpoolReader),
    /// From where it is kept.
    Elsewhere(ElsewhereBody),
}

impl Body for AttemptBody {
    type Data = Bytes;
    type Error = SpoolError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SpoolError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Whole { chunks, next } => {
                let chunk = chunks.list.get(*next).cloned();
                *next += 1;
                Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
            }
            Self::Spooled(reader) => Pin::new(reader).poll_frame(cx),
            Self::Elsewhere(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole { chunks, next } => *next >= chunks.list.len(),
            Self::Spooled(_) => false,
            Self::Elsewhere(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole { chunks, next } => {
                let left: usize = chunks.list.iter().skip(*next).map(Bytes::len).sum();
                SizeHint::with_exact(left as u64)
            }
            Self::Spooled(reader) => reader.size_hint(),
            Self::Elsewhere(body) => body.size_hint(),
        }
    }
}
