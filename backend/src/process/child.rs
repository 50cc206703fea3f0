//! One process: its start, its end, its signals.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Group, Pid, User, geteuid};
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio::sync::watch;

use super::Shared;
use super::output::Output;
use super::program::Command;
use crate::cause::End;
use crate::{Exit, Found, Key, Spec, StartError};

/// Becomes the program once it is told to, and ends if nobody is left to tell it.
const LAUNCH: &str = r#"read -r go && exec "$@" </dev/null"#;

/// How long a process that has ended may leave its output open: something outside its group may still hold it.
const DRAIN: Duration = Duration::from_millis(500);

/// A process that runs, or has just ended.
pub(super) struct Child {
    /// Also the number of its group.
    id: Pid,
    address: SocketAddr,
    digest: String,
    output: Arc<Output>,
    gone: watch::Receiver<bool>,
}

/// Starts the process, on the guard's list before its program runs.
pub(super) async fn start(
    shared: &Arc<Shared>,
    key: &Key,
    spec: &Spec,
    command: &Command,
) -> Result<SocketAddr, StartError> {
    let failed = |error: std::io::Error| {
        StartError::Failed(format!("cannot start {}: {error}", command.program.display()))
    };
    let address = free_address().map_err(failed)?;
    let mut launch = launcher(spec, command, address)?;
    let mut process = launch.spawn().map_err(failed)?;
    let id = process.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let (Some(id), Some(mut input)) = (id, process.stdin.take()) else {
        return Err(StartError::Failed("the process has ended before it began".to_owned()));
    };
    shared.guard.add(id).map_err(failed)?;

    let (went, gone) = watch::channel(false);
    let output = Arc::new(Output::new());
    let child = Arc::new(Child { id, address, digest: spec.digest(), output, gone });
    shared.running.lock().insert(key.clone(), child.clone());
    tokio::spawn(supervise(shared.clone(), key.clone(), child, process, went));
    // If it cannot hear, it has ended, and its end is told.
    let _ = input.write_all(b"go\n").await;
    Ok(address)
}

/// A port that is free now. It is given to the process as `$PORT`.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn launcher(
    spec: &Spec,
    command: &Command,
    address: SocketAddr,
) -> Result<tokio::process::Command, StartError> {
    let mut launch = tokio::process::Command::new("/bin/sh");
    launch
        .args(["-c", LAUNCH, "longshore-launch"])
        .arg(&command.program)
        .args(&command.arguments)
        .env_remove("LONGSHORE_TOKEN")
        .envs(&spec.env)
        .env("PORT", address.port().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(user) = &spec.user {
        let (uid, gid) = identity(user)?;
        // Not even for oneself without the right to: setting the groups needs it.
        if uid != geteuid().as_raw() {
            launch.uid(uid).gid(gid);
        }
    }
    Ok(launch)
}

/// The numbers of `user[:group]`, each a name or a number.
fn identity(user: &str) -> Result<(u32, u32), StartError> {
    let (name, group) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
    let unknown = || StartError::Futile(format!("user {user} is not known on this machine"));
    let by_name = User::from_name(name).ok().flatten().map(|user| (user.uid.as_raw(), user.gid.as_raw()));
    let by_number = || {
        let uid: u32 = name.parse().ok()?;
        let known = User::from_uid(uid.into()).ok().flatten();
        Some((uid, known.map_or(uid, |user| user.gid.as_raw())))
    };
    let (uid, own_group) = by_name.or_else(by_number).ok_or_else(unknown)?;
    let gid = match group {
        None => own_group,
        Some(group) => {
            let by_name = Group::from_name(group).ok().flatten().map(|group| group.gid.as_raw());
            by_name.or_else(|| group.parse().ok()).ok_or_else(unknown)?
        }
    };
    if !geteuid().is_root() && uid != geteuid().as_raw() {
        return Err(StartError::Futile(format!("only root can run a process as user {user}")));
    }
    Ok((uid, gid))
}

/// Reads the output, waits for the end, clears up after it and tells it.
async fn supervise(
    shared: Arc<Shared>,
    key: Key,
    child: Arc<Child>,
    mut process: tokio::process::Child,
    went: watch::Sender<bool>,
) {
    let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
    let output = child.output.clone();
    let reading = async { tokio::join!(collect(&output, stdout), collect(&output, stderr)) };
    let mut reading = std::pin::pin!(reading);
    let mut read = false;
    let status = loop {
        tokio::select! {
            status = process.wait() => break status,
            _ = &mut reading, if !read => read = true,
        }
    };
    // Workers that the main process has left behind.
    child.signal_group(Signal::SIGKILL);
    shared.guard.remove(child.id);
    if !read {
        let _ = tokio::time::timeout(DRAIN, reading).await;
    }
    let end = status.map_or(End::Code(-1), end);
    let log = if end.wants_log() { output.last_lines() } else { String::new() };
    shared.bury(&key, &output);
    shared.watchers.tell(&Exit { key, cause: end.cause(log) });
    // Nobody waits: no matter.
    let _ = went.send(true);
}

async fn collect(output: &Output, source: Option<impl AsyncRead + Unpin>) {
    if let Some(source) = source {
        output.collect(source).await;
    }
}

/// The kernel tells code and signal apart, so that no code needs to be read as a signal.
fn end(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Code(code.into()),
        (None, Some(signal)) => End::Signal(signal),
        (None, None) => End::Code(-1),
    }
}

impl Child {
    pub(super) fn id(&self) -> Pid {
        self.id
    }

    pub(super) fn output(&self) -> Arc<Output> {
        self.output.clone()
    }

    pub(super) fn found(&self, key: &Key) -> Found {
        Found {
            key: key.clone(),
            address: Some(self.address),
            paused: self.frozen(),
            digest: self.digest.clone(),
            begun: None,
        }
    }

    /// Signals all processes of the group; one that is gone is no error.
    pub(super) fn signal_group(&self, signal: Signal) {
        if !*self.gone.borrow() {
            let _ = killpg(self.id, signal);
        }
    }

    /// Signals the main process only.
    pub(super) fn signal_main(&self, signal: Signal) {
        // Its number may name another one by now.
        if !*self.gone.borrow() {
            let _ = kill(self.id, signal);
        }
    }

    /// Returns once its end has been told.
    pub(super) async fn gone(&self) {
        // An error means that its task has ended, and the process with it.
        let _ = self.gone.clone().wait_for(|gone| *gone).await;
    }

    /// Whether the main process is stopped, by a signal or a debugger.
    pub(super) fn frozen(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id)).unwrap_or_default();
        // The name before it is in parentheses and may contain anything.
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        matches!(state, Some('T' | 't'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_name_or_a_number() {
        if !geteuid().is_root() {
            assert!(matches!(identity("0"), Err(StartError::Futile(_))));
            return;
        }
        assert_eq!(identity("root").unwrap(), (0, 0));
        assert_eq!(identity("12345").unwrap(), (12345, 12345));
        assert_eq!(identity("12345:99").unwrap(), (12345, 99));
        assert!(
            matches!(identity("no-such-user"), Err(StartError::Futile(text)) if text.contains("no-such-user"))
        );
    }
}
