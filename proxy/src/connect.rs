//! How instances are connected to: at their address, and by their backend's detour where that refuses.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use longshore_backend::{Backend, Key};
use longshore_pool::InstanceId;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Protocol;

/// A dead container's address may swallow a connect for ever; a live one on this machine answers in microseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Connects to the instances of one service.
pub struct Connector {
    service: Arc<str>,
    protocol: Protocol,
    backend: Option<Arc<dyn Backend>>,
}

impl Connector {
    /// `backend` runs the instances; none for servers that already run.
    pub fn new(service: Arc<str>, protocol: Protocol, backend: Option<Arc<dyn Backend>>) -> Arc<Self> {
        Arc::new(Self { service, protocol, backend })
    }

    /// The service's name.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// What its instances speak.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The name of an instance in its backend.
    pub fn key(&self, instance: InstanceId) -> Key {
        Key { service: self.service.clone(), slot: instance.slot, incarnation: instance.incarnation }
    }

    /// Connects to an instance, which listens at `address`, or by a detour.
    ///
    /// # Errors
    /// That of the last connect; `TimedOut` after half a second each.
    pub async fn connect(&self, instance: InstanceId, address: SocketAddr) -> io::Result<TcpStream> {
        let error = match connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        if error.kind() == io::ErrorKind::ConnectionRefused
            && let Some(backend) = &self.backend
            && let Some(detour) = backend.detour(&self.key(instance)).await
        {
            tracing::debug!(instance = %self.key(instance), %address, %detour, "connecting by a detour");
            return connect(detour).await;
        }
        Err(error)
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(stream) => stream?,
        Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "connect timed out")),
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}
