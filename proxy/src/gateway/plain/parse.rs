//! The head of an answer: what is in it, and whether the rest of the answer is as plain as can be.

use std::mem::MaybeUninit;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};

use super::{Request, lines};
use crate::gateway::spelling::Spelling;
use crate::gateway::{buffers, lists};

/// Fields of an answer at the most, whoever reads it.
pub const MAX_FIELDS: usize = 256;

/// The longest head of an answer, in bytes: an instance that sends more is not speaking HTTP.
const MAX_HEAD: usize = 400 * 1024;

/// Room for the fields that Longshore adds to an answer.
const ADDED: usize = 10;

/// The head of an answer.
#[derive(Debug)]
pub struct Head {
    /// Status, fields, and the reason where it is not the usual one.
    pub response: Response<()>,
    /// How its fields were spelled.
    pub spelling: Spelling,
    /// Its fields, in place of those of the response, as the client is to get them.
    pub lines: Option<Vec<u8>>,
    /// How many bytes of content follow.
    pub length: u64,
    /// Whether the connection can be used again after it.
    pub reusable: bool,
}

/// What has been received so far.
#[derive(Debug)]
pub enum Parsed {
    /// Not all of a head.
    Partial,
    /// A head of so many bytes that nothing but `length` bytes of content follows, as many as may be held.
    Plain(Head, usize),
    /// One before the answer, of so many bytes.
    Interim(Response<()>, Spelling, usize),
    /// Something else: chunked, long, without length, of another protocol.
    Other,
}

/// Looks at what an instance has answered to a request.
///
/// # Errors
/// What is wrong with it, if it is no HTTP.
pub(super) fn parse(received: &[u8], request: &Request<'_>) -> Result<Parsed, String> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut response, received, &mut fields)
        .map_err(|error| match error {
            httparse::Error::TooManyHeaders => format!("it has more than {MAX_FIELDS} fields"),
            other => other.to_string(),
        })?;
    let httparse::Status::Complete(end) = parsed else {
        return if received.len() > MAX_HEAD {
            Err("its head is too long".to_owned())
        } else {
            Ok(Parsed::Partial)
        };
    };
    let status =
        response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or("its status is none")?;
    let lines = received.get(..end).unwrap_or_default();
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        let (interim, spelling) = head(&response, status, lines)?;
        return Ok(Parsed::Interim(interim, spelling, end));
    }
    let framing = Framing::of(&response, request.method, status);
    let Some(framing) = framing.filter(|framing| framing.length <= request.hold) else {
        return Ok(Parsed::Other);
    };
    let Framing { length, reusable } = framing;
    // What is said beside success may be for the proxy, too.
    let as_it_came =
        if request.as_it_comes && status.is_success() { lines::of(&response, lines) } else { None };
    let (response, spelling) = match &as_it_came {
        Some(_) => (bare(&response, status), Spelling::default()),
        None => head(&response, status, lines)?,
    };
    Ok(Parsed::Plain(Head { response, spelling, lines: as_it_came, length, reusable }, end))
}

/// Status and reason.
fn bare(response: &httparse::Response<'_, '_>, status: StatusCode) -> Response<()> {
    let mut built = Response::new(());
    *built.status_mut() = status;
    let unusual = response.reason.filter(|reason| status.canonical_reason() != Some(reason));
    let unusual = unusual.and_then(|reason| hyper::ext::ReasonPhrase::try_from(reason.as_bytes()).ok());
    if let Some(reason) = unusual {
        built.extensions_mut().insert(reason);
    }
    built
}

/// Status and fields, in memory of their own: nobody holds on to the buffer that they were read into. What is about this
/// connection alone goes.
fn head(
    response: &httparse::Response<'_, '_>,
    status: StatusCode,
    lines: &[u8],
) -> Result<(Response<()>, Spelling), String> {
    let own = buffers::own(lines);
    let part = |part: &[u8]| {
        let from = part.as_ptr() as usize - lines.as_ptr() as usize;
        own.slice(from..from + part.len())
    };
    let mut built = bare(response, status);
    let mut headers = HeaderMap::with_capacity(response.headers.len() + ADDED);
    for field in response.headers.iter().filter(|field| !is_of_connection(field)) {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|error| error.to_string())?;
        let value = HeaderValue::from_maybe_shared(part(field.value)).map_err(|error| error.to_string())?;
        headers.append(name, value);
    }
    *built.headers_mut() = headers;
    Ok((built, Spelling::of(own)))
}

/// Whether a field is about the connection that it came on and names no other.
pub(super) fn is_of_connection(field: &httparse::Header<'_>) -> bool {
    match field.name.len() {
        10 if field.name.eq_ignore_ascii_case("connection") => lists::names_nothing(field.value),
        10 => field.name.eq_ignore_ascii_case("keep-alive"),
        _ => false,
    }
}

/// How an answer ends (RFC 9112, 6.3), where that is plain.
struct Framing {
    length: u64,
    reusable: bool,
}

