//! The listeners, and pingora, which serves them. Nothing else in the workspace names pingora's services.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::apps::ServerApp;
use pingora_core::listeners::ListenerConfig;
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::stream::L4BufferSettings;
use pingora_core::server::{Fds, ShutdownWatch};
use pingora_core::services::Service as _;
use pingora_core::services::listening::Service;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Gateway, serve};

/// The listening sockets of a gateway, being served.
pub struct Listening {
    addresses: Vec<SocketAddr>,
    shutdown: watch::Sender<bool>,
    connections: watch::Receiver<()>,
    service: JoinHandle<()>,
}

/// A listener that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}{}", hint(error))]
pub struct BindError {
    address: SocketAddr,
    error: std::io::Error,
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "; another program has that port (is `longshore up` running already?): stop it, or choose another"
        }
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 need more privileges: choose another",
        std::io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    }
}

/// Sockets that are bound and not served yet: a port in use is known before anything is started.
pub struct Bound(Vec<(SocketAddr, TcpListener)>);

impl Bound {
    /// Binds every address; port 0 picks a free one.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        let bind = |&address: &SocketAddr| {
            let listener = Self::single(address)?;
            let bound = listener.local_addr().map_err(|error| BindError { address, error })?;
            Ok((bound, listener))
        };
        addresses.iter().map(bind).collect::<Result<_, _>>().map(Self)
    }

    /// Binds one address, for whoever serves it.
    pub fn single(address: SocketAddr) -> Result<TcpListener, BindError> {
        let error = |error| BindError { address, error };
        let listener = TcpListener::bind(address).map_err(error)?;
        listener.set_nonblocking(true).map_err(error)?;
        Ok(listener)
    }

    /// Serves `gateway` on the sockets, on the current runtime.
    pub fn serve(self, gateway: Arc<Gateway>) -> Listening {
        let (open, connections) = watch::channel(());
        let mut service = Service::new("proxy".to_owned(), App { gateway, open });
        let mut fds = Fds::new();
        let mut addresses = Vec::new();
        for (address, listener) in self.0 {
            // pingora finds a socket that is bound already under the name of its address.
            fds.add(address.to_string(), listener.into_raw_fd());
            // hyper has buffers of its own; a second pair for each connection would only take memory.
            let endpoint = ListenerConfig::tcp(address.to_string()).l4_buffer(L4BufferSettings::unbuffered());
            service.add_listener(endpoint);
            addresses.push(address);
        }
        let (shutdown, watched) = watch::channel(false);
        let fds = Arc::new(Mutex::new(fds));
        let service = tokio::spawn(async move { service.start_service(Some(fds), watched, 1).await });
        Listening { addresses, shutdown, connections, service }
    }
}

impl Listening {
    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Takes no more connections, lets those that are open finish their answers, and returns when the last has ended.
    pub async fn drain(mut self) {
        // Without a receiver there is nothing left to drain.
        let _ = self.shutdown.send(true);
        let _ = self.service.await;
        // The application and each connection hold a sender; when the last is gone, so are they.
        while self.connections.changed().await.is_ok() {}
    }
}

struct App {
    gateway: Arc<Gateway>,
    open: watch::Sender<()>,
}

#[async_trait]
impl ServerApp for App {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let open = self.open.clone();
        serve::connection(self.gateway.clone(), stream, shutdown.clone()).await;
        drop(open);
        None
    }
}
