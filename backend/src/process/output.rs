//! What a process wrote to stdout and stderr: the last of it in memory, line by line, and what comes for those who follow.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use crate::BackendError;
use crate::cause::last_lines;

/// Bytes kept of one instance.
const KEPT: usize = 1 << 20;
/// Bytes kept of one that has ended.
const KEPT_OF_DEAD: usize = 64 << 10;
/// What a line costs beside its bytes.
const LINE_COST: usize = 64;
/// A longer line is cut in two: nobody waits for the end of one that may have none.
const LONGEST_LINE: usize = 16 << 10;
/// Lines that one who follows may be behind before some are skipped.
const BEHIND: usize = 256;

/// The output of one instance.
pub(super) struct Output(Mutex<State>);

struct State {
    lines: VecDeque<Bytes>,
    /// Their bytes and their cost.
    size: usize,
    /// None once no more will come.
    followers: Option<broadcast::Sender<Bytes>>,
}

impl Output {
    pub(super) fn new() -> Self {
        let followers = Some(broadcast::channel(BEHIND).0);
        Self(Mutex::new(State { lines: VecDeque::new(), size: 0, followers }))
    }

    /// Takes in everything that `source` gives until its end. The process never waits for a reader of its log.
    pub(super) async fn collect(&self, mut source: impl AsyncRead + Unpin) {
        let mut pending = BytesMut::new();
        // An error of a pipe is its end.
        while source.read_buf(&mut pending).await.is_ok_and(|count| count > 0) {
            while let Some(end) = line_end(&pending) {
                self.push(&pending.split_to(end));
            }
        }
        if !pending.is_empty() {
            self.push(&pending);
        }
    }

    fn push(&self, line: &[u8]) {
        // A copy, so that a short line does not keep a whole buffer in memory.
        let line = Bytes::copy_from_slice(line);
        let mut state = self.0.lock();
        if let Some(followers) = &state.followers {
            // Nobody follows: no matter.
            let _ = followers.send(line.clone());
        }
        state.size += line.len() + LINE_COST;
        state.lines.push_back(line);
        state.shrink(KEPT);
    }

    /// No more will come: whoever follows is at the end, and less is kept.
    pub(super) fn close(&self) {
        let mut state = self.0.lock();
        state.followers = None;
        state.shrink(KEPT_OF_DEAD);
        state.lines.shrink_to_fit();
    }

    /// The last lines, as they go with a death.
    pub(super) fn last_lines(&self) -> String {
        let state = self.0.lock();
        let start = state.lines.len().saturating_sub(crate::cause::LOG_LINES);
        let bytes: Vec<u8> = state.lines.range(start..).flatten().copied().collect();
        last_lines(&bytes)
    }

    /// The last `tail` lines and, if `follow`, what comes until the end.
    pub(super) fn read(&self, tail: usize, follow: bool) -> BoxStream<'static, Result<Bytes, BackendError>> {
        // Under one lock, so that no line is missed or doubled between the two.
        let state = self.0.lock();
        let start = state.lines.len().saturating_sub(tail);
        let past: Vec<Bytes> = state.lines.range(start..).cloned().collect();
        let past = futures_util::stream::iter(past);
        match state.followers.as_ref().filter(|_| follow) {
            None => past.map(Ok).boxed(),
            Some(followers) => {
                let coming = BroadcastStream::new(followers.subscribe()).map(|item| match item {
                    Ok(line) => line,
                    Err(BroadcastStreamRecvError::Lagged(lines)) => {
                        format!("longshore: {lines} lines skipped, the reader is too slow\n").into()
                    }
                });
                past.chain(coming).map(Ok).boxed()
            }
        }
    }
}

impl State {
    fn shrink(&mut self, limit: usize) {
        while self.size > limit
            && let Some(line) = self.lines.pop_front()
        {
            self.size -= line.len() + LINE_COST;
        }
    }
}

/// Where the first line ends, if it does; a longer one than is waited for ends anywhere.
fn line_end(pending: &[u8]) -> Option<usize> {
    let newline = pending.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
    newline.filter(|end| *end <= LONGEST_LINE).or((pending.len() >= LONGEST_LINE).then_some(LONGEST_LINE))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(stream: BoxStream<'static, Result<Bytes, BackendError>>) -> Vec<Bytes> {
        stream.map(Result::unwrap).collect().await
    }

    #[tokio::test]
    async fn the_tail_is_counted_in_lines() {
        let output = Output::new();
        output.collect(&b"one\ntwo\nthree"[..]).await;
        assert_eq!(all(output.read(2, false)).await, ["two\n", "three"]);
        assert_eq!(all(output.read(9, false)).await.len(), 3);
        assert_eq!(output.last_lines(), "one\ntwo\nthree");
    }

    #[tokio::test]
    async fn whoever_follows_gets_each_line_once_and_then_the_end() {
        let output = Output::new();
        output.collect(&b"before\n"[..]).await;
        let stream = output.read(1, true);
        output.collect(&b"after\n"[..]).await;
        output.close();
        assert_eq!(all(stream).await, ["before\n", "after\n"]);
        assert_eq!(all(output.read(9, true)).await.len(), 2);
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_what_it_missed() {
        let output = Output::new();
        let stream = output.read(0, true);
        output.collect(&*b"x\n".repeat(BEHIND + 10)).await;
        output.close();
        let seen = all(stream).await;
        assert_eq!(seen[0], "longshore: 10 lines skipped, the reader is too slow\n");
        assert_eq!(seen.len(), BEHIND + 1);
    }

    #[tokio::test]
    async fn memory_is_bounded_whatever_a_process_writes() {
        let output = Output::new();
        output.collect(&*vec![b'x'; 3 * KEPT]).await;
        output.collect(&*b"\n".repeat(KEPT)).await;
        let (size, longest) = {
            let state = output.0.lock();
            (state.size, state.lines.iter().map(Bytes::len).max().unwrap())
        };
        assert!(size <= KEPT && longest <= LONGEST_LINE, "{size} {longest}");
        output.close();
        assert!(output.0.lock().size <= KEPT_OF_DEAD);
    }
}
