//! An answer that is kept, and its way to a client.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use longshore_pool::Time;

use super::asked::{Id, Terms, variant};
use crate::gateway::spelling::Spelling;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// An answer, complete.
#[derive(Debug)]
pub struct Stored {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// How these were spelled.
    pub spelling: Spelling,
    /// Its body.
    pub body: Bytes,
    /// What the requests that it answers are known by, the fields that it varies by included.
    pub id: Id,
    /// The fields that it varies by.
    pub vary: Vec<HeaderName>,
    /// How old it was when it came.
    pub age: Duration,
    /// When it came.
    pub since: Time,
    /// Until when it is fresh.
    pub until: Time,
}

/// What the cache did for a request, for `Cache-Status` (RFC 9211).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// An answer was there.
    Hit,
    /// None was.
    Miss,
    /// One was there that would not do: too old, or not wanted.
    Reload,
    /// It shared the run of another request.
    Collapsed,
    /// It went past the cache.
    Past,
}

impl Stored {
    /// Whether it answers a request that is known by this, and has these fields.
    pub fn is_for(&self, id: Id, asked: &HeaderMap) -> bool {
        let id = if self.vary.is_empty() { id } else { variant(id, &self.vary, asked) };
        id == self.id
    }

    /// How old it is now.
    pub fn age(&self, now: Time) -> Duration {
        self.age + now.since(self.since)
    }

    /// How long it is still fresh.
    pub fn fresh_for(&self, now: Time) -> Duration {
        self.until.since(now)
    }

    /// What it takes of memory, roughly.
    pub fn size(&self) -> u64 {
        let fields: usize =
            self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
        (self.body.len() + fields + self.spelling.length() + 256) as u64
    }

    /// The answer for one request: without its body where none is wanted, and 304 where the client has it already.
    pub fn answer(&self, terms: &Terms, asked: &HeaderMap, way: Way, now: Time) -> Response<Bytes> {
        let unchanged = terms.is_conditional && self.status == StatusCode::OK && self.is_known_to(asked);
        let body = if unchanged || terms.is_head { Bytes::new() } else { self.body.clone() };
        let mut response = Response::new(body);
        *response.status_mut() = if unchanged { StatusCode::NOT_MODIFIED } else { self.status };
        response.extensions_mut().insert(self.spelling.clone());
        let headers = response.headers_mut();
        headers.clone_from(&self.headers);
        if unchanged {
            for name in [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::CONTENT_ENCODING] {
                headers.remove(name);
            }
        }
        headers.insert(header::AGE, HeaderValue::from(self.age(now).as_secs()));
        tell(headers, way, Some(self.fresh_for(now)));
        response
    }

    /// Whether the client has this very answer (RFC 9110, 13.1.2 and 13.1.3).
    fn is_known_to(&self, asked: &HeaderMap) -> bool {
        if asked.contains_key(header::IF_NONE_MATCH) {
            let own = self.headers.get(header::ETAG).map(|tag| opaque(tag.as_bytes()));
            let mut tags =
                asked.get_all(header::IF_NONE_MATCH).iter().flat_map(|field| tags(field.as_bytes()));
            return tags.any(|tag| tag == b"*" || Some(opaque(tag)) == own);
        }
        let date = |headers: &HeaderMap, name| {
            httpdate::parse_http_date(headers.get(name).and_then(|date: &HeaderValue| date.to_str().ok())?)
                .ok()
        };
        let since = date(asked, header::IF_MODIFIED_SINCE);
        date(&self.headers, header::LAST_MODIFIED).zip(since).is_some_and(|(changed, since)| changed <= since)
    }
}

/// An entity tag without the mark that it is weak: for a read that makes no difference.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The tags of a list. There may be commas in them.
fn tags(field: &[u8]) -> Vec<&[u8]> {
    let mut quoted = false;
    let parts = field.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    });
    parts.map(<[u8]>::trim_ascii).collect()
}

