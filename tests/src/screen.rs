//! What a person sees on a terminal.

use std::process::Stdio;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdout, Command};

use crate::cluster::binary;

/// Wider than any line that is looked at, so that none is broken.
const WIDTH: usize = 400;

/// `longshore` on a terminal of its own, and all that it has written there.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    output: ChildStdout,
    written: Vec<u8>,
}

impl Terminal {
    /// Runs `longshore` with these arguments, which have no blanks.
    pub fn run(arguments: &[&str]) -> Self {
        let line =
            format!("stty cols {WIDTH} rows 40; exec {} {} 2>&1", binary().display(), arguments.join(" "));
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env_remove("NO_COLOR");
        command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("script belongs to every Debian");
        let output = child.stdout.take().expect("it is piped");
        Self { child, output, written: Vec::new() }
    }

    /// Waits until `text` has been written, or for the end; all that was written so far.
    pub async fn until(&mut self, text: &str) -> String {
        let mut part = [0; 4096];
        loop {
            let so_far = String::from_utf8_lossy(&self.written).into_owned();
            if so_far.contains(text) {
                return so_far;
            }
            match self.output.read(&mut part).await.expect("its output can be read") {
                0 => panic!("it ended without {text:?}: {so_far}"),
                count => self.written.extend_from_slice(&part[..count]),
            }
        }
    }

    /// Waits for the end; its exit code, and the rows on the screen.
    pub async fn end(mut self) -> (i32, Vec<String>) {
        self.output.read_to_end(&mut self.written).await.expect("its output can be read");
        let status = self.child.wait().await.expect("it is ours to wait for");
        (status.code().unwrap_or(-1), rows(&String::from_utf8_lossy(&self.written), WIDTH))
    }
}

/// The rows that a terminal without an end shows, for the few movements that are used here.
fn rows(written: &str, width: usize) -> Vec<String> {
    let mut rows: Vec<Vec<char>> = vec![Vec::new()];
    let (mut row, mut column) = (0_usize, 0_usize);
    let mut chars = written.chars();
    while let Some(char) = chars.next() {
        match char {
            '\r' => column = 0,
            '\n' => row += 1,
            '\u{1b}' => {
                assert_eq!(chars.next(), Some('['), "only control sequences are known");
                let mut number = String::new();
                let order = loop {
                    match chars.next().expect("a whole sequence") {
                        digit if digit.is_ascii_digit() || digit == ';' => number.push(digit),
                        order => break order,
                    }
                };
                let count = number.parse().unwrap_or(1);
                match order {
                    'A' => row = row.saturating_sub(count),
                    'B' => row += count,
                    'K' => rows[row].clear(),
                    'm' => {}
                    other => panic!("the sequence {other:?} is not known"),
                }
            }
            other => {
                // A row that is full is left by the next character, not by its last.
                if column == width {
                    (row, column) = (row + 1, 0);
                }
                rows.resize(rows.len().max(row + 1), Vec::new());
                let cells = &mut rows[row];
                cells.resize(cells.len().max(column + 1), ' ');
                cells[column] = other;
                column += 1;
            }
        }
        rows.resize(rows.len().max(row + 1), Vec::new());
    }
    rows.into_iter().map(|cells| cells.into_iter().collect::<String>().trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_is_what_a_terminal_makes_of_it() {
        assert_eq!(rows("one\r\n\u{1b}[1mtwo\u{1b}[0m\r\n", 80), ["one", "two", ""]);
        assert_eq!(rows("abcdef", 4), ["abcd", "ef"]);
        assert_eq!(rows("abcd\r\n", 4), ["abcd", ""]);
        assert_eq!(
            rows("bar 1   bar 2   \u{1b}[1A\r\u{1b}[2K\u{1b}[1B\r\u{1b}[2K\u{1b}[1Alog", 8),
            ["log", ""]
        );
    }
}
