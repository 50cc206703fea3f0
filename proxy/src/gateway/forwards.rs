//! `Max-Forwards`: how many proxies an OPTIONS or a TRACE may still pass, and the answer of the last one
//! (RFC 9110, 7.6.2, 9.3.7 and 9.3.8).

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response};

/// What is not sent back: it is nobody's business but the server's that it was meant for.
const SECRET: [HeaderName; 3] = [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE];

/// What a service may be asked by, as far as the proxy knows: whatever its instances understand.
pub const ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Counts this proxy. Returns the answer where it is the last one that is asked.
pub fn count(parts: &mut Parts) -> Option<Response<Bytes>> {
    if parts.method != Method::OPTIONS && parts.method != Method::TRACE {
        return None;
    }
    // What is no number limits nothing.
    let left: u64 = parts.headers.get(header::MAX_FORWARDS)?.to_str().ok()?.trim().parse().ok()?;
    match left.checked_sub(1) {
        Some(left) => {
            parts.headers.insert(header::MAX_FORWARDS, HeaderValue::from(left));
            None
        }
        None if parts.method == Method::TRACE => Some(reflected(parts)),
        None => {
            let mut response = Response::new(Bytes::new());
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(ALLOWED));
            Some(response)
        }
    }
}

/// The request as it came here.
fn reflected(parts: &Parts) -> Response<Bytes> {
    let mut text = format!("{} {} {:?}\r\n", parts.method, parts.uri, parts.version).into_bytes();
    for (name, value) in parts.headers.iter().filter(|(name, _)| !SECRET.contains(name)) {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    let mut response = Response::new(Bytes::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("message/http"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: Method, forwards: &str) -> Parts {
        let request = http::Request::builder().method(method).uri("/a").header("max-forwards", forwards);
        request.header("cookie", "secret").header("x-own", "1").body(()).unwrap().into_parts().0
    }

    #[test]
    fn each_proxy_counts_and_the_last_one_answers() {
        for (method, forwards, left) in [
            (Method::OPTIONS, "7", Some("6")),
            (Method::OPTIONS, "1", Some("0")),
            (Method::OPTIONS, "0", None),
            (Method::TRACE, "1", Some("0")),
            (Method::TRACE, "0", None),
            (Method::GET, "0", Some("0")),
            (Method::OPTIONS, "many", Some("many")),
            (Method::OPTIONS, "-1", Some("-1")),
        ] {
            let mut parts = parts(method.clone(), forwards);
            let answer = count(&mut parts);
            assert_eq!(answer.is_none(), left.is_some(), "{method} {forwards}");
            if let Some(left) = left {
                assert_eq!(parts.headers["max-forwards"], left, "{method} {forwards}");
            }
        }
    }

    #[test]
    fn a_trace_shows_what_came_but_no_secrets() {
        let shown = count(&mut parts(Method::TRACE, "0")).unwrap();
        assert_eq!(shown.headers()["content-type"], "message/http");
        assert_eq!(shown.body(), "TRACE /a HTTP/1.1\r\nmax-forwards: 0\r\nx-own: 1\r\n\r\n");
        assert!(count(&mut parts(Method::OPTIONS, "0")).unwrap().headers().contains_key("allow"));
    }
}
