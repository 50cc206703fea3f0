//! Who has the instances of a cluster: where they outlive their process, one `longshore up` at a time has those of one name
//! on one engine. The sign is a lock on a file, which the kernel takes back when its process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use longshore_backend::Backend;
use tokio::time::{Instant, sleep};

use super::{UpError, handover};

/// How long a process that is ending is waited for.
const ENDING: Duration = Duration::from_secs(10);

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// What a process that ends has written behind its number.
const ENDS: &str = "ends";

/// The instances of a cluster are this process's, until this is dropped.
pub(super) struct Claim(Option<File>);

/// Somebody else has them.
struct Holder {
    pid: String,
    ends: bool,
}

impl Claim {
    /// Claims the instances of a cluster, before anything is done to them. Nothing is to be claimed where instances end with
    /// their process.
    ///
    /// # Errors
    /// [`UpError::Taken`] while another process has them: at once if it serves, after ten seconds if it is ending.
    pub(super) async fn take(cluster: &str, backend: &dyn Backend) -> Result<Self, UpError> {
        let Some(engine) = backend.engine().await else { return Ok(Self(None)) };
        let path = match handover::lock_path(cluster, &engine) {
            Ok(path) => path,
            Err(error) => {
                tracing::warn!(%error, "another `longshore up` of this name would not be noticed");
                return Ok(Self(None));
            }
        };
        let begun = Instant::now();
        let mut said = false;
        loop {
            let holder = match Self::lock(&path) {
                Ok(Ok(file)) => return Ok(Self(Some(file))),
                Ok(Err(holder)) => holder,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "another `longshore up` of this name would not be noticed");
                    return Ok(Self(None));
                }
            };
            if !holder.ends || begun.elapsed() >= ENDING {
                return Err(holder.refuse(cluster));
            }
            if !said {
                said = true;
                tracing::info!(
                    pid = holder.pid,
                    "waiting for the `longshore up` of this name that is ending"
                );
            }
            sleep(LOOK).await;
        }
    }

    /// The lock, or who has it. Never waits.
    fn lock(path: &Path) -> io::Result<Result<File, Holder>> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                note(&mut file, "serves")?;
                Ok(Ok(file))
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                file.read_to_string(&mut text)?;
                let (pid, ends) = (text.split_whitespace().next().unwrap_or("unknown"), text.contains(ENDS));
                Ok(Err(Holder { pid: pid.to_owned(), ends }))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// This process ends: who comes next may wait for it.
    pub(super) fn ends(&mut self) {
        if let Some(file) = &mut self.0
            && let Err(error) = note(file, ENDS)
        {
            tracing::debug!(%error, "that this process ends cannot be noted");
        }
    }
}

fn note(file: &mut File, state: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{} {state}", std::process::id())
}

impl Holder {
    fn refuse(&self, cluster: &str) -> UpError {
        let ends = if self.ends { ", and is still answering what it has accepted" } else { "" };
        UpError::Taken(format!(
            "another `longshore up` of the cluster {cluster} runs on this engine (process {}{ends}): both would stop \
             each other's containers; take over from it with --takeover, or give this one another `name`",
            self.pid
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_it_and_says_when_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calc.lock");
        let mut first = Claim(Some(Claim::lock(&path).unwrap().ok().unwrap()));
        let holder = Claim::lock(&path).unwrap().err().unwrap();
        assert_eq!((holder.pid.as_str(), holder.ends), (std::process::id().to_string().as_str(), false));
        let text = holder.refuse("calc").to_string();
        assert!(["cluster calc", "--takeover", "`name`"].iter().all(|word| text.contains(word)), "{text}");
        first.ends();
        assert!(Claim::lock(&path).unwrap().err().unwrap().ends);
        drop(first);
        assert!(Claim::lock(&path).unwrap().is_ok());
    }
}
