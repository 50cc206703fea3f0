//! A Redis of a test's own, which may be killed and started again.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::{PATIENCE, eventually};

/// A `redis-server` on a socket in a folder of its own, which keeps every write. Dropping it kills it.
#[derive(Debug)]
pub struct Redis {
    folder: TempDir,
    child: Child,
}

impl Redis {
    /// Starts one that is empty.
    ///
    /// # Panics
    /// Without `redis-server`.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let redis = Self { child: spawn(folder.path()), folder };
        redis.answers().await;
        redis
    }

    /// A `[jobs]` table whose store it is, with this lease.
    pub fn jobs(&self, lease: &str) -> String {
        format!("[jobs]\nstore = \"unix://{}\"\nlease = \"{lease}\"\n", self.socket().display())
    }

    /// SIGKILL, and a new one that reads what the dead one has written.
    pub async fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.folder.path());
        self.answers().await;
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    async fn answers(&self) {
        let socket = self.socket();
        eventually(PATIENCE, "Redis answers", async || std::os::unix::net::UnixStream::connect(&socket).ok())
            .await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(folder: &Path) -> Child {
    Command::new("redis-server")
        .current_dir(folder)
        .args(["--port", "0", "--unixsocket", "socket", "--appendonly", "yes", "--appendfsync", "always"])
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server starts (apt-get install redis-server)")
}
