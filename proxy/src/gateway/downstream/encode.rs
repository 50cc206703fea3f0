//! The head of an answer, as bytes, and where its content ends (RFC 9112, sections 4, 6 and 7).

use http::header::{self, HeaderName};
use http::response::Parts;
use http::{HeaderMap, Method, StatusCode, Version};

use crate::gateway::lists;
use crate::gateway::spelling::Spelling;

/// What an answer depends on beside itself.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Whether only a head was asked for.
    pub bare: bool,
    /// Whether the client speaks HTTP/1.0.
    pub old: bool,
    /// Whether another request may follow, as far as the client and the proxy are concerned.
    pub keeps: bool,
}

/// How the content of an answer ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// With the last chunk, and the fields after it, if any come.
    Chunked,
    /// With its connection.
    Close,
}

/// What is known of the fields of an answer.
pub enum Came<'a> {
    /// How they were spelled, if that is known.
    Spelled(Option<&'a Spelling>),
    /// These lines come before them.
    Lines(&'a [u8]),
}

/// Writes the head of an answer whose content is `length` bytes long, where that is known. Returns how the content ends,
/// and whether another request may follow it.
pub fn head(
    out: &mut Vec<u8>,
    parts: &Parts,
    came: Came<'_>,
    length: Option<u64>,
    asked: Asked,
) -> (Ending, bool) {
    let ending = ending(parts, length, asked);
    let closes = lists::any_has(&parts.headers, header::CONNECTION, b"close") || ending == Ending::Close;
    let keeps = asked.keeps && !closes;
    status_line(out, parts, asked.old);
    let none = Spelling::default();
    let (spelling, lines) = match came {
        Came::Spelled(spelling) => (spelling.unwrap_or(&none), None),
        Came::Lines(lines) => (&none, Some(lines)),
    };
    out.extend_from_slice(lines.unwrap_or_default());
    // They say how long the content is.
    let mut told = lines.is_some();
    spelling.each(&parts.headers, |name, spelled, value| match &ending {
        _ if *name == header::TRANSFER_ENCODING => {}
        // Where there is no content, the length is that of what there would be.
        Ending::Length(length) if *name == header::CONTENT_LENGTH => {
            if !std::mem::replace(&mut told, true) {
                field(out, spelled, itoa::Buffer::new().format(*length).as_bytes());
            }
        }
        Ending::Chunked | Ending::Close if *name == header::CONTENT_LENGTH => {}
        _ => field(out, spelled, value.as_bytes()),
    });
    match &ending {
        Ending::Length(_) if told => {}
        Ending::Length(length) => {
            field(out, b"content-length", itoa::Buffer::new().format(*length).as_bytes());
        }
        Ending::Chunked => field(out, spelling.name("transfer-encoding"), b"chunked"),
        Ending::None | Ending::Close => {}
    }
    if !parts.headers.contains_key(header::CONNECTION) {
        match (keeps, asked.old) {
            (false, false) => field(out, b"connection", b"close"),
            (true, true) => field(out, b"connection", b"keep-alive"),
            (true, false) | (false, true) => {}
        }
    }
    out.extend_from_slice(b"\r\n");
    (ending, keeps)
}

/// Writes the size of a chunk; `first` says whether there is none before it.
pub fn chunk(size: usize, first: bool) -> Vec<u8> {
    let mut line = Vec::with_capacity(20);
    if !first {
        line.extend_from_slice(b"\r\n");
    }
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4);
    for digit in (0..digits).rev() {
        let digit = (size >> (digit * 4)) & 15;
        line.push(b"0123456789abcdef".get(digit).copied().unwrap_or_default());
    }
    line.extend_from_slice(b"\r\n");
    line
}

