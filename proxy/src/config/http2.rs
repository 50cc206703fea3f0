//! Reads `[proxy.http2]`: what a client of HTTP/2 may do on one connection. The defaults stand here.

use std::time::Duration;

use super::reader::Table;
use super::value::Value;

/// `[proxy.http2]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2 {
    /// Streams that one connection may have open at once.
    pub max_streams: u32,
    /// Streams that a client has reset before they were looked at; with more the connection is closed ("rapid reset").
    pub max_resets: usize,
    /// Streams that were reset for a client's mistakes; with more the connection is closed.
    pub max_errors: usize,
    /// Bytes of one body that may come ahead of being read, and of one answer ahead of being sent.
    pub stream_window: u32,
    /// Bytes of all bodies on a connection that may come ahead of being read.
    pub connection_window: u32,
    /// A connection that is silent for so long is asked whether it is still there.
    pub ping: Duration,
    /// It is closed when it does not answer for so long.
    pub ping_timeout: Duration,
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            max_streams: 256,
            max_resets: 20,
            max_errors: 256,
            stream_window: 256 << 10,
            connection_window: 1 << 20,
            ping: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(20),
        }
    }
}

pub(super) fn read(table: &mut Table<'_>, out: &mut Http2) {
    table.set("max_streams", &mut out.max_streams, |value| value.integer(1..=100_000));
    table.set("max_resets", &mut out.max_resets, |value| value.integer(1..=100_000));
    table.set("max_errors", &mut out.max_errors, |value| value.integer(1..=100_000));
    table.set("stream_window", &mut out.stream_window, window);
    table.set("connection_window", &mut out.connection_window, window);
    table.set("ping", &mut out.ping, Value::timeout);
    table.set("ping_timeout", &mut out.ping_timeout, Value::timeout);
}

/// Every client begins with 64 KiB; the protocol knows no more than 2 GiB.
fn window(value: &Value<'_>) -> Option<u32> {
    let bytes = value.bytes()?;
    match u32::try_from(bytes).ok().filter(|bytes| (64 << 10..=1 << 30).contains(bytes)) {
        Some(bytes) => Some(bytes),
        None => value.reject(format!("`{}` must be from 64KiB to 1GiB", value.path())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(lines: &str) -> Result<Config, String> {
        let text = format!("[proxy.http2]\n{lines}\n[services.calc]\nimage = \"x\"\n");
        Config::parse(&text, "cluster.toml", &|_| None).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn what_is_not_said_stays_at_its_default() {
        assert_eq!(parse("").unwrap().proxy.http2, Http2::default());
        let lines = "max_streams = 8\nconnection_window = \"2MiB\"\nping = \"1m\"";
        assert_eq!(
            parse(lines).unwrap().proxy.http2,
            Http2 {
                max_streams: 8,
                connection_window: 2 << 20,
                ping: Duration::from_secs(60),
                ..Http2::default()
            }
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (line, said) in [
            ("max_streams = 0", "from 1 to 100000"),
            ("stream_window = \"1KiB\"", "from 64KiB to 1GiB"),
            ("connection_window = \"2GiB\"", "from 64KiB to 1GiB"),
            ("ping = \"0s\"", "above 0"),
            ("max_stream = 3", "did you mean `max_streams`?"),
        ] {
            let shown = parse(line).unwrap_err();
            assert!(shown.contains(said), "{line}: {shown}");
        }
    }
}
