//! How the names of a message's fields were spelled, and in which order they came. A field's name means the same in any
//! case (RFC 9110, 5.1), and the order of fields of different names means nothing; but there are programs that look.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The lines that a head came in; none where it came over HTTP/2, or was made here.
#[derive(Clone, Debug, Default)]
pub struct Spelling(Bytes);

impl Spelling {
    /// Of a head, as it came: start line and fields.
    pub const fn of(head: Bytes) -> Self {
        Self(head)
    }

    /// How long the head was, in bytes.
    pub const fn length(&self) -> usize {
        self.0.len()
    }

    /// Gives the fields one by one, each spelled as it came, in the order in which they came; those that did not come
    /// follow.
    pub fn each<'h>(
        &'h self,
        headers: &'h HeaderMap,
        mut give: impl FnMut(&HeaderName, &'h [u8], &'h HeaderValue),
    ) {
        if headers.len() == headers.keys_len() {
            // A map keeps the order of its names: one look at each line is enough.
            let mut lines = Lines::of(&self.0);
            for (name, value) in headers {
                let spelled = lines.find(name.as_str()).or_else(|| {
                    // From here on come those that did not come.
                    lines.0 = &[];
                    self.rewritten(name)
                });
                give(name, spelled.unwrap_or_else(|| name.as_str().as_bytes()), value);
            }
        } else {
            self.each_of_many(headers, give);
        }
    }

    /// How one name was spelled.
    pub fn name(&self, name: &'static str) -> &[u8] {
        Lines::of(&self.0).find(name).unwrap_or(name.as_bytes())
    }

    /// The same of a field that every hop writes anew, which puts it behind the others.
    fn rewritten(&self, name: &HeaderName) -> Option<&[u8]> {
        if !matches!(name.as_str().len(), 2 | 7 | 10 | 14 | 17) {
            return None;
        }
        let known = REWRITTEN.iter().find(|known| name == *known)?;
        Lines::of(&self.0).find(known)
    }

    /// The same where a name has several values, which a map gives one after the other.
    fn each_of_many<'h>(
        &'h self,
        headers: &'h HeaderMap,
        mut give: impl FnMut(&HeaderName, &'h [u8], &'h HeaderValue),
    ) {
        let mut rest: Vec<_> = headers.keys().map(|name| (name, headers.get_all(name).iter())).collect();
        for spelled in Lines::of(&self.0) {
            let known = |name: &HeaderName| spelled.eq_ignore_ascii_case(name.as_str().as_bytes());
            if let Some((name, values)) = rest.iter_mut().find(|(name, _)| known(name))
                && let Some(value) = values.next()
            {
                give(name, spelled, value);
            }
        }
        for (name, values) in rest {
            values.for_each(|value| give(name, name.as_str().as_bytes(), value));
        }
    }
}

/// What every hop writes anew.
const REWRITTEN: [&str; 5] = ["content-length", "transfer-encoding", "connection", "upgrade", "te"];

/// The lines of fields that are left.
struct Lines<'h>(&'h [u8]);

impl<'h> Lines<'h> {
    fn of(head: &'h [u8]) -> Self {
        let mut lines = Self(head);
        // Empty lines may come before the first.
        while lines.0.first().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
            lines.leave();
        }
        lines.leave();
        lines
    }

    fn leave(&mut self) {
        let end = memchr::memchr(b'\n', self.0).map_or(self.0.len(), |at| at + 1);
        self.0 = self.0.get(end..).unwrap_or_default();
    }

    /// This name as it is spelled, if there is a line of it; the lines before that are left behind.
    fn find(&mut self, name: &str) -> Option<&'h [u8]> {
        let name = name.as_bytes();
        let mut ahead = Self(self.0);
        while !ahead.0.is_empty() {
            let line = ahead.0;
            ahead.leave();
            let spelled = line.get(..name.len()).filter(|spelled| spelled.eq_ignore_ascii_case(name));
            if spelled.is_some() && line.get(name.len()) == Some(&b':') {
                self.0 = ahead.0;
                return spelled;
            }
        }
        None
    }
}

impl<'h> Iterator for Lines<'h> {
    type Item = &'h [u8];

    fn next(&mut self) -> Option<&'h [u8]> {
        let end = memchr::memchr2(b':', b'\n', self.0)?;
        let name = self.0.get(..end).filter(|_| self.0.get(end) == Some(&b':'));
        self.leave();
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(head: &'static str, fields: &[(&'static str, &'static str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let mut text = String::new();
        Spelling::of(Bytes::from_static(head.as_bytes())).each(&headers, |name, spelled, value| {
            let spelled = std::str::from_utf8(spelled).unwrap();
            assert!(spelled.eq_ignore_ascii_case(name.as_str()));
            text.push_str(&format!("{spelled}={} ", value.to_str().unwrap()));
        });
        text
    }

    #[test]
    fn fields_are_spelled_and_ordered_as_they_came() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\nx-LOW: 1\r\nAccept: b\r\n\r\n";
        for (head, fields, expected) in [
            (head, &[("host", "a"), ("x-low", "1"), ("accept", "b")][..], "Host=a x-LOW=1 Accept=b "),
            (head, &[("host", "new"), ("accept", "b"), ("via", "v")], "Host=new Accept=b via=v "),
            ("", &[("host", "a"), ("x", "1"), ("x", "2")], "host=a x=1 x=2 "),
            ("\r\n\nGET / HTTP/1.1\nHost: a\nX: 1\n\n", &[("host", "a"), ("x", "1")], "Host=a X=1 "),
            // The value of one looks like another.
            ("GET / HTTP/1.1\r\nX: accept:\r\nACCEPT: b\r\n\r\n", &[("accept", "b")], "ACCEPT=b "),
            (
                "GET / HTTP/1.1\r\nTE: trailers\r\nX: 1\r\nVIA: v\r\n\r\n",
                &[("x", "1"), ("via", "v"), ("te", "t")],
                "X=1 VIA=v TE=t ",
            ),
            ("GET / HTTP/1.1\r\nAccept-Language: b\r\nAccept: c\r\n\r\n", &[("accept", "c")], "Accept=c "),
        ] {
            assert_eq!(given(head, fields), expected, "{head:?} {fields:?}");
        }
    }

    #[test]
    fn several_of_a_name_keep_their_places_among_the_others() {
        let head = "GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\na: 3\r\nC: 4\r\nA: 5\r\n\r\n";
        for (fields, expected) in [
            (&[("a", "1"), ("a", "3"), ("a", "5"), ("b", "2"), ("c", "4")][..], "A=1 B=2 a=3 C=4 A=5 "),
            (&[("a", "1"), ("a", "3"), ("c", "4")], "A=1 a=3 C=4 "),
            (&[("a", "1, 3, 5"), ("b", "2"), ("d", "6"), ("d", "7")], "A=1, 3, 5 B=2 d=6 d=7 "),
            (&[("a", "1"), ("a", "3"), ("a", "5"), ("a", "8"), ("b", "2")], "A=1 B=2 a=3 A=5 a=8 "),
        ] {
            assert_eq!(given(head, fields), expected, "{fields:?}");
        }
    }
}
