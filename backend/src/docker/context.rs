//! A folder as the tar stream that a build reads, made while it is sent: it is never in memory as a whole.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc::{Sender, channel};
use tokio_stream::wrappers::ReceiverStream;

use super::ignore::Rules;

/// Bytes that are sent at once.
const CHUNK: usize = 64 * 1024;
/// Chunks that may wait for the engine.
const CHUNKS: usize = 8;

/// How the packing of a folder goes.
#[derive(Clone, Default)]
pub(super) struct Packing(Arc<Mutex<Option<String>>>);

impl Packing {
    /// Why the folder could not be read, if so.
    pub(super) fn failure(&self) -> Option<String> {
        self.0.lock().clone()
    }
}

/// Packs `folder` on a thread for blocking work, without what its `.dockerignore` excludes.
pub(super) fn tar(folder: &Path) -> (ReceiverStream<io::Result<Bytes>>, Packing) {
    let (sender, receiver) = channel(CHUNKS);
    let packing = Packing::default();
    let (folder, failure) = (folder.to_owned(), packing.0.clone());
    tokio::task::spawn_blocking(move || {
        let mut chunks = Chunks { sender, buffer: Vec::with_capacity(CHUNK) };
        match pack(&folder, &mut chunks) {
            // The engine has hung up: what it said about it is the news.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => {
                *failure.lock() = Some(error.to_string());
                // Ends the request too.
                let _ = chunks.sender.blocking_send(Err(error));
            }
            Ok(()) => {}
        }
    });
    (ReceiverStream::new(receiver), packing)
}

/// Writes the archive to `out`.
fn pack(folder: &Path, out: &mut impl Write) -> io::Result<()> {
    let root = std::fs::canonicalize(folder)?;
    let rules = match std::fs::read_to_string(root.join(".dockerignore")) {
        Ok(text) => Rules::parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Rules::default(),
        Err(error) => return Err(error),
    };
    let mut archive = Builder::new(&mut *out);
    pack_folder(&mut archive, &root, &PathBuf::new(), &rules)?;
    archive.into_inner()?.flush()
}

fn pack_folder(
    archive: &mut Builder<impl Write>,
    root: &Path,
    within: &Path,
    rules: &Rules,
) -> io::Result<()> {
    let folder = root.join(within);
    let mut names = std::fs::read_dir(&folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>())
        .map_err(|error| named(&folder, &error))?;
    // The same folder gives the same archive.
    names.sort();
    for name in names {
        let path = within.join(name);
        let excluded = rules.exclude(&path);
        let full = root.join(&path);
        let metadata = std::fs::symlink_metadata(&full).map_err(|error| named(&full, &error))?;
        if !excluded {
            append(archive, &full, &path, &metadata).map_err(|error| named(&full, &error))?;
        }
        if metadata.is_dir() && (!excluded || rules.may_include_within_excluded()) {
            pack_folder(archive, root, &path, rules)?;
        }
    }
    Ok(())
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// One entry, owned by root as the docker command line has it. Sockets and the like are left out.
fn append(
    archive: &mut Builder<impl Write>,
    full: &Path,
    path: &Path,
    metadata: &Metadata,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(metadata.mode() & 0o7777);
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or_default());
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    if metadata.is_dir() {
        header.set_entry_type(EntryType::Directory);
        return archive.append_data(&mut header, path, io::empty());
    }
    if metadata.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        return archive.append_link(&mut header, path, std::fs::read_link(full)?);
    }
    if metadata.is_file() {
        header.set_size(metadata.len());
        // A file that shrinks or grows while it is read must not break the frames of the archive.
        let content = File::open(full)?.chain(io::repeat(0)).take(metadata.len());
        return archive.append_data(&mut header, path, content);
    }
    Ok(())
}

/// Sends what is written, a chunk at a time, and waits while the engine is slow.
struct Chunks {
    sender: Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let taken = data.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&data[..taken]);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.buffer, Vec::with_capacity(CHUNK));
        self.sender.blocking_send(Ok(chunk.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use futures_util::TryStreamExt as _;

    use super::*;

    fn entries(archive: &[u8]) -> BTreeMap<String, (EntryType, u64)> {
        tar::Archive::new(archive)
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let path = entry.path().unwrap().display().to_string();
                (path, (entry.header().entry_type(), entry.header().size().unwrap()))
            })
            .collect()
    }

    #[test]
    fn an_archive_has_what_is_not_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("target/deep")).unwrap();
        fs::write(at("Dockerfile"), "FROM scratch\n").unwrap();
        fs::write(at(".dockerignore"), "target\n!target/deep/keep\nDockerfile\n").unwrap();
        fs::write(at("target/object"), "0").unwrap();
        fs::write(at("target/deep/keep"), "1").unwrap();
        std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
        let mut archive = Vec::new();
        pack(folder.path(), &mut archive).unwrap();
        let packed = entries(&archive);
        let names: Vec<&str> = packed.keys().map(String::as_str).collect();
        assert_eq!(names, [".dockerignore", "Dockerfile", "link", "target/deep/keep"]);
        assert_eq!(packed["Dockerfile"], (EntryType::Regular, 13));
        assert_eq!(packed["link"].0, EntryType::Symlink);
    }

    #[tokio::test]
    async fn a_large_folder_comes_in_bounded_chunks() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("weights"), vec![7; 3_000_000]).unwrap();
        let (stream, packing) = tar(folder.path());
        let chunks: Vec<Bytes> = stream.try_collect().await.unwrap();
        assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK));
        assert_eq!(entries(&chunks.concat())["weights"].1, 3_000_000);
        assert_eq!(packing.failure(), None);
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_told() {
        let (stream, packing) = tar(Path::new("/nowhere/at/all"));
        assert!(stream.try_collect::<Vec<Bytes>>().await.is_err());
        assert!(packing.failure().unwrap().contains("No such file"));
    }
}
