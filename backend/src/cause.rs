//! What an exit code or a signal says about a death, for both backends alike.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

use crate::{BackendError, Cause};

/// How long the last lines of a log may take: a cause without them is better than a late one.
pub(crate) const LOG: Duration = Duration::from_secs(1);
/// How many of the last lines go with a death.
pub(crate) const LOG_LINES: usize = 20;
/// How many of the last bytes go with a death.
pub(crate) const LOG_BYTES: usize = 4096;

/// Signals that a program brings upon itself: it crashed, and its log says why.
const CRASHES: [i32; 7] = [
    4,  // SIGILL
    5,  // SIGTRAP
    6,  // SIGABRT
    7,  // SIGBUS
    8,  // SIGFPE
    11, // SIGSEGV
    31, // SIGSYS
];

/// How a main process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With this exit code.
    Code(i64),
    /// By this signal.
    Signal(i32),
    /// Killed by the kernel for want of memory.
    OutOfMemory,
}

impl End {
    /// Reads the exit code of a container.
    ///
    /// 1. What the kernel killed for want of memory, and what failed after the kernel killed a part of it: out of memory.
    /// 2. 129 to 192: signal code - 128, as shells, the engine and its init process tell it.
    /// 3. Anything else is the program's own exit code.
    pub(crate) fn of_container(code: i64, oom: bool) -> Self {
        if oom && code != 0 {
            return Self::OutOfMemory;
        }
        match i32::try_from(code - 128) {
            Ok(signal @ 1..=64) => Self::Signal(signal),
            Ok(_) | Err(_) => Self::Code(code),
        }
    }

    /// Whether the last lines of the log belong to the cause.
    pub(crate) fn wants_log(self) -> bool {
        match self {
            Self::Code(_) | Self::OutOfMemory => true,
            Self::Signal(signal) => CRASHES.contains(&signal),
        }
    }

    /// The cause. A crash is told as an exit with code 128 + signal, because its log says more than the signal's number.
    pub(crate) fn cause(self, log: String) -> Cause {
        match self {
            Self::Code(code) => Cause::Exited { code, log },
            Self::OutOfMemory => Cause::OutOfMemory { log },
            Self::Signal(signal) if CRASHES.contains(&signal) => {
                Cause::Exited { code: 128 + i64::from(signal), log }
            }
            Self::Signal(signal) => Cause::Killed { signal },
        }
    }
}

/// The last lines of a log, as far as they come within [`LOG`].
pub(crate) async fn read_last_lines(
    log: impl Future<Output = Result<BoxStream<'static, Result<Bytes, BackendError>>, BackendError>>,
) -> String {
    let mut collected = Vec::new();
    let reading = async {
        let Ok(mut log) = log.await else { return };
        while let Some(Ok(chunk)) = log.next().await {
            keep_end(&mut collected, &chunk);
        }
    };
    // What has come by then is kept.
    let _ = tokio::time::timeout(LOG, reading).await;
    last_lines(&collected)
}

/// Lines can be long: never holds more than twice what is wanted, and a chunk.
pub(crate) fn keep_end(collected: &mut Vec<u8>, chunk: &[u8]) {
    collected.extend_from_slice(chunk);
    if collected.len() > 2 * LOG_BYTES {
        collected.drain(..collected.len() - LOG_BYTES);
    }
}

/// The last [`LOG_LINES`] lines, at most [`LOG_BYTES`] bytes, of what was logged; what is no UTF-8 is replaced.
pub(crate) fn last_lines(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log);
    let text = text.trim_end();
    let mut start = text.len().saturating_sub(LOG_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let lines: Vec<&str> = text[start..].lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_told_with_the_log() {
        let end = End::of_container(3, false);
        assert!(end.wants_log());
        assert_eq!(end.cause("why".to_owned()), Cause::Exited { code: 3, log: "why".to_owned() });
        assert_eq!(End::of_container(0, false), End::Code(0));
        assert_eq!(End::of_container(128, false), End::Code(128));
        assert_eq!(End::of_container(255, false), End::Code(255));
        assert_eq!(End::of_container(-1, false), End::Code(-1));
    }

    #[test]
    fn a_signal_from_outside_is_told_as_one() {
        assert_eq!(End::of_container(137, false).cause(String::new()), Cause::Killed { signal: 9 });
        assert_eq!(End::of_container(143, false).cause(String::new()), Cause::Killed { signal: 15 });
        assert!(!End::of_container(137, false).wants_log());
    }

    #[test]
    fn a_crash_keeps_its_log() {
        let end = End::of_container(134, false);
        assert!(end.wants_log());
        assert_eq!(end.cause("panicked".to_owned()), Cause::Exited { code: 134, log: "panicked".to_owned() });
    }

    #[test]
    fn want_of_memory_explains_a_kill_and_a_failure_but_not_a_success() {
        assert_eq!(End::of_container(137, true), End::OutOfMemory);
        assert_eq!(End::of_container(1, true), End::OutOfMemory);
        assert_eq!(End::of_container(0, true), End::Code(0));
    }

    #[test]
    fn a_log_is_cut_at_its_beginning() {
        let many: String = (0..50).map(|line| format!("line {line}\n")).collect();
        let kept = last_lines(many.as_bytes());
        assert!(kept.starts_with("line 30\n") && kept.ends_with("line 49"), "{kept}");
        let long = "ä".repeat(LOG_BYTES);
        assert!(last_lines(long.as_bytes()).len() <= LOG_BYTES);
        assert_eq!(last_lines(b"a\xff\n\n"), "a\u{fffd}");
    }
}
