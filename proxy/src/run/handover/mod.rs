//! `longshore up --takeover`: a new process takes over from the one that runs, and no connection is refused.
//!
//! | module | owns |
//! | --- | --- |
//! | this one | where both meet, and what they say |
//! | `link` | the socket between them: lines of JSON, and descriptors |
//! | `old` | the process that goes |
//! | `new` | the process that comes |
//! | `shared` | the instances on which both have requests, until the old one has done |
//!
//! 1. The new one connects; the old one offers copies of its listening sockets, and goes on as before. Whatever goes wrong
//!    from here to (4), the old one goes on, and owns the instances as before.
//! 2. Containers: the new one asks the old one to hold still (`Hold`). The old one finishes the starts under way, begins
//!    nothing more, and says so (`Held`); the new one lists what runs and adopts it, and does nothing to it yet.
//!    Processes end with their parent, so there the new one starts its own, and waits until they are ready.
//! 3. The new one is ready to serve, and says so (`Commit`).
//! 4. The old one takes no more connections and never acts on a container again: it says what it still has on each
//!    (`Yours`). This is the one point at which ownership passes. The new one serves.
//! 5. The old one answers what it has accepted, for at most `proxy.drain`. Both tell each other which slots they use
//!    (`Using`), so that no instance gets more than its share; the new one tells of new instances, which the old one uses
//!    if its own die. The old one ends, and the new one removes what is left that it has no use for. Should a third process
//!    want to take over meanwhile, the old one is asked to hurry (`Hurry`).

mod link;
pub(super) mod new;
pub(super) mod old;
mod shared;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Of what is said. Another version is not understood, and refused.
const PROTOCOL: u32 = 1;

/// What one tells the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Message {
    /// New to old: somebody wants to take over.
    Hello { protocol: u32, pid: u32 },
    /// Old to new: not now, and why.
    No { why: String },
    /// Old to new, with the sockets: those of the proxy in this order, then that of the admin API.
    Offer(Offer),
    /// New to old: touch no container from now on.
    Hold,
    /// Old to new: it is so.
    Held {
        /// Instances that are being stopped already, as `SERVICE-SLOT-INCARNATION`.
        stopping: Vec<String>,
        /// The last incarnation of each service.
        last: BTreeMap<String, u32>,
    },
    /// New to old: ready to serve.
    Commit,
    /// Old to new: go on; this is what I still use.
    Yours(Vec<Using>),
    /// Each to the other, whenever it is different: what I use.
    Using(Vec<Using>),
    /// New to old: a third one wants to take over, so do not wait for clients that ask for nothing.
    Hurry,
}

/// What the old process has to give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Offer {
    pid: u32,
    version: String,
    backend: String,
    listeners: Vec<Listener>,
    admin: Listener,
    /// The last incarnation of each service.
    last: BTreeMap<String, u32>,
    /// Sizes that were set at run time, by service.
    sizes: BTreeMap<String, SizeSet>,
}

/// A listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Listener {
    asked: SocketAddr,
    address: SocketAddr,
    /// Whether TLS is spoken there.
    #[serde(default)]
    tls: bool,
}

/// A size that was set at run time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SizeSet {
    size: serde_json::Value,
    /// What the file said instead.
    file: serde_json::Value,
}

/// An instance that one of them uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Using {
    service: String,
    address: SocketAddr,
    slot: u32,
    incarnation: u32,
    /// Requests that it has there, or all that the instance takes while more wait.
    slots: u32,
}

/// Where the processes of a cluster meet.
fn socket_path(cluster: &str) -> std::io::Result<PathBuf> {
    Ok(folder()?.join(format!("{cluster}.sock")))
}

/// What the process locks that has the cluster's instances on an engine.
pub(super) fn lock_path(cluster: &str, engine: &str) -> std::io::Result<PathBuf> {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let engine: String = engine.chars().map(plain).collect();
    Ok(folder()?.join(format!("{cluster}.{engine}.lock")))
}

fn folder() -> std::io::Result<PathBuf> {
    let folder = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder).join("longshore"),
        Some(_) | None => {
            let user = nix::unistd::geteuid();
            std::env::temp_dir().join(format!("longshore-{user}"))
        }
    };
    private_folder(&folder)?;
    Ok(folder)
}

/// Makes a folder that is nobody else's, or makes sure that it is.
fn private_folder(folder: &Path) -> std::io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    // Not what a link leads to: in a folder that all may write to, somebody else may have put one there.
    let found = std::fs::symlink_metadata(folder)?;
    let ours = found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw() && found.mode() & 0o077 == 0;
    if ours {
        return Ok(());
    }
    Err(std::io::Error::new(
        std::io::ErrorKind::PermissionDenied,
        format!(
            "{} is not a folder that only this user can enter: remove it, or set XDG_RUNTIME_DIR",
            folder.display()
        ),
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_folder_is_nobody_elses() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("longshore");
        private_folder(&folder).unwrap();
        private_folder(&folder).unwrap();
        assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(private_folder(&folder).is_err(), "others can enter it");
        let link = temporary.path().join("link");
        std::os::unix::fs::symlink(temporary.path(), &link).unwrap();
        assert!(private_folder(&link).is_err(), "a link may lead anywhere");
    }
}
