//! The head of a request: what was asked, and where its content ends (RFC 9112, sections 3 to 6).

use std::borrow::Cow;
use std::mem::MaybeUninit;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Uri, Version};

use super::decode::{Chunks, Decoder};
use crate::config::Limits;
use crate::gateway::headers::keep;
use crate::gateway::spelling::Spelling;
use crate::gateway::{buffers, lists};
use crate::problem::Problem;

/// Room for the fields that Longshore adds to a request.
const ADDED: usize = 12;

/// A longer target is refused, whatever a header may take.
const MAX_TARGET: usize = u16::MAX as usize - 1;

/// So many fields have room on the stack.
const USUAL_FIELDS: usize = 64;

/// The head of a request.
pub struct Head {
    /// Method, target, version and fields.
    pub parts: Parts,
    /// How its fields were spelled.
    pub spelling: Spelling,
    /// How its content is framed.
    pub content: Decoder,
    /// Whether another request may follow on its connection.
    pub keeps: bool,
    /// Whether its client waits for a word before it sends the content.
    pub expects: bool,
    /// Whether it asks for another protocol.
    pub upgrades: bool,
}

/// Reads the head of a request, if all of it is here. Returns how many bytes it has, too.
///
/// # Errors
/// What is wrong with it: its connection ends with that answer.
pub fn parse(received: &[u8], limits: &Limits) -> Result<Option<(Head, usize)>, Problem> {
    if limits.header_fields <= USUAL_FIELDS {
        let mut fields = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
        return parse_with(received, limits, fields.get_mut(..limits.header_fields).unwrap_or_default());
    }
    let mut fields = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
    match parse_with(received, limits, &mut fields) {
        Err(Problem::HeadersTooLarge(_)) => {
            let mut fields = vec![MaybeUninit::uninit(); limits.header_fields];
            parse_with(received, limits, &mut fields)
        }
        parsed => parsed,
    }
}

fn parse_with<'b>(
    received: &'b [u8],
    limits: &Limits,
    fields: &mut [MaybeUninit<httparse::Header<'b>>],
) -> Result<Option<(Head, usize)>, Problem> {
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(received, fields) {
        Ok(httparse::Status::Complete(length)) if length <= limits.header_bytes => {
            Head::of(&request, received, length).map(|head| Some((head, length)))
        }
        Ok(httparse::Status::Partial) if received.len() < limits.header_bytes => Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(Problem::HeadersTooLarge(format!(
            "the header section is larger than {} bytes or has too many fields",
            limits.header_bytes
        ))),
        Err(_) => Err(malformed()),
    }
}

fn malformed() -> Problem {
    Problem::BadRequest(
        "the request is malformed or its length is ambiguous: check the request line, Host, Content-Length and \
         Transfer-Encoding"
            .to_owned(),
    )
}

impl Head {
    fn of(request: &httparse::Request<'_, '_>, received: &[u8], length: usize) -> Result<Self, Problem> {
        // A copy of its own: what a request holds on to is as long as it is, and the buffer is free for the next.
        let bytes = buffers::own(received.get(..length).unwrap_or_default());
        let part = |part: &[u8]| {
            let from = part.as_ptr() as usize - received.as_ptr() as usize;
            bytes.slice(from..from + part.len())
        };
        let target = request.path.unwrap_or_default();
        if target.len() > MAX_TARGET {
            return Err(Problem::HeadersTooLarge("the request target is too long".to_owned()));
        }
        let mut parts = Request::new(()).into_parts().0;
        parts.method =
            Method::from_bytes(request.method.unwrap_or_default().as_bytes()).map_err(|_| malformed())?;
        parts.uri = Uri::from_maybe_shared(part(target.as_bytes()))
            .or_else(|_| encoded(target).parse())
            .map_err(|_| malformed())?;
        let old = request.version == Some(0);
        parts.version = if old { Version::HTTP_10 } else { Version::HTTP_11 };
        let mut told = Told::default();
        let mut headers = HeaderMap::with_capacity(request.headers.len() + ADDED);
        for field in request.headers.iter() {
            if told.note(field)? {
                continue;
            }
            let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| malformed())?;
            let value = HeaderValue::from_maybe_shared(part(field.value)).map_err(|_| malformed())?;
            headers.append(name, value);
        }
        if told.chunked && told.length == Some(0) {
            // Chunks are the framing (RFC 9112, 6.3): nobody is to see another.
            keep(&mut headers, |name| *name != header::CONTENT_LENGTH);
        }
        parts.headers = headers;
        told.head(parts, Spelling::of(bytes), old)
    }
}

