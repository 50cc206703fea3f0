//! Header fields on their way through: what belongs to one hop goes, what tells of the way comes.

use bytes::Bytes;
use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};
use http::{Response, Version};

use super::forwarding::{self, Sender};
use super::ids::Trace;
use super::{framing, lists, trace_context};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const LONGSHORE_TIMEOUT: HeaderName = HeaderName::from_static("longshore-timeout");

/// A longer `X-Request-Id` of a client's is replaced: ids end up in logs.
const MAX_REQUEST_ID: usize = 128;

/// The client's id for the request, if it is a sane one.
pub fn request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(&X_REQUEST_ID)?;
    let sane = (1..=MAX_REQUEST_ID).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic);
    sane.then(|| id.clone())
}

/// Where a request came from and how, for the forwarding fields.
pub struct Origin<'a> {
    /// The client.
    pub sender: Option<&'a Sender>,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host that the client asked for.
    pub host: Option<&'a HeaderValue>,
    /// Whether the fields are wanted.
    pub forwarded: bool,
    /// The part of the path that an instance does not see, if there is one.
    pub prefix: Option<HeaderValue>,
    /// The request's id.
    pub request_id: &'a HeaderValue,
    /// For a trace, where the client has begun none.
    pub trace: Trace,
    /// Whether that is marked as sampled.
    pub sampled: bool,
}

/// Makes a client's fields fit for an instance, in place. Returns the protocol that it wants to upgrade to.
pub fn prepare_request(
    headers: &mut HeaderMap,
    version: Version,
    origin: &Origin<'_>,
) -> Option<HeaderValue> {
    let present = Present::look(headers);
    let upgrade = if present.any(UPGRADES) { upgrade_token(headers) } else { None };
    let trailers = present.any(TRAILERS) && lists::any_has(headers, header::TE, b"trailers");
    let empty =
        present.any(LENGTHS) && headers.get(header::CONTENT_LENGTH).is_some_and(|length| length == "0");
    let doubted = origin.sender.filter(|sender| origin.forwarded && !sender.is_trusted());
    present.remove(headers, HOP_BY_HOP | OWN, doubted.is_some());
    headers.reserve(ADDED);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if empty {
        // hyper writes the length of a body, but not that there is none, which some servers demand of a POST (411).
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    if let Some(upgrade) = &upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, upgrade.clone());
    }
    if version == Version::HTTP_2 {
        join_cookies(headers);
    }
    if let Some(host) = origin.host {
        headers.insert(header::HOST, host.clone());
    }
    if origin.forwarded {
        forwarding::add(headers, version, origin);
    }
    headers.insert(X_REQUEST_ID, origin.request_id.clone());
    trace_context::pass_on(headers, origin.trace, origin.sampled);
    upgrade
}

/// Makes an instance's fields fit for the client, in place.
pub fn prepare_response(headers: &mut HeaderMap, upgrade: bool) {
    let token = if upgrade { headers.get(header::UPGRADE).cloned() } else { None };
    Present::look(headers).remove(headers, HOP_BY_HOP, false);
    headers.reserve(ADDED);
    if let Some(token) = token {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, token);
    }
}

