//! A second Docker engine, with everything of its own, that a test may kill.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::docker::{Docker, MODEL_SERVER};
use crate::{PATIENCE, eventually, process};

/// A running engine. Dropping it ends it and removes what it had.
#[derive(Debug)]
pub struct Engine {
    folder: TempDir,
    bridge: String,
    daemon: Child,
}

impl Engine {
    /// Starts one, with the model server's image in it. Needs root, as engines do.
    pub async fn start() -> Self {
        Docker::default().demand();
        let folder = tempfile::Builder::new().prefix("longshore-engine-").tempdir().expect("a folder");
        // A bridge of its own: two engines on one would give their containers the same addresses.
        let (number, bridge) = (std::process::id() % 200, format!("lse{}", std::process::id()));
        ip(&["link", "add", &bridge, "type", "bridge"]);
        ip(&["addr", "add", &format!("10.214.{number}.1/24"), "dev", &bridge]);
        ip(&["link", "set", &bridge, "up"]);
        let daemon = daemon(folder.path(), &bridge);
        let engine = Self { folder, bridge, daemon };
        engine.answers().await;
        engine.load_image();
        engine
    }

    /// Its client.
    pub fn docker(&self) -> Docker {
        Docker::at(&self.host())
    }

    /// As `DOCKER_HOST` has it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }

    /// SIGKILL; the containers stay.
    pub fn kill(&mut self) {
        self.daemon.kill().expect("it runs");
        self.daemon.wait().expect("it ends");
    }

    /// Starts it again.
    pub async fn again(&mut self) {
        // An engine refuses to start over the process id of another.
        let _ = std::fs::remove_file(self.folder.path().join("pid"));
        self.daemon = daemon(self.folder.path(), &self.bridge);
        self.answers().await;
    }

    async fn answers(&self) {
        let docker = self.docker();
        let log = self.folder.path().join("log");
        let what = format!("the second engine answers; its log is {}", log.display());
        eventually(PATIENCE, &what, async || {
            tokio::time::sleep(Duration::from_millis(100)).await;
            docker.output(&["version", "--format", "{{.Server.Version}}"]).status.success().then_some(())
        })
        .await;
    }

    fn load_image(&self) {
        let archive = self.folder.path().join("image.tar");
        let archive = archive.to_str().expect("a plain path");
        Docker::default().run(&["save", "-o", archive, MODEL_SERVER]);
        self.docker().run(&["load", "-q", "-i", archive]);
        std::fs::remove_file(archive).expect("it was written");
    }
}

fn daemon(folder: &Path, bridge: &str) -> Child {
    let log = std::fs::File::options().append(true).create(true).open(folder.join("log")).expect("a log");
    let path = |name: &str| folder.join(name).display().to_string();
    Command::new("dockerd")
        .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("pid")])
        .args(["-H", &format!("unix://{}", path("docker.sock")), "--bridge", bridge])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("dockerd is installed; ./test does that")
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("the ip command is installed");
    assert!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Drop for Engine {
    fn drop(&mut self) {
        // SIGTERM ends its own children and its containers, and unmounts what it has mounted.
        let _ = process::try_signal(self.daemon.id(), Signal::SIGTERM);
        let begun = Instant::now();
        while matches!(self.daemon.try_wait(), Ok(None)) && begun.elapsed() < Duration::from_secs(20) {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        // Of an engine that was killed and not started again, containers are left.
        for pid in process::all() {
            if process::command_line(pid).contains(&self.folder.path().display().to_string()) {
                for pid in process::children(pid).into_iter().chain([pid]) {
                    let _ = process::try_signal(pid, Signal::SIGKILL);
                }
            }
        }
        for mount in process::mounts_below(self.folder.path()) {
            let _ = Command::new("umount").arg("-l").arg(mount).output();
        }
        let _ = Command::new("ip").args(["link", "del", &self.bridge]).output();
    }
}
