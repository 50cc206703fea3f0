//! What RFC 9112 and 9113 call malformed or ambiguous, and hyper lets through: in requests, and in answers.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::Scheme;
use http::{Method, Response, StatusCode, Uri, Version};

use crate::problem::Problem;

/// Refuses a request that two readers could take for two different things, as far as that is not refused where it is
/// read (`downstream`, hyper).
pub fn check(parts: &Parts) -> Result<(), Problem> {
    check_target(parts)?;
    check_expectation(parts)?;
    if parts.version == Version::HTTP_2 {
        return check_authority(&parts.uri, &parts.headers);
    }
    match host(&parts.headers)? {
        None if parts.version == Version::HTTP_11 => refused("an HTTP/1.1 request needs a Host field"),
        Some(_) | None => Ok(()),
    }
}

/// Says what is wrong with an answer whose end two readers could see in two places, or that takes over a connection
/// which the request, with these fields, did not offer.
pub fn check_answer<B>(response: &Response<B>, asked: &HeaderMap) -> Result<(), &'static str> {
    let headers = response.headers();
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && !asked.contains_key(header::UPGRADE) {
        return Err("it switches protocols, and nobody asked it to");
    }
    if !headers.contains_key(header::TRANSFER_ENCODING) {
        return Ok(());
    }
    if !is_one_chunked(headers) {
        return Err("its Transfer-Encoding is not one `chunked`");
    }
    if headers.contains_key(header::CONTENT_LENGTH) {
        return Err("it has both Content-Length and Transfer-Encoding");
    }
    Ok(())
}

fn refused<T>(why: &str) -> Result<T, Problem> {
    Err(Problem::BadRequest(why.to_owned()))
}

/// A target is a path, a whole `http` URI, or `*` for OPTIONS (RFC 9112, 3.2).
fn check_target(parts: &Parts) -> Result<(), Problem> {
    let (uri, path) = (&parts.uri, parts.uri.path());
    if parts.method == Method::CONNECT {
        return refused("CONNECT is not served: this is no tunnel");
    }
    let has_form = match uri.scheme() {
        Some(scheme) => *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS,
        None => uri.authority().is_none(),
    };
    if !has_form || !(path.starts_with('/') || (path == "*" && parts.method == Method::OPTIONS)) {
        return refused("the request target is neither a path nor an http URI");
    }
    match uri.authority() {
        Some(authority) if !is_host(authority.as_str().as_bytes()) => {
            refused("the request target names a user or no proper host")
        }
        Some(_) | None => Ok(()),
    }
}

/// The only thing that is promised is a sign to go on (RFC 9110, 10.1.1). HTTP/1.0 knows no expectations.
fn check_expectation(parts: &Parts) -> Result<(), Problem> {
    let mut expected = parts.headers.get_all(header::EXPECT).iter();
    if parts.version != Version::HTTP_10
        && expected.any(|expected| !expected.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    {
        let known = "nothing but `Expect: 100-continue` is understood";
        return Err(Problem::Expectation(known.to_owned()));
    }
    Ok(())
}

fn is_one_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let first = codings.next();
    first.is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked")) && codings.next().is_none()
}

/// The only Host field, if there is one.
fn host(headers: &HeaderMap) -> Result<Option<&HeaderValue>, Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => refused("more than one Host field"),
        (Some(host), None) if !is_host(host.as_bytes()) => refused("the Host field names no host"),
        (host, _) => Ok(host),
    }
}

/// `:authority` and Host say the same, where there are both (RFC 9113, 8.3.1).
fn check_authority(uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    match (uri.authority(), host(headers)?) {
        (Some(authority), Some(host))
            if !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) =>
        {
            refused("Host and :authority name different hosts")
        }
        (Some(_) | None, _) => Ok(()),
    }
}

/// Whether these bytes may be a host with or without a port (RFC 3986, 3.2): an empty one may, too.
fn is_host(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| IN_HOST[*byte as usize])
}

const IN_HOST: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-._~%!$&'()*+,;=:[]";
    let mut index = 0;
    while index < others.len() {
        table[others[index] as usize] = true;
        index += 1;
    }
    table
};

