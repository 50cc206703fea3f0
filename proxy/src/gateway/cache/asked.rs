//! What a request allows, and what it is known by.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};
use sha2::{Digest as _, Sha256};

use super::directives::Directives;
use super::stored::Stored;
use crate::gateway::keys::X_API_KEY;
use longshore_pool::Time;

/// What identical requests have in common: SHA-256, so that nobody makes two that differ look the same.
pub type Id = [u8; 32];

/// Whether a request has to do with a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It may get a shared answer.
    Shared(Terms),
    /// It goes past the cache.
    Past,
    /// It goes past, and changes things if it is answered well: what is kept of its target is no more then.
    Changes,
}

/// On what terms a request takes a shared answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// It wants no body.
    pub is_head: bool,
    /// It would be content with less than an answer, if nothing has changed.
    pub is_conditional: bool,
    /// It says who asks: its answer is shared only if it says that it may be.
    pub is_personal: bool,
    /// It wants what is there, or nothing.
    pub only_if_cached: bool,
    /// It wants a new answer.
    reload: bool,
    max_age: Option<u64>,
    min_fresh: Option<u64>,
}

/// Fields that make an answer a part of something, or the request a condition for a change.
const PARTS: [HeaderName; 4] =
    [header::RANGE, header::IF_RANGE, header::IF_MATCH, header::IF_UNMODIFIED_SINCE];

impl Asked {
    /// Of a request with this method and these fields.
    pub fn of(method: &Method, headers: &HeaderMap) -> Self {
        match *method {
            Method::GET | Method::HEAD | Method::POST => {}
            Method::PUT | Method::PATCH | Method::DELETE => return Self::Changes,
            _ => return Self::Past,
        }
        let directives = Directives::of(headers);
        let is_call = headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        let past = directives.no_store
            || is_call
            || headers.contains_key(header::UPGRADE)
            || PARTS.iter().any(|name| headers.contains_key(name));
        if past {
            return Self::Past;
        }
        let pragma = headers
            .get(header::PRAGMA)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"no-cache"));
        Self::Shared(Terms {
            is_head: method == Method::HEAD,
            is_conditional: headers.contains_key(header::IF_NONE_MATCH)
                || headers.contains_key(header::IF_MODIFIED_SINCE),
            is_personal: headers.contains_key(header::AUTHORIZATION) || headers.contains_key(X_API_KEY),
            only_if_cached: directives.only_if_cached,
            reload: directives.no_cache || (pragma && !headers.contains_key(header::CACHE_CONTROL)),
            max_age: directives.max_age,
            min_fresh: directives.min_fresh,
        })
    }
}

impl Terms {
    /// Whether an answer that is kept will do. Who says who asks gets one that says that it is for everybody: what nobody in
    /// particular was told may be less.
    pub fn accept(&self, stored: &Stored, now: Time) -> bool {
        let (age, left) = (stored.age(now), stored.fresh_for(now));
        let is_for_us = !self.is_personal || Directives::of(&stored.headers).is_for_everybody();
        !self.reload
            && is_for_us
            && !left.is_zero()
            && self.max_age.is_none_or(|most| age.as_secs() <= most && most > 0)
            && self.min_fresh.is_none_or(|least| left.as_secs() >= least)
    }

    /// Whether nobody else may wait for its answer, because it may turn out to be for this one only.
    pub fn for_one(&self) -> bool {
        let wants_new = self.reload || self.max_age == Some(0);
        self.is_personal || self.is_head || self.is_conditional || wants_new
    }
}

/// What a request is known by. `HEAD` is `GET` without a body.
pub struct Known(Sha256);

impl Known {
    /// Of a request without a body so far.
    pub fn of(method: &Method, target: &Uri, headers: &HeaderMap) -> Self {
        let mut known = Self(Sha256::new());
        known.add(if method == Method::HEAD { b"GET" } else { method.as_str().as_bytes() });
        known.add(
            &headers.get(header::HOST).map(|host| host.as_bytes().to_ascii_lowercase()).unwrap_or_default(),
        );
        known.add(target.path().as_bytes());
        known.add(target.query().unwrap_or_default().as_bytes());
        // Whether there is a query at all, too.
        known.add(if target.query().is_some() { b"?" } else { b"" });
        known
    }

