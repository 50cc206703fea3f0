//! Values of fields that are lists of words, or a number (RFC 9110, 5.6.1 and 8.6).

use http::header::{HeaderMap, HeaderName};

/// The items of a list, without the spaces around them; empty ones included.
pub fn items(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Whether a list has this word, in whatever case.
pub fn has(list: &[u8], word: &[u8]) -> bool {
    items(list).any(|item| item.eq_ignore_ascii_case(word))
}

/// Whether one of the lists of this name has this word.
pub fn any_has(headers: &HeaderMap, name: HeaderName, word: &[u8]) -> bool {
    headers.get_all(name).iter().any(|list| has(list.as_bytes(), word))
}

/// The names of fields that the lists of this name hold.
pub fn names(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = HeaderName> {
    let lists = headers.get_all(name).into_iter();
    lists.flat_map(|list| items(list.as_bytes())).filter_map(|item| HeaderName::from_bytes(item).ok())
}

/// Whether a `Connection` says nothing but how long it lasts: it names no other field.
pub fn names_nothing(list: &[u8]) -> bool {
    items(list).all(|item| item.eq_ignore_ascii_case(b"close") || item.eq_ignore_ascii_case(b"keep-alive"))
}

/// A number of bytes: digits and nothing else, no sign, no list, no more than 64 bits.
pub fn length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_whatever_is_around_them() {
        for (list, closes, nothing) in [
            ("close", true, true),
            ("Close", true, true),
            ("keep-alive ,\tCLOSE", true, true),
            ("x-own, close", true, false),
            ("closed", false, false),
            ("clo se", false, false),
            ("", false, false),
            ("keep-alive", false, true),
        ] {
            assert_eq!(
                (has(list.as_bytes(), b"close"), names_nothing(list.as_bytes())),
                (closes, nothing),
                "{list:?}"
            );
        }
    }

    #[test]
    fn names_are_those_of_all_lists() {
        let mut headers = HeaderMap::new();
        for list in ["a, B", "", "no name,c"] {
            headers.append(http::header::TRAILER, list.parse().unwrap());
        }
        let names: Vec<_> = names(&headers, http::header::TRAILER).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert!(any_has(&headers, http::header::TRAILER, b"C"));
        assert!(!any_has(&headers, http::header::TE, b"c"));
    }

    #[test]
    fn a_length_is_digits() {
        for (value, expected) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1 ", None),
            ("1,1", None),
            ("0x1", None),
            ("١", None),
        ] {
            assert_eq!(length(value.as_bytes()), expected, "{value:?}");
        }
    }
}
