//! The files of larger bodies: the bytes, and behind them a checksum of each [`CHUNK`], so that what is read is what was
//! written.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;

use super::failed;
use super::table::checksum;
use crate::body::{Body, BodyId, CHUNK, Sink};
use crate::store::StoreError;

/// One body's file, being written.
pub(super) struct FileSink {
    path: PathBuf,
    folder: PathBuf,
    /// There is none before the first piece: small bodies never have one.
    file: Option<File>,
    /// Of the pieces so far, as they are written at the end.
    sums: Vec<u8>,
    kept: bool,
}

impl FileSink {
    pub(super) fn new(folder: &Path, id: BodyId) -> Self {
        Self { path: path(folder, id), folder: folder.to_owned(), file: None, sums: Vec::new(), kept: false }
    }

    async fn blocking(
        &mut self,
        act: impl FnOnce(&mut File) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), StoreError> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => File::create_new(&self.path).map_err(|error| failed(&self.path, &error))?,
        };
        let done = tokio::task::spawn_blocking(move || act(&mut file).map(|()| file)).await;
        let written = done.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        self.file = Some(written.map_err(|error| failed(&self.path, &error))?);
        Ok(())
    }
}

#[async_trait]
impl Sink for FileSink {
    async fn put(&mut self, piece: Bytes) -> Result<(), StoreError> {
        self.sums.extend_from_slice(&checksum(&piece).to_le_bytes());
        self.blocking(move |file| file.write_all(&piece)).await
    }

    async fn close(&mut self) -> Result<(), StoreError> {
        let (folder, sums) = (self.folder.clone(), std::mem::take(&mut self.sums));
        self.blocking(move |file| {
            file.write_all(&sums)?;
            file.sync_data()?;
            sync_folder(&folder)
        })
        .await?;
        self.file = None;
        Ok(())
    }

    fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for FileSink {
    fn drop(&mut self) {
        if !self.kept {
            // There may be no file yet; and what cannot be removed now is removed when the store is opened again.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A body's bytes from `at` on, up to the end of their chunk.
pub(super) async fn read(folder: &Path, body: Body, at: u64) -> Result<Bytes, StoreError> {
    if at >= body.length {
        return Ok(Bytes::new());
    }
    let path = path(folder, body.id);
    let read = tokio::task::spawn_blocking(move || {
        let index = at / CHUNK as u64;
        let begin = index * CHUNK as u64;
        let length = usize::try_from(body.length - begin).unwrap_or(CHUNK).min(CHUNK);
        let (mut chunk, mut sum) = (vec![0; length], [0; SUM]);
        let read = File::open(&path).and_then(|file| {
            file.read_exact_at(&mut chunk, begin)?;
            file.read_exact_at(&mut sum, body.length + index * SUM as u64)
        });
        match read {
            Ok(()) if u64::from_le_bytes(sum) == checksum(&chunk) => {
                let offset = usize::try_from(at - begin).unwrap_or(length);
                Ok(Bytes::from(chunk).slice(offset..))
            }
            Ok(()) => Err(damaged(&path, "is not what was written")),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(damaged(&path, "is cut off"))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(damaged(&path, "is gone")),
            Err(error) => Err(failed(&path, &error)),
        }
    });
    read.await.map_err(|error| StoreError::Unavailable(error.to_string()))?
}

/// A checksum's length, in bytes.
const SUM: usize = 8;

fn damaged(path: &Path, what: &str) -> StoreError {
    StoreError::Corrupt(format!("the body {} {what}", path.display()))
}

/// Nobody names it any more.
pub(super) fn remove(folder: &Path, body: Body) {
    let path = path(folder, body.id);
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::warn!(path = %path.display(), %error, "failed to remove the body of a job: it goes at the next start");
    }
}

/// Removes what no record names: what a crash has left.
pub(super) fn sweep(folder: &Path, named: &HashSet<BodyId>) -> Result<(), StoreError> {
    for entry in std::fs::read_dir(folder).map_err(|error| failed(folder, &error))? {
        let path = entry.map_err(|error| failed(folder, &error))?.path();
        let id = path.file_name().and_then(|name| name.to_str()?.parse::<BodyId>().ok());
        // A file that is not ours is left alone.
        if id.is_some_and(|id| !named.contains(&id)) {
            std::fs::remove_file(&path).map_err(|error| failed(&path, &error))?;
        }
    }
    Ok(())
}

/// Names in a folder outlive a crash from now on.
pub(super) fn sync_folder(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

fn path(folder: &Path, id: BodyId) -> PathBuf {
    folder.join(id.to_string())
}