    /// It has a body, which is of this kind.
    pub fn kind(&mut self, headers: &HeaderMap) {
        for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING] {
            self.add(headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default());
        }
    }

    /// A piece of its body, which is the last thing to be added.
    pub fn body(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// All of it.
    pub fn id(self) -> Id {
        self.0.finalize().into()
    }

    /// With its length, so that no two parts run into each other.
    fn add(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
    }
}

/// What a request is known by among those that differ in the fields that answers vary by.
pub fn variant(id: Id, names: &[HeaderName], headers: &HeaderMap) -> Id {
    let mut known = Known(Sha256::new());
    known.add(&id);
    for name in names {
        let values = headers.get_all(name);
        known.add(&(values.iter().count() as u64).to_be_bytes());
        values.iter().for_each(|value| known.add(value.as_bytes()));
    }
    known.id()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| -> (HeaderName, HeaderValue) {
            (name.parse().unwrap(), value.parse().unwrap())
        };
        fields.iter().map(pair).collect()
    }

    #[test]
    fn some_requests_go_past_a_cache() {
        for (method, fields, asked) in [
            (Method::PUT, &[][..], Asked::Changes),
            (Method::DELETE, &[], Asked::Changes),
            (Method::OPTIONS, &[], Asked::Past),
            (Method::GET, &[("range", "bytes=0-1")], Asked::Past),
            (Method::GET, &[("if-range", "\"x\"")], Asked::Past),
            (Method::POST, &[("if-match", "*")], Asked::Past),
            (Method::GET, &[("cache-control", "no-store")], Asked::Past),
            (Method::GET, &[("upgrade", "websocket")], Asked::Past),
            (Method::POST, &[("content-type", "application/grpc+proto")], Asked::Past),
        ] {
            assert_eq!(Asked::of(&method, &headers(fields)), asked, "{method} {fields:?}");
        }
        for (fields, for_one) in [
            (&[][..], false),
            (&[("cookie", "a=b")], false),
            (&[("authorization", "Basic x")], true),
            (&[("x-api-key", "x")], true),
            (&[("if-none-match", "\"x\"")], true),
            (&[("cache-control", "no-cache")], true),
            (&[("cache-control", "max-age=0")], true),
            (&[("pragma", "no-cache")], true),
            (&[("pragma", "no-cache"), ("cache-control", "max-age=9")], false),
        ] {
            let Asked::Shared(terms) = Asked::of(&Method::GET, &headers(fields)) else {
                panic!("{fields:?}")
            };
            assert_eq!(terms.for_one(), for_one, "{fields:?}");
        }
    }

    #[test]
    fn requests_are_the_same_in_all_that_counts_or_not_at_all() {
        let id = |method: &str, target: &'static str, host: &str, body: Option<(&str, &[u8])>| {
            let kind = body.map_or("", |(kind, _)| kind);
            let headers = headers(&[("host", host), ("content-type", kind)]);
            let mut known = Known::of(&method.parse().unwrap(), &Uri::from_static(target), &headers);
            if let Some((_, body)) = body {
                known.kind(&headers);
                known.body(body);
            }
            known.id()
        };
        let first = id("GET", "/a?x=1", "calc", None);
        assert_eq!(first, id("GET", "/a?x=1", "CALC", None));
        assert_eq!(first, id("HEAD", "/a?x=1", "calc", None));
        let others = [
            id("POST", "/a?x=1", "calc", None),
            id("GET", "/a?x=2", "calc", None),
            id("GET", "/a", "calc", None),
            id("GET", "/a?", "calc", None),
            id("GET", "/a?x=1", "other", None),
            id("POST", "/a?x=1", "calc", Some(("text/plain", b"x"))),
            id("POST", "/a?x=1", "calc", Some(("text/plain", b"y"))),
            id("POST", "/a?x=1", "calc", Some(("text/html", b"x"))),
        ];
        let mut all: Vec<Id> = others.to_vec();
        all.push(first);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), others.len() + 1);
        let by = [header::ACCEPT];
        let of = |fields: &[(&str, &str)]| variant(first, &by, &headers(fields));
        assert_eq!(of(&[("accept", "a"), ("x", "1")]), of(&[("accept", "a"), ("x", "2")]));
        assert_ne!(of(&[("accept", "a")]), of(&[("accept", "b")]));
        assert_ne!(of(&[("accept", "a")]), of(&[]));
        assert_ne!(of(&[]), of(&[("accept", "")]));
    }
}
