//! The connections to one instance: opened when none is idle, kept for the next request, all cut when it dies.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use http::HeaderValue;
use longshore_pool::{InstanceId, Revoked, Time};
use nix::sys::socket::{Shutdown, shutdown};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::http1::Http1;
use super::multiplex::Multiplex;
use super::wire::Wire;
use crate::config::Protocol;
use crate::connect::Connector;

/// The end of a process is known so soon after its connections' end.
const NEWS: Duration = Duration::from_millis(30);

/// Everything that is open to one instance.
pub struct Link {
    instance: InstanceId,
    name: HeaderValue,
    address: SocketAddr,
    connector: Arc<Connector>,
    fate: OnceLock<String>,
    /// Told when everything is cut.
    ended: Notify,
    /// Why everything was cut, once it is.
    revoked: OnceLock<Revoked>,
    pool: Mutex<Connections>,
    /// The shared connection, where the instance speaks HTTP/2.
    shared: Option<Multiplex>,
}

#[derive(Default)]
struct Connections {
    idle: Vec<(Http1, Time)>,
    sockets: Vec<Weak<OwnedFd>>,
    closed: bool,
}

/// A connection checked out for one attempt.
pub struct Connection {
    /// Carries the request.
    pub wire: Wire,
    /// How long it lay idle before, if it was used before.
    pub idle_for: Option<Duration>,
}

impl Link {
    /// Nothing is opened yet.
    pub fn new(connector: Arc<Connector>, instance: InstanceId, address: SocketAddr) -> Self {
        let name = HeaderValue::try_from(connector.key(instance).to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("unnamed"));
        let shared = match connector.protocol() {
            Protocol::H1 => None,
            Protocol::H2c => Some(Multiplex::default()),
        };
        let (fate, ended, revoked) = (OnceLock::new(), Notify::new(), OnceLock::new());
        Self { instance, name, address, connector, fate, ended, revoked, pool: Mutex::default(), shared }
    }

    /// Its name, as in the `Longshore-Instance` header.
    pub const fn name(&self) -> &HeaderValue {
        &self.name
    }

    /// Its name in the pool.
    pub const fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Why the instance is no more, once that is known.
    pub fn fate(&self) -> Option<&str> {
        self.fate.get().map(String::as_str)
    }

    /// Notes why the instance is no more; the first to say so is believed.
    pub fn set_fate(&self, fate: &str) {
        let _ = self.fate.set(fate.to_owned());
    }

    /// Whether the instance is gone, as far as can be found out in a moment: it has been said so, or nobody listens any
    /// more.
    pub async fn is_gone(&self) -> bool {
        let ended = self.ended.notified();
        if self.pool.lock().closed {
            return true;
        }
        let looked = async {
            if self.connector.connect(self.instance, self.address).await.is_err() {
                return true;
            }
            // What stands between, a container's published port, say, may listen on.
            sleep(NEWS).await;
            false
        };
        tokio::select! {
            () = ended => true,
            gone = looked => gone,
        }
    }

    /// Cuts every connection, and notes why; the first to say so is believed.
    pub fn revoke(&self, why: Revoked) {
        let _ = self.revoked.set(why);
        match why {
            Revoked::Lost => {}
            Revoked::Drained => self.set_fate("it was to go, and its stop_grace was over"),
            Revoked::Cut => self.set_fate("longshore is shutting down"),
        }
        self.close();
    }

    /// Why everything was cut, where the pool has asked for that.
    pub fn revoked(&self) -> Option<Revoked> {
        self.revoked.get().copied()
    }

    /// Takes an idle connection, or a stream of the shared one.
    pub async fn idle(&self, now: Time) -> Option<Connection> {
        if let Some(shared) = &self.shared {
            let wire = Wire::Http2(shared.stream()?);
            return Some(Connection { wire, idle_for: Some(Duration::ZERO) });
        }
        loop {
            let (mut wire, since) = self.pool.lock().idle.pop()?;
            if wire.is_alive().await {
                return Some(Connection { wire: Wire::Http1(wire), idle_for: Some(now.since(since)) });
            }
        }
    }

    /// Opens a connection.
    pub async fn open(&self) -> std::io::Result<Connection> {
        let connect = || self.connector.connect(self.instance, self.address);
        let wire = match &self.shared {
            Some(shared) => Wire::Http2(shared.open(connect, |socket| self.track(socket)).await?),
            None => {
                let wire = Http1::new(connect().await?)?;
                self.track(wire.socket())?;
                Wire::Http1(wire)
            }
        };
        Ok(Connection { wire, idle_for: None })
    }

    fn track(&self, socket: &Arc<OwnedFd>) -> std::io::Result<()> {
        let mut pool = self.pool.lock();
        if pool.closed {
            return Err(std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "the instance is gone"));
        }
        if pool.sockets.len() == pool.sockets.capacity() {
            pool.sockets.retain(|socket| socket.strong_count() > 0);
        }
        pool.sockets.push(Arc::downgrade(socket));
        Ok(())
    }

    /// Gives back a connection whose answer has been read to its end.
    pub fn keep(&self, wire: Wire, now: Time) {
        // A stream is used once; its connection is kept anyway.
        let Wire::Http1(wire) = wire else { return };
        if wire.is_over() {
            return;
        }
        let mut pool = self.pool.lock();
        if !pool.closed {
            pool.idle.push((wire, now));
        }
    }

    /// Cuts every connection: what the instance holds goes elsewhere, or nowhere.
    pub fn close(&self) {
        let (idle, sockets) = {
            let mut pool = self.pool.lock();
            pool.closed = true;
            (std::mem::take(&mut pool.idle), std::mem::take(&mut pool.sockets))
        };
        drop(idle);
        self.ended.notify_waiters();
        if let Some(shared) = &self.shared {
            shared.close();
        }
        for socket in sockets.iter().filter_map(Weak::upgrade) {
            // One that is not connected any more needs no more.
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
        }
    }
}