/// Says what the cache did; `fresh` is how long an answer from it still is.
pub fn tell(headers: &mut HeaderMap, way: Way, fresh: Option<Duration>) {
    let value = match (way, fresh) {
        (Way::Hit, Some(fresh)) => {
            let text = format!("longshore; hit; ttl={}", fresh.as_secs());
            HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("longshore; hit"))
        }
        (Way::Hit, None) => HeaderValue::from_static("longshore; hit"),
        (Way::Miss, _) => HeaderValue::from_static("longshore; fwd=miss"),
        (Way::Reload, _) => HeaderValue::from_static("longshore; fwd=request"),
        (Way::Collapsed, _) => HeaderValue::from_static("longshore; fwd=miss; collapsed"),
        (Way::Past, _) => HeaderValue::from_static("longshore; fwd=bypass"),
    };
    // Appended: a cache nearer to the instance has told before.
    headers.append(CACHE_STATUS, value);
}

#[cfg(test)]
mod tests {
    use super::super::asked::Asked;
    use super::*;
    use http::Method;

    fn stored(fields: &[(&'static str, &'static str)]) -> Stored {
        let headers =
            fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Stored {
            status: StatusCode::OK,
            headers,
            spelling: Default::default(),
            body: Bytes::from_static(b"body"),
            id: Id::default(),
            vary: Vec::new(),
            age: Duration::from_secs(5),
            since: Time::from_nanos(1_000_000_000),
            until: Time::from_nanos(11_000_000_000),
        }
    }

    fn ask(stored: &Stored, method: Method, fields: &[(&'static str, &'static str)]) -> Response<Bytes> {
        let headers: HeaderMap =
            fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let Asked::Shared(terms) = Asked::of(&method, &headers) else { panic!("{fields:?}") };
        stored.answer(&terms, &headers, Way::Hit, Time::from_nanos(4_000_000_000))
    }

    #[test]
    fn an_answer_tells_its_age_and_where_it_comes_from() {
        let stored = stored(&[("content-type", "text/plain"), ("cache-status", "inner; hit")]);
        let reply = ask(&stored, Method::GET, &[]);
        assert_eq!((reply.status().as_u16(), &reply.body()[..]), (200, &b"body"[..]));
        assert_eq!(reply.headers()["age"], "8");
        let told: Vec<_> = reply.headers().get_all(CACHE_STATUS).iter().collect();
        assert_eq!(told, ["inner; hit", "longshore; hit; ttl=7"]);
        assert!(ask(&stored, Method::HEAD, &[]).body().is_empty());
    }

    #[test]
    fn a_client_that_has_it_is_told_so() {
        let stored = stored(&[
            ("etag", "\"a,b\""),
            ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("content-type", "x/y"),
        ]);
        for (fields, status) in [
            (&[("if-none-match", "\"a,b\"")][..], 304),
            (&[("if-none-match", "\"x\", W/\"a,b\"")], 304),
            (&[("if-none-match", "*")], 304),
            (&[("if-none-match", "\"a\"")], 200),
            (&[("if-none-match", "\"x\""), ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")], 200),
            (&[("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")], 304),
            (&[("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")], 200),
            (&[("if-modified-since", "yesterday")], 200),
        ] {
            let reply = ask(&stored, Method::GET, fields);
            assert_eq!(reply.status().as_u16(), status, "{fields:?}");
            assert_eq!(reply.body().is_empty(), status == 304, "{fields:?}");
            assert_eq!(reply.headers().contains_key("content-type"), status == 200);
            assert!(reply.headers().contains_key("etag"));
        }
    }

    #[test]
    fn a_client_says_how_old_an_answer_may_be() {
        let stored = stored(&[]);
        for (control, accepted) in [
            ("max-age=8", true),
            ("max-age=7", false),
            ("min-fresh=7", true),
            ("min-fresh=8", false),
            ("no-cache", false),
            ("max-stale=9", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(control));
            let Asked::Shared(terms) = Asked::of(&Method::GET, &headers) else { panic!("{control}") };
            assert_eq!(terms.accept(&stored, Time::from_nanos(4_000_000_000)), accepted, "{control}");
        }
    }
}
