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
    /// Takes `bytes`, unless less than `rest` would be left.
    fn reserve(&self, bytes: u64, rest: u64) -> bool {
        let less = |left: u64| left.checked_sub(bytes).filter(|left| *left >= rest);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
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
    share: Share,
    kept: u64,
    in_memory: u64,
}

/// How much of a [`Space`] a [`Room`] may fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    /// All of it: bodies of requests.
    All,
    /// Half of it: answers, which must not push out what waits.
    Half,
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
        Self { space, share: Share::All, kept: 0, in_memory: 0 }
    }

    /// No room yet, for an answer: it takes what is left only down to one half, so that requests can still wait.
    pub const fn for_answer(space: Arc<Space>) -> Self {
        Self { space, share: Share::Half, kept: 0, in_memory: 0 }
    }

    /// What it is part of.
    pub const fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// Takes room for so many bytes more, wherever they go.
    pub fn grow(&mut self, bytes: u64) -> Result<(), SpoolError> {
        let most = match self.share {
            Share::All => self.space.max_total,
            Share::Half => self.space.max_total / 2,
        };
        let before = self.space.kept.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > most {
            self.space.kept.fetch_sub(bytes, Ordering::Relaxed);
            return Err(self.full(self.kept + bytes, most));
        }
        self.kept += bytes;
        Ok(())
    }

    /// Gives back what [`grow`](Self::grow) took.
    pub fn shrink(&mut self, bytes: u64) {
        self.kept -= bytes;
        self.space.kept.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether so many bytes more may lie in memory; then they count there.
    pub fn grow_in_memory(&mut self, bytes: u64) -> bool {
        let rest = match self.share {
            Share::All => 0,
            Share::Half => SHARED_MEMORY / 2,
        };
        let fits =
            self.in_memory + bytes <= self.space.memory_per_body && self.space.memory.reserve(bytes, rest);
        self.in_memory += if fits { bytes } else { 0 };
        fits
    }

    /// Takes the same room in another space, and gives back the one here. Both share their memory.
    pub fn move_to(&mut self, space: &Arc<Space>) -> Result<(), SpoolError> {
        let before = space.kept.fetch_add(self.kept, Ordering::Relaxed);
        self.space.kept.fetch_sub(self.kept, Ordering::Relaxed);
        self.space = space.clone();
        if before + self.kept > space.max_total {
            return Err(self.full(self.kept, space.max_total));
        }
        Ok(())
    }

    /// Whether what finds no room now would find it once the others are gone.
    fn full(&self, own: u64, most: u64) -> SpoolError {
        match self.share {
            Share::All if own > most => SpoolError::NeverFits(most),
            Share::All | Share::Half => SpoolError::QueueFull(most),
        }
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
}

impl Drop for Room {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
#[expect(missing_docs, reason = "shared by the tests of other modules")]
pub mod tests {
    use super::*;

    impl Clone for Space {
        fn clone(&self) -> Self {
            let Self { memory_per_body, max_body, max_total, .. } = *self;
            let (directory, memory) = (self.directory.clone(), self.memory.clone());
            Self { memory_per_body, max_body, max_total, directory, memory, kept: Arc::default() }
        }
    }

    /// A space of its own.
    pub fn space(memory_per_body: u64, max_total: u64) -> Arc<Space> {
        Arc::new(Space {
            memory_per_body,
            max_body: 1 << 30,
            max_total,
            directory: std::env::temp_dir(),
            memory: BodyMemory::default(),
            kept: Arc::default(),
        })
    }

    #[test]
    fn memory_is_shared_and_comes_back() {
        let one = space(1 << 20, 1 << 30);
        let two = Arc::new(Space::clone(&one));
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
        let space = space(1 << 20, 100);
        let mut room = Room::none(space.clone());
        assert!(room.grow(100).is_ok());
        assert!(matches!(Room::none(space.clone()).grow(1), Err(SpoolError::QueueFull(100))));
        assert!(matches!(Room::none(space.clone()).grow(101), Err(SpoolError::NeverFits(100))));
        assert!(matches!(room.grow(1), Err(SpoolError::NeverFits(100))), "piece by piece, too");
        assert_eq!(space.kept(), 100, "what was refused does not count");
        drop(room);
        assert_eq!(space.kept(), 0);
    }

    #[test]
    fn room_that_moves_is_given_back_where_it_was() {
        let one = space(8 << 20, 100);
        let two = Arc::new(Space { max_total: 50, ..Space::clone(&one) });
        let mut room = Room::none(one.clone());
        assert!(room.grow(40).is_ok() && room.grow_in_memory(40));
        assert!(room.move_to(&two).is_ok());
        assert_eq!((one.kept(), two.kept()), (0, 40));
        let mut more = Room::none(one.clone());
        assert!(more.grow(11).is_ok());
        assert!(matches!(more.move_to(&two), Err(SpoolError::QueueFull(50))));
        let mut large = Room::none(one.clone());
        assert!(large.grow(51).is_ok());
        assert!(matches!(large.move_to(&two), Err(SpoolError::NeverFits(50))));
        drop((room, more, large));
        assert_eq!((one.kept(), two.kept()), (0, 0));
    }

    #[test]
    fn answers_leave_half_of_everything_to_requests() {
        let space = space(8 << 20, 100);
        let mut answer = Room::for_answer(space.clone());
        assert!(answer.grow(50).is_ok() && answer.grow(1).is_err());
        assert!(answer.grow_in_memory(4 << 20) && !answer.grow_in_memory(1));
        let mut request = Room::none(space);
        assert!(request.grow(50).is_ok() && request.grow_in_memory(4 << 20));
    }
}
