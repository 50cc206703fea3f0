//! Bytes that are kept for later: in memory first, then in an unnamed temporary file, counted in a [`Room`] either way.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use super::space::{Room, Space};
use super::spool::SpoolError;

/// What is read from a temporary file at once.
const FILE_CHUNK: usize = 64 * 1024;

/// Bytes in their order, which only grow.
pub struct Kept {
    room: Room,
    place: Place,
    length: u64,
}

enum Place {
    Memory(Vec<u8>),
    File(File),
}

impl Kept {
    /// Nothing yet, to be counted in `room`.
    pub const fn new(room: Room) -> Self {
        Self { room, place: Place::Memory(Vec::new()), length: 0 }
    }

    /// They count in another space from now on.
    pub fn rehome(&mut self, space: &Arc<Space>) -> Result<(), SpoolError> {
        self.room.move_to(space)
    }

    /// How many there are.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Keeps more. After a failure nothing of `data` is kept, and what was kept before still is.
    pub fn append(&mut self, data: &[u8]) -> Result<(), SpoolError> {
        let size = data.len() as u64;
        self.room.grow(size)?;
        self.put(data).map_err(|error| {
            self.room.shrink(size);
            SpoolError::Storage(self.space().directory.clone(), Arc::new(error))
        })?;
        self.length += size;
        Ok(())
    }

    fn put(&mut self, data: &[u8]) -> std::io::Result<()> {
        if let Place::Memory(memory) = &self.place
            && !self.room.grow_in_memory(data.len() as u64)
        {
            let file = temporary(self.space())?;
            file.write_all_at(memory, 0)?;
            self.place = Place::File(file);
            self.room.leave_memory();
        }
        match &mut self.place {
            Place::Memory(memory) => memory.extend_from_slice(data),
            Place::File(file) => file.write_all_at(data, self.length)?,
        }
        Ok(())
    }

    /// What was kept from `at` on, up to one chunk; nothing at the end.
    pub fn read(&self, at: u64) -> Result<Bytes, SpoolError> {
        let size = self.length.saturating_sub(at).min(FILE_CHUNK as u64) as usize;
        match &self.place {
            Place::Memory(memory) => {
                let rest = usize::try_from(at).ok().and_then(|at| memory.get(at..)).unwrap_or_default();
                Ok(Bytes::copy_from_slice(&rest[..size.min(rest.len())]))
            }
            Place::File(file) => {
                let mut chunk = vec![0; size];
                let read = file.read_exact_at(&mut chunk, at);
                read.map_err(|error| SpoolError::Storage(self.space().directory.clone(), Arc::new(error)))?;
                Ok(chunk.into())
            }
        }
    }

    /// Whether nothing is kept.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Keeps nothing any more.
    pub fn forget(&mut self) {
        self.place = Place::Memory(Vec::new());
        self.length = 0;
        self.room.clear();
    }

    fn space(&self) -> &Arc<Space> {
        self.room.space()
    }
}

/// A file without a name, which is gone when it is closed.
fn temporary(space: &Space) -> std::io::Result<File> {
    tempfile::tempfile_in(&space.directory)
}

#[cfg(test)]
mod tests {
    use super::super::space::tests::space;
    use super::*;

    fn kept(memory_per_body: u64, max_total: u64) -> Kept {
        Kept::new(Room::none(space(memory_per_body, max_total)))
    }

    fn all(kept: &Kept) -> Vec<u8> {
        let mut all = Vec::new();
        while (all.len() as u64) < kept.length() {
            all.extend_from_slice(&kept.read(all.len() as u64).unwrap());
        }
        all
    }

    #[test]
    fn what_outgrows_the_memory_goes_on_in_a_file() {
        let mut kept = kept(100, 1 << 20);
        let data: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        for piece in data.chunks(99) {
            kept.append(piece).unwrap();
        }
        assert!(matches!(kept.place, Place::File(_)) && all(&kept) == data);
        assert!(kept.read(kept.length()).unwrap().is_empty());
        let space = kept.space().clone();
        assert_eq!(space.kept(), 200_000);
        kept.forget();
        assert_eq!((space.kept(), kept.is_empty()), (0, true));
    }

    #[test]
    fn what_finds_no_room_harms_nothing_that_was_kept() {
        let mut kept = kept(1_000, 10);
        kept.append(b"12345678").unwrap();
        assert!(matches!(kept.append(b"901"), Err(SpoolError::NeverFits(10))));
        assert_eq!((all(&kept), kept.space().kept()), (b"12345678".to_vec(), 8));
        kept.append(b"90").unwrap();
    }

    #[test]
    fn a_folder_that_is_missing_harms_nothing_that_was_kept() {
        let space = Space { directory: "/nowhere/at/all".into(), ..Space::clone(&space(4, 100)) };
        let mut kept = Kept::new(Room::none(Arc::new(space)));
        kept.append(b"1234").unwrap();
        let error = kept.append(b"5").unwrap_err();
        assert!(
            matches!(&error, SpoolError::Storage(folder, _) if folder.starts_with("/nowhere")),
            "{error}"
        );
        assert_eq!((all(&kept), kept.space().kept()), (b"1234".to_vec(), 4));
    }
}
