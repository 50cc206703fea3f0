//! That no process outlives this one, however it ends.
//!
//! A shell with a list of process groups waits for its standard input to end, which the kernel brings about when this
//! process is gone, and then kills the groups. A parent-death signal would reach the main processes only, and would
//! have to be asked for between fork and exec. A group is on the list before its program runs (`child` sees to that).

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, Stdio};

use nix::unistd::Pid;
use parking_lot::Mutex;

/// Reads `+ GROUP` and `- GROUP`. Signals meant for this process must not end it first.
const SCRIPT: &str = r#"
trap '' HUP INT TERM QUIT
groups=' '
while read -r change group; do
    case $change in
        +) groups="$groups$group " ;;
        -) case $groups in
            *" $group "*) groups="${groups%%" $group "*} ${groups#*" $group "}" ;;
           esac ;;
    esac
done
for group in $groups; do
    kill -s KILL -- "-$group" 2>/dev/null
done
"#;

/// The list of process groups, here and in the shell.
#[derive(Default)]
pub(super) struct Guard(Mutex<State>);

#[derive(Default)]
struct State {
    groups: BTreeSet<i32>,
    shell: Option<Shell>,
}

impl Guard {
    /// From now on this group is killed when this process ends.
    pub(super) fn add(&self, group: Pid) -> io::Result<()> {
        let mut state = self.0.lock();
        state.groups.insert(group.as_raw());
        state.say('+', group)
    }

    /// The group has ended; its number may soon name another one.
    pub(super) fn remove(&self, group: Pid) {
        let mut state = self.0.lock();
        state.groups.remove(&group.as_raw());
        if let Err(error) = state.say('-', group) {
            tracing::warn!(%error, "failed to tell the guard of processes that one has ended");
        }
    }
}

impl State {
    /// Tells the shell; a new one, all, if the old one is gone.
    fn say(&mut self, change: char, group: Pid) -> io::Result<()> {
        if let Some(shell) = &mut self.shell
            && writeln!(shell.input, "{change} {group}").is_ok()
        {
            return Ok(());
        }
        if let Some(old) = self.shell.take() {
            old.end();
        }
        let mut shell = Shell::start()?;
        for group in &self.groups {
            writeln!(shell.input, "+ {group}")?;
        }
        self.shell = Some(shell);
        Ok(())
    }
}

struct Shell {
    /// Unbuffered: a line is in the kernel's hands once it is written.
    input: ChildStdin,
    process: Child,
}

impl Shell {
    fn start() -> io::Result<Self> {
        // In a group of its own: what a terminal sends to this process's group is not for it.
        let mut process = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "longshore-guard"])
            .env_clear()
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let input = process.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { input, process })
    }

    /// Its input ends, it kills what is left, and it is reaped.
    fn end(self) {
        let Self { input, mut process } = self;
        drop(input);
        let _ = process.wait();
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(shell) = self.shell.take() {
            shell.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, kill};

    use super::*;

    fn sleeper() -> (Child, Pid) {
        let process = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let group = Pid::from_raw(process.id().cast_signed());
        (process, group)
    }

    #[test]
    fn a_guard_that_was_killed_is_replaced_and_forgets_nobody() {
        let (mut one, first) = sleeper();
        let (mut two, second) = sleeper();
        let (mut spared, third) = sleeper();
        let guard = Guard::default();
        guard.add(first).unwrap();
        guard.add(third).unwrap();
        guard.remove(third);
        let shell = guard.0.lock().shell.as_ref().map(|shell| shell.process.id().cast_signed());
        kill(Pid::from_raw(shell.unwrap()), Signal::SIGKILL).unwrap();
        // Until the kernel has closed its end, lines still go into the pipe: only a closed one shows that it is gone.
        while guard.0.lock().shell.as_mut().unwrap().process.try_wait().unwrap().is_none() {}
        guard.add(second).unwrap();
        drop(guard);
        assert!(!one.wait().unwrap().success());
        assert!(!two.wait().unwrap().success());
        assert!(spared.try_wait().unwrap().is_none(), "what was taken off the list is left alone");
        spared.kill().unwrap();
        spared.wait().unwrap();
    }
}
