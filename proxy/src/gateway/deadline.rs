//! How long a client is willing to wait, in its own words.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::problem::Problem;

/// The limit in whole units; no server keeps a promise longer than this.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3_600);

const LONGSHORE_TIMEOUT: HeaderName = HeaderName::from_static("longshore-timeout");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The client's own limit on the time for an answer: the shorter of `Longshore-Timeout` and, where the request may be one
/// of gRPC's, `grpc-timeout`.
pub fn of(headers: &HeaderMap, grpc: bool) -> Result<Option<Duration>, Problem> {
    let own = match headers.get(&LONGSHORE_TIMEOUT) {
        Some(value) => {
            let duration = value.to_str().ok().and_then(|text| humantime::parse_duration(text.trim()).ok());
            let wrong = || "Longshore-Timeout must be a duration such as 30s or 500ms".to_owned();
            Some(duration.ok_or_else(|| Problem::BadRequest(wrong()))?)
        }
        None => None,
    };
    let Some(value) = grpc.then(|| headers.get(&GRPC_TIMEOUT)).flatten() else { return Ok(own) };
    let wrong =
        || "grpc-timeout must be up to 8 digits and a unit of H, M, S, m, u or n, such as 500m".to_owned();
    let theirs = value.to_str().ok().and_then(grpc_timeout).ok_or_else(|| Problem::BadRequest(wrong()))?;
    Ok(Some(own.map_or(theirs, |own| own.min(theirs))))
}

/// `TimeoutValue TimeoutUnit` of the gRPC protocol.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    let duration = match unit {
        "H" => Duration::from_secs(value * 3_600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    };
    Some(duration.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn grpc_has_its_own_way_to_write_a_duration() {
        for (text, duration) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("5S", Some(Duration::from_secs(5))),
            ("100m", Some(Duration::from_millis(100))),
            ("100u", Some(Duration::from_micros(100))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("99999999H", Some(LONGEST)),
            ("", None),
            ("S", None),
            ("123456789m", None),
            ("-1S", None),
            ("+1S", None),
            ("1s", None),
            ("1ä", None),
        ] {
            assert_eq!(grpc_timeout(text), duration, "{text}");
        }
    }

    #[test]
    fn the_shorter_limit_counts_and_a_wrong_one_is_a_mistake() {
        let mut headers = HeaderMap::new();
        assert_eq!(of(&headers, true), Ok(None));
        headers.insert(LONGSHORE_TIMEOUT, HeaderValue::from_static("2s"));
        headers.insert(GRPC_TIMEOUT, HeaderValue::from_static("1500m"));
        assert_eq!(of(&headers, true), Ok(Some(Duration::from_millis(1_500))));
        assert_eq!(of(&headers, false), Ok(Some(Duration::from_secs(2))));
        headers.insert(GRPC_TIMEOUT, HeaderValue::from_static("soon"));
        assert!(of(&headers, true).is_err());
        headers.insert(LONGSHORE_TIMEOUT, HeaderValue::from_static("never"));
        assert!(of(&headers, false).is_err());
    }
}
