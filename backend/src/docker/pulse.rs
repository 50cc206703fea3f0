//! The end of a container's main process, seen at once: the engine tells of it a tenth of a second later, when it has
//! cleaned up.
//!
//! A pidfd (pidfd_open(2)) becomes readable when its process ends. It is only used where the process that the engine
//! names can be seen from here and belongs to the container: not on Docker Desktop, nor with an engine elsewhere.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;

use super::Shared;
use crate::{Cause, Exit, Key};

/// Tells as soon as the process of this running container ends, unless somebody stops it or it was told before.
pub(super) fn feel(shared: &Arc<Shared>, key: &Key, id: &str, pid: Option<i64>) {
    let Some(process) = pid.and_then(|pid| open(pid, id)) else { return };
    let (shared, key) = (Arc::downgrade(shared), key.clone());
    tokio::spawn(async move {
        if process.readable().await.is_err() {
            return;
        }
        if let Some(shared) = shared.upgrade()
            && !shared.stopping.contains(&key)
            && shared.known.lock().contains_key(&key)
        {
            shared.watchers.tell(&Exit { key, cause: Cause::Unexplained });
        }
    });
}

fn open(pid: i64, id: &str) -> Option<AsyncFd<OwnedFd>> {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    // Looked at after it was opened: now it is this process or none.
    let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let ours = !id.is_empty() && cgroup.contains(id);
    #[expect(deprecated, reason = "what replaces it is unsafe; an owned descriptor is all that it asks for")]
    ours.then(|| AsyncFd::new(process).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_is_not_the_containers_is_not_watched() {
        let own = i64::from(std::process::id());
        assert!(open(own, "4e1f9c0a7b").is_none());
        assert!(open(own, "").is_none());
        assert!(open(0, "4e1f9c0a7b").is_none());
    }
}
