//! Memory that sockets are read into and written from. The buffer that was given back last is the next to be taken: it is still in the
//! processor's caches, which an allocator that goes round its blocks would miss at each request.

use std::cell::RefCell;
use std::io::IoSlice;

use bytes::{BufMut, Bytes};

/// A whole request fits in: a body of 64 KiB and its head.
const SIZE: usize = 72 * 1024;

/// So many wait on each thread to be used again.
const SPARE: usize = 16;

thread_local! {
    static FREE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer, which goes back where it came from when it is dropped.
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// One that begins with these bytes, and has room for at least as many more.
    pub fn after(begun: &[u8]) -> Self {
        let mut memory = if begun.len() > SIZE / 2 {
            Vec::with_capacity(begun.len() * 2)
        } else {
            FREE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(SIZE))
        };
        memory.extend_from_slice(begun);
        Self(memory)
    }

    /// What is free.
    pub fn room(&mut self) -> impl BufMut {
        let free = self.0.capacity() - self.0.len();
        (&mut self.0).limit(free)
    }

    /// What is in it.
    pub fn filled(&self) -> &[u8] {
        &self.0
    }

    /// What is in it, to be shared.
    pub fn share(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut memory = std::mem::take(&mut self.0);
        if memory.capacity() != SIZE {
            return;
        }
        memory.clear();
        // A thread that ends keeps nothing.
        let _ = FREE.try_with(|free| {
            let mut free = free.borrow_mut();
            if free.len() < SPARE {
                free.push(memory);
            }
        });
    }
}

/// Fills the slots with the pieces that are not empty, for one write. Returns how many slots have one.
pub fn fill<'a>(slots: &mut [IoSlice<'a>], pieces: impl Iterator<Item = &'a [u8]>) -> usize {
    let mut count = 0;
    for (slot, piece) in slots.iter_mut().zip(pieces.filter(|piece| !piece.is_empty())) {
        *slot = IoSlice::new(piece);
        count += 1;
    }
    count
}

/// A copy of few bytes in one piece of memory, of which parts can be shared: a copy as a vector would need a second one for
/// that.
pub fn own(bytes: &[u8]) -> Bytes {
    if bytes.is_empty() {
        Bytes::new()
    } else if bytes.len() <= SMALL {
        Bytes::from_owner(Inline::<SMALL>::of(bytes))
    } else if bytes.len() <= MEDIUM {
        Bytes::from_owner(Inline::<MEDIUM>::of(bytes))
    } else {
        Bytes::copy_from_slice(bytes)
    }
}

/// Heads of requests, as programs send them, and of browsers, in bytes.
const SMALL: usize = 224;
const MEDIUM: usize = 992;

/// So many bytes at the most.
struct Inline<const N: usize> {
    length: usize,
    bytes: [u8; N],
}

impl<const N: usize> Inline<N> {
    fn of(bytes: &[u8]) -> Self {
        let mut own = Self { length: bytes.len().min(N), bytes: [0; N] };
        if let Some((place, bytes)) = own.bytes.get_mut(..own.length).zip(bytes.get(..own.length)) {
            place.copy_from_slice(bytes);
        }
        own
    }
}

impl<const N: usize> AsRef<[u8]> for Inline<N> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_that_was_given_back_is_the_next() {
        let (first, second) = (Buffer::after(b"a"), Buffer::after(b"b"));
        let (at_first, at_second) = (first.filled().as_ptr(), second.filled().as_ptr());
        let shared = second.share();
        drop(first);
        let part = shared.slice(..1);
        drop(shared);
        assert_eq!(Buffer::after(b"x").filled().as_ptr(), at_first, "the other is still held");
        drop(part);
        assert_eq!(Buffer::after(b"xy").filled(), b"xy", "nothing is left of earlier bytes");
        assert_eq!(Buffer::after(b"x").filled().as_ptr(), at_second);
    }

    #[test]
    fn there_is_room_behind_whatever_it_begins_with() {
        for length in [0, 1, SIZE / 2, SIZE, 5 * SIZE] {
            let mut buffer = Buffer::after(&vec![7; length]);
            assert!(buffer.room().remaining_mut() >= length.max(1));
            assert_eq!(buffer.filled().len(), length);
        }
    }

    #[test]
    fn what_is_owned_is_the_same_however_long() {
        for length in [0, 1, SMALL - 1, SMALL, SMALL + 1, MEDIUM, MEDIUM + 1, 5000] {
            let bytes: Vec<u8> = (0..length).map(|number| (number % 251) as u8).collect();
            assert_eq!(own(&bytes), bytes, "{length}");
        }
    }

    #[test]
    fn no_more_than_some_are_kept() {
        drop((0..SPARE * 3).map(|_| Buffer::after(b"")).collect::<Vec<_>>());
        assert_eq!(FREE.with_borrow(Vec::len), SPARE);
    }
}
