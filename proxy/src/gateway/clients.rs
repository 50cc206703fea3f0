//! Who is connected: counts connections, of all clients and of each, and remembers what each client takes. Looked up
//! once a connection, so that a request touches its client's counters only.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use longshore_pool::Time;
use parking_lot::Mutex;

use super::usage::Usage;
use crate::config::Limits;
use crate::problem::Problem;

/// Clients that are remembered while they are not connected, at the most: some 10 MiB. Who is forgotten begins anew.
const MOST_ABSENT: usize = 65_536;

/// So many clients are never looked through.
const FEW: usize = 1_024;

/// The clients of all listeners.
#[derive(Debug, Default)]
pub struct Clients {
    open: AtomicUsize,
    handshakes: AtomicUsize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    callers: HashMap<Network, Arc<Caller>>,
    /// How many there may be before those that are absent are looked for.
    look_at: usize,
}

/// Who is behind an address: an IPv6 client has a network of 64 bits to itself and may use each address of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Network {
    V4([u8; 4]),
    V6([u8; 8]),
}

/// One client.
#[derive(Debug, Default)]
pub struct Caller {
    connections: AtomicU32,
    handshakes: AtomicU32,
    /// Its requests.
    pub usage: Arc<Usage>,
}

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub struct Connected {
    clients: Arc<Clients>,
    peer: Option<IpAddr>,
    caller: Option<Arc<Caller>>,
}

/// A TLS handshake under way, that counts until this is dropped.
#[derive(Debug)]
pub struct Shaking<'c>(&'c Connected);

impl Connected {
    /// Counts one handshake more; none when there are as many as there may be.
    pub fn handshake(&self, limits: &Limits) -> Option<Shaking<'_>> {
        let before = self.clients.handshakes.fetch_add(1, Ordering::Relaxed);
        let of_caller = self.caller.as_ref().map(|caller| caller.handshakes.fetch_add(1, Ordering::Relaxed));
        // From here on it is given back when it is refused.
        let shaking = Shaking(self);
        let too_many = limits.handshakes != 0 && before >= limits.handshakes;
        let too_many_of_it = limits.client_handshakes != 0 && of_caller >= Some(limits.client_handshakes);
        (!too_many && !too_many_of_it).then_some(shaking)
    }

    /// Nobody is connected, and nothing is counted.
    pub fn nobody() -> Self {
        let clients: Arc<Clients> = Arc::default();
        clients.open.fetch_add(1, Ordering::Relaxed);
        Self { clients, peer: None, caller: None }
    }
}

impl Clients {
    /// Counts one connection more, from `peer`. Whoever is exempt is not remembered; a proxy that speaks for others has as
    /// many connections as it needs.
    pub fn connect(
        self: &Arc<Self>,
        peer: Option<IpAddr>,
        is_proxy: bool,
        limits: &Limits,
        now: Time,
    ) -> Result<Connected, Problem> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let peer = peer.map(|peer| peer.to_canonical());
        let mut connected = Connected { clients: self.clone(), peer, caller: None };
        if limits.connections != 0 && before >= limits.connections {
            let detail = "as many connections are open as there may be: try again";
            return Err(Problem::Overloaded(detail.to_owned(), Duration::from_secs(1)));
        }
        let Some(address) = peer.filter(|address| !is_exempt(limits, *address)) else {
            return Ok(connected);
        };
        let caller = self.caller(address, now);
        let before = caller.connections.fetch_add(1, Ordering::Relaxed);
        connected.caller = Some(caller);
        if !is_proxy && limits.client_connections != 0 && before >= limits.client_connections {
            let detail = format!("{address} has {before} connections open, which is as many as it may");
            return Err(Problem::ClientLimit(detail, Duration::from_secs(1)));
        }
        Ok(connected)
    }

    fn caller(&self, address: IpAddr, now: Time) -> Arc<Caller> {
        let mut known = self.known.lock();
        if known.callers.len() > known.look_at.max(FEW) {
            known.forget_absent(now);
        }
        known.callers.entry(network(address)).or_default().clone()
    }
}

impl Known {
    /// Forgets who is not connected and has nothing to be held against it; too many who have are forgotten too.
    fn forget_absent(&mut self, now: Time) {
        let is_here = |caller: &Caller| caller.connections.load(Ordering::Relaxed) > 0;
        self.callers.retain(|_, caller| is_here(caller) || !caller.usage.is_idle(now));
        let absent = self.callers.values().filter(|caller| !is_here(caller)).count();
        if absent > MOST_ABSENT {
            self.callers.retain(|_, caller| is_here(caller));
        }
        // Looking through them costs as much as there are: not again before there are twice as many.
        self.look_at = self.callers.len() * 2;
    }
}

impl Connected {
    /// The client at `address`, if the limits of one client bind it: who is connected, or whom that names.
    pub fn caller_at(
        &self,
        address: Option<IpAddr>,
        limits: &Limits,
        now: Time,
    ) -> Option<Cow<'_, Arc<Caller>>> {
        if address == self.peer {
            return self.caller.as_ref().map(Cow::Borrowed);
        }
        let address = address.filter(|address| !is_exempt(limits, *address))?;
        Some(Cow::Owned(self.clients.caller(address, now)))
    }
}