/// Whether a field pretends to be one that Longshore alone writes: servers that hand fields to a program as variables
/// (CGI, WSGI) read `Content_Length` as `Content-Length`.
pub fn is_disguised(name: &HeaderName) -> bool {
    let name = name.as_str();
    if !name.contains('_') {
        return false;
    }
    let plain = name.replace('_', "-");
    matches!(plain.as_str(), "content-length" | "transfer-encoding" | "x-request-id" | "x-real-ip")
        || plain.starts_with("x-forwarded-")
        || plain.starts_with("longshore-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(version: Version, method: Method, target: &str, fields: &[(&str, &str)]) -> Parts {
        let request = http::Request::builder().version(version).method(method).uri(target);
        let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        let host = ("host", "calc");
        for (version, fields, refused) in [
            (Version::HTTP_11, vec![host], false),
            (Version::HTTP_11, vec![("host", "")], false),
            (Version::HTTP_11, vec![("host", "[::1]:5000")], false),
            (Version::HTTP_11, vec![("host", "some_name")], false),
            (Version::HTTP_11, vec![("host", "a b")], true),
            (Version::HTTP_11, vec![("host", "a/b")], true),
            (Version::HTTP_11, vec![("host", "user@calc")], true),
            (Version::HTTP_11, vec![], true),
            (Version::HTTP_10, vec![], false),
            (Version::HTTP_11, vec![host, host], true),
            (Version::HTTP_10, vec![host, host], true),
            (Version::HTTP_2, vec![], false),
            (Version::HTTP_2, vec![host, host], true),
        ] {
            let checked = check(&parts(version, Method::POST, "/", &fields));
            assert_eq!(checked.is_err(), refused, "{version:?} {fields:?}");
        }
    }

    #[test]
    fn a_target_has_one_of_three_forms() {
        for (method, target, refused) in [
            (Method::GET, "/a?b", false),
            (Method::GET, "//a", false),
            (Method::GET, "http://calc/a", false),
            (Method::GET, "https://calc", false),
            (Method::GET, "http://CALC:5000/a", false),
            (Method::OPTIONS, "*", false),
            (Method::GET, "*", true),
            (Method::GET, "calc", true),
            (Method::GET, "calc:80", true),
            (Method::GET, "ftp://calc/a", true),
            (Method::GET, "http://user@calc/a", true),
            (Method::GET, "http://user:secret@calc/a", true),
            (Method::CONNECT, "calc:80", true),
        ] {
            let checked = check(&parts(Version::HTTP_11, method.clone(), target, &[("host", "calc")]));
            assert_eq!(checked.is_err(), refused, "{method} {target}");
        }
    }

    #[test]
    fn an_expectation_is_100_continue() {
        for (version, fields, refused) in [
            (Version::HTTP_11, vec!["100-continue"], false),
            (Version::HTTP_11, vec!["100-Continue"], false),
            (Version::HTTP_11, vec!["100-continue", "100-continue"], false),
            (Version::HTTP_11, vec!["200-ok"], true),
            (Version::HTTP_11, vec![""], true),
            (Version::HTTP_11, vec!["100-continue", "other"], true),
            (Version::HTTP_2, vec!["other"], true),
            (Version::HTTP_10, vec!["other"], false),
        ] {
            let mut all = vec![("host", "calc")];
            all.extend(fields.iter().map(|value| ("expect", *value)));
            let checked = check(&parts(version, Method::POST, "/", &all));
            assert_eq!(checked.is_err(), refused, "{version:?} {fields:?}");
        }
    }

    #[test]
    fn host_and_authority_of_http2_are_the_same() {
        for (target, host, refused) in [
            ("http://calc/a", "calc", false),
            ("http://calc/a", "Calc", false),
            ("http://calc/a", "other", true),
            ("http://calc/a", "calc:80", true),
            ("/a", "calc", false),
        ] {
            let checked = check(&parts(Version::HTTP_2, Method::GET, target, &[("host", host)]));
            assert_eq!(checked.is_err(), refused, "{target} {host}");
        }
    }

    #[test]
    fn an_answer_has_one_end_and_switches_only_when_asked_to() {
        for (status, fields, upgrade, refused) in [
            (200, vec![("content-length", "3")], false, false),
            (200, vec![("transfer-encoding", "chunked")], false, false),
            (200, vec![("transfer-encoding", "chunked"), ("content-length", "3")], false, true),
            (200, vec![("transfer-encoding", "gzip")], false, true),
            (200, vec![("transfer-encoding", "gzip, chunked")], false, true),
            (101, vec![("upgrade", "x")], false, true),
            (101, vec![("upgrade", "x")], true, false),
        ] {
            let response = http::Response::builder().status(status);
            let response =
                fields.iter().fold(response, |response, (name, value)| response.header(*name, *value));
            let asked = if upgrade {
                HeaderMap::from_iter([(header::UPGRADE, HeaderValue::from_static("x"))])
            } else {
                HeaderMap::new()
            };
            let checked = check_answer(&response.body(()).unwrap(), &asked);
            assert_eq!(checked.is_err(), refused, "{status} {fields:?}");
        }
    }

    #[test]
    fn a_field_in_disguise_is_known() {
        for (name, disguised) in [
            ("content_length", true),
            ("transfer_encoding", true),
            ("x_forwarded_for", true),
            ("x-forwarded_for", true),
            ("longshore_service", true),
            ("content-length", false),
            ("x_custom", false),
            ("x-forwarded-for", false),
        ] {
            assert_eq!(is_disguised(&HeaderName::from_static(name)), disguised, "{name}");
        }
    }
}
