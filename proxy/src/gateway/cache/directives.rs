//! `Cache-Control` (RFC 9111, 5.2), of requests and answers.

use http::header::{self, HeaderMap};

/// What it says, as far as a shared cache acts on it. A directive that is limited to some fields counts for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    pub no_store: bool,
    pub no_cache: bool,
    pub private: bool,
    pub public: bool,
    pub must_revalidate: bool,
    pub only_if_cached: bool,
    /// Seconds; of several the smallest.
    pub max_age: Option<u64>,
    pub s_maxage: Option<u64>,
    pub min_fresh: Option<u64>,
}

impl Directives {
    /// Of a message.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut out = Self::default();
        for field in headers.get_all(header::CACHE_CONTROL) {
            for directive in field.as_bytes().split(|byte| *byte == b',') {
                out.add(&String::from_utf8_lossy(directive).trim().to_ascii_lowercase());
            }
        }
        out
    }

    /// Whether an answer says that whoever asks may have it, also who says who asks (RFC 9111, 3.5).
    pub const fn is_for_everybody(&self) -> bool {
        self.public || self.s_maxage.is_some() || self.must_revalidate
    }

    fn add(&mut self, directive: &str) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim_end() {
            "no-store" => self.no_store = true,
            "no-cache" => self.no_cache = true,
            "private" => self.private = true,
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "only-if-cached" => self.only_if_cached = true,
            "max-age" => smallest(&mut self.max_age, value),
            "s-maxage" => smallest(&mut self.s_maxage, value),
            "min-fresh" => smallest(&mut self.min_fresh, value),
            _ => {}
        }
    }
}

/// What is no number of seconds is none at all (RFC 9111, 4.2.1); more than fits is for ever.
fn smallest(place: &mut Option<u64>, value: &str) {
    let value = value.trim().trim_matches('"');
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = if digits { value.parse().unwrap_or(u64::MAX) } else { 0 };
    *place = Some(place.map_or(seconds, |known| known.min(seconds)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_read_over_several_fields_in_any_case() {
        let mut headers = HeaderMap::new();
        headers.append(header::CACHE_CONTROL, "Max-Age=60, PUBLIC".parse().unwrap());
        headers.append(
            header::CACHE_CONTROL,
            "private=\"set-cookie, x\" , max-age=\"5\",s-maxage=x".parse().unwrap(),
        );
        let expected = Directives {
            private: true,
            public: true,
            max_age: Some(5),
            s_maxage: Some(0),
            ..Directives::default()
        };
        assert_eq!(Directives::of(&headers), expected);
        let mut other = HeaderMap::new();
        other.insert(
            header::CACHE_CONTROL,
            "no-store,no-cache,must-revalidate,only-if-cached,min-fresh=3".parse().unwrap(),
        );
        let all = Directives::of(&other);
        assert!(all.no_store && all.no_cache && all.must_revalidate && all.only_if_cached);
        assert_eq!(all.min_fresh, Some(3));
        assert_eq!(Directives::of(&HeaderMap::new()), Directives::default());
    }
}
