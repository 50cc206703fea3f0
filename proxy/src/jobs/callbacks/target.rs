//! Where a callback goes: a URL whose host is listed, and of the addresses that its name has those that it may go to.
//! Nothing else can be reached through one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::Uri;
use http::uri::Scheme;

use crate::config::Receiver;

/// A longer URL is none.
const LONGEST_URL: usize = 2048;

/// A URL that somebody who is listed answers at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) secure: bool,
    /// In lower case; an IPv6 address without its brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Host and port as the URL has them.
    pub(super) authority: String,
    /// Path and query.
    pub(super) path: String,
}

impl Target {
    /// Understands a URL. The error says what is wrong with it.
    pub(super) fn new(url: &str, listed: &[Receiver]) -> Result<Self, String> {
        if url.len() > LONGEST_URL {
            return Err(format!("a URL has {LONGEST_URL} bytes at the most"));
        }
        let uri: Uri = url.parse().map_err(|error| format!("{url:?} is no URL: {error}"))?;
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(_) | None => return Err(format!("{url:?} is not http:// or https://")),
        };
        let authority = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        if authority.contains('@') || host.is_empty() {
            return Err(format!("{url:?} must have a host, and no user name"));
        }
        let port = match uri.port() {
            Some(port) => port.as_u16(),
            None if secure => 443,
            None => 80,
        };
        if !listed.iter().any(|receiver| receiver.names(&host, port)) {
            return Err(format!(
                "{host}:{port} is not among the hosts that results may be posted to (jobs.callbacks)"
            ));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            secure,
            port,
            authority: authority.to_owned(),
            path: path.to_owned(),
            host: host.trim_matches(['[', ']']).to_owned(),
        })
    }

    /// Looks its name up, once, and gives the addresses that it may be reached at.
    pub(super) async fn addresses(
        &self,
        listed: &[Receiver],
        lookup: impl AsyncFnOnce(&str, u16) -> io::Result<Vec<SocketAddr>>,
    ) -> Result<Vec<SocketAddr>, String> {
        let found = match self.host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, self.port)],
            Err(_) => lookup(&self.host, self.port)
                .await
                .map_err(|error| format!("{} has no address: {error}", self.host))?,
        };
        let allowed: Vec<_> = found.iter().copied().filter(|at| self.allows(listed, *at)).collect();
        match found.first() {
            Some(refused) if allowed.is_empty() => Err(format!(
                "{} leads to {}, which is private: list the address in jobs.callbacks if that is meant",
                self.host,
                refused.ip()
            )),
            Some(_) => Ok(allowed),
            None => Err(format!("{} has no address", self.host)),
        }
    }

    /// 1. What is listed as an address;
    /// 2. this machine, under the one name that says so;
    /// 3. what is public.
    fn allows(&self, listed: &[Receiver], at: SocketAddr) -> bool {
        listed.iter().any(|receiver| receiver.has(at.ip(), at.port()))
            || (self.host == "localhost" && at.ip().to_canonical().is_loopback())
            || is_public(at.ip())
    }
}

/// The system's resolver.
pub(super) async fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// Whether an address is one of the internet's, and nobody's own (IANA's registries of special purpose addresses).
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    const SPECIAL: [([u8; 4], u32); 15] = [
        ([0, 0, 0, 0], 8),
        ([10, 0, 0, 0], 8),
        ([100, 64, 0, 0], 10),
        ([127, 0, 0, 0], 8),
        ([169, 254, 0, 0], 16),
        ([172, 16, 0, 0], 12),
        ([192, 0, 0, 0], 24),
        ([192, 0, 2, 0], 24),
        ([192, 88, 99, 0], 24),
        ([192, 168, 0, 0], 16),
        ([198, 18, 0, 0], 15),
        ([198, 51, 100, 0], 24),
        ([203, 0, 113, 0], 24),
        ([224, 0, 0, 0], 4),
        ([240, 0, 0, 0], 4),
    ];
    let bits = address.to_bits();
    !SPECIAL.iter().any(|(first, length)| (bits ^ u32::from_be_bytes(*first)) >> (32 - length) == 0)
}