/// An answer of Longshore's own, in JSON.
pub fn json(json: Bytes) -> Response<Bytes> {
    let mut response = Response::new(json);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Says which request an answer is to, unless it says so itself.
pub fn name(headers: &mut HeaderMap, request_id: &HeaderValue) {
    headers.entry(X_REQUEST_ID).or_insert_with(|| request_id.clone());
}

fn upgrade_token(headers: &HeaderMap) -> Option<HeaderValue> {
    let upgrade = headers.get(header::UPGRADE)?;
    let asked = lists::any_has(headers, header::CONNECTION, b"upgrade");
    // HTTP/2 is not upgraded to in the clear any more (RFC 9113, 3.1): such a request is served as it is.
    (asked && !upgrade.as_bytes().eq_ignore_ascii_case(b"h2c")).then(|| upgrade.clone())
}

/// The fields that end here: the first are meant for one hop (RFC 9110, 7.6.1), the rest are Longshore's to read, or
/// hyper's to write anew for the next hop (whose framing the client's would only confuse).
static DROPPED: [HeaderName; 10] = [
    header::CONNECTION,
    header::TE,
    header::UPGRADE,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::PROXY_AUTHORIZATION,
    LONGSHORE_TIMEOUT,
];
const CONNECTION: u16 = 1;
const TRAILERS: u16 = 1 << 1;
const UPGRADES: u16 = 1 << 2;
const LENGTHS: u16 = 1 << 6;
const HOP_BY_HOP: u16 = 0b11_1111;
const OWN: u16 = 0b111_1100_0000;
/// Not one of them, but what pretends to be one, or another that Longshore writes.
const DISGUISED: u16 = 1 << 10;

/// As many fields are added to a message at the most, in one piece of memory.
const ADDED: usize = 12;

/// Which of [`DROPPED`] a message has. One look at all its fields is cheaper than one search for each of these.
struct Present(u16);

impl Present {
    fn look(headers: &HeaderMap) -> Self {
        Self(headers.keys().map(Self::bit).fold(0, |all, bit| all | bit))
    }

    fn bit(name: &HeaderName) -> u16 {
        match DROPPED.iter().position(|dropped| dropped == name) {
            Some(index) => 1 << index,
            None if framing::is_disguised(name) => DISGUISED,
            None => 0,
        }
    }

    const fn any(&self, of: u16) -> bool {
        self.0 & of != 0
    }

    /// Removes those, what `Connection` names, and, if the client's word for it is `doubted`, what tells of the way so
    /// far.
    fn remove(&self, headers: &mut HeaderMap, those: u16, doubted: bool) {
        let unwanted = self.0 & those;
        let named = if self.any(CONNECTION) { named(headers) } else { Vec::new() };
        let claims = doubted && headers.keys().any(forwarding::is_claim);
        if unwanted == 0 && named.is_empty() && !claims {
            return;
        }
        let is_unwanted = |name: &HeaderName| Self::bit(name) & unwanted != 0;
        keep(headers, |name| {
            !(is_unwanted(name) || named.contains(name) || claims && forwarding::is_claim(name))
        });
    }
}

/// Keeps some of the fields, all their values, and their order, which `HeaderMap::remove` would not: it puts the last
/// field in the place of the one that goes.
pub fn keep(headers: &mut HeaderMap, wanted: impl Fn(&HeaderName) -> bool) {
    let mut kept = HeaderMap::with_capacity(headers.len() + ADDED);
    // Further values of a name come without it.
    let mut fields = std::mem::take(headers).into_iter().peekable();
    while let Some((name, value)) = fields.next() {
        let Some(name) = name.filter(&wanted) else { continue };
        let mut field = match kept.entry(name) {
            Entry::Vacant(place) => place.insert_entry(value),
            Entry::Occupied(mut field) => {
                field.append(value);
                field
            }
        };
        while let Some((_, value)) = fields.next_if(|(name, _)| name.is_none()) {
            field.append(value);
        }
    }
    *headers = kept;
}

/// The fields that `Connection` names.
fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    let names = lists::names(headers, header::CONNECTION);
    names.filter(|name| !["close", "keep-alive", "upgrade"].contains(&name.as_str())).collect()
}

/// HTTP/2 clients may send one field per cookie; HTTP/1.1 servers expect one for all (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    if let (Some(first), Some(second)) = (cookies.next(), cookies.next()) {
        let mut joined = first.as_bytes().to_vec();
        for cookie in std::iter::once(second).chain(cookies) {
            joined.extend_from_slice(b"; ");
            joined.extend_from_slice(cookie.as_bytes());
        }
        if let Ok(joined) = HeaderValue::from_bytes(&joined) {
            headers.insert(header::COOKIE, joined);
        }
    }
}

