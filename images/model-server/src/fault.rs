//! What shall go wrong with a request, and its text form in the `Fault` header and the `--fault` flag.
//!
//! `Fault: latency=20ms, crash; bytes=1000` is two faults. A fault is a kind, perhaps with a value, then parameters:
//!
//! - where: `after=arrival` (default), `after=body` (of the request), `after=headers` (of the answer), `bytes=N` (of
//!   the answer's body);
//! - when: `only=INSTANCE`, `served=N`.

use std::time::Duration;

use thiserror::Error;

use crate::args::duration;

/// One fault.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    /// What happens.
    pub(crate) kind: Kind,
    /// Only at the instance of this name.
    pub(crate) only: Option<String>,
    /// Only once the instance has answered so many requests.
    pub(crate) served: u64,
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// The answer takes longer.
    Latency { time: Duration },
    /// The process exits.
    Crash { at: Point, code: u8 },
    /// This request stands still.
    Hang { at: Point },
    /// The connection is reset.
    Reset { at: Point },
    /// The connection is closed, however much was promised.
    Truncate { at: Point },
    /// The whole process stands still; for ever without a time.
    Freeze { time: Option<Duration> },
    /// The answer is 503, or another status, and asks to come again.
    Busy { at: Point, status: u16, retry_after: Option<u32> },
    /// From now on /healthz answers 503.
    Unhealthy,
    /// The process takes so much memory and keeps it.
    Memory { bytes: usize },
}

/// When in the course of a request it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// The request's head has arrived.
    Arrival,
    /// The request's body has arrived.
    Body,
    /// The answer's head and so many bytes of its body have been sent.
    Answer { bytes: u64 },
}

/// A fault that cannot be understood; the text is for the one who wrote it.
#[derive(Debug, Error)]
pub(crate) enum FaultError {
    #[error(
        "unknown fault {0:?}: latency=TIME, crash, hang, reset, truncate, freeze, busy, unhealthy, memory=BYTES"
    )]
    UnknownKind(String),
    #[error(
        "unknown parameter {0:?}: after=arrival|body|headers, bytes=N, only=INSTANCE, served=N, code=N, status=N, retry-after=N, for=TIME"
    )]
    UnknownParameter(String),
    #[error("{name:?} cannot be {value:?}")]
    BadValue { name: &'static str, value: String },
}

impl Kind {
    /// At once, without an answer.
    pub(crate) const CRASH: Self = Self::Crash { at: Point::Arrival, code: 70 };
}

impl Fault {
    /// One that every request meets.
    pub(crate) fn always(kind: Kind) -> Self {
        Self { kind, only: None, served: 0 }
    }

    /// One that every request meets after `served` others were answered.
    pub(crate) fn once_served(served: u64, kind: Kind) -> Self {
        Self { kind, only: None, served }
    }

    /// Reads a header's value: faults with commas between them.
    pub(crate) fn parse_list(text: &str) -> Result<Vec<Self>, FaultError> {
        text.split(',').map(str::trim).filter(|fault| !fault.is_empty()).map(Self::parse).collect()
    }

    /// Reads one fault.
    pub(crate) fn parse(text: &str) -> Result<Self, FaultError> {
        let mut parts = text.split(';').map(str::trim);
        let (name, value) = pair(parts.next().unwrap_or_default());
        let given =
            parts.filter(|part| !part.is_empty()).try_fold(Parameters::default(), Parameters::with)?;
        let at = given.at.unwrap_or(Point::Arrival);
        let kind = match name {
            "latency" => Kind::Latency { time: read("latency", value, duration)? },
            "crash" => Kind::Crash { at, code: given.code.unwrap_or(70) },
            "hang" => Kind::Hang { at },
            "reset" => Kind::Reset { at },
            "truncate" => Kind::Truncate { at: given.at.unwrap_or(Point::Answer { bytes: 0 }) },
            "freeze" => Kind::Freeze { time: given.time },
            "busy" => Kind::Busy {
                at: given.at.unwrap_or(Point::Body),
                status: given.status.unwrap_or(503),
                retry_after: given.retry_after,
            },
            "unhealthy" => Kind::Unhealthy,
            "memory" => Kind::Memory { bytes: read("memory", value, str::parse)? },
            _ => return Err(FaultError::UnknownKind(name.into())),
        };
        Ok(Self { kind, only: given.only, served: given.served })
    }
}

#[derive(Default)]
struct Parameters {
    at: Option<Point>,
    only: Option<String>,
    served: u64,
    code: Option<u8>,
    status: Option<u16>,
    retry_after: Option<u32>,
    time: Option<Duration>,
}

impl Parameters {
    fn with(mut self, part: &str) -> Result<Self, FaultError> {
        let (name, value) = pair(part);
        match name {
            "after" => self.at = Some(point(value)?),
            "bytes" => self.at = Some(Point::Answer { bytes: read("bytes", value, str::parse)? }),
            "only" => self.only = Some(value.into()),
            "served" => self.served = read("served", value, str::parse)?,
            "code" => self.code = Some(read("code", value, str::parse)?),
            "status" => self.status = Some(read("status", value, status)?),
            "retry-after" => self.retry_after = Some(read("retry-after", value, str::parse)?),
            "for" => self.time = Some(read("for", value, duration)?),
            _ => return Err(FaultError::UnknownParameter(part.into())),
        }
        Ok(self)
    }
}

fn pair(text: &str) -> (&str, &str) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.trim(), value.trim())
}

fn point(value: &str) -> Result<Point, FaultError> {
    match value {
        "arrival" => Ok(Point::Arrival),
        "body" => Ok(Point::Body),
        "headers" => Ok(Point::Answer { bytes: 0 }),
        _ => Err(FaultError::BadValue { name: "after", value: value.into() }),
    }
}

fn status(text: &str) -> Result<u16, ()> {
    text.parse().ok().filter(|status| (200..600).contains(status)).ok_or(())
}

fn read<T, E>(
    name: &'static str,
    value: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, FaultError> {
    parse(value).map_err(|_| FaultError::BadValue { name, value: value.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_may_hold_several_faults() {
        let faults = Fault::parse_list("latency=20ms, crash; bytes=1000; only=a-1").unwrap();
        assert_eq!(
            faults,
            [
                Fault::always(Kind::Latency { time: Duration::from_millis(20) }),
                Fault {
                    kind: Kind::Crash { at: Point::Answer { bytes: 1000 }, code: 70 },
                    only: Some("a-1".into()),
                    served: 0
                },
            ]
        );
    }

    #[test]
    fn busy_has_a_status_and_a_time() {
        let fault = Fault::parse("busy; status=429; retry-after=1").unwrap();
        assert_eq!(fault, Fault::always(Kind::Busy { at: Point::Body, status: 429, retry_after: Some(1) }));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, wanted) in [
            ("explode", "explode"),
            ("latency", "latency"),
            ("crash; when=now", "when=now"),
            ("crash; after=lunch", "lunch"),
            ("busy; status=7", "7"),
            ("memory=-1", "-1"),
        ] {
            let error = Fault::parse(text).unwrap_err().to_string();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