/// Global unicast without what is set apart in it, and without what carries an IPv4 address inside.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let special = match first {
        // Protocol assignments (Teredo among them), documentation, 6to4.
        0x2001 => second < 0x0200 || second == 0x0db8,
        0x2002 => true,
        0x3fff => second < 0x1000,
        _ => false,
    };
    first & 0xe000 == 0x2000 && !special
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn listed(hosts: &str) -> Vec<Receiver> {
        let text = format!("jobs.callbacks = [{hosts}]\n[services.a]\nimage = \"a\"\n");
        Config::parse(&text, "cluster.toml", &|_| None).unwrap().jobs.callbacks.hosts
    }

    #[test]
    fn only_a_url_of_a_listed_host_is_a_target() {
        let listed = listed("\"hooks.example.com\", \"127.0.0.1:9000\", \"[::1]:9000\"");
        let target = |url: &str| Target::new(url, &listed);
        let right = target("https://Hooks.Example.com/a/b?c=d").unwrap();
        assert_eq!((right.secure, &*right.host, right.port), (true, "hooks.example.com", 443));
        assert_eq!((&*right.path, &*right.authority), ("/a/b?c=d", "Hooks.Example.com"));
        assert_eq!(target("http://[::1]:9000").unwrap().host, "::1");
        assert_eq!(target("http://127.0.0.1:9000/x").unwrap().port, 9000);
        for wrong in [
            "",
            "hooks.example.com",
            "/x",
            "ftp://hooks.example.com/",
            "file:///etc/passwd",
            "gopher://hooks.example.com/",
            "http://u@hooks.example.com/",
            "http://hooks.example.com@evil.org/",
            "http://hooks.example.com.evil.org/",
            "http://evil.org/hooks.example.com",
            "http://evil.org#hooks.example.com",
            "http://hooks.example.com./",
            "http://127.0.0.1/",
            "http://127.1:9000/",
            "http://2130706433:9000/",
            "http://0x7f000001:9000/",
            "http://[::ffff:127.0.0.1]:9001/",
            "http://127.0.0.1:9000\r\nx: y/",
        ] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
        assert!(target(&format!("https://hooks.example.com/{}", "x".repeat(3000))).is_err());
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_and_leads_to_what_is_public_or_listed() {
        let listed = listed("\"hooks.example.com\", \"10.1.0.0/16:80\"");
        let target = Target::new("http://hooks.example.com/", &listed).unwrap();
        for (found, allowed) in [
            (&["93.184.215.14", "2606:2800:21f::1"][..], &["93.184.215.14", "2606:2800:21f::1"][..]),
            (&["127.0.0.1", "93.184.215.14"], &["93.184.215.14"]),
            (&["10.1.2.3"], &["10.1.2.3"]),
            (&["10.2.2.3"], &[]),
            (&["169.254.169.254"], &[]),
            (&["::ffff:127.0.0.1"], &[]),
            (&[], &[]),
        ] {
            let found: Vec<_> = found.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 80)).collect();
            let mut asked = 0;
            let addresses = target.addresses(&listed, async |_: &str, _| {
                asked += 1;
                Ok(found.clone())
            });
            let addresses = addresses.await;
            let ips: Vec<_> = addresses.iter().flatten().map(|at| at.ip().to_string()).collect();
            assert_eq!(
                (&ips[..], asked),
                (&allowed.iter().map(ToString::to_string).collect::<Vec<_>>()[..], 1)
            );
            assert_eq!(addresses.is_err(), allowed.is_empty(), "{addresses:?}");
        }
    }

    #[tokio::test]
    async fn this_machine_is_meant_by_the_name_that_says_so() {
        let listed = listed("\"localhost\", \"hooks.example.com\"");
        for (url, fine) in [("http://localhost:1/", true), ("http://hooks.example.com/", false)] {
            let target = Target::new(url, &listed).unwrap();
            let loopback = async |_: &str, port| Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]);
            assert_eq!(target.addresses(&listed, loopback).await.is_ok(), fine, "{url}");
        }
    }

    #[test]
    fn what_is_somebodys_own_is_not_public() {
        for own in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "172.31.255.255",
            "192.0.0.8",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fec0::1",
        ] {
            assert!(!is_public(own.parse().unwrap()), "{own}");
        }
        for public in
            ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1", "2001:4860::8888"]
        {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }
}
