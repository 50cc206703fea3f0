//! What an answer allows: whether it may be kept for others, and for how long (RFC 9111, 3 and 4.2).

use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName};

use super::directives::Directives;

/// How an answer may be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// For how long from now.
    pub fresh: Duration,
    /// How old it is already.
    pub age: Duration,
    /// The request's fields that it depends on, in order.
    pub vary: Vec<HeaderName>,
}

/// Why an answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Not {
    /// The next one to the same request may well be.
    This,
    /// It says so itself: the next one will most likely say the same.
    Ever,
}

/// Whether an answer with this head may be kept, for `ttl` at the most. Who asks is `personal`.
///
/// 1. its status is one that answers are kept of by default (RFC 9110, 15.1), and all of it is there;
/// 2. it does not forbid it: `no-store`, `no-cache`, `private`, `Vary: *`, or a cookie for somebody;
/// 3. where the request says who asks, it allows it: `public`, `s-maxage` or `must-revalidate` (RFC 9111, 3.5);
/// 4. it is fresh: `s-maxage`, `max-age`, or `Expires`, less its `Age`; where it says nothing, for the `ttl`.
pub fn allowed(
    status: StatusCode,
    headers: &HeaderMap,
    personal: bool,
    ttl: Duration,
    now: SystemTime,
) -> Result<Allowed, Not> {
    // 1.
    if !matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501) {
        return Err(Not::This);
    }
    // 2.
    let directives = Directives::of(headers);
    let vary = vary(headers).ok_or(Not::Ever)?;
    if directives.no_store
        || directives.no_cache
        || directives.private
        || headers.contains_key(header::SET_COOKIE)
    {
        return Err(Not::Ever);
    }
    // 3.
    if personal && !directives.is_for_everybody() {
        return Err(Not::This);
    }
    // 4.
    let age = headers.get(header::AGE).and_then(|age| age.to_str().ok()?.trim().parse().ok()).unwrap_or(0);
    let age = Duration::from_secs(age);
    let own =
        directives.s_maxage.or(directives.max_age).map(Duration::from_secs).or_else(|| expires(headers, now));
    let fresh = own.map_or(ttl, |own| own.saturating_sub(age).min(ttl));
    if fresh.is_zero() { Err(Not::Ever) } else { Ok(Allowed { fresh, age, vary }) }
}

/// How long `Expires` gives it; nothing where that is no date.
fn expires(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let date = |name| httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok();
    headers.get(header::EXPIRES)?;
    let from = date(header::DATE).unwrap_or(now);
    Some(date(header::EXPIRES).and_then(|at| at.duration_since(from).ok()).unwrap_or(Duration::ZERO))
}

/// The fields that it varies by; none where nobody can tell.
fn vary(headers: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for field in headers.get_all(header::VARY) {
        for name in field.to_str().ok()?.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            // `*` is no name.
            names.push(HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| name.as_str() != "*")?);
        }
    }
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(100);

    fn told(status: u16, fields: &[(&str, &str)], personal: bool) -> Result<Allowed, Not> {
        let pair = |(name, value): &(&str, &str)| -> (HeaderName, header::HeaderValue) {
            (name.parse().unwrap(), value.parse().unwrap())
        };
        let mut headers = HeaderMap::new();
        fields.iter().map(pair).for_each(|(name, value)| {
            headers.append(name, value);
        });
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        allowed(StatusCode::from_u16(status).unwrap(), &headers, personal, TTL, now)
    }

    fn fresh(fields: &[(&str, &str)]) -> Option<u64> {
        told(200, fields, false).ok().map(|allowed| allowed.fresh.as_secs())
    }

    #[test]
    fn an_answer_is_fresh_for_the_ttl_at_the_most() {
        for (fields, seconds) in [
            (&[][..], Some(100)),
            (&[("cache-control", "max-age=30")], Some(30)),
            (&[("cache-control", "max-age=3000")], Some(100)),
            (&[("cache-control", "max-age=30, s-maxage=20")], Some(20)),
            (&[("cache-control", "max-age=30"), ("age", "10")], Some(20)),
            (&[("cache-control", "max-age=30"), ("age", "30")], None),
            (&[("cache-control", "max-age=0")], None),
            (&[("cache-control", "max-age=soon")], None),
            (&[("expires", "Sun, 06 Nov 1994 08:50:07 GMT")], Some(30)),
            (
                &[("expires", "Sun, 06 Nov 1994 08:50:07 GMT"), ("date", "Sun, 06 Nov 1994 08:50:00 GMT")],
                Some(7),
            ),
            (&[("expires", "0")], None),
            (&[("expires", "0"), ("cache-control", "max-age=5")], Some(5)),
        ] {
            assert_eq!(fresh(fields), seconds, "{fields:?}");
        }
    }

    #[test]
    fn what_forbids_it_is_not_kept() {
        for value in ["no-store", "no-cache", "private", "private=\"x\"", "public, no-store"] {
            assert_eq!(told(200, &[("cache-control", value)], false), Err(Not::Ever), "{value}");
        }
        assert_eq!(told(200, &[("set-cookie", "a=b")], false), Err(Not::Ever));
        assert_eq!(told(200, &[("vary", "accept, *")], false), Err(Not::Ever));
        for status in [206, 302, 304, 400, 401, 403, 429, 500, 502, 503] {
            assert_eq!(told(status, &[], false), Err(Not::This), "{status}");
        }
        for status in [200, 204, 301, 404, 410] {
            assert!(told(status, &[], false).is_ok(), "{status}");
        }
    }

    #[test]
    fn an_answer_to_somebody_is_kept_only_if_it_says_so() {
        assert_eq!(told(200, &[], true), Err(Not::This));
        assert_eq!(told(200, &[("cache-control", "max-age=9")], true), Err(Not::This));
        for value in ["public", "s-maxage=9", "must-revalidate"] {
            assert!(told(200, &[("cache-control", value)], true).is_ok(), "{value}");
        }
    }

    #[test]
    fn it_varies_by_the_fields_that_it_names() {
        let allowed = told(200, &[("vary", "Accept, x-user"), ("vary", "accept")], false).unwrap();
        assert_eq!(allowed.vary, [header::ACCEPT, HeaderName::from_static("x-user")]);
    }
}
