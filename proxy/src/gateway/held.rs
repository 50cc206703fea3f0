//! An answer that is held until it is complete, so that a death in its middle can be replayed.
//!
//! A small one lies in the buffers that it was read into. A larger one takes memory that all share, or else a temporary
//! file whose room is taken beforehand: what cannot be held is known before the first byte, and passed on as it comes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::space::{Room, Space};
use super::spool::SpoolError;

/// An answer up to this is held without counting it: it is about what a connection's own buffers take.
pub const SMALL: u64 = 16 * 1024;

/// What is read from a file at once.
const FILE_CHUNK: u64 = 64 * 1024;

/// What has come so far of an answer that is held.
pub enum Holding {
    /// In pieces as they came.
    Memory(Vec<Bytes>, Option<Room>),
    /// In a file.
    File(Stored),
}

/// An answer in a file.
pub struct Stored {
    file: File,
    length: u64,
    room: Room,
}

/// What a client gets of an answer that was held.
pub enum HeldBody {
    /// From memory.
    Memory {
        /// The pieces that are left.
        pieces: std::vec::IntoIter<Bytes>,
        /// Held as long as they are.
        _room: Option<Room>,
    },
    /// From a file.
    File {
        /// All of it.
        stored: Stored,
        /// The next byte.
        at: u64,
    },
}

impl Holding {
    /// Makes room for an answer of `length` bytes; `None` if there is none.
    pub fn begin(space: &Arc<Space>, length: u64) -> Option<Self> {
        if length <= SMALL {
            return Some(Self::Memory(Vec::with_capacity(usize::from(length > 0)), None));
        }
        let mut room = Room::for_answer(space.clone());
        room.grow(length).ok()?;
        if room.grow_in_memory(length) {
            return Some(Self::Memory(Vec::new(), Some(room)));
        }
        match reserve(space, length) {
            Ok(file) => Some(Self::File(Stored { file, length: 0, room })),
            Err(error) => {
                tracing::warn!(
                    folder = %space.directory.display(), %error, bytes = length,
                    "an answer is not held, so that a death in its middle would lose it: make room there"
                );
                None
            }
        }
    }

    /// One piece more.
    pub fn push(&mut self, data: Bytes) -> Result<(), SpoolError> {
        match self {
            Self::Memory(pieces, _) => pieces.push(data),
            Self::File(stored) => stored.push(&data)?,
        }
        Ok(())
    }

    /// All of it is here.
    pub fn whole(self) -> HeldBody {
        match self {
            Self::Memory(pieces, room) => HeldBody::Memory { pieces: pieces.into_iter(), _room: room },
            Self::File(stored) => HeldBody::File { stored, at: 0 },
        }
    }
}

/// A file without a name with room for so many bytes.
fn reserve(space: &Space, length: u64) -> std::io::Result<File> {
    let file = tempfile::tempfile_in(&space.directory)?;
    let length = i64::try_from(length).map_err(std::io::Error::other)?;
    match fallocate(&file, FallocateFlags::empty(), 0, length) {
        // A file system that cannot promise: what it has no room for is seen when it is written.
        Ok(()) | Err(Errno::EOPNOTSUPP) => Ok(file),
        Err(error) => Err(error.into()),
    }
}

impl Stored {
    fn push(&mut self, data: &[u8]) -> Result<(), SpoolError> {
        self.file.write_all_at(data, self.length).map_err(|error| self.failed(error))?;
        self.length += data.len() as u64;
        Ok(())
    }

    fn failed(&self, error: std::io::Error) -> SpoolError {
        SpoolError::Storage(self.room.space().directory.clone(), Arc::new(error))
    }
}

impl From<Vec<Bytes>> for HeldBody {
    fn from(pieces: Vec<Bytes>) -> Self {
        Self::Memory { pieces: pieces.into_iter(), _room: None }
    }
}

impl HeldBody {
    /// The next piece.
    pub fn next(&mut self) -> Option<Result<Bytes, SpoolError>> {
        match self {
            Self::Memory { pieces, .. } => pieces.next().map(Ok),
            Self::File { stored, at } => {
                let size = (stored.length - *at).min(FILE_CHUNK);
                if size == 0 {
                    return None;
                }
                let mut chunk = vec![0; size as usize];
                if let Err(error) = stored.file.read_exact_at(&mut chunk, *at) {
                    return Some(Err(stored.failed(error)));
                }
                *at += size;
                Some(Ok(chunk.into()))
            }
        }
    }

    /// How much is left.
    pub fn left(&self) -> u64 {
        match self {
            Self::Memory { pieces, .. } => pieces.as_slice().iter().map(|piece| piece.len() as u64).sum(),
            Self::File { stored, at } => stored.length - at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::space::tests::space;
    use super::*;

    fn held(space: &Arc<Space>, pieces: &[&[u8]]) -> HeldBody {
        let length = pieces.iter().map(|piece| piece.len() as u64).sum();
        let mut holding = Holding::begin(space, length).expect("there is room");
        pieces.iter().for_each(|piece| holding.push(Bytes::copy_from_slice(piece)).expect("it is kept"));
        holding.whole()
    }

    fn all(mut body: HeldBody) -> Vec<u8> {
        std::iter::from_fn(|| body.next()).flat_map(|piece| piece.expect("it is there")).collect()
    }

    #[test]
    fn a_large_answer_is_held_in_a_file_and_counted_until_it_is_gone() {
        let space = space(64 * 1024, 1 << 20);
        let piece = [7_u8; 30_000];
        let body = held(&space, &[&piece[..]; 10]);
        assert!(matches!(body, HeldBody::File { .. }));
        assert_eq!((body.left(), space.kept()), (300_000, 300_000));
        assert_eq!(all(body), vec![7; 300_000]);
        assert_eq!(space.kept(), 0);
        assert!(matches!(held(&space, &[&piece[..]; 2]), HeldBody::Memory { _room: Some(_), .. }));
        assert!(matches!(held(&space, &[b"small"]), HeldBody::Memory { _room: None, .. }));
    }

    #[test]
    fn what_finds_no_room_is_not_held() {
        let space = space(1, 1 << 20);
        let _most = held(&space, &[&[0; 400_000]]);
        assert!(Holding::begin(&space, 200_000).is_none(), "half of the space is for requests");
        assert_eq!(space.kept(), 400_000);
        let missing = Arc::new(Space { directory: "/nowhere/at/all".into(), ..Space::clone(&space) });
        assert!(Holding::begin(&missing, 200_000).is_none());
        assert_eq!(missing.kept(), 0);
    }
}
