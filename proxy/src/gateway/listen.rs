//! The listeners, and pingora, which serves them. Nothing else in the workspace names pingora's services.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, IntoRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::socket::{setsockopt, sockopt};
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
use tokio::time::{sleep, timeout};

use super::ending::{Ending, Notice};
use super::{Gateway, serve};
use crate::config::{Limits, Listener, Scheme};

/// How long a request may be on its way that its client sent before it could know of the end.
const ON_THE_WAY: Duration = Duration::from_millis(250);

/// The listening sockets of a gateway, being served. They may come and go.
pub struct Listening {
    gateway: Arc<Gateway>,
    endpoints: Vec<Endpoint>,
    /// Of endpoints that were closed, as long as they have connections.
    closed: Vec<Arc<Ending>>,
}

/// One socket that is served.
struct Endpoint {
    socket: Socket,
    /// Whether TLS is spoken; connections that are open go on as they began.
    secure: Arc<AtomicBool>,
    /// Of its connections.
    ending: Arc<Ending>,
    /// Ends the service, which accepts them.
    shutdown: watch::Sender<bool>,
    service: JoinHandle<()>,
}

/// A socket that is bound.
pub struct Socket {
    /// What was asked for; its port may be 0.
    pub asked: SocketAddr,
    /// What it is.
    pub address: SocketAddr,
    listener: TcpListener,
}

/// A listener that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}{}", hint(error))]
pub struct BindError {
    address: SocketAddr,
    error: std::io::Error,
}

impl BindError {
    /// The address, as it was asked for.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
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
#[derive(Default)]
pub struct Bound(Vec<(Socket, Scheme)>);

impl Bound {
    /// Binds every address; port 0 picks a free one.
    pub fn bind(listeners: &[Listener]) -> Result<Self, BindError> {
        Self::bind_or(listeners, |_| None)
    }

    /// Binds every address for which there is no socket yet.
    pub fn bind_or(
        listeners: &[Listener],
        mut present: impl FnMut(Listener) -> Option<Socket>,
    ) -> Result<Self, BindError> {
        let one = |listener: &Listener| {
            let socket = present(*listener).map_or_else(|| Socket::bind(listener.address), Ok)?;
            Ok((socket, listener.scheme))
        };
        listeners.iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// Serves `gateway` on the sockets, on the current runtime.
    pub fn serve(self, gateway: Arc<Gateway>) -> Result<Listening, BindError> {
        let mut listening = Listening { gateway, endpoints: Vec::new(), closed: Vec::new() };
        listening.open(self)?;
        Ok(listening)
    }
}

impl Socket {
    /// Binds one address.
    pub fn bind(asked: SocketAddr) -> Result<Self, BindError> {
        let error = |error| BindError { address: asked, error };
        let listener = TcpListener::bind(asked).map_err(error)?;
        listener.set_nonblocking(true).map_err(error)?;
        let address = listener.local_addr().map_err(error)?;
        Ok(Self { asked, address, listener })
    }

    /// One that another process had, at this address.
    pub fn inherited(asked: SocketAddr, address: SocketAddr, listener: TcpListener) -> Self {
        Self { asked, address, listener }
    }

    /// For whoever hands it to another process.
    pub fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The same socket once more.
    pub fn copy(&self) -> std::io::Result<Self> {
        Ok(Self { asked: self.asked, address: self.address, listener: self.listener.try_clone()? })
    }

    /// For whoever else serves it.
    pub fn into_listener(self) -> TcpListener {
        self.listener
    }
}

impl Listening {
    /// Where it listens.
    pub fn urls(&self) -> Vec<String> {
        let url = |one: &Endpoint| format!("{}://{}", one.scheme().name(), one.socket.address);
        self.endpoints.iter().map(url).collect()
    }

    /// Serves on these sockets too. All of them, or none.
    pub fn open(&mut self, bound: Bound) -> Result<(), BindError> {
        let error = |address| move |error| BindError { address, error };
        let copies: Result<Vec<TcpListener>, BindError> =
            bound.0.iter().map(|(one, _)| one.listener.try_clone().map_err(error(one.address))).collect();
        for ((socket, scheme), copy) in bound.0.into_iter().zip(copies?) {
            let endpoint = self.endpoint(socket, scheme, copy);
            self.endpoints.push(endpoint);
        }
        Ok(())
    }

    fn endpoint(&self, socket: Socket, scheme: Scheme, listener: TcpListener) -> Endpoint {
        self.limit(&socket);
        let secure = Arc::new(AtomicBool::new(scheme == Scheme::Https));
        let ending = Arc::<Ending>::default();
        let app = App { gateway: self.gateway.clone(), secure: secure.clone(), notice: ending.notice() };
        let mut service = Service::new("proxy".to_owned(), app);
        let name = socket.address.to_string();
        // hyper has buffers of its own; a second pair for each connection would only take memory.
        service.add_listener(ListenerConfig::tcp(name.clone()).l4_buffer(L4BufferSettings::unbuffered()));
        let mut fds = Fds::new();
        // pingora finds a socket that is bound already under the name of its address.
        fds.add(name, listener.into_raw_fd());
        let (shutdown, watched) = watch::channel(false);
        let fds = Arc::new(Mutex::new(fds));
        let service = tokio::spawn(async move { service.start_service(Some(fds), watched, 1).await });
        Endpoint { socket, secure, ending, shutdown, service }
    }

