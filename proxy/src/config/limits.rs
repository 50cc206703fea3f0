//! `[proxy.limits]`: what one client, and all of them together, may take of the proxy.

use std::fmt;
use std::time::Duration;

use super::Network;
use super::reader::Table;
use super::value::Value;

/// `[proxy.limits]`. The defaults are such that a listener may be public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a header section at the most; more is refused with 431.
    pub header_bytes: usize,
    /// Fields of a header section at the most; more is refused with 431.
    pub header_fields: usize,
    /// Bytes a second at which a client must send its body and take its answer; 0 is no limit.
    pub min_rate: u64,
    /// How long a client may be behind that before it is cut off.
    pub min_rate_grace: Duration,
    /// Open connections, of all clients together; 0 is no limit.
    pub connections: usize,
    /// Open connections of one client; 0 is no limit.
    pub client_connections: u32,
    /// TLS handshakes under way, of all clients together; 0 is no limit.
    pub handshakes: usize,
    /// TLS handshakes under way of one client; 0 is no limit.
    pub client_handshakes: u32,
    /// Requests of one client at once, waiting or at work; 0 is no limit.
    pub client_concurrent: u32,
    /// Requests of one client in a time.
    pub client_rate: Option<Rate>,
    /// Clients that the limits of one client do not bind.
    pub exempt: Vec<Network>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 64 << 10,
            header_fields: 200,
            min_rate: 240,
            min_rate_grace: Duration::from_secs(30),
            connections: 20_000,
            client_connections: 1_000,
            handshakes: 2_000,
            client_handshakes: 100,
            client_concurrent: 1_000,
            client_rate: None,
            exempt: Network::LOOPBACK.to_vec(),
        }
    }
}

/// Requests in a time: so many at once, and then one each time that a fraction of it has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u32,
    /// In how long: a second, a minute or an hour.
    pub period: Duration,
}

impl Rate {
    /// `10/s`, `600/m`, `1000/h`. The error says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "a rate is `10/s`, `600/m` or `1000/h`".to_owned();
        let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
        let seconds = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            _ => return Err(wrong()),
        };
        let count = count.trim().parse().ok().filter(|count| (1..=1_000_000).contains(count));
        Ok(Self { count: count.ok_or_else(wrong)?, period: Duration::from_secs(seconds) })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.period.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(f, "{}/{unit}", self.count)
    }
}

pub(super) fn read(table: &mut Table<'_>, out: &mut Limits) {
    table.set("header_bytes", &mut out.header_bytes, header_bytes);
    table.set("header_fields", &mut out.header_fields, |value| value.integer(10..=10_000));
    table.set("min_rate", &mut out.min_rate, Value::bytes);
    table.set("min_rate_grace", &mut out.min_rate_grace, Value::timeout);
    table.set("connections", &mut out.connections, |value| value.integer(0..=10_000_000));
    table.set("client_connections", &mut out.client_connections, |value| value.integer(0..=10_000_000));
    table.set("handshakes", &mut out.handshakes, |value| value.integer(0..=10_000_000));
    table.set("client_handshakes", &mut out.client_handshakes, |value| value.integer(0..=10_000_000));
    table.set("client_concurrent", &mut out.client_concurrent, |value| value.integer(0..=10_000_000));
    table.set_some("client_rate", &mut out.client_rate, |value| value.parsed(Rate::parse));
    table.set("exempt", &mut out.exempt, |value| {
        value.list("an array of networks such as [\"10.0.0.0/8\"]", |one| one.parsed(Network::parse))
    });
}

/// Less than 8 KiB is less than browsers send; more than 1 MiB a connection would be no limit.
fn header_bytes(value: &Value<'_>) -> Option<usize> {
    let bytes = value.bytes()?;
    match usize::try_from(bytes).ok().filter(|bytes| (8 << 10..=1 << 20).contains(bytes)) {
        Some(bytes) => Some(bytes),
        None => value.reject(format!("`{}` must be from 8KiB to 1MiB", value.path())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_count_in_a_time() {
        let rate = |count, seconds| Rate { count, period: Duration::from_secs(seconds) };
        assert_eq!(Rate::parse("10/s"), Ok(rate(10, 1)));
        assert_eq!(Rate::parse("600 / m"), Ok(rate(600, 60)));
        assert_eq!(Rate::parse("1/h"), Ok(rate(1, 3_600)));
        for wrong in ["", "10", "0/s", "-1/s", "1.5/s", "10/d", "/s", "9999999/s"] {
            assert!(Rate::parse(wrong).is_err(), "{wrong}");
        }
    }
}