/// Several fields of one name are a list in their order (RFC 9110, 5.3); the item goes to its end.
pub fn continue_list(headers: &mut HeaderMap, name: HeaderName, item: HeaderValue) {
    match headers.entry(name) {
        Entry::Vacant(place) => {
            place.insert(item);
        }
        Entry::Occupied(mut field) => {
            let earlier: Vec<&[u8]> = field.iter().map(HeaderValue::as_bytes).collect();
            let joined = [earlier.as_slice(), &[item.as_bytes()]].concat().join(&b", "[..]);
            if let Ok(joined) = HeaderValue::from_bytes(&joined) {
                field.insert(joined);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Network;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn lines(headers: &HeaderMap) -> Vec<String> {
        let hidden = [trace_context::TRACEPARENT, X_REQUEST_ID];
        let shown = headers.iter().filter(|(name, _)| !hidden.contains(name));
        shown.map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
    }

    fn prepared(version: Version, client: &str, forwarded: bool, fields: &[(&str, &str)]) -> Vec<String> {
        let mut headers = map(fields);
        let (host, request_id) = (HeaderValue::from_static("calc"), HeaderValue::from_static("id"));
        let sender = Sender::new(client.parse().unwrap(), "http", Network::LOOPBACK.to_vec().into());
        let trace = super::super::ids::Ids::new().next().1;
        let origin = Origin {
            trace,
            sampled: true,
            sender: Some(&sender),
            scheme: "http",
            host: Some(&host),
            forwarded,
            prefix: None,
            request_id: &request_id,
        };
        prepare_request(&mut headers, version, &origin);
        lines(&headers)
    }

    #[test]
    fn an_instance_sees_what_the_client_sent_but_for_what_belongs_to_the_hop() {
        type Case = (&'static [(&'static str, &'static str)], &'static [&'static str]);
        let cases: [Case; 9] = [
            (
                &[("accept", "a"), ("x-twice", "1"), ("x-twice", "2")],
                &["accept: a", "x-twice: 1", "x-twice: 2"],
            ),
            (&[("connection", "close, x-secret"), ("x-secret", "1"), ("keep-alive", "5")], &[]),
            (&[("transfer-encoding", "chunked"), ("expect", "100-continue"), ("content-length", "3")], &[]),
            (&[("content-length", "0")], &["content-length: 0"]),
            (&[("te", "trailers, deflate")], &["te: trailers"]),
            (&[("te", "deflate"), ("proxy-authorization", "x"), ("proxy-connection", "x")], &[]),
            (
                &[("connection", "Upgrade"), ("upgrade", "websocket")],
                &["connection: upgrade", "upgrade: websocket"],
            ),
            (&[("upgrade", "websocket")], &[]),
            (&[("content_length", "3"), ("x_forwarded_for", "9.9.9.9"), ("x_own", "1")], &["x_own: 1"]),
        ];
        for (sent, seen) in cases {
            let mut got = prepared(Version::HTTP_11, "127.0.0.1", false, sent);
            got.retain(|line| line != "host: calc");
            assert_eq!(got, seen, "{sent:?}");
        }
    }

    #[test]
    fn cookies_of_http2_become_one() {
        let got = prepared(Version::HTTP_2, "127.0.0.1", false, &[("cookie", "a=1"), ("cookie", "b=2")]);
        assert!(got.contains(&"cookie: a=1; b=2".to_owned()), "{got:?}");
    }

    #[test]
    fn forwarding_fields_are_continued_for_whom_is_trusted_and_replaced_for_others() {
        let claimed: &[(&str, &str)] = &[
            ("x-forwarded-for", "9.9.9.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-prefix", "/p"),
            ("x-real-ip", "9.9.9.9"),
            ("forwarded", "for=9.9.9.9"),
            ("via", "1.1 a"),
        ];
        let local = prepared(Version::HTTP_11, "127.0.0.1", true, claimed);
        let expected = [
            "x-forwarded-for: 9.9.9.9, 127.0.0.1",
            "x-forwarded-proto: https",
            "x-forwarded-prefix: /p",
            "x-real-ip: 9.9.9.9",
            "forwarded: for=9.9.9.9, for=127.0.0.1;proto=http;host=\"calc\"",
            "via: 1.1 a, 1.1 longshore",
            "host: calc",
            "x-forwarded-host: calc",
            "x-forwarded-port: 80",
        ];
        assert_eq!(local, expected);
        let remote = prepared(Version::HTTP_2, "192.0.2.7", true, claimed);
        let expected = [
            "via: 1.1 a, 2.0 longshore",
            "host: calc",
            "x-forwarded-for: 192.0.2.7",
            "x-forwarded-proto: http",
            "x-forwarded-host: calc",
            "x-forwarded-port: 80",
            "forwarded: for=192.0.2.7;proto=http;host=\"calc\"",
        ];
        assert_eq!(remote, expected);
        let six = prepared(Version::HTTP_11, "2001:db8::1", true, &[]);
        assert!(
            six.contains(&"forwarded: for=\"[2001:db8::1]\";proto=http;host=\"calc\"".to_owned()),
            "{six:?}"
        );
        let switched_off = prepared(Version::HTTP_11, "192.0.2.7", false, claimed);
        assert_eq!(switched_off.len(), claimed.len() + 1, "nothing but Host is added: {switched_off:?}");
    }

    /// What a message consists of that keeps its order: the names as they come first, and the values of each.
    fn order(lines: &[(String, String)]) -> Vec<(String, Vec<String>)> {
        let mut order: Vec<(String, Vec<String>)> = Vec::new();
        for (name, value) in lines {
            match order.iter_mut().find(|(known, _)| known == name) {
                Some((_, values)) => values.push(value.clone()),
                None => order.push((name.clone(), vec![value.clone()])),
            }
        }
        order
    }

    #[test]
    fn fields_and_duplicates_keep_their_order_whatever_is_removed() {
        let ending =
            ["connection", "te", "keep-alive", "content-length", "expect", "longshore-timeout", "x-named"];
        for seed in 0..2_000 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut sent: Vec<(String, String)> = Vec::new();
            for value in 0..random.usize(..40) {
                let name = match random.usize(..3) {
                    0 => ending[random.usize(..ending.len())].to_owned(),
                    _ => format!("x-{}", random.u8(..12)),
                };
                let value =
                    if name == "connection" { "x-named, close".to_owned() } else { value.to_string() };
                sent.push((name, value));
            }
            let pairs: Vec<(&str, &str)> =
                sent.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let mut got = prepared(Version::HTTP_11, "127.0.0.1", false, &pairs);
            got.retain(|line| !["host: calc", "content-length: 0"].contains(&line.as_str()));
            let split =
                |line: &String| line.split_once(": ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
            let got: Vec<(String, String)> = got.iter().map(split).collect();
            let connection = sent.iter().any(|(name, _)| name == "connection");
            let stays = |(name, _): &&(String, String)| {
                !ending.contains(&name.as_str()) || (name == "x-named" && !connection)
            };
            let kept: Vec<(String, String)> = sent.iter().filter(stays).cloned().collect();
            assert_eq!(order(&got), order(&kept), "seed {seed}: {sent:?}");
        }
    }

    #[test]
    fn a_request_keeps_its_id_if_it_is_a_sane_one() {
        assert_eq!(request_id(&map(&[("x-request-id", "abc-1")])).unwrap(), "abc-1");
        for bad in ["", "a b", &"x".repeat(129)] {
            assert_eq!(request_id(&map(&[("x-request-id", bad)])), None, "{bad:?}");
        }
    }
}
