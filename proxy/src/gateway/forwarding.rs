//! Where a request comes from: what proxies before this one say of it, and what this one tells the instance.
//!
//! A peer in `proxy.trusted` is believed: its fields are continued, and the client is whom they name. What any other
//! peer says about the way is dropped.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};
use http::Version;
use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};

use super::headers::{Origin, continue_list};
use crate::config::Network;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// What a client's connection adds to the forwarding fields of each of its requests, made once.
#[derive(Debug)]
pub struct Sender {
    ip: IpAddr,
    is_trusted: bool,
    trusted: Arc<[Network]>,
    address: HeaderValue,
    /// `Forwarded` up to the host.
    element: Vec<u8>,
    scheme: &'static str,
    /// What is told of a request for the host that was asked for last, which is most often asked for next.
    last: ArcSwapOption<Asked>,
}

/// What is told of a request for a host.
#[derive(Debug)]
struct Asked {
    host: HeaderValue,
    element: HeaderValue,
    port: HeaderValue,
}

impl Sender {
    /// Of a peer at this address, which speaks this scheme.
    pub fn new(peer: IpAddr, scheme: &'static str, trusted: Arc<[Network]>) -> Self {
        let ip = peer.to_canonical();
        let element = match ip {
            IpAddr::V4(v4) => format!("for={v4};proto={scheme}"),
            IpAddr::V6(v6) => format!("for=\"[{v6}]\";proto={scheme}"),
        };
        let address = HeaderValue::try_from(ip.to_string());
        Self {
            ip,
            is_trusted: is_within(ip, &trusted),
            trusted,
            address: address.unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            element: element.into_bytes(),
            scheme,
            last: ArcSwapOption::empty(),
        }
    }

    /// Whether what it says about the way so far is believed.
    pub const fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    /// The peer itself.
    pub const fn peer(&self) -> IpAddr {
        self.ip
    }

    /// The client behind this peer: from the last entry to the first, whom a trusted proxy names. An entry that is no
    /// address ends the search: nobody knows what is beyond it.
    pub fn client(&self, headers: &HeaderMap) -> IpAddr {
        if !self.is_trusted {
            return self.ip;
        }
        if headers.contains_key(&X_FORWARDED_FOR) {
            nearest(self.ip, entries(headers, &X_FORWARDED_FOR).map(address), &self.trusted)
        } else if headers.contains_key(header::FORWARDED) {
            nearest(self.ip, entries(headers, &header::FORWARDED).map(forwarded_for), &self.trusted)
        } else {
            self.ip
        }
    }

    /// What is told of a request for this host.
    fn asked(&self, host: &HeaderValue) -> Option<Arc<Asked>> {
        let last = Guard::into_inner(self.last.load());
        if let Some(last) = last.filter(|last| last.host == *host) {
            return Some(last);
        }
        let (element, port) = (self.element(Some(host))?, port(host, self.scheme));
        let asked = Arc::new(Asked { host: host.clone(), element, port });
        self.last.store(Some(asked.clone()));
        Some(asked)
    }

    fn element(&self, host: Option<&HeaderValue>) -> Option<HeaderValue> {
        let mut element = Vec::with_capacity(self.element.len() + 8 + host.map_or(0, HeaderValue::len));
        element.extend_from_slice(&self.element);
        if let Some(host) =
            host.filter(|host| !host.as_bytes().iter().any(|byte| matches!(byte, b'"' | b'\\')))
        {
            element.extend_from_slice(b";host=\"");
            element.extend_from_slice(host.as_bytes());
            element.push(b'"');
        }
        HeaderValue::from_maybe_shared(bytes::Bytes::from(element)).ok()
    }
}

fn is_within(address: IpAddr, networks: &[Network]) -> bool {
    networks.iter().any(|network| network.contains(address))
}

/// The first that is not trusted, of those that are named one after the other by trusted ones.
fn nearest(peer: IpAddr, named: impl Iterator<Item = Option<IpAddr>>, trusted: &[Network]) -> IpAddr {
    let mut client = peer;
    for address in named {
        let Some(address) = address else { break };
        client = address.to_canonical();
        if !is_within(client, trusted) {
            break;
        }
    }
    client
}

/// The entries of a list, the last first.
fn entries<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let fields = headers.get_all(name).into_iter().rev();
    fields.flat_map(|field| field.to_str().unwrap_or_default().rsplit(',')).map(str::trim)
}

/// An address, perhaps with a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
}

/// Whom an element of `Forwarded` names (RFC 7239, 4).
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let mut named = pairs.filter(|(name, _)| name.eq_ignore_ascii_case("for"));
    address(named.next()?.1.trim_matches('"'))
}

/// Whether a field tells of the way so far.
pub fn is_claim(name: &HeaderName) -> bool {
    *name == header::FORWARDED || name.as_str().starts_with("x-forwarded-") || name.as_str() == "x-real-ip"
}

