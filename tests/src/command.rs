//! The other commands, run to their end.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::cluster::binary;
use crate::{Cluster, PATIENCE};

/// What a command did.
#[derive(Debug)]
pub struct Done {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it said besides.
    pub stderr: String,
}

/// Runs `longshore` with these arguments in `environment`.
///
/// # Panics
/// When it takes longer than `limit`.
pub async fn run(limit: Duration, arguments: &[&str], environment: &[(&str, &str)]) -> Done {
    let mut command = piped(binary());
    command.args(arguments).envs(environment.iter().copied());
    finish(limit, command, &format!("longshore {}", arguments.join(" "))).await
}

/// Runs a line as a shell does, in the repository, with `environment`.
///
/// # Panics
/// When it takes longer than `limit`.
pub async fn shell(limit: Duration, line: &str, environment: &[(&str, &str)]) -> Done {
    let mut command = piped("bash");
    command.args(["-c", line]).current_dir(crate::repository()).envs(environment.iter().copied());
    finish(limit, command, line).await
}

/// A program whose output is read, without what the environment would tell it of Longshore.
fn piped(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_remove("RUST_LOG").env_remove("LONGSHORE_ADMIN").env_remove("LONGSHORE_TOKEN");
    command.env_remove("LONGSHORE_KEY");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn finish(limit: Duration, mut command: Command, what: &str) -> Done {
    let output = command.spawn().expect("the program runs").wait_with_output();
    let output = tokio::time::timeout(limit, output).await;
    let output = output.unwrap_or_else(|_| panic!("{what} is not done after {limit:?}"));
    let output = output.expect("its output can be read");
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Done {
    /// The cells of a line of a table on stdout, behind its name; none without such a line.
    pub fn row(&self, name: &str) -> Vec<String> {
        let line = self.stdout.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    }
}

impl Cluster {
    /// Runs a command that talks to this cluster.
    pub async fn command(&self, arguments: &[&str]) -> Done {
        let admin = self.admin().url();
        run(Duration::from_secs(60), &[&["--admin", &admin], arguments].concat(), &[]).await
    }
}

/// A command that goes on until this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    printed: Lines<BufReader<ChildStdout>>,
    said: Lines<BufReader<ChildStderr>>,
}

impl Running {
    /// Starts `longshore` with these arguments.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = piped(binary()).args(arguments).spawn().expect("the binary runs");
        let printed = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let said = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        Self { child, printed, said }
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Panics
    /// When it does not, or fails.
    pub async fn end(mut self) {
        crate::process::signal(self.child.id().expect("it runs"), nix::sys::signal::Signal::SIGTERM);
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = ended.expect("it ends in time").expect("it is ours to wait for");
        assert!(status.success(), "{status}");
    }

    /// Waits for a line on stdout with `text` in it.
    ///
    /// # Panics
    /// When there is none in time.
    pub async fn prints(&mut self, text: &str) {
        until(&mut self.printed, text).await;
    }

    /// Waits for a line on stderr with `text` in it.
    ///
    /// # Panics
    /// When there is none in time.
    pub async fn says(&mut self, text: &str) {
        until(&mut self.said, text).await;
    }
}

async fn until<R: AsyncBufRead + Unpin>(lines: &mut Lines<R>, text: &str) {
    let mut seen = Vec::new();
    let found = tokio::time::timeout(PATIENCE, async {
        while let Some(line) = lines.next_line().await.expect("what it says can be read") {
            if line.contains(text) {
                return true;
            }
            seen.push(line);
        }
        false
    });
    let found = found.await.unwrap_or(false);
    assert!(found, "{text:?} does not come in {PATIENCE:?}: {seen:#?}");
}

/// Runs a command that does not end by itself, until it says `text` on stderr, and then interrupts it.
///
/// # Panics
/// When it does not say so, or does not end, within `limit`.
pub async fn interrupted(
    limit: Duration,
    arguments: &[&str],
    environment: &[(&str, &str)],
    text: &str,
) -> Done {
    let mut command = piped(binary());
    command.args(arguments).envs(environment.iter().copied()).stdout(Stdio::null());
    let mut child = command.spawn().expect("the binary runs");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let course = async {
        let mut said = String::new();
        let mut told = false;
        while let Some(line) = lines.next_line().await.expect("its log can be read") {
            said.push_str(&line);
            said.push('\n');
            if !told && line.contains(text) {
                told = true;
                crate::process::signal(child.id().expect("it runs"), nix::sys::signal::Signal::SIGINT);
            }
        }
        let status = child.wait().await.expect("it is ours to wait for");
        Done { code: status.code().unwrap_or(-1), stdout: String::new(), stderr: said }
    };
    let done = tokio::time::timeout(limit, course).await;
    done.unwrap_or_else(|_| panic!("longshore {} is not done after {limit:?}", arguments.join(" ")))
}
