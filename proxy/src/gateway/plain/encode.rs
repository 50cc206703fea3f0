//! The head of a request, as bytes (RFC 9112, sections 3 and 5).

use http::{HeaderMap, Method, Uri};

/// Writes the head of a request whose body is `length` bytes long. `headers` have no framing fields of their own.
pub fn head(out: &mut Vec<u8>, method: &Method, target: &Uri, headers: &HeaderMap, length: u64) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.path_and_query().map_or("/", |target| target.as_str()).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if length > 0 || expects_content(method) {
        out.extend_from_slice(b"content-length: ");
        out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Methods whose content is said to be empty where it is (RFC 9110, 8.6): some servers ask for it otherwise.
fn expects_content(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_what_the_standard_says() {
        let mut headers = HeaderMap::new();
        headers.append("host", "calc".parse().unwrap());
        headers.append("x-twice", "1".parse().unwrap());
        headers.append("x-twice", "2".parse().unwrap());
        for (method, target, length, expected) in [
            (Method::GET, "/add/3/4?x=1", 0, "GET /add/3/4?x=1 HTTP/1.1\r\n{}\r\n"),
            (Method::OPTIONS, "*", 0, "OPTIONS * HTTP/1.1\r\n{}\r\n"),
            (Method::DELETE, "/", 0, "DELETE / HTTP/1.1\r\n{}\r\n"),
            (Method::DELETE, "/", 3, "DELETE / HTTP/1.1\r\n{}content-length: 3\r\n\r\n"),
            (Method::POST, "/", 0, "POST / HTTP/1.1\r\n{}content-length: 0\r\n\r\n"),
            (Method::PUT, "/a", 70_000, "PUT /a HTTP/1.1\r\n{}content-length: 70000\r\n\r\n"),
        ] {
            let mut out = Vec::new();
            head(&mut out, &method, &target.parse().unwrap(), &headers, length);
            let fields = "host: calc\r\nx-twice: 1\r\nx-twice: 2\r\n";
            assert_eq!(String::from_utf8(out).unwrap(), expected.replace("{}", fields));
        }
    }
}
