//! What queue and balancer tell requests apart by: whose a request is, how urgent, and where it belongs.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::LazyLock;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use longshore_pool::{Class, QueueOrder};

use super::keys::X_API_KEY;
use crate::config::{RequestKey, Service};
use crate::problem::Problem;

const LONGSHORE_PRIORITY: HeaderName = HeaderName::from_static("longshore-priority");

/// Seeded anew in each process, so that no client can choose a key that collides with another one's.
static FLOWS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The class of a request to this service from a client at this address, whose api key has this name.
pub fn of(
    parts: &Parts,
    client: Option<IpAddr>,
    key: Option<&str>,
    service: &Service,
) -> Result<Class, Problem> {
    let flow = match service.queue.order {
        QueueOrder::Fair => flow(parts, client, key, &service.queue.fair_key),
        QueueOrder::Fifo | QueueOrder::Random | QueueOrder::Priority { .. } => 0,
    };
    let affinity = service.balance.hash_key.as_ref().and_then(|key| affinity(parts, client, key));
    Ok(Class { flow, priority: priority(&parts.headers)?, affinity })
}

/// Where a request belongs; nowhere when it does not have the key. The same in every process, so that a key finds its
/// instance again through another proxy or after a restart.
fn affinity(parts: &Parts, client: Option<IpAddr>, key: &RequestKey) -> Option<NonZeroU64> {
    let mut hasher = Fnv::default();
    let found = feed(&mut hasher, parts, client, key);
    found.then(|| NonZeroU64::new(hasher.finish()).unwrap_or(NonZeroU64::MIN))
}

/// FNV-1a (Fowler, Noll, Vo). Whoever makes keys collide gets them to one instance, up to its bound.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// `Longshore-Priority`: one digit.
fn priority(headers: &HeaderMap) -> Result<u8, Problem> {
    let Some(value) = headers.get(&LONGSHORE_PRIORITY) else { return Ok(Class::PRIORITY) };
    match value.as_bytes() {
        [digit @ b'0'..=b'9'] => Ok(digit - b'0'),
        _ => Err(Problem::BadRequest("Longshore-Priority must be a digit, 9 the most urgent".to_owned())),
    }
}

/// Whose request it is. One that does not have the key counts as its address's.
fn flow(parts: &Parts, client: Option<IpAddr>, name: Option<&str>, key: &RequestKey) -> u64 {
    let mut hasher = FLOWS.build_hasher();
    if let (RequestKey::ApiKey, Some(name)) = (key, name) {
        feed_value(&mut hasher, Some(name.as_bytes()));
    } else if !feed(&mut hasher, parts, client, key) {
        feed(&mut hasher, parts, client, &RequestKey::Ip);
    }
    hasher.finish()
}

/// Feeds what the request has under this key; says whether it has any.
fn feed(hasher: &mut impl Hasher, parts: &Parts, client: Option<IpAddr>, key: &RequestKey) -> bool {
    match key {
        RequestKey::Ip => {
            client.map(|client| network(client.to_canonical(), |bytes| hasher.write(bytes))).is_some()
        }
        RequestKey::ApiKey => {
            let headers = &parts.headers;
            let key = headers.get(&X_API_KEY).or_else(|| headers.get(header::AUTHORIZATION));
            feed_value(hasher, key.map(HeaderValue::as_bytes))
        }
        RequestKey::Header(name) => feed_value(hasher, parts.headers.get(name).map(HeaderValue::as_bytes)),
        RequestKey::Cookie(name) => feed_value(hasher, cookie(&parts.headers, name)),
        RequestKey::Path => feed_value(hasher, Some(parts.uri.path().as_bytes())),
    }
}

/// A text, marked as one, so that none is taken for an address.
fn feed_value(hasher: &mut impl Hasher, value: Option<&[u8]>) -> bool {
    let Some(value) = value else { return false };
    hasher.write(value);
    hasher.write_u8(0xff);
    true
}

/// Who is behind an address: an IPv6 client has a network of 64 bits to itself and may use each address of it.
fn network(address: IpAddr, take: impl FnOnce(&[u8])) {
    match address {
        IpAddr::V4(v4) => take(&v4.octets()),
        IpAddr::V6(v6) => take(&v6.octets()[..8]),
    }
}