/// Adds `X-Forwarded-*`, `Forwarded` (RFC 7239) and `Via` (RFC 9110, 7.6.3). What is there is of a trusted peer.
pub fn add(headers: &mut HeaderMap, version: Version, origin: &Origin<'_>) {
    continue_list(headers, header::VIA, via(version));
    if let Some(prefix) = &origin.prefix {
        continue_list(headers, X_FORWARDED_PREFIX, prefix.clone());
    }
    let Some(sender) = origin.sender else { return };
    continue_list(headers, X_FORWARDED_FOR, sender.address.clone());
    headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static(origin.scheme));
    let asked = origin.host.and_then(|host| sender.asked(host));
    match asked.as_deref() {
        Some(Asked { host, element, port }) => {
            // The port belongs to the host that it was asked for at: a trusted peer tells both or neither.
            if let Entry::Vacant(place) = headers.entry(X_FORWARDED_HOST) {
                place.insert(host.clone());
                headers.entry(X_FORWARDED_PORT).or_insert_with(|| port.clone());
            }
            continue_list(headers, header::FORWARDED, element.clone());
        }
        None => {
            if let Some(element) = sender.element(None) {
                continue_list(headers, header::FORWARDED, element);
            }
        }
    }
}

const fn via(version: Version) -> HeaderValue {
    match version {
        Version::HTTP_10 => HeaderValue::from_static("1.0 longshore"),
        Version::HTTP_2 => HeaderValue::from_static("2.0 longshore"),
        _ => HeaderValue::from_static("1.1 longshore"),
    }
}

/// The port that the client asked at: the host's own, else the scheme's.
fn port(host: &HeaderValue, scheme: &str) -> HeaderValue {
    // It is a host, with or without a port, or none of the requests that get here.
    let (_, end) = host
        .as_bytes()
        .split_at(host.as_bytes().iter().rposition(|byte| *byte == b':').unwrap_or(host.len()));
    let named =
        std::str::from_utf8(end.get(1..).unwrap_or_default()).ok().and_then(|port| port.parse::<u16>().ok());
    match named {
        Some(port) => HeaderValue::from(port),
        None if scheme == "https" => HeaderValue::from_static("443"),
        None => HeaderValue::from_static("80"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Arc<[Network]> {
        let text = format!("proxy.trusted = {list:?}\n[services.a]\nimage = \"x\"");
        crate::config::Config::parse(&text, "cluster.toml", &|_| None).unwrap().proxy.trusted.into()
    }

    #[test]
    fn the_client_is_whom_trusted_proxies_name_from_right_to_left() {
        let trusted = networks(&["10.0.0.0/8", "fd00::/8"]);
        type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);
        let cases: [Case; 17] = [
            ("192.0.2.1", &[("x-forwarded-for", "9.9.9.9")], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[("x-forwarded-for", "9.9.9.9")], "9.9.9.9"),
            ("::ffff:10.0.0.1", &[("x-forwarded-for", "9.9.9.9")], "9.9.9.9"),
            ("10.0.0.1", &[("x-forwarded-for", "8.8.8.8, 9.9.9.9")], "9.9.9.9"),
            ("10.0.0.1", &[("x-forwarded-for", "8.8.8.8, 9.9.9.9,10.0.0.2")], "9.9.9.9"),
            ("10.0.0.1", &[("x-forwarded-for", "8.8.8.8"), ("x-forwarded-for", "10.0.0.2")], "8.8.8.8"),
            ("10.0.0.1", &[("x-forwarded-for", "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
            ("10.0.0.1", &[("x-forwarded-for", "8.8.8.8, nonsense, 10.0.0.2")], "10.0.0.2"),
            ("10.0.0.1", &[("x-forwarded-for", "")], "10.0.0.1"),
            ("10.0.0.1", &[("x-forwarded-for", "9.9.9.9:4711")], "9.9.9.9"),
            ("10.0.0.1", &[("x-forwarded-for", "[2001:db8::1]:80")], "2001:db8::1"),
            ("10.0.0.1", &[("forwarded", "for=8.8.8.8;proto=https, FOR=\"9.9.9.9\" ; by=x")], "9.9.9.9"),
            ("fd00::1", &[("forwarded", "for=\"[2001:db8::7]:123\";host=a, for=10.0.0.9")], "2001:db8::7"),
            ("10.0.0.1", &[("forwarded", "for=8.8.8.8, proto=http")], "10.0.0.1"),
            ("10.0.0.1", &[("forwarded", "for=8.8.8.8, for=_hidden")], "10.0.0.1"),
            ("10.0.0.1", &[("forwarded", "for=8.8.8.8"), ("x-forwarded-for", "9.9.9.9")], "9.9.9.9"),
        ];
        for (peer, fields, client) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            let sender = Sender::new(peer.parse().unwrap(), "http", trusted.clone());
            assert_eq!(sender.client(&headers).to_string(), client, "{peer} {fields:?}");
        }
    }

    #[test]
    fn a_port_is_the_host_s_or_the_scheme_s() {
        for (host, scheme, expected) in [
            ("calc:5000", "http", "5000"),
            ("calc", "http", "80"),
            ("calc", "https", "443"),
            ("[::1]:81", "https", "81"),
            ("[::1]", "http", "80"),
            ("calc:", "http", "80"),
            ("[2001:db8::7]:8443", "https", "8443"),
        ] {
            assert_eq!(port(&HeaderValue::from_static(host), scheme), expected, "{host} {scheme}");
        }
    }
}
