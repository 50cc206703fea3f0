//! What of a request is still to be sent.

use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Buf;

use crate::gateway::body::Chunks;
use crate::gateway::buffers;

/// A head and a body, of which some has been sent.
pub struct Unsent {
    head: Vec<u8>,
    /// How much of the head has been sent, in bytes.
    sent: usize,
    body: Option<Arc<Chunks>>,
    /// The piece of the body that is next, and how much of it has been sent.
    piece: usize,
    of_piece: usize,
    /// How much is left altogether, in bytes.
    left: usize,
    failed: Option<io::Error>,
}

impl Unsent {
    pub(super) fn new(head: Vec<u8>, body: Option<Arc<Chunks>>) -> Self {
        let left =
            head.len() + body.iter().flat_map(|body| body.pieces()).map(|piece| piece.len()).sum::<usize>();
        Self { head, sent: 0, body, piece: 0, of_piece: 0, left, failed: None }
    }

    /// Whether a byte has been sent.
    pub(super) const fn has_begun(&self) -> bool {
        self.sent > 0
    }

    /// Nothing more can be sent, and why.
    pub(super) fn fail(&mut self, error: io::Error) {
        self.left = 0;
        self.failed = Some(error);
    }

    pub(super) const fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    pub(super) const fn take_failure(&mut self) -> Option<io::Error> {
        self.failed.take()
    }

    /// The memory of the head, to be used again.
    pub(super) fn into_head(self) -> Vec<u8> {
        self.head
    }

    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let head = self.head.get(self.sent..).unwrap_or_default();
        let body = self.body.iter().flat_map(|body| body.pieces()).skip(self.piece).map(|piece| &piece[..]);
        let body = body.enumerate().map(|(index, piece)| {
            let from = if index == 0 { self.of_piece } else { 0 };
            piece.get(from..).unwrap_or_default()
        });
        std::iter::once(head).chain(body)
    }
}

impl Buf for Unsent {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        self.pieces().find(|piece| !piece.is_empty()).unwrap_or_default()
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        buffers::fill(out, self.pieces())
    }

    fn advance(&mut self, count: usize) {
        self.left -= count;
        let of_head = count.min(self.head.len() - self.sent);
        self.sent += of_head;
        let mut count = count - of_head;
        let pieces = self.body.iter().flat_map(|body| body.pieces());
        for piece in pieces.skip(self.piece) {
            let of_piece = count.min(piece.len() - self.of_piece);
            count -= of_piece;
            self.of_piece += of_piece;
            if self.of_piece < piece.len() {
                break;
            }
            (self.piece, self.of_piece) = (self.piece + 1, 0);
        }
    }
}