/// The value of a cookie (RFC 6265, 4.2), if the request has one.
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let fields = headers.get_all(header::COOKIE).into_iter();
    let pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn service(lines: &str) -> Service {
        let text = format!("[services.calc]\nimage = \"x\"\n{lines}\n");
        Config::parse(&text, "cluster.toml", &|_| None).unwrap().services.remove(0)
    }

    fn parts(target: &str, fields: &[(&str, &str)]) -> Parts {
        let builder = http::Request::builder().uri(target);
        let request = fields.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        request.body(()).unwrap().into_parts().0
    }

    fn from(address: &str) -> Option<IpAddr> {
        Some(address.parse().unwrap())
    }

    #[test]
    fn a_priority_is_one_digit_and_five_when_nobody_says() {
        let service = service("queue = { order = \"priority\" }");
        let priority = |value: &str| of(&parts("/", &[("longshore-priority", value)]), None, None, &service);
        assert_eq!(of(&parts("/", &[]), None, None, &service).unwrap().priority, 5);
        assert_eq!(priority("0").unwrap().priority, 0);
        assert_eq!(priority("9").unwrap().priority, 9);
        for wrong in ["", "10", "-1", "high", " 5"] {
            assert!(matches!(priority(wrong), Err(Problem::BadRequest(_))), "{wrong:?}");
        }
    }

    #[test]
    fn flows_are_told_apart_by_address_where_nothing_else_does() {
        let service = service("queue = { order = \"fair\" }");
        let flow = |address| of(&parts("/", &[]), from(address), None, &service).unwrap().flow;
        assert_eq!(flow("10.0.0.1"), flow("10.0.0.1"));
        assert_ne!(flow("10.0.0.1"), flow("10.0.0.2"));
        assert_eq!(flow("10.0.0.1"), flow("::ffff:10.0.0.1"), "one client over either protocol");
        assert_eq!(flow("2001:db8::1"), flow("2001:db8::ffff:1"), "one network");
        assert_ne!(flow("2001:db8::1"), flow("2001:db8:0:1::1"));
    }

    #[test]
    fn flows_are_told_apart_by_what_the_file_says() {
        let by_header = service("queue = { order = \"fair\", fair_key = \"header:X-User\" }");
        let by_key = service("queue = { order = \"fair\", fair_key = \"api-key\" }");
        let flow = |service: &Service, fields: &[(&str, &str)], address| {
            of(&parts("/", fields), from(address), None, service).unwrap().flow
        };
        let user = |user, address| flow(&by_header, &[("x-user", user)], address);
        assert_eq!(user("ann", "10.0.0.1"), user("ann", "10.0.0.2"));
        assert_ne!(user("ann", "10.0.0.1"), user("bob", "10.0.0.1"));
        assert_ne!(flow(&by_header, &[], "10.0.0.1"), flow(&by_header, &[], "10.0.0.2"));
        let bearer = |key| flow(&by_key, &[("authorization", key)], "10.0.0.1");
        assert_ne!(bearer("Bearer a"), bearer("Bearer b"));
        assert_ne!(flow(&by_key, &[("x-api-key", "a")], "10.0.0.1"), bearer("Bearer b"));
        let named = |name, address| of(&parts("/", &[]), from(address), Some(name), &by_key).unwrap().flow;
        assert_eq!(named("ann", "10.0.0.1"), named("ann", "10.0.0.2"), "a key that was checked has a name");
        assert_ne!(named("ann", "10.0.0.1"), named("bob", "10.0.0.1"));
    }

    #[test]
    fn a_request_belongs_where_its_key_says_and_nowhere_without_one() {
        let of_key = |key: &str| service(&format!("balance = {{ policy = \"hash\", hash_key = {key:?} }}"));
        let place = |key: &str, target: &str, fields: &[(&str, &str)], address: &str| {
            of(&parts(target, fields), from(address), None, &of_key(key)).unwrap().affinity
        };
        let session = |value| place("header:X-Session", "/", &[("x-session", value)], "10.0.0.1");
        assert_eq!(session("a"), session("a"));
        assert_ne!(session("a"), session("b"));
        assert_eq!(place("header:X-Session", "/", &[], "10.0.0.1"), None);
        let path = |target| place("path", target, &[], "10.0.0.1");
        assert_eq!(path("/a?x=1"), path("/a?x=2"));
        assert_ne!(path("/a"), path("/b"));
        assert_ne!(place("ip", "/", &[], "10.0.0.1"), place("ip", "/", &[], "10.0.0.2"));
        let cookies = |fields: &[(&str, &str)]| place("cookie:id", "/", fields, "10.0.0.1");
        let mine = cookies(&[("cookie", "id=7")]);
        assert!(mine.is_some());
        assert_eq!(cookies(&[("cookie", "a=1; id=7; b=2")]), mine);
        assert_eq!(cookies(&[("cookie", "a=1"), ("cookie", "id=7")]), mine, "HTTP/2 sends several fields");
        assert_ne!(cookies(&[("cookie", "id=8")]), mine);
        assert_eq!(cookies(&[("cookie", "myid=7; id2=7")]), None);
    }

    #[test]
    fn a_queue_that_asks_for_no_flow_has_one() {
        let service = service("");
        let class = of(&parts("/", &[]), from("10.0.0.1"), None, &service).unwrap();
        assert_eq!(class, Class::default());
    }
}
