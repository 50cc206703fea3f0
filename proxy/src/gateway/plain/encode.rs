//! The head of a request, as bytes (RFC 9112, sections 3 and 5).

use super::Request;
use crate::gateway::trace_context::TRACEPARENT;

/// Writes the head of a request whose body is `length` bytes long. Among its fields are none of framing, but for the
/// length of an empty body.
pub(super) fn head(out: &mut Vec<u8>, request: &Request<'_>, length: u64) {
    let Request { method, target, headers, spelling, .. } = *request;
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    let target = target.path_and_query().map_or("/", |target| target.as_str());
    if target.starts_with('?') {
        // Of a whole URI without a path, the path is this (RFC 9112, 3.2.1).
        out.push(b'/');
    }
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    spelling.each(headers, |name, spelled, value| {
        let value = request.traceparent.filter(|_| *name == TRACEPARENT).unwrap_or(value);
        out.extend_from_slice(spelled);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    });
    // An empty body has a length where the client has said so: that is among the fields.
    if length > 0 {
        out.extend_from_slice(spelling.name("content-length"));
        out.extend_from_slice(b": ");
        out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn a_head_is_what_the_standard_says() {
        let mut headers = http::HeaderMap::new();
        headers.append(TRACEPARENT, "theirs".parse().unwrap());
        headers.append("host", "calc".parse().unwrap());
        headers.append("x-twice", "1".parse().unwrap());
        headers.append("x-twice", "2".parse().unwrap());
        for (method, target, length, expected) in [
            (Method::GET, "/add/3/4?x=1", 0, "GET /add/3/4?x=1 HTTP/1.1\r\n{}\r\n"),
            (Method::OPTIONS, "*", 0, "OPTIONS * HTTP/1.1\r\n{}\r\n"),
            (Method::DELETE, "/", 0, "DELETE / HTTP/1.1\r\n{}\r\n"),
            (Method::DELETE, "/", 3, "DELETE / HTTP/1.1\r\n{}content-length: 3\r\n\r\n"),
            (Method::POST, "/", 0, "POST / HTTP/1.1\r\n{}\r\n"),
            (Method::GET, "http://calc?x", 0, "GET /?x HTTP/1.1\r\n{}\r\n"),
            (Method::PUT, "/a", 70_000, "PUT /a HTTP/1.1\r\n{}content-length: 70000\r\n\r\n"),
        ] {
            let mut out = Vec::new();
            let (ours, target) = (http::HeaderValue::from_static("ours"), target.parse().unwrap());
            let (method, target, headers, traceparent) = (&method, &target, &headers, Some(&ours));
            let spelling = &crate::gateway::spelling::Spelling::default();
            let request = Request {
                method,
                target,
                headers,
                spelling,
                traceparent,
                body: None,
                hold: 0,
                interim: None,
                as_it_comes: false,
            };
            head(&mut out, &request, length);
            let fields = "traceparent: ours\r\nhost: calc\r\nx-twice: 1\r\nx-twice: 2\r\n";
            assert_eq!(String::from_utf8(out).unwrap(), expected.replace("{}", fields));
        }
    }
}
