//! Bodies: written piece by piece, never whole in memory, and read from any place. A body belongs to nobody until a
//! record that names it is kept; one that no record ever named goes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::store::{Store, StoreError};

/// What is written and read at once, in bytes.
pub const CHUNK: usize = 256 * 1024;

/// A body up to this is kept together with its record.
pub(crate) const SMALL: u64 = 64 * 1024;

/// So much of the disk stays free, for the records and for everybody else.
const FREE: u64 = 128 << 20;

/// How often the disk is asked, in bytes written.
const ASK_EVERY: u64 = 16 << 20;

/// A body's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BodyId(Uuid);

impl BodyId {
    pub(crate) fn new() -> Self {
        Self(Uuid::now_v7())
    }

    pub(crate) const fn to_bits(self) -> u128 {
        self.0.as_u128()
    }
}

impl std::fmt::Display for BodyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl std::str::FromStr for BodyId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::try_parse(text).map(Self)
    }
}

/// A body that a store keeps. There is none of length 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// Its name.
    pub id: BodyId,
    /// How long it is, in bytes.
    pub length: u64,
}

impl Body {
    pub(crate) const fn is_small(self) -> bool {
        self.length <= SMALL
    }
}

/// Where a store puts the pieces of a large body. What it has put goes when it is dropped, unless it was told to keep it.
#[async_trait]
pub(crate) trait Sink: Send + Sync {
    /// Takes the next piece: [`CHUNK`] bytes, but for the last one.
    async fn put(&mut self, piece: Bytes) -> Result<(), StoreError>;
    /// Every piece is there: they must outlive a crash from now on.
    async fn close(&mut self) -> Result<(), StoreError>;
    /// A record names them now.
    fn keep(&mut self);
}

/// A body being written.
pub struct Writer {
    id: BodyId,
    sink: Box<dyn Sink>,
    buffer: Vec<u8>,
    room: Room,
}

impl Writer {
    pub(crate) fn new(id: BodyId, sink: Box<dyn Sink>, quota: &Arc<Quota>) -> Self {
        Self { id, sink, buffer: Vec::new(), room: Room { quota: quota.clone(), taken: 0, asked: 0 } }
    }

    /// Takes more of it.
    pub async fn write(&mut self, data: &[u8]) -> Result<(), StoreError> {
        self.room.grow(data.len() as u64)?;
        self.buffer.extend_from_slice(data);
        while self.buffer.len() >= CHUNK {
            let rest = self.buffer.split_off(CHUNK);
            let piece = std::mem::replace(&mut self.buffer, rest);
            self.sink.put(piece.into()).await?;
        }
        Ok(())
    }

    /// How long it is so far.
    pub const fn length(&self) -> u64 {
        self.room.taken
    }

    /// That was all of it. Nothing, if it was nothing.
    pub async fn finish(mut self) -> Result<Option<Staged>, StoreError> {
        let body = Body { id: self.id, length: self.room.taken };
        if body.length == 0 {
            return Ok(None);
        }
        let rest = Bytes::from(std::mem::take(&mut self.buffer));
        if body.is_small() {
            return Ok(Some(Staged { body, small: Some(rest), sink: None, _room: self.room }));
        }
        if !rest.is_empty() {
            self.sink.put(rest).await?;
        }
        self.sink.close().await?;
        Ok(Some(Staged { body, small: None, sink: Some(self.sink), _room: self.room }))
    }
}

/// A complete body that waits for the record that names it.
pub struct Staged {
    /// The body.
    pub body: Body,
    pub(crate) small: Option<Bytes>,
    sink: Option<Box<dyn Sink>>,
    _room: Room,
}

impl Staged {
    /// The record that names it is kept.
    pub(crate) fn keep(mut self) {
        if let Some(sink) = &mut self.sink {
            sink.keep();
        }
    }
}

impl std::fmt::Debug for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Staged").field(&self.body).finish()
    }
}

/// A body being read, from one place to another.
pub struct Reader {
    store: Arc<dyn Store>,
    body: Body,
    at: u64,
    end: u64,
}

impl Reader {
    /// Reads all of it.
    pub fn new(store: Arc<dyn Store>, body: Body) -> Self {
        let end = body.length;
        Self { store, body, at: 0, end }
    }

    /// Reads the bytes from `at` up to `end`, which must lie inside.
    pub fn range(store: Arc<dyn Store>, body: Body, at: u64, end: u64) -> Self {
        Self { store, body, at: at.min(body.length), end: end.min(body.length) }
    }

    /// How much is to come.
    pub const fn remaining(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }

    /// The next piece; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.at >= self.end {
            return Ok(None);
        }
        let mut piece = self.store.read(self.body, self.at).await?;
        if piece.is_empty() {
            return Err(StoreError::Corrupt(format!(
                "the body {} ends at byte {} and should have {}",
                self.body.id, self.at, self.body.length
            )));
        }
        piece.truncate(usize::try_from(self.remaining()).unwrap_or(usize::MAX));
        self.at += piece.len() as u64;
        Ok(Some(piece))
    }
}

/// How much a store may keep, and how much it keeps.
#[derive(Debug)]
pub(crate) struct Quota {
    limit: u64,
    /// On whose disk; nothing for memory.
    folder: Option<PathBuf>,
    /// What records and their bodies take.
    used: AtomicU64,
    /// Bodies that no record names yet.
    staged: AtomicU64,
}

impl Quota {
    pub(crate) fn new(limit: u64, folder: Option<&Path>) -> Arc<Self> {
        let folder = folder.map(Path::to_owned);
        Arc::new(Self { limit, folder, used: AtomicU64::new(0), staged: AtomicU64::new(0) })
    }

    pub(crate) fn set_used(&self, bytes: u64) {
        self.used.store(bytes, Ordering::Relaxed);
    }

    /// Whether so many bytes more may be kept.
    pub(crate) fn check(&self, more: u64) -> Result<(), StoreError> {
        let taken = self.used.load(Ordering::Relaxed) + self.staged.load(Ordering::Relaxed);
        if taken + more > self.limit {
            return Err(StoreError::Full(format!(
                "the jobs take {taken} of {} bytes (jobs.max_bytes): delete some, or allow more",
                self.limit
            )));
        }
        Ok(())
    }

    /// Whether the disk has so many bytes left.
    pub(crate) fn check_disk(&self, more: u64) -> Result<(), StoreError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let stat = nix::sys::statvfs::statvfs(folder)
            .map_err(|error| StoreError::Unavailable(format!("{}: {error}", folder.display())))?;
        let free = stat.blocks_available().saturating_mul(stat.fragment_size());
        if free < FREE + more {
            return Err(StoreError::Full(format!(
                "the disk of {} has {free} bytes left, and {FREE} of them stay free: make room there",
                folder.display()
            )));
        }
        Ok(())
    }
}

/// What a body that no record names takes of a [`Quota`].
struct Room {
    quota: Arc<Quota>,
    taken: u64,
    /// When the disk was last asked, in bytes taken.
    asked: u64,
}

impl Room {
    fn grow(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.quota.check(bytes)?;
        if self.taken == 0 || self.taken + bytes - self.asked > ASK_EVERY {
            self.asked = self.taken;
            self.quota.check_disk(bytes)?;
        }
        self.quota.staged.fetch_add(bytes, Ordering::Relaxed);
        self.taken += bytes;
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.quota.staged.fetch_sub(self.taken, Ordering::Relaxed);
    }
}