/// A path whose client has left what no target may have as it was typed: encoded as a browser would, so that it means the
/// same to whoever reads it. What does not begin with a path may name a host, and stays as it is.
fn encoded(target: &str) -> Cow<'_, str> {
    if !target.starts_with('/') {
        return target.into();
    }
    let mut encoded = String::with_capacity(target.len() + 16);
    for letter in target.chars() {
        match letter {
            '"' => encoded.push_str("%22"),
            '<' => encoded.push_str("%3C"),
            '>' => encoded.push_str("%3E"),
            '`' => encoded.push_str("%60"),
            other => encoded.push(other),
        }
    }
    encoded.into()
}

/// What the fields of a request tell of itself and its connection.
#[derive(Default)]
struct Told {
    length: Option<u64>,
    chunked: bool,
    closes: bool,
    keeps: bool,
    expects: bool,
    upgrades: bool,
}

impl Told {
    /// Notes what a field tells; says whether that is all that anybody wants of it: it ends here. Most names differ in their
    /// length already.
    fn note(&mut self, field: &httparse::Header<'_>) -> Result<bool, Problem> {
        let (name, value) = (field.name, field.value);
        match name.len() {
            6 if name.eq_ignore_ascii_case("expect") => {
                self.expects |= value.eq_ignore_ascii_case(b"100-continue");
            }
            7 if name.eq_ignore_ascii_case("upgrade") => self.upgrades = true,
            10 if name.eq_ignore_ascii_case("connection") => {
                self.closes |= lists::has(value, b"close");
                self.keeps |= lists::has(value, b"keep-alive");
                return Ok(lists::names_nothing(value));
            }
            10 if name.eq_ignore_ascii_case("keep-alive") => return Ok(true),
            14 if name.eq_ignore_ascii_case("content-length") => {
                let length = lists::length(value).ok_or_else(malformed)?;
                if self.length.replace(length).is_some_and(|other| other != length) {
                    return Err(malformed());
                }
                // That there is none, some servers want to hear.
                return Ok(length > 0);
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Problem::BadRequest(
                        "Transfer-Encoding must be exactly one `chunked`".to_owned(),
                    ));
                }
                self.chunked = true;
                return Ok(true);
            }
            _ => {}
        }
        Ok(false)
    }

    fn head(self, parts: Parts, spelling: Spelling, old: bool) -> Result<Head, Problem> {
        if self.chunked && old {
            return Err(Problem::BadRequest("HTTP/1.0 has no Transfer-Encoding".to_owned()));
        }
        let content = match (self.chunked, self.length) {
            (true, _) => Decoder::Chunked(Chunks::default()),
            (false, None | Some(0)) => Decoder::Over,
            (false, Some(length)) => Decoder::Length(length),
        };
        // Whoever sends both a length and chunks may have meant either: nothing is read behind it (RFC 9112, 6.1).
        let ambiguous = self.chunked && self.length.is_some();
        Ok(Head {
            expects: self.expects && !old && !content.is_over(),
            keeps: !self.closes && !ambiguous && (!old || self.keeps),
            upgrades: self.upgrades,
            content,
            spelling,
            parts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> Result<Head, &'static str> {
        match parse(text.as_bytes(), &Limits::default()) {
            Ok(Some((head, length))) => {
                assert_eq!(length, text.len());
                Ok(head)
            }
            Ok(None) => Err("partial"),
            Err(problem) => Err(problem.kind()),
        }
    }

    fn content(head: &Head) -> Option<u64> {
        head.content.left()
    }

    #[test]
    fn a_head_says_how_its_content_ends_and_whether_its_connection_does() {
        for (fields, length, keeps) in [
            ("", Some(0), true),
            ("Content-Length: 0\r\n", Some(0), true),
            ("content-length: 12\r\n", Some(12), true),
            ("Content-Length: 12\r\nContent-Length: 12\r\n", Some(12), true),
            ("Transfer-Encoding: CHUNKED\r\n", None, true),
            ("Content-Length: 12\r\nTransfer-Encoding: chunked\r\n", None, false),
            ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", None, false),
            ("Keep-Alive: timeout=5\r\nConnection: keep-alive\r\n", Some(0), true),
            ("Transfer-Encoding: chunked\r\nContent-Length: 12\r\n", None, false),
            ("Connection: x, Close\r\n", Some(0), false),
            ("Connection: keep-alive\r\n", Some(0), true),
        ] {
            let head = whole(&format!("POST /a HTTP/1.1\r\nHost: calc\r\n{fields}\r\n")).unwrap();
            assert_eq!((content(&head), head.keeps), (length, keeps), "{fields:?}");
            let shown: Vec<_> = head.parts.headers.keys().map(|name| name.as_str()).collect();
            let kept: &[&str] = match fields {
                "Content-Length: 0\r\n" => &["host", "content-length"],
                "Connection: x, Close\r\n" => &["host", "connection"],
                _ => &["host"],
            };
            assert_eq!(shown, kept, "{fields:?}");
        }
        for (fields, keeps) in
            [("", false), ("Connection: Keep-Alive\r\n", true), ("Connection: close\r\n", false)]
        {
            let head = whole(&format!("GET / HTTP/1.0\r\n{fields}\r\n")).unwrap();
            assert_eq!((head.keeps, head.parts.version), (keeps, Version::HTTP_10), "{fields:?}");
        }
    }

    #[test]
    fn a_target_that_was_typed_is_one_all_the_same() {
        for (target, expected) in [
            ("/x?q={\"a\":1}", Some("/x?q={%22a%22:1}")),
            ("/a<b>`c`?d=<e>", Some("/a%3Cb%3E%60c%60?d=%3Ce%3E")),
            ("/plain?q=%22", Some("/plain?q=%22")),
            ("http://a\"b/", None),
            ("nonsense\"", None),
        ] {
            let head = whole(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!(head.ok().map(|head| head.parts.uri.to_string()).as_deref(), expected, "{target}");
        }
    }

    #[test]
    fn what_is_asked_for_beside_the_answer_is_noted() {
        let head = |fields: &str| whole(&format!("POST /a HTTP/1.1\r\nHost: calc\r\n{fields}\r\n")).unwrap();
        assert!(head("Expect: 100-Continue\r\nContent-Length: 1\r\n").expects);
        assert!(
            !head("Expect: 100-continue\r\nContent-Length: 0\r\n").expects,
            "there is nothing to wait for"
        );
        assert!(head("Upgrade: websocket\r\n").upgrades);
    }

    #[test]
    fn what_is_no_request_is_refused_and_what_is_not_all_of_one_is_waited_for() {
        let many = "X: y\r\n".repeat(300);
        let large = format!("X: {}\r\n", "y".repeat(70_000));
        for (text, kind) in [
            ("GET / HTTP/1.1\r\nHost", "partial"),
            ("", "partial"),
            ("GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", "bad-request"),
            ("GET / HTTP/1.2\r\n\r\n", "bad-request"),
            ("GET /a b HTTP/1.1\r\n\r\n", "bad-request"),
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "bad-request"),
            ("POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", "bad-request"),
            ("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", "bad-request"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "bad-request"),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "bad-request"),
            (&format!("GET / HTTP/1.1\r\n{many}\r\n"), "headers-too-large"),
            (&format!("GET / HTTP/1.1\r\n{large}\r\n"), "headers-too-large"),
            (&format!("GET /{} HTTP/1.1\r\n\r\n", "y".repeat(MAX_TARGET)), "headers-too-large"),
        ] {
            assert_eq!(whole(text).err(), Some(kind), "{:?}", text.get(..40.min(text.len())));
        }
        let some = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(150));
        assert_eq!(whole(&some).unwrap().parts.headers.get_all("x").iter().count(), 150);
    }
}
