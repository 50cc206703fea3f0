//! What bodies may take while their requests wait: how much of memory, how much in all, and where the rest goes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::spool::SpoolError;

/// Memory for the bodies of all services together. Beyond it they go to temporary files, which in practice stay in the
/// page cache: so the proxy's own memory is bounded, whatever waits.
const SHARED_MEMORY: u64 = 8 << 20;

/// The memory for bodies, shared by all services.
#[derive(Clone, Debug)]
pub struct BodyMemory(Arc<AtomicU64>);

impl Default for BodyMemory {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(SHARED_MEMORY)))
    }
}

impl BodyMemory {
    fn reserve(&self, bytes: u64) -> bool {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        taken.is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Where one service's bodies are kept.
#[derive(Debug)]
pub struct Space {
    /// Bytes of one body in memory at the most; more goes to a file.
    pub memory_per_body: u64,
    /// Bytes of one body at the most.
    pub max_body: u64,
    /// Bytes of all bodies of the service at the most.
    pub max_total: u64,
    /// Where the temporary files are.
    pub directory: PathBuf,
    /// What all services share.
    pub memory: BodyMemory,
    /// Bytes kept now, by bodies taken under earlier limits too.
    pub kept: Arc<AtomicU64>,
}

/// Room in a [`Space`], given back when it is dropped.
#[derive(Debug)]
pub struct Room {
    space: Arc<Space>,
    kept: u64,
    in_memory: u64,
}

impl Space {
    /// Bytes kept now, in memory and in files.
    pub fn kept(&self) -> u64 {
        self.kept.load(Ordering::Relaxed)
    }
}

impl Room {
    /// No room yet.
    pub const fn none(space: Arc<Space>) -> Self {
        Self { space, kept: 0, in_memory: 0 }
    }

    /// What it is part of.
    pub const fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// Takes room for so many bytes more, wherever they go.
    pub fn grow(&mut self, bytes: u64) -> Result<(), SpoolError> {
        let before = self.space.kept.fetch_add(bytes, Ordering::Relaxed);
        self.kept += bytes;
        if before + bytes > self.space.max_total {
            return Err(SpoolError::QueueFull(self.space.max_total));
        }
        Ok(())
    }

    /// Whether so many bytes more may lie in memory; then they count there.
    pub fn grow_in_memory(&mut self, bytes: u64) -> bool {
        let fits = self.in_memory + bytes <= self.space.memory_per_body && self.space.memory.reserve(bytes);
        self.in_memory += if fits { bytes } else { 0 };
        fits
    }

    /// Takes the same room in another space, and gives back the one here. Both share their memory.
    pub fn move_to(&mut self, space: &Arc<Space>) -> Result<(), SpoolError> {
        let before = space.kept.fetch_add(self.kept, Ordering::Relaxed);
        self.space.kept.fetch_sub(self.kept, Ordering::Relaxed);
        self.space = space.clone();
        if before + self.kept > space.max_total {
            return Err(SpoolError::QueueFull(space.max_total));
        }
        Ok(())
    }

    /// What lay in memory lies there no more.
    pub fn leave_memory(&mut self) {
        self.space.memory.give_back(std::mem::take(&mut self.in_memory));
    }

    /// Nothing is kept any more.
    pub fn clear(&mut self) {
        self.leave_memory();
        self.space.kept.fetch_sub(std::mem::take(&mut self.kept), Ordering::Relaxed);
    }

    /// Whether nothing is kept.
    pub const fn is_empty(&self) -> bool {
        self.kept == 0
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(memory: &BodyMemory, max_total: u64) -> Arc<Space> {
        Arc::new(Space {
            memory_per_body: 1 << 20,
            max_body: 1 << 30,
            max_total,
            directory: std::env::temp_dir(),
            memory: memory.clone(),
            kept: Arc::default(),
        })
    }

    #[test]
    fn memory_is_shared_and_comes_back() {
        let memory = BodyMemory::default();
        let (one, two) = (space(&memory, 1 << 30), space(&memory, 1 << 30));
        let mut rooms: Vec<Room> = (0..8).map(|_| Room::none(one.clone())).collect();
        assert!(rooms.iter_mut().all(|room| room.grow_in_memory(1 << 20)), "8 MiB in all");
        let mut other = Room::none(two);
        assert!(!other.grow_in_memory(1));
        rooms.pop();
        assert!(other.grow_in_memory(1 << 20));
        assert!(!other.grow_in_memory(1), "1 MiB a body");
    }

    #[test]
    fn the_total_is_bounded_and_comes_back() {
        let space = space(&BodyMemory::default(), 100);
        let mut room = Room::none(space.clone());
        assert!(room.grow(100).is_ok());
        assert!(matches!(Room::none(space.clone()).grow(1), Err(SpoolError::QueueFull(100))));
        drop(room);
        assert_eq!(space.kept(), 0);
    }

    #[test]
    fn room_that_moves_is_given_back_where_it_was() {
        let memory = BodyMemory::default();
        let (one, two) = (space(&memory, 100), space(&memory, 50));
        let mut room = Room::none(one.clone());
        assert!(room.grow(40).is_ok() && room.grow_in_memory(40));
        assert!(room.move_to(&two).is_ok());
        assert_eq!((one.kept(), two.kept()), (0, 40));
        let mut more = Room::none(one.clone());
        assert!(more.grow(11).is_ok());
        assert!(matches!(more.move_to(&two), Err(SpoolError::QueueFull(50))));
        drop((room, more));
        assert_eq!((one.kept(), two.kept()), (0, 0));
    }
}