    /// Puts limits in force that the system keeps: for each connection that comes from now on.
    pub fn limit_all(&self) {
        self.endpoints.iter().for_each(|endpoint| self.limit(&endpoint.socket));
    }

    fn limit(&self, socket: &Socket) {
        if let Err(error) = give_up(&socket.listener, &self.gateway.admission.rules().limits) {
            tracing::warn!(%error, address = %socket.address, "clients that do not read may keep memory of the system");
        }
    }

    /// Speaks something else at these addresses, as they were asked for, with each connection that comes from now on.
    pub fn switch(&self, listeners: &[Listener]) {
        for listener in listeners {
            for endpoint in self.endpoints.iter().filter(|one| one.socket.asked == listener.address) {
                endpoint.secure.store(listener.scheme == Scheme::Https, Ordering::Relaxed);
            }
        }
    }

    /// Takes no more connections on these addresses, as they were asked for. Those that are open end with their next
    /// answer; who asks for nothing is closed after `patience`.
    pub fn close(&mut self, listeners: &[Listener], patience: Duration) {
        for listener in listeners {
            let is_it = |one: &Endpoint| one.listener() == *listener;
            let Some(index) = self.endpoints.iter().position(is_it) else { continue };
            let Endpoint { ending, shutdown, .. } = self.endpoints.remove(index);
            // Without a receiver it has ended already.
            let _ = shutdown.send(true);
            ending.give_notice();
            self.closed.retain(|ending| !ending.is_unwatched());
            self.closed.push(ending.clone());
            tokio::spawn(async move {
                if timeout(patience, ending.unwatched()).await.is_err() {
                    ending.close();
                }
            });
        }
    }

    /// The sockets once more, for a process that takes over.
    pub fn copies(&self) -> std::io::Result<Vec<(Socket, Scheme)>> {
        self.endpoints.iter().map(|endpoint| Ok((endpoint.socket.copy()?, endpoint.scheme()))).collect()
    }

    /// Takes no more connections, and returns when the last has ended. Who asks for nothing is closed once `answered`
    /// says that nobody waits for an answer, and a request that was on its way would have come.
    pub async fn drain(self, answered: impl Future<Output = ()>) {
        let mut draining = self.stop().await;
        let quiet = async {
            sleep(ON_THE_WAY).await;
            answered.await;
        };
        tokio::select! {
            () = draining.ended() => return,
            () = quiet => {}
        }
        draining.close().await;
    }

    /// Takes no more connections: when it returns, every one that comes is left to whoever has the sockets, too. Those
    /// that are open end with their next answer.
    pub async fn stop(self) -> Draining {
        let Self { gateway: _, endpoints, closed } = self;
        let mut endings = closed;
        let mut services = Vec::new();
        for Endpoint { ending, shutdown, service, .. } in endpoints {
            let _ = shutdown.send(true);
            ending.give_notice();
            endings.push(ending);
            services.push(service);
        }
        // A task that has panicked has ended, too.
        let _ = futures_util::future::join_all(services).await;
        Draining { endings }
    }
}

impl Endpoint {
    fn scheme(&self) -> Scheme {
        scheme(&self.secure)
    }

    fn listener(&self) -> Listener {
        Listener { address: self.socket.asked, scheme: self.scheme() }
    }
}

fn scheme(secure: &AtomicBool) -> Scheme {
    if secure.load(Ordering::Relaxed) { Scheme::Https } else { Scheme::Http }
}

/// Connections whose next answer is their last.
pub struct Draining {
    endings: Vec<Arc<Ending>>,
}

impl Draining {
    /// Returns when the last has ended. Cancel-safe.
    pub async fn ended(&mut self) {
        for ending in &self.endings {
            ending.unwatched().await;
        }
    }

    /// Closes those that ask for nothing, and returns when the others have ended, too. Cancel-safe.
    pub async fn close(&mut self) {
        self.endings.iter().for_each(|ending| ending.close());
        self.ended().await;
    }
}

/// The system gives up on a client that takes nothing of what was sent to it for as long as the proxy would: also after
/// the proxy has, and what is left is in the system's buffers only. Connections have this of their listener.
fn give_up(listener: &TcpListener, limits: &Limits) -> nix::Result<()> {
    let grace = if limits.min_rate == 0 { Duration::ZERO } else { limits.min_rate_grace };
    // None is the system's own, a quarter of an hour and more.
    let millis = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
    setsockopt(listener, sockopt::TcpUserTimeout, &millis)
}

struct App {
    gateway: Arc<Gateway>,
    secure: Arc<AtomicBool>,
    notice: Notice,
}

#[async_trait]
impl ServerApp for App {
    async fn process_new(self: &Arc<Self>, stream: Stream, _: &ShutdownWatch) -> Option<Stream> {
        serve::connection(self.gateway.clone(), stream, scheme(&self.secure), self.notice.clone()).await;
        None
    }
}
