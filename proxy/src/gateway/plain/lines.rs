//! The fields of an answer as lines that a client of HTTP/1.1 can be sent as they came: nobody has to take them apart and
//! put them together again.

/// Room for the lines that Longshore adds, in bytes.
const ADDED: usize = 256;

/// The lines, without those that are about the connection alone; `None` if there is one among them that needs a look.
pub(super) fn of(response: &httparse::Response<'_, '_>, head: &[u8]) -> Option<Vec<u8>> {
    let mut lines = Vec::with_capacity(head.len() + ADDED);
    for field in response.headers.iter().filter(|field| !super::parse::is_of_connection(field)) {
        if is_looked_at(field.name) {
            return None;
        }
        let rest = head.get(field.name.as_ptr() as usize - head.as_ptr() as usize..)?;
        // One that ends in a line feed alone is not a line of ours.
        let line = rest.get(..=memchr::memchr(b'\n', rest)?).filter(|line| line.ends_with(b"\r\n"))?;
        lines.extend_from_slice(line);
    }
    Some(lines)
}

/// Whether a field is not just passed on: one of the hop's, or one that Longshore writes.
fn is_looked_at(name: &str) -> bool {
    const LOOKED_AT: [&str; 8] = [
        "te",
        "upgrade",
        "connection",
        "x-request-id",
        "proxy-connection",
        "transfer-encoding",
        "longshore-instance",
        "longshore-attempts",
    ];
    matches!(name.len(), 2 | 7 | 10 | 12 | 16 | 17 | 18)
        && LOOKED_AT.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(fields: &str) -> Option<String> {
        let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let mut parsed = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut parsed);
        assert!(response.parse(head.as_bytes()).unwrap().is_complete());
        of(&response, head.as_bytes()).map(|lines| String::from_utf8(lines).unwrap())
    }

    #[test]
    fn lines_are_as_they_came() {
        for (fields, expected) in [
            ("", ""),
            ("ETag: \"1\"\r\nx-B:1\r\nX-Empty:\r\n", "ETag: \"1\"\r\nx-B:1\r\nX-Empty:\r\n"),
            ("A: 1 \t\r\n", "A: 1 \t\r\n"),
            ("A: 1\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nB: 2\r\n", "A: 1\r\nB: 2\r\n"),
            ("Set-Cookie: a\r\nA: 1\r\nset-cookie: b\r\n", "Set-Cookie: a\r\nA: 1\r\nset-cookie: b\r\n"),
        ] {
            assert_eq!(lines(fields).as_deref(), Some(expected), "{fields:?}");
        }
    }

    #[test]
    fn what_needs_a_look_is_not_passed_as_it_is() {
        for fields in [
            "Connection: x-own\r\nX-Own: 1\r\n",
            "Proxy-Connection: keep-alive\r\n",
            "TE: trailers\r\n",
            "X-Request-ID: theirs\r\n",
            "Longshore-Attempts: 7\r\n",
            "Longshore-Instance: me\r\n",
            // Lines that end otherwise.
            "A: 1\nB: 2\r\n",
        ] {
            assert_eq!(lines(fields), None, "{fields:?}");
        }
    }
}
