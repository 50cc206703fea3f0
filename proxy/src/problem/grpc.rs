//! The same errors for gRPC clients, which look for a `grpc-status` and take an HTTP status for a broken proxy.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};

use super::Problem;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether a message is one of gRPC's: `application/grpc`, or that with a subtype.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    content_type(headers).is_some()
}

fn content_type(headers: &HeaderMap) -> Option<&HeaderValue> {
    let kind = headers.get(header::CONTENT_TYPE)?;
    let rest = kind.as_bytes().strip_prefix(b"application/grpc")?;
    matches!(rest.first(), None | Some(b'+' | b';')).then_some(kind)
}

impl Problem {
    /// The answer to a gRPC request: HTTP 200 with the status in its header section, and nothing else ("Trailers-Only").
    /// None where the request is none of gRPC's.
    pub(super) fn grpc_response(&self, asked: &HeaderMap) -> Option<Response<Bytes>> {
        let kind = content_type(asked)?;
        let mut response = Response::new(Bytes::new());
        *response.headers_mut() = self.grpc_status();
        response.headers_mut().insert(header::CONTENT_TYPE, kind.clone());
        Some(response)
    }

    /// `grpc-status` and `grpc-message`, as a gRPC answer ends with them.
    pub fn grpc_status(&self) -> HeaderMap {
        let mut fields = HeaderMap::with_capacity(2);
        fields.insert(GRPC_STATUS, HeaderValue::from(self.grpc_code()));
        fields.insert(GRPC_MESSAGE, message(self.detail()));
        fields
    }

    /// The code, as the gRPC libraries name them: 14 is the one that says "try again".
    const fn grpc_code(&self) -> u16 {
        const INVALID_ARGUMENT: u16 = 3;
        const DEADLINE_EXCEEDED: u16 = 4;
        const PERMISSION_DENIED: u16 = 7;
        const RESOURCE_EXHAUSTED: u16 = 8;
        const UNIMPLEMENTED: u16 = 12;
        const UNAVAILABLE: u16 = 14;
        const DATA_LOSS: u16 = 15;
        const UNAUTHENTICATED: u16 = 16;
        match self {
            Self::BadRequest(_)
            | Self::Invalid(_)
            | Self::Expectation(_)
            | Self::KeyReused(_)
            | Self::Conflict(_)
            | Self::Gone(_) => INVALID_ARGUMENT,
            Self::Unauthorized(_) => UNAUTHENTICATED,
            Self::Forbidden(_) => PERMISSION_DENIED,
            Self::NoService(..) | Self::NotFound(_) | Self::MethodNotAllowed(..) => UNIMPLEMENTED,
            Self::BodyTooLarge(_) | Self::HeadersTooLarge(_) | Self::ClientLimit(..) | Self::Storage(_) => {
                RESOURCE_EXHAUSTED
            }
            Self::RequestTimeout(_) | Self::Timeout(_) => DEADLINE_EXCEEDED,
            Self::JobDamaged(_) => DATA_LOSS,
            Self::AttemptsExhausted(_)
            | Self::QueueFull(..)
            | Self::Overloaded(..)
            | Self::CannotStart(..)
            | Self::Stopped(_)
            | Self::ShuttingDown(_)
            | Self::JobsUnavailable(_)
            | Self::QueueTimeout(_) => UNAVAILABLE,
        }
    }
}

/// Percent-encoded where it is not printable ASCII, as the gRPC protocol wants it.
fn message(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..=0x1f | 0x7f.. => encoded.push_str(&format!("%{byte:02X}")),
            b' '..=b'~' => encoded.push(char::from(byte)),
        }
    }
    HeaderValue::try_from(encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn asked(content_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))])
    }

    #[test]
    fn a_grpc_client_gets_a_status_of_its_own_and_no_body() {
        let problem = Problem::QueueFull("100 % voll,\nspäter".to_owned(), Duration::from_secs(1));
        let response = problem.response(Some("calc"), Some("id-1"), &asked("application/grpc+proto"));
        assert_eq!((response.status().as_u16(), response.body().len()), (200, 0));
        let headers = response.headers();
        assert_eq!(headers[header::CONTENT_TYPE], "application/grpc+proto");
        assert_eq!(
            (&headers["grpc-status"], &headers["x-request-id"]),
            (&HeaderValue::from_static("14"), &HeaderValue::from_static("id-1"))
        );
        assert_eq!(headers["grpc-message"], "100 %25 voll,%0Asp%C3%A4ter");
    }

    #[test]
    fn a_deadline_is_told_as_one() {
        assert_eq!(Problem::Timeout(String::new()).grpc_status()["grpc-status"], "4");
    }

    #[test]
    fn only_grpc_is_grpc() {
        for (kind, is) in [
            ("application/grpc", true),
            ("application/grpc;x=y", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(&asked(kind)), is, "{kind}");
        }
    }
}
