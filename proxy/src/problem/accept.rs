//! What a client would rather have: a page, or problem details (RFC 9110, 12.5.1).

use http::{HeaderMap, header};

/// How well a media type is liked, in thousandths, and where the range that says so stands in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Liking {
    /// 0 for any type, 1 for a type with any subtype, 2 for this very one.
    exactness: u8,
    weight: u16,
    place: usize,
}

/// Whether a client would rather have HTML than JSON. One that takes anything, or says nothing, gets JSON: it is no
/// browser.
pub fn prefers_html(asked: &HeaderMap) -> bool {
    let fields = asked.get_all(header::ACCEPT).into_iter().filter_map(|field| field.to_str().ok());
    let ranges: Vec<&str> = fields.flat_map(|field| field.split(',')).map(str::trim).collect();
    let best = |types: &[(&str, &str)]| {
        let likings = types.iter().filter_map(|(kind, sub)| liking(&ranges, kind, sub));
        likings.max_by_key(|liking| (liking.weight, liking.exactness, std::cmp::Reverse(liking.place)))
    };
    let html = best(&[("text", "html"), ("application", "xhtml+xml")]);
    let json = best(&[("application", "problem+json"), ("application", "json")]);
    match (html, json) {
        (Some(html), _) if html.weight == 0 => false,
        (Some(html), Some(json)) if html.weight == json.weight => {
            html.exactness > json.exactness || html.exactness == 2 && html.place < json.place
        }
        (Some(html), Some(json)) => html.weight > json.weight,
        (Some(html), None) => html.exactness > 0,
        (None, _) => false,
    }
}

/// What the most exact range that matches says.
fn liking(ranges: &[&str], kind: &str, sub: &str) -> Option<Liking> {
    let of = |(place, range): (usize, &&str)| {
        let mut parts = range.split(';').map(str::trim);
        let (range_kind, range_sub) = parts.next()?.split_once('/')?;
        let exactness = match (range_kind, range_sub) {
            ("*", "*") => 0,
            (own, "*") if own.eq_ignore_ascii_case(kind) => 1,
            (own, subtype) if own.eq_ignore_ascii_case(kind) && subtype.eq_ignore_ascii_case(sub) => 2,
            (_, _) => return None,
        };
        let weight =
            parts.find_map(|part| part.strip_prefix(['q', 'Q'])?.strip_prefix('=')).map_or(1000, weight);
        Some(Liking { exactness, weight, place })
    };
    ranges
        .iter()
        .enumerate()
        .filter_map(of)
        .max_by_key(|liking| (liking.exactness, std::cmp::Reverse(liking.place)))
}

/// A weight in thousandths; what is none counts as 1, as if it were not there.
fn weight(text: &str) -> u16 {
    let weight = text.trim().parse::<f64>().ok().filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(1.0);
    (weight * 1000.0).round() as u16
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_page_is_for_whom_prefers_one() {
        for (accept, html) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", true),
            ("text/html", true),
            ("TEXT/HTML; charset=utf-8", true),
            ("text/*", true),
            ("application/xhtml+xml", true),
            ("*/*", false),
            ("", false),
            ("nonsense", false),
            ("application/json", false),
            ("application/json, text/plain, */*", false),
            ("text/html;q=0.5, application/json", false),
            ("text/html;q=0.5, application/json;q=0.4", true),
            ("application/json;q=0.5, text/html;q=0.500", false),
            ("text/html, application/json", true),
            ("application/json, text/html", false),
            ("application/problem+json, text/html;q=0.9", false),
            ("text/html;q=0", false),
            ("text/html;q=0, */*", false),
            ("text/html;q=0.3, */*;q=0.8", false),
            ("text/html, */*", true),
            ("image/png", false),
            ("text/html;level=1;q=0.2, application/*;q=0.1", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
            assert_eq!(prefers_html(&headers), html, "{accept}");
        }
        let mut two = HeaderMap::new();
        two.append(header::ACCEPT, HeaderValue::from_static("application/json;q=0.1"));
        two.append(header::ACCEPT, HeaderValue::from_static("text/html;q=0.2"));
        assert!(prefers_html(&two), "two fields are one list");
        assert!(!prefers_html(&HeaderMap::new()));
    }
}
