//! What is to be sent to a client: the head of an answer and pieces of its content, in one write where that can be.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::gateway::buffers;

/// Where several pieces cannot be sent at once, those up to this are joined, in bytes.
const JOINED: usize = 16 * 1024;

/// So much memory is kept for the next head, in bytes.
const KEPT: usize = 4 * 1024;

/// Bytes on their way to a client.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The first bytes; the memory is used again for each answer.
    head: Vec<u8>,
    sent: usize,
    pieces: VecDeque<Bytes>,
    left: usize,
    /// Whether pieces are joined.
    joins: bool,
}

impl Outbox {
    /// Nothing is to be sent; `joins` says whether pieces are better sent as one.
    pub fn new(joins: bool) -> Self {
        Self { joins, ..Self::default() }
    }

    /// Begins with what is written here, once everything before has been sent.
    pub fn begin<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        self.head.clear();
        self.pieces.clear();
        let written = write(&mut self.head);
        (self.sent, self.left) = (0, self.head.len());
        written
    }

    /// Goes on with this.
    pub fn push(&mut self, piece: Bytes) {
        self.left += piece.len();
        if self.joins && self.pieces.is_empty() && piece.len() <= JOINED {
            if self.sent == self.head.len() {
                self.head.clear();
                self.sent = 0;
            }
            self.head.extend_from_slice(&piece);
        } else if !piece.is_empty() {
            self.pieces.push_back(piece);
        }
    }

    /// The connection may be idle for long.
    pub fn rest(&mut self) {
        if self.head.capacity() > KEPT {
            self.head = Vec::new();
        }
    }
}

impl Buf for Outbox {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        match self.head.get(self.sent..) {
            Some(head) if !head.is_empty() => head,
            Some(_) | None => self.pieces.front().map_or(&[], |piece| &piece[..]),
        }
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let head = self.head.get(self.sent..).unwrap_or_default();
        let pieces = std::iter::once(head).chain(self.pieces.iter().map(|piece| &piece[..]));
        buffers::fill(out, pieces)
    }

    fn advance(&mut self, count: usize) {
        self.left -= count;
        let of_head = count.min(self.head.len() - self.sent);
        self.sent += of_head;
        let mut count = count - of_head;
        while let Some(piece) = self.pieces.front_mut().filter(|_| count > 0) {
            let of_piece = count.min(piece.len());
            count -= of_piece;
            if of_piece == piece.len() {
                self.pieces.pop_front();
            } else {
                piece.advance(of_piece);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_was_given_however_it_goes() {
        for joins in [false, true] {
            for step in [7, 1_000, 5_001, 1 << 20] {
                let mut outbox = Outbox::new(joins);
                let mut sent = Vec::new();
                for answer in ["one", "two"] {
                    outbox.begin(|head| head.extend_from_slice(answer.as_bytes()));
                    outbox.push(Bytes::from_static(b"-piece"));
                    outbox.push(Bytes::new());
                    outbox.push(Bytes::from(vec![b'x'; JOINED + 1]));
                    outbox.push(Bytes::from_static(b"-end;"));
                    while outbox.has_remaining() {
                        let mut slices = [IoSlice::new(&[]); 8];
                        let count = outbox.chunks_vectored(&mut slices);
                        let all: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
                        assert_eq!(all.len(), outbox.remaining());
                        assert!(all.starts_with(outbox.chunk()) && !outbox.chunk().is_empty());
                        sent.extend_from_slice(&all[..step.min(all.len())]);
                        outbox.advance(step.min(all.len()));
                    }
                }
                let large = "x".repeat(JOINED + 1);
                assert_eq!(
                    String::from_utf8(sent).unwrap(),
                    format!("one-piece{large}-end;two-piece{large}-end;")
                );
            }
        }
    }
}
