//! What a client asks for: `Prefer: respond-async[, wait=N]` (RFC 7240), or what its service does always.

use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderName, header};

use super::callbacks::LONGSHORE_CALLBACK;
use crate::config::JobsMode;

pub(super) const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Nobody waits longer than this on one request.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// How a request is to become a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Answered with a ticket, or with the result if it is there within `wait`.
    Ticket {
        /// How long the client waits.
        wait: Duration,
    },
    /// Answered with a ticket until the same request finds the result.
    Poll,
    /// It is no job, though it has what only a job can have: refused, lest its client waits for a callback that never comes.
    Unfit,
}

/// What becomes of a request in this mode; nothing if it is no job. What is upgraded never is.
pub fn wish(mode: JobsMode, parts: &Parts) -> Option<Wish> {
    if mode == JobsMode::Off {
        return None;
    }
    let no_job = || parts.headers.contains_key(&LONGSHORE_CALLBACK).then_some(Wish::Unfit);
    if parts.headers.contains_key(header::UPGRADE) {
        return no_job();
    }
    let asked = preference(&parts.headers);
    match (mode, asked) {
        (JobsMode::Off, _) => None,
        (JobsMode::Prefer, None) => no_job(),
        (JobsMode::Prefer | JobsMode::Always, Some(wait)) => Some(Wish::Ticket { wait }),
        (JobsMode::Always, None) => Some(Wish::Ticket { wait: Duration::ZERO }),
        (JobsMode::Poll, _) => Some(Wish::Poll),
    }
}

/// Whether `respond-async` is preferred, and how long the client waits.
fn preference(headers: &HeaderMap) -> Option<Duration> {
    let (mut asked, mut wait) = (false, Duration::ZERO);
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    for token in values.flat_map(|value| value.split(',')) {
        let (name, value) = token.split_once('=').unwrap_or((token, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "respond-async" => asked = true,
            "wait" => {
                let seconds = value.split(';').next().unwrap_or_default().trim().trim_matches('"').parse();
                wait = Duration::from_secs(seconds.unwrap_or(0)).min(LONGEST_WAIT);
            }
            _ => {}
        }
    }
    asked.then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(mode: JobsMode, fields: &[(&str, &str)]) -> Option<Wish> {
        let mut request = http::Request::builder();
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        wish(mode, &request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_client_that_asks_gets_a_ticket() {
        let ticket = |wait| Some(Wish::Ticket { wait: Duration::from_secs(wait) });
        for (value, wish) in [
            ("respond-async", ticket(0)),
            ("Respond-Async, wait=5", ticket(5)),
            ("wait=7, handling=lenient, respond-async", ticket(7)),
            ("wait=\"9\";x=1,respond-async", ticket(9)),
            ("respond-async, wait=99999", ticket(600)),
            ("respond-async, wait=soon", ticket(0)),
            ("wait=5", None),
            ("return=minimal", None),
        ] {
            assert_eq!(asked(JobsMode::Prefer, &[("prefer", value)]), wish, "{value}");
        }
        let two = [("prefer", "wait=3"), ("prefer", "respond-async")];
        assert_eq!(asked(JobsMode::Prefer, &two), ticket(3));
    }

    #[test]
    fn the_mode_decides() {
        let ask = [("prefer", "respond-async")];
        let always = Some(Wish::Ticket { wait: Duration::ZERO });
        assert_eq!(asked(JobsMode::Off, &ask), None);
        assert_eq!(asked(JobsMode::Prefer, &[]), None);
        assert_eq!(asked(JobsMode::Always, &[]), always);
        assert_eq!(asked(JobsMode::Poll, &ask), Some(Wish::Poll));
        assert_eq!(asked(JobsMode::Always, &[("upgrade", "websocket")]), None);
        let callback = ("longshore-callback", "https://hooks.example.com/");
        for (mode, fields, wish) in [
            (JobsMode::Off, vec![callback], None),
            (JobsMode::Prefer, vec![callback], Some(Wish::Unfit)),
            (JobsMode::Always, vec![callback, ("upgrade", "websocket")], Some(Wish::Unfit)),
            (JobsMode::Always, vec![callback], always),
            (JobsMode::Poll, vec![callback], Some(Wish::Poll)),
        ] {
            assert_eq!(asked(mode, &fields), wish, "{mode:?} {fields:?}");
        }
    }
}
