//! Where things are written: results to stdout, errors and progress to stderr, colours only where a terminal shows them
//! and `NO_COLOR` does not forbid it.

use std::error::Error;
use std::io::{self, Write};
use std::time::Duration;

use crate::config::Diagnostics;

/// A result that could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    /// The reader has gone, which is no failure of the command.
    #[error("nobody reads the output")]
    Pipe,
    /// A full disk, for example.
    #[error("cannot write the output: {0}")]
    Failed(io::Error),
}

impl From<io::Error> for Closed {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Pipe } else { Self::Failed(error) }
    }
}

/// Writes a part of the result, which may hold escape sequences for colours.
pub(super) fn write(bytes: &[u8]) -> Result<(), Closed> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}

/// Writes a line of the result.
pub(super) fn line(text: impl AsRef<str>) -> Result<(), Closed> {
    write(format!("{}\n", text.as_ref()).as_bytes())
}

/// Writes a line that is no result.
pub(super) fn note(text: &str) {
    // When nobody reads stderr there is nobody to tell.
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Writes why the command failed.
pub(super) fn error(error: &dyn Error) {
    note(&format!("\u{1b}[1;91merror\u{1b}[0m: {error}"));
}

/// Writes the mistakes of a file.
pub(super) fn mistakes(mistakes: &Diagnostics) {
    let count = mistakes.list().len();
    note(&mistakes.render(true));
    if count > 1 {
        note(&format!("\n{count} mistakes"));
    }
}

/// `850ms`, `5s`, `3m12s`, `2h05m`, `4d01h`: two units at the most.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        86_400.. => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Seconds as the admin API writes them.
pub(super) fn seconds(seconds: f64) -> String {
    duration(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default())
}

/// `1.24 ms`, `35 ms`, `2.71 s`: three digits.
pub(super) fn latency(latency: Duration) -> String {
    let millis = latency.as_secs_f64() * 1_000.0;
    match millis {
        ..10.0 => format!("{millis:.2} ms"),
        ..100.0 => format!("{millis:.1} ms"),
        ..1_000.0 => format!("{millis:.0} ms"),
        _ => format!("{:.2} s", millis / 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        let cases = [
            (0.0, "0ms"),
            (0.85, "850ms"),
            (5.4, "5s"),
            (192.0, "3m12s"),
            (7_505.0, "2h05m"),
            (350_000.0, "4d01h"),
            (-1.0, "0ms"),
            (f64::NAN, "0ms"),
        ];
        for (given, shown) in cases {
            assert_eq!(seconds(given), shown);
        }
        assert_eq!(latency(Duration::from_micros(1_236)), "1.24 ms");
        assert_eq!(latency(Duration::from_micros(35_040)), "35.0 ms");
        assert_eq!(latency(Duration::from_millis(2_714)), "2.71 s");
    }
}
