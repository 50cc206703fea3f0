//! `longshore logs NAME`: what the instances of a service write, each line with its instance's name.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use clap::Args;
use http::Method;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::client::{Client, ClientError};
use super::{CliError, output};
use crate::admin::view::InstanceView;
use crate::http_client::segment;

/// Time between two looks for new instances.
const LOOK: Duration = Duration::from_secs(1);

/// Lines that are shown of an instance which began while its log was followed: all of them, in practice.
const FROM_THE_START: usize = 1_000_000;

/// A line that is longer is cut into several: a log without line ends must not fill the memory.
const LONGEST_LINE: usize = 64 << 10;

#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// The service.
    name: String,
    /// Goes on with what is written from now on, by new instances too.
    #[arg(short, long)]
    follow: bool,
    /// Shows so many of the last lines of each instance.
    #[arg(long, value_name = "N", default_value_t = 200)]
    tail: usize,
}

pub(super) async fn logs(args: LogsArgs, client: Client) -> Result<(), CliError> {
    let service = client.service(&args.name).await?;
    if service.instances.is_empty() && !args.follow {
        output::note(&format!("{} has no instances", args.name));
    }
    if args.follow {
        return follow(&args, &client).await;
    }
    for instance in &service.instances {
        let (lines, mut received) = mpsc::channel(256);
        let reading = async {
            let lines = lines;
            read(&client, &args.name, instance, args.tail, false, &lines).await
        };
        let printing = async move {
            while let Some(line) = received.recv().await {
                output::write(&line)?;
            }
            Ok::<(), CliError>(())
        };
        let (read, printed) = tokio::join!(reading, printing);
        printed?;
        if let Err(error) = read {
            output::note(&format!("{}: {error}", instance.id));
        }
    }
    Ok(())
}

/// Prints until the proxy or the reader goes away.
async fn follow(args: &LogsArgs, client: &Client) -> Result<(), CliError> {
    let (lines, mut received) = mpsc::channel::<Bytes>(256);
    let (failed, mut failures) = mpsc::channel::<String>(64);
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut tail = args.tail;
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            Some(line) = received.recv() => output::write(&line)?,
            // It is not there yet, as a container that is being created, or the proxy ends, which the next look finds.
            Some(id) = failures.recv() => { seen.remove(&id); }
            _ = look.tick() => {
                let service = client.service(&args.name).await?;
                for instance in service.instances {
                    if seen.insert(instance.id.clone()) {
                        let (client, name, lines, failed) =
                            (client.clone(), args.name.clone(), lines.clone(), failed.clone());
                        tokio::spawn(async move {
                            if read(&client, &name, &instance, tail, true, &lines).await.is_err() {
                                // Nobody waits any more when the command is ending.
                                let _ = failed.send(instance.id).await;
                            }
                        });
                    }
                }
                tail = FROM_THE_START;
            }
        }
    }
}

/// Sends the lines of one instance until its log ends or nobody takes them. An error means that it has none.
async fn read(
    client: &Client,
    name: &str,
    instance: &InstanceView,
    tail: usize,
    follow: bool,
    lines: &mpsc::Sender<Bytes>,
) -> Result<(), ClientError> {
    let (name, id) = (segment(name), segment(&instance.id));
    let path = format!("/services/{name}/instances/{id}/logs?tail={tail}&follow={follow}");
    let mut body: Incoming = client.open(Method::GET, &path, None).await?.into_body();
    let mut splitter = Splitter::new(&instance.id);
    // A stream that breaks ends: its instance or the proxy is gone, and the rest of the line still counts.
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        for line in splitter.push(&data) {
            if lines.send(line).await.is_err() {
                return Ok(());
            }
        }
    }
    if let Some(rest) = splitter.rest() {
        let _ = lines.send(rest).await;
    }
    Ok(())
}

/// Cuts a stream into lines and puts the instance's name before each.
struct Splitter {
    prefix: String,
    rest: BytesMut,
}

impl Splitter {
    fn new(id: &str) -> Self {
        // A colour for an instance, the same each time; shown on terminals only.
        let colour = 31 + id.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31) + u32::from(byte)) % 6;
        Self { prefix: format!("\u{1b}[{colour}m{id} |\u{1b}[0m "), rest: BytesMut::new() }
    }

    fn push(&mut self, data: &[u8]) -> Vec<Bytes> {
        self.rest.extend_from_slice(data);
        let mut lines = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line = self.rest.split_to(end + 1);
            lines.push(self.line(&line));
        }
        if self.rest.len() > LONGEST_LINE {
            let line = self.rest.split();
            lines.push(self.line(&line));
        }
        lines
    }

    fn rest(&mut self) -> Option<Bytes> {
        let line = self.rest.split();
        if line.is_empty() { None } else { Some(self.line(&line)) }
    }

    fn line(&self, line: &[u8]) -> Bytes {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        [self.prefix.as_bytes(), text, b"\n"].concat().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(bytes: &Bytes) -> String {
        anstream::adapter::strip_str(std::str::from_utf8(bytes).unwrap()).to_string()
    }

    #[test]
    fn lines_are_whole_whatever_the_pieces_are() {
        let mut splitter = Splitter::new("calc-0-1");
        let mut lines: Vec<String> = Vec::new();
        for piece in ["on", "e\r\ntw", "o\n\nthr", "ee"] {
            lines.extend(splitter.push(piece.as_bytes()).iter().map(plain));
        }
        lines.extend(splitter.rest().iter().map(plain));
        assert_eq!(lines, ["calc-0-1 | one\n", "calc-0-1 | two\n", "calc-0-1 | \n", "calc-0-1 | three\n"]);
        assert_eq!(splitter.rest(), None);
    }

    #[test]
    fn a_log_without_line_ends_is_cut() {
        let mut splitter = Splitter::new("calc-0-1");
        assert!(splitter.push(&vec![b'x'; LONGEST_LINE]).is_empty());
        assert_eq!(splitter.push(b"y").len(), 1);
        assert!(splitter.rest.is_empty());
    }
}
