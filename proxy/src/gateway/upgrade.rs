//! WebSocket, and other protocols that take a connection over, for clients of HTTP/2 (RFC 8441): an extended CONNECT is
//! to an instance the GET with `Upgrade` that HTTP/1.1 has, and its 101 is to the client a 200.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Version};

const SEC_WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const SEC_WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// Turns an extended CONNECT into the GET that an instance understands. Other requests stay as they are.
pub fn from_http2(parts: &mut Parts) {
    if parts.method != Method::CONNECT || parts.version != Version::HTTP_2 {
        return;
    }
    let Some(protocol) = parts.extensions.get::<hyper::ext::Protocol>() else { return };
    let Ok(token) = HeaderValue::from_str(protocol.as_str()) else { return };
    if token.as_bytes().eq_ignore_ascii_case(b"websocket") {
        // Each client of HTTP/1.1 sends a new one; here it only tells the instance that it is spoken to.
        let key = STANDARD.encode(fastrand::u128(..).to_ne_bytes());
        if let Ok(key) = HeaderValue::try_from(key) {
            parts.headers.insert(SEC_WEBSOCKET_KEY, key);
        }
    }
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(header::UPGRADE, token);
    parts.method = Method::GET;
}

/// The status of the answer to an extended CONNECT. An instance that answers with success and goes on speaking HTTP has
/// not taken the connection over: to the client that must not look as if it had.
pub fn to_http2(status: StatusCode, headers: &mut HeaderMap) -> StatusCode {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        headers.remove(SEC_WEBSOCKET_ACCEPT);
        return StatusCode::OK;
    }
    if status.is_success() { StatusCode::BAD_GATEWAY } else { status }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(protocol: Option<&'static str>, version: Version) -> Parts {
        let mut request =
            http::Request::builder().method("CONNECT").uri("https://calc/chat").version(version);
        if let Some(protocol) = protocol {
            request = request.extension(hyper::ext::Protocol::from_static(protocol));
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn an_extended_connect_becomes_an_upgrade() {
        let mut parts = connect(Some("websocket"), Version::HTTP_2);
        from_http2(&mut parts);
        assert_eq!(parts.method, Method::GET);
        let field = |name| parts.headers[name].to_str().unwrap();
        assert_eq!((field("connection"), field("upgrade")), ("upgrade", "websocket"));
        assert_eq!(STANDARD.decode(field("sec-websocket-key")).unwrap().len(), 16);
    }

    #[test]
    fn any_other_connect_stays_one() {
        for (protocol, version) in [(None, Version::HTTP_2), (Some("websocket"), Version::HTTP_11)] {
            let mut parts = connect(protocol, version);
            from_http2(&mut parts);
            assert_eq!((parts.method, parts.headers.len()), (Method::CONNECT, 0));
        }
    }

    #[test]
    fn only_a_switch_is_a_success() {
        for (status, told) in [(101, 200), (200, 502), (204, 502), (403, 403), (503, 503)] {
            let mut headers = HeaderMap::from_iter([(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("x"))]);
            assert_eq!(to_http2(StatusCode::from_u16(status).unwrap(), &mut headers), told);
            assert_eq!(headers.is_empty(), status == 101);
        }
    }
}
