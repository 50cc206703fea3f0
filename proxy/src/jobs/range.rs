//! Which part of a result is asked for (RFC 9110, section 14).

use std::ops::Range;

use http::{HeaderMap, Method, header};

/// The one range that is asked for; `Some(None)` if it lies outside. Several at once are answered with all of it, and so is
/// one of what the client believes to be there (`If-Range`) and is not, and whatever is not `GET`.
pub(super) fn asked(
    method: &Method,
    asked: &HeaderMap,
    answer: &HeaderMap,
    length: u64,
) -> Option<Option<Range<u64>>> {
    if *method != Method::GET || !is_believed(asked, answer) {
        return None;
    }
    let value = asked.get(header::RANGE)?.to_str().ok()?.trim();
    let (from, to) = value.strip_prefix("bytes=")?.split_once('-')?;
    let (from, to) = (from.trim(), to.trim());
    if to.contains(',') {
        return None;
    }
    let range = match (from.is_empty(), to.is_empty()) {
        (true, true) => return None,
        (true, false) => length.saturating_sub(to.parse().ok()?)..length,
        (false, true) => from.parse().ok()?..length,
        (false, false) => {
            let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
            if to < from {
                return None;
            }
            from..to.saturating_add(1).min(length)
        }
    };
    Some((range.start < range.end).then_some(range))
}

/// Whether what a client has a part of, if it says so, is this answer: by its strong tag, or by its date to the letter.
fn is_believed(asked: &HeaderMap, answer: &HeaderMap) -> bool {
    let Some(believed) = asked.get(header::IF_RANGE) else { return true };
    let is = |name| answer.get(name) == Some(believed);
    match believed.as_bytes() {
        [b'"', ..] => is(header::ETAG),
        _ => !believed.as_bytes().starts_with(b"W/") && is(header::LAST_MODIFIED),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn fields(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_range_is_understood() {
        for (value, expected) in [
            ("bytes=0-0", Some(Some(0..1))),
            ("bytes=10-", Some(Some(10..100))),
            ("bytes=-5", Some(Some(95..100))),
            ("bytes=-500", Some(Some(0..100))),
            ("bytes=90-500", Some(Some(90..100))),
            ("bytes=100-", Some(None)),
            ("bytes=-0", Some(None)),
            ("bytes=5-2", None),
            ("bytes=0-1,5-6", None),
            ("items=0-1", None),
            ("bytes=x-y", None),
        ] {
            let range = fields(&[(header::RANGE, value)]);
            assert_eq!(asked(&Method::GET, &range, &HeaderMap::new(), 100), expected, "{value}");
            assert_eq!(asked(&Method::HEAD, &range, &HeaderMap::new(), 100), None, "{value}");
        }
        assert_eq!(asked(&Method::GET, &HeaderMap::new(), &HeaderMap::new(), 100), None);
    }

    #[test]
    fn a_part_of_something_else_is_not_given() {
        let date = "Sat, 21 Nov 2026 20:22:03 GMT";
        let answer = fields(&[(header::ETAG, "\"v1\""), (header::LAST_MODIFIED, date)]);
        let weak = fields(&[(header::ETAG, "W/\"v1\"")]);
        for (answer, believed, given) in [
            (&answer, "\"v1\"", true),
            (&answer, "\"v2\"", false),
            (&answer, date, true),
            (&answer, "Sat, 21 Nov 2026 20:22:04 GMT", false),
            (&weak, "W/\"v1\"", false),
            (&HeaderMap::new(), "\"v1\"", false),
        ] {
            let part = fields(&[(header::RANGE, "bytes=0-0"), (header::IF_RANGE, believed)]);
            assert_eq!(asked(&Method::GET, &part, answer, 100).is_some(), given, "{believed}");
        }
    }
}