impl Drop for Shaking<'_> {
    fn drop(&mut self) {
        self.0.clients.handshakes.fetch_sub(1, Ordering::Relaxed);
        if let Some(caller) = &self.0.caller {
            caller.handshakes.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.clients.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(caller) = &self.caller {
            caller.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn is_exempt(limits: &Limits, address: IpAddr) -> bool {
    limits.exempt.iter().any(|network| network.contains(address))
}

fn network(address: IpAddr) -> Network {
    match address.to_canonical() {
        IpAddr::V4(v4) => Network::V4(v4.octets()),
        IpAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h, ..] = v6.octets();
            Network::V6([a, b, c, d, e, f, g, h])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rate;
    use crate::gateway::usage::Allowance;

    fn connect(clients: &Arc<Clients>, limits: &Limits, address: &str) -> Result<Connected, Problem> {
        clients.connect(Some(address.parse().unwrap()), false, limits, Time::ZERO)
    }

    #[test]
    fn connections_are_limited_in_all_and_for_each_client() {
        let clients: Arc<Clients> = Arc::default();
        let limits = Limits { connections: 3, client_connections: 2, ..Limits::default() };
        let one = connect(&clients, &limits, "10.0.0.1").unwrap();
        let _two = connect(&clients, &limits, "::ffff:10.0.0.1").unwrap();
        let refused = connect(&clients, &limits, "10.0.0.1").unwrap_err();
        assert_eq!((refused.kind(), refused.status().as_u16()), ("client-limit", 429));
        let _other = connect(&clients, &limits, "10.0.0.2").unwrap();
        let full = connect(&clients, &limits, "127.0.0.1").unwrap_err();
        assert_eq!((full.kind(), full.status().as_u16()), ("overloaded", 503));
        drop(one);
        assert!(connect(&clients, &limits, "10.0.0.1").is_ok(), "a connection that ended counts no more");
        let free = Limits { connections: 0, client_connections: 0, ..Limits::default() };
        let many: Vec<_> = (0..50).map(|_| connect(&clients, &free, "10.0.0.9").unwrap()).collect();
        assert_eq!(many.len(), 50);
    }

    #[test]
    fn handshakes_are_limited_in_all_and_for_each_client() {
        let clients: Arc<Clients> = Arc::default();
        let limits = Limits { handshakes: 3, client_handshakes: 2, ..Limits::default() };
        let [one, other, local] =
            ["10.0.0.1", "10.0.0.2", "127.0.0.1"].map(|address| connect(&clients, &limits, address).unwrap());
        let first = one.handshake(&limits).unwrap();
        let _second = one.handshake(&limits).unwrap();
        assert!(one.handshake(&limits).is_none(), "as many as one client may have");
        let _third = other.handshake(&limits).unwrap();
        assert!(local.handshake(&limits).is_none(), "as many as there may be");
        drop(first);
        let again: Vec<_> =
            [local.handshake(&limits), local.handshake(&limits)].into_iter().flatten().collect();
        assert_eq!(again.len(), 1, "one that ended counts no more, and those refused never did");
        let free = Limits { handshakes: 0, client_handshakes: 0, ..Limits::default() };
        assert!((0..50).map(|_| one.handshake(&free)).collect::<Vec<_>>().iter().all(Option::is_some));
    }

    #[test]
    fn this_machine_is_exempt_and_an_ipv6_client_is_its_network() {
        let clients: Arc<Clients> = Arc::default();
        let limits = Limits { client_connections: 1, ..Limits::default() };
        let local: Vec<_> = (0..9).map(|_| connect(&clients, &limits, "127.0.0.1").unwrap()).collect();
        assert!(local.iter().all(|connected| connected.caller.as_ref().is_none()));
        let _first = connect(&clients, &limits, "2001:db8::1").unwrap();
        assert!(connect(&clients, &limits, "2001:db8::ffff:2").is_err());
        assert!(connect(&clients, &limits, "2001:db8:0:1::1").is_ok());
    }

    #[test]
    fn behind_a_proxy_each_client_counts_for_itself() {
        let clients: Arc<Clients> = Arc::default();
        let limits = Limits { client_connections: 1, ..Limits::default() };
        let proxy = Some("10.0.0.1".parse().unwrap());
        let connect = || clients.connect(proxy, true, &limits, Time::ZERO).unwrap();
        let (one, two) = (connect(), connect());
        let caller = |connected: &Connected, address: &str| {
            let caller = connected.caller_at(Some(address.parse().unwrap()), &limits, Time::ZERO);
            caller.map(|caller| Arc::as_ptr(&caller))
        };
        assert!(caller(&one, "9.9.9.9").is_some());
        assert_eq!(caller(&one, "9.9.9.9"), caller(&two, "9.9.9.9"));
        assert_ne!(caller(&one, "9.9.9.9"), caller(&one, "9.9.9.8"));
        assert_eq!(caller(&one, "127.0.0.1"), None, "exempt");
        assert_eq!(caller(&one, "10.0.0.1"), caller(&two, "10.0.0.1"), "what the proxy asks for itself");
    }

    #[test]
    fn what_is_remembered_of_clients_is_bounded() {
        let clients: Arc<Clients> = Arc::default();
        let limits = Limits::default();
        let here = connect(&clients, &limits, "9.9.9.9").unwrap();
        let rate = Rate { count: 1, period: Duration::from_secs(3_600) };
        for number in 0..300_000_u32 {
            let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            let connected = clients.connect(Some(address), false, &limits, Time::ZERO).unwrap();
            if number % 2 == 0 {
                // It has used up its rate: something to be remembered by.
                let allowed = Allowance { concurrent: 0, rate: Some(rate) };
                connected.caller.as_ref().unwrap().usage.enter(allowed, "it", Time::ZERO).unwrap();
            }
        }
        let known = clients.known.lock().callers.len();
        assert!(known <= 2 * (MOST_ABSENT + FEW), "{known} are remembered");
        let again = connect(&clients, &limits, "9.9.9.9").unwrap();
        assert!(
            Arc::ptr_eq(here.caller.as_ref().unwrap(), again.caller.as_ref().unwrap()),
            "who is here is never forgotten"
        );
    }
}