impl Framing {
    fn of(response: &httparse::Response<'_, '_>, method: &Method, status: StatusCode) -> Option<Self> {
        let mut length = None;
        let mut reusable = response.version == Some(1);
        for field in response.headers.iter() {
            match Field::of(field.name) {
                Field::ContentLength if length.is_some() => return None,
                Field::ContentLength => length = Some(lists::length(field.value)?),
                Field::TransferEncoding | Field::Upgrade => return None,
                Field::Connection => reusable &= !lists::has(field.value, b"close"),
                Field::Other => {}
            }
        }
        let none =
            *method == Method::HEAD || [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
        let length = match length {
            _ if status.is_informational() => return None,
            _ if none => 0,
            Some(length) => length,
            None => return None,
        };
        Some(Self { length, reusable })
    }
}

/// The fields that say how an answer ends.
enum Field {
    ContentLength,
    TransferEncoding,
    Upgrade,
    Connection,
    Other,
}

impl Field {
    /// Most names differ in their length already.
    fn of(name: &str) -> Self {
        let (known, field) = match name.len() {
            7 => ("upgrade", Self::Upgrade),
            10 => ("connection", Self::Connection),
            14 => ("content-length", Self::ContentLength),
            17 => ("transfer-encoding", Self::TransferEncoding),
            _ => return Self::Other,
        };
        if name.eq_ignore_ascii_case(known) { field } else { Self::Other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(method: Method, text: &str) -> Result<Parsed, String> {
        let (target, headers) = (http::Uri::from_static("/"), HeaderMap::new());
        let (method, target, headers, spelling) = (&method, &target, &headers, &Spelling::default());
        let request = Request {
            method,
            target,
            headers,
            spelling,
            traceparent: None,
            body: None,
            hold: 4,
            interim: None,
            as_it_comes: false,
        };
        parse(text.as_bytes(), &request)
    }

    #[test]
    fn what_is_plain_is_known_and_the_rest_is_left_alone() {
        for (method, text, expected) in [
            (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Some((3, true))),
            (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Some((0, true))),
            (
                Method::GET,
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: x, Close\r\n\r\n",
                Some((3, false)),
            ),
            (Method::GET, "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", Some((3, false))),
            (Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", Some((0, true))),
            (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n", Some((0, true))),
            (Method::GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", Some((0, true))),
            (Method::GET, "HTTP/1.1 200 OK\r\n\r\n", None),
            (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", None),
            (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", None),
            (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\n", None),
            (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", None),
            (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", None),
            (Method::GET, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
            (Method::GET, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", None),
            (Method::GET, "HTTP/1.1 101 Switching\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n", None),
        ] {
            let end = text.find("\r\n\r\n").unwrap() + 4;
            match (parsed(method, text).unwrap(), expected) {
                (Parsed::Plain(head, length), Some(expected)) => {
                    assert_eq!((head.length, head.reusable), expected, "{text:?}");
                    assert_eq!(length, end, "{text:?}");
                }
                (Parsed::Other, None) => {}
                (parsed, expected) => panic!("{text:?}: {parsed:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn fields_keep_their_order_and_the_reason_is_kept_where_it_is_unusual() {
        let text =
            "HTTP/1.1 200 Fine\r\nSet-Cookie: a\r\nX-Own: ä\r\nset-cookie: b\r\nContent-Length: 0\r\n\r\n";
        let Ok(Parsed::Plain(head, _)) = parsed(Method::GET, text) else { panic!() };
        let reason = head.response.extensions().get::<hyper::ext::ReasonPhrase>().unwrap();
        assert_eq!(reason.as_bytes(), b"Fine");
        let cookies: Vec<_> = head.response.headers().get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a", "b"]);
        assert_eq!(head.response.headers()["x-own"].as_bytes(), "ä".as_bytes());
    }

    #[test]
    fn what_is_about_the_connection_alone_goes() {
        for (fields, left) in [
            ("Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", 1),
            ("connection: Close\r\nX-Own: 1\r\n", 2),
            ("Connection: x-own\r\nX-Own: 1\r\n", 3),
            ("Connectiox: close\r\n", 2),
        ] {
            let text = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n");
            let Ok(Parsed::Plain(head, _)) = parsed(Method::GET, &text) else { panic!("{fields:?}") };
            assert_eq!(head.response.headers().len(), left, "{fields:?}");
        }
    }

    #[test]
    fn an_answer_may_have_many_fields_and_not_more() {
        let with = |fields: usize| {
            let fields: String = (1..fields).map(|number| format!("X-{number}: 1\r\n")).collect();
            parsed(Method::GET, &format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{fields}\r\n"))
        };
        let Ok(Parsed::Plain(head, _)) = with(MAX_FIELDS) else { panic!() };
        assert_eq!(head.response.headers().len(), MAX_FIELDS);
        assert!(with(MAX_FIELDS + 1).is_err_and(|error| error.contains("more than 256 fields")));
    }

    #[test]
    fn an_interim_answer_is_known_and_nothing_after_it() {
        for (head, status) in [
            ("HTTP/1.1 100 Continue\r\n\r\n", 100),
            ("HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\n", 103),
        ] {
            let Ok(Parsed::Interim(interim, _, end)) = parsed(Method::GET, &format!("{head}HTTP/1.1 2"))
            else {
                panic!("{head:?}")
            };
            assert_eq!((interim.status().as_u16(), end), (status, head.len()));
        }
    }

    #[test]
    fn every_beginning_of_a_head_is_partial() {
        let text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        for end in 0..text.len() {
            assert!(matches!(parsed(Method::GET, &text[..end]), Ok(Parsed::Partial)), "{end}");
        }
    }

    #[test]
    fn what_is_no_http_is_refused() {
        for text in ["SSH-2.0-x\r\n", "HTTP/1.1 999999 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n"] {
            assert!(parsed(Method::GET, text).is_err(), "{text:?}");
        }
        assert!(parsed(Method::GET, &format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(MAX_HEAD))).is_err());
    }
}