/// Writes the end of all chunks and the fields after it, whether they were announced or not: who understands chunks finds
/// their end (RFC 9112, 7.1.2). Not those that could be taken for something else.
pub fn last(trailers: Option<&HeaderMap>, first: bool) -> Vec<u8> {
    let mut end = if first { b"0\r\n".to_vec() } else { b"\r\n0\r\n".to_vec() };
    for (name, value) in trailers.into_iter().flatten() {
        if !FORBIDDEN.contains(name) {
            field(&mut end, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    end.extend_from_slice(b"\r\n");
    end
}

/// An interim answer.
pub fn interim(status: StatusCode, headers: &HeaderMap, spelling: &Spelling) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    let mut parts = http::Response::new(()).into_parts().0;
    parts.status = status;
    status_line(&mut out, &parts, false);
    spelling.each(headers, |_, spelled, value| field(&mut out, spelled, value.as_bytes()));
    out.extend_from_slice(b"\r\n");
    out
}

/// Fields that no trailer may be (RFC 9110, 6.5.1): they frame, route, or say how the content is to be read.
static FORBIDDEN: [HeaderName; 16] = [
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::HOST,
    header::CONNECTION,
    header::TRAILER,
    header::TE,
    header::UPGRADE,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::CONTENT_RANGE,
    header::CACHE_CONTROL,
    header::AUTHORIZATION,
    header::SET_COOKIE,
    header::MAX_FORWARDS,
    header::EXPECT,
    header::RANGE,
];

fn ending(parts: &Parts, length: Option<u64>, asked: Asked) -> Ending {
    let none = asked.bare
        || parts.status.is_informational()
        || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&parts.status);
    match length {
        _ if none => Ending::None,
        Some(length) => Ending::Length(length),
        None if asked.old => Ending::Close,
        None => Ending::Chunked,
    }
}

fn status_line(out: &mut Vec<u8>, parts: &Parts, old: bool) {
    out.extend_from_slice(if old { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(parts.status.as_str().as_bytes());
    out.push(b' ');
    match parts.extensions.get::<hyper::ext::ReasonPhrase>() {
        Some(reason) => out.extend_from_slice(reason.as_bytes()),
        None => out.extend_from_slice(parts.status.canonical_reason().unwrap_or_default().as_bytes()),
    }
    out.extend_from_slice(b"\r\n");
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Whether a method asks for a head alone.
pub fn is_bare(method: &Method) -> bool {
    *method == Method::HEAD
}

/// Whether a client speaks HTTP/1.0.
pub fn is_old(version: Version) -> bool {
    version == Version::HTTP_10
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderValue;

    use super::*;

    const PLAIN: Asked = Asked { bare: false, old: false, keeps: true };
    const BARE: Asked = Asked { bare: true, ..PLAIN };
    const OLD: Asked = Asked { old: true, keeps: false, ..PLAIN };
    const LAST: Asked = Asked { keeps: false, ..PLAIN };

    fn written(
        status: u16,
        fields: &[(&'static str, &str)],
        length: Option<u64>,
        asked: Asked,
    ) -> (String, Ending, bool) {
        let mut response = http::Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let parts = response.body(()).unwrap().into_parts().0;
        let mut out = Vec::new();
        let (ending, keeps) = head(&mut out, &parts, Came::Spelled(None), length, asked);
        (String::from_utf8(out).unwrap().replace("\r\n", "|"), ending, keeps)
    }

    #[test]
    fn a_head_says_how_its_content_ends_and_what_comes_after() {
        use Ending::{Close, Length, None as Nothing};
        let chunked = || Ending::Chunked;
        let length = ("content-length", "7");
        for (status, fields, known, asked, text, ending, keeps) in [
            (200, &[][..], Some(3), PLAIN, "HTTP/1.1 200 OK|content-length: 3||", Length(3), true),
            (200, &[length], Some(7), PLAIN, "HTTP/1.1 200 OK|content-length: 7||", Length(7), true),
            // What is there counts, not what is said.
            (200, &[length], Some(3), PLAIN, "HTTP/1.1 200 OK|content-length: 3||", Length(3), true),
            (200, &[length, length], Some(7), PLAIN, "HTTP/1.1 200 OK|content-length: 7||", Length(7), true),
            (200, &[], Option::None, PLAIN, "HTTP/1.1 200 OK|transfer-encoding: chunked||", chunked(), true),
            (
                200,
                &[length],
                Option::None,
                PLAIN,
                "HTTP/1.1 200 OK|transfer-encoding: chunked||",
                chunked(),
                true,
            ),
            (200, &[length], Some(0), BARE, "HTTP/1.1 200 OK|content-length: 7||", Nothing, true),
            (200, &[], Option::None, BARE, "HTTP/1.1 200 OK||", Nothing, true),
            (204, &[], Some(0), PLAIN, "HTTP/1.1 204 No Content||", Nothing, true),
            (304, &[length], Some(0), PLAIN, "HTTP/1.1 304 Not Modified|content-length: 7||", Nothing, true),
            (
                200,
                &[],
                Some(3),
                LAST,
                "HTTP/1.1 200 OK|content-length: 3|connection: close||",
                Length(3),
                false,
            ),
            (
                200,
                &[("connection", "x, Close")],
                Some(3),
                PLAIN,
                "HTTP/1.1 200 OK|connection: x, Close|content-length: 3||",
                Length(3),
                false,
            ),
            (200, &[], Some(3), OLD, "HTTP/1.0 200 OK|content-length: 3||", Length(3), false),
            (
                200,
                &[],
                Some(3),
                Asked { keeps: true, ..OLD },
                "HTTP/1.0 200 OK|content-length: 3|connection: keep-alive||",
                Length(3),
                true,
            ),
            (200, &[], Option::None, Asked { keeps: true, ..OLD }, "HTTP/1.0 200 OK||", Close, false),
            (
                101,
                &[("connection", "upgrade")],
                Option::None,
                PLAIN,
                "HTTP/1.1 101 Switching Protocols|connection: upgrade||",
                Nothing,
                true,
            ),
        ] {
            assert_eq!(
                written(status, fields, known, asked),
                (text.to_owned(), ending, keeps),
                "{status} {fields:?}"
            );
        }
    }

    #[test]
    fn lines_are_passed_on_and_nothing_is_said_twice() {
        let parts = http::Response::builder().header("connection", "close").body(()).unwrap().into_parts().0;
        let mut out = Vec::new();
        let lines = Came::Lines(b"ETag: 1\r\nContent-Length: 3\r\n");
        let (ending, keeps) = head(&mut out, &parts, lines, Some(3), PLAIN);
        let text = "HTTP/1.1 200 OK\r\nETag: 1\r\nContent-Length: 3\r\nconnection: close\r\n\r\n";
        assert_eq!(
            (String::from_utf8(out).unwrap(), ending, keeps),
            (text.to_owned(), Ending::Length(3), false)
        );
    }

    #[test]
    fn chunks_are_as_long_as_they_say() {
        for size in [1, 9, 10, 15, 16, 255, 256, 65_535, 65_536, 0x00ab_cdef] {
            assert_eq!(String::from_utf8(chunk(size, true)).unwrap(), format!("{size:x}\r\n"));
            assert_eq!(String::from_utf8(chunk(size, false)).unwrap(), format!("\r\n{size:x}\r\n"));
        }
    }

    #[test]
    fn trailers_are_those_that_may_be_ones() {
        let mut trailers = HeaderMap::new();
        for name in ["x-one", "x-two", "content-length"] {
            trailers.append(name, HeaderValue::from_static("1"));
        }
        assert_eq!(last(Some(&trailers), false), b"\r\n0\r\nx-one: 1\r\nx-two: 1\r\n\r\n");
        assert_eq!(last(None, true), b"0\r\n\r\n");
    }

    #[test]
    fn an_interim_answer_has_a_head_and_no_more() {
        let spelling = Spelling::of(Bytes::from_static(b"HTTP/1.1 103 Early Hints\r\nLINK: </a>\r\n\r\n"));
        let mut headers = HeaderMap::new();
        headers.append(header::LINK, HeaderValue::from_static("</a>"));
        let text = interim(StatusCode::EARLY_HINTS, &headers, &spelling);
        assert_eq!(text, b"HTTP/1.1 103 Early Hints\r\nLINK: </a>\r\n\r\n");
    }
}
