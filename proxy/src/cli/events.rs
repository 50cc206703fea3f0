//! `longshore events [NAME]`: what happens in the running cluster, a line each.

use std::time::Duration;

use bytes::BytesMut;
use clap::Args;
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::client::{Client, ClientError};
use super::{CliError, output};
use crate::events::Event;
use crate::http_client::segment;

/// One event is shorter than this: what is longer is none.
const LONGEST: usize = 256 << 10;

/// How often, and how many times, a process is looked for that goes on where the last one has ended: one that has taken
/// over, or is started again.
const LOOK: Duration = Duration::from_millis(250);
const LOOKS: u32 = 40;

#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    /// Only of this service, and of the cluster as a whole.
    name: Option<String>,
    /// Goes on with what happens from now on.
    #[arg(short, long)]
    follow: bool,
    /// Shows so many of the last ones.
    #[arg(long, value_name = "N", default_value_t = 50)]
    tail: usize,
    /// Prints each as a line of JSON.
    #[arg(long)]
    json: bool,
}

/// One event of the stream, as it comes over the wire.
#[derive(Debug, Default, PartialEq, Eq)]
struct Piece {
    event: String,
    data: String,
}

pub(super) async fn events(args: &EventsArgs, client: &Client) -> Result<(), CliError> {
    let mut body = open(args, client, args.tail).await?;
    loop {
        print(args, body).await?;
        if !args.follow {
            return Ok(());
        }
        output::note("the proxy has ended; looking for the next one");
        body = again(args, client).await?;
    }
}

async fn open(args: &EventsArgs, client: &Client, tail: usize) -> Result<Incoming, ClientError> {
    let service = args.name.as_deref().map(|name| format!("&service={}", segment(name))).unwrap_or_default();
    let path = format!("/events?tail={tail}&follow={}{service}", args.follow);
    Ok(client.open(Method::GET, &path, None).await?.into_body())
}

/// The process that has taken over, or has been started, if there is one soon: all that it has told so far.
async fn again(args: &EventsArgs, client: &Client) -> Result<Incoming, ClientError> {
    let mut looks = 0;
    loop {
        match open(args, client, usize::MAX).await {
            Err(ClientError::NoAnswer { .. }) if looks < LOOKS => {
                looks += 1;
                tokio::time::sleep(LOOK).await;
            }
            opened => return opened,
        }
    }
}

/// Prints until the stream ends.
async fn print(args: &EventsArgs, mut body: Incoming) -> Result<(), CliError> {
    let mut rest = BytesMut::new();
    // A stream that breaks ends: its process is gone.
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        rest.extend_from_slice(&data);
        while let Some(piece) = next(&mut rest) {
            if let Some(line) = line(&piece, args.json) {
                output::write(line.as_bytes())?;
            }
        }
        if rest.len() > LONGEST {
            return Err(CliError::Failed("what comes are no events: is this the admin API?".to_owned()));
        }
    }
    Ok(())
}

/// Takes the first whole piece.
fn next(rest: &mut BytesMut) -> Option<Piece> {
    let end = rest.windows(2).position(|pair| pair == b"\n\n")?;
    let text = String::from_utf8_lossy(&rest.split_to(end + 2)).into_owned();
    let mut piece = Piece::default();
    for line in text.lines() {
        if let Some(event) = line.strip_prefix("event: ") {
            event.clone_into(&mut piece.event);
        } else if let Some(data) = line.strip_prefix("data: ") {
            data.clone_into(&mut piece.data);
        }
    }
    Some(piece)
}

/// What is shown of a piece; nothing of one that only says that the process is still there.
fn line(piece: &Piece, json: bool) -> Option<String> {
    if piece.data.is_empty() {
        return None;
    }
    if json {
        return Some(format!("{}\n", piece.data));
    }
    if piece.event == "lost" {
        let lost = serde_json::from_str::<serde_json::Value>(&piece.data).ok()?["lost"].as_u64()?;
        return Some(format!("({lost} events are missing here)\n"));
    }
    // One that this version does not understand is shown as it is.
    let Ok(event) = serde_json::from_str::<Event>(&piece.data) else {
        return Some(format!("{}\n", piece.data));
    };
    let about = event.instance.as_deref().or(event.service.as_deref()).unwrap_or("-");
    let time = event.at.split_once('T').map_or(&*event.at, |(_, time)| time).get(..8).unwrap_or_default();
    let text = event.text.lines().next().unwrap_or_default();
    Some(format!("{time}  {:<20}  {about:<14}  {text}\n", piece.event))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIED: &str = "id: 1-2\nevent: instance-died\ndata: {\"id\":\"1-2\",\"at\":\"2026-01-02T03:04:05.6Z\",\
                        \"kind\":\"instance-died\",\"service\":\"calc\",\"instance\":\"calc-0-1\",\
                        \"text\":\"killed by signal 9\\nits log\"}\n\n";

    #[test]
    fn pieces_are_whole_whatever_comes_at_once() {
        let all = format!(": still here\n\n{DIED}event: lost\ndata: {{\"lost\":7}}\n\n");
        let (mut rest, mut lines) = (BytesMut::new(), Vec::new());
        for byte in all.bytes() {
            rest.extend_from_slice(&[byte]);
            lines.extend(next(&mut rest).and_then(|piece| line(&piece, false)));
        }
        assert_eq!(
            lines,
            [
                "03:04:05  instance-died         calc-0-1        killed by signal 9\n",
                "(7 events are missing here)\n"
            ]
        );
    }

    #[test]
    fn what_a_newer_process_tells_is_shown_too() {
        let piece = |event: &str, data: &str| Piece { event: event.to_owned(), data: data.to_owned() };
        let new = "{\"id\":\"1-1\",\"at\":\"2026-01-02T03:04:05Z\",\"kind\":\"comet\",\"text\":\"seen\"}";
        assert_eq!(
            line(&piece("comet", new), false).unwrap(),
            "03:04:05  comet                 -               seen\n"
        );
        assert_eq!(line(&piece("comet", new), true).unwrap(), format!("{new}\n"));
        assert_eq!(line(&piece("odd", "[]"), false).unwrap(), "[]\n");
    }
}
