//! Instances as containers of one Docker engine.
//!
//! | module | owns |
//! | --- | --- |
//! | this one | [`DockerBackend`]: the calls of [`Backend`], and what they share |
//! | `connect` · `call` | which engine; time limits and what a failed call means |
//! | `images` · `pull` · `build` · `context` · `ignore` | making an image be there |
//! | `container` · `labels` | a specification as the engine's configuration; a key as labels, and back |
//! | `start` · `stop` · `pause` | one container's way in and out, and its sleep |
//! | `watch` · `death` · `pulse` | who has ended, and why; and that at once |
//! | `logs` | what a container wrote |
//!
//! The engine may hang, die and come back at any time while the containers go on serving. So no call waits for it
//! without a limit, and no silence of the engine is taken for an instance's death.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::watchers::Watchers;
use crate::{Backend, BackendError, Exit, Found, Key, Progress, Spec, StartError};

mod build;
mod call;
mod connect;
mod container;
mod context;
mod death;
mod ignore;
mod images;
mod labels;
mod logs;
mod pause;
mod pull;
mod pulse;
mod start;
mod stop;
mod watch;

/// Starts under way at once. More only wait for each other inside the engine, where their time limits run.
const STARTS: usize = 8;

/// An engine that does not answer for so long is taken to be away by someone who cannot get through to an instance.
const DETOUR_PING: Duration = Duration::from_millis(250);

/// One Docker engine, seen as a place to run the instances of one cluster.
pub struct DockerBackend {
    shared: Arc<Shared>,
    /// Follows the engine once somebody watches.
    supervisor: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

/// Instances that a call works on, so that the supervisor leaves their containers to it.
#[derive(Default)]
struct Held(Mutex<BTreeSet<Key>>);

impl Held {
    /// Until the guard is dropped, also by a caller who gives up.
    fn hold<'a>(&'a self, key: &'a Key) -> HeldGuard<'a> {
        self.0.lock().insert(key.clone());
        HeldGuard(self, key)
    }

    fn contains(&self, key: &Key) -> bool {
        self.0.lock().contains(key)
    }
}

struct HeldGuard<'a>(&'a Held, &'a Key);

impl Drop for HeldGuard<'_> {
    fn drop(&mut self) {
        self.0.0.lock().remove(self.1);
    }
}

/// What the calls and the supervisor share.
struct Shared {
    docker: Docker,
    cluster: String,
    /// Where published ports are.
    address: IpAddr,
    /// Whether the containers are another process's by now, which removes what has ended.
    hands_off: AtomicBool,
    /// Whether the engine has an init program, until a start shows that it does not.
    init: AtomicBool,
    starts: Semaphore,
    images: images::Images,
    /// Instances that have been seen to run, so that one that is gone without an event is missed.
    /// With it, the container's own address where there is a way to it.
    known: Mutex<BTreeMap<Key, Option<SocketAddr>>>,
    /// Instances whose start still looks at them: one that ends meanwhile is removed a little later.
    starting: Held,
    /// Instances that `stop` works on; it removes them itself.
    stopping: Held,
    /// Containers that are to be removed once the engine answers again, by name or id.
    doomed: Mutex<BTreeSet<String>>,
    watchers: Watchers,
}

impl DockerBackend {
    /// Connects to the engine at `host` (`unix://PATH`, `tcp://HOST:PORT`), else at `DOCKER_HOST`, else at the local
    /// socket, for the containers of `cluster`. Takes 2 seconds at most.
    ///
    /// # Errors
    /// [`StartError::EngineDown`] when none answers, [`StartError::Futile`] when the host cannot be spoken to.
    pub async fn connect(cluster: &str, host: Option<&str>) -> Result<Self, StartError> {
        let connect::Connection { docker, address } = connect::connect(host).await?;
        let shared = Shared {
            docker,
            cluster: cluster.to_owned(),
            address,
            hands_off: AtomicBool::new(false),
            init: AtomicBool::new(true),
            starts: Semaphore::new(STARTS),
            images: images::Images::default(),
            known: Mutex::default(),
            starting: Held::default(),
            stopping: Held::default(),
            doomed: Mutex::default(),
            watchers: Watchers::default(),
        };
        Ok(Self { shared: Arc::new(shared), supervisor: Mutex::default() })
    }
}

impl Drop for DockerBackend {
    fn drop(&mut self) {
        if let Some(supervisor) = self.supervisor.get_mut().take() {
            supervisor.abort();
        }
    }
}

impl Shared {
    fn name(&self, key: &Key) -> String {
        labels::container_name(&self.cluster, key)
    }
}

#[async_trait]
impl Backend for DockerBackend {
    fn kind(&self) -> &'static str {
        "docker"
    }

    async fn prepare(&self, spec: &Spec, rebuild: bool, progress: &dyn Progress) -> Result<(), StartError> {
        self.shared.images.prepare(&self.shared.docker, spec, rebuild, progress).await
    }

    async fn restore(&self, spec: &Spec) -> Result<(), StartError> {
        self.shared.images.restore(&self.shared.docker, spec).await
    }

    async fn start(&self, key: &Key, spec: &Spec) -> Result<SocketAddr, StartError> {
        start::start(&self.shared, key, spec).await
    }

    /// A published port is often served by a process of the engine, which dies with it, while the container goes on.
    /// So while the engine does not answer, the container's own address is the way, where this machine has one. (Only
    /// then: an engine that answers may have given that address to another container.)
    async fn detour(&self, key: &Key) -> Option<SocketAddr> {
        let own = self.shared.known.lock().get(key).copied().flatten()?;
        let answers = call::within(DETOUR_PING, self.shared.docker.ping()).await.is_ok();
        (!answers).then_some(own)
    }

    async fn stop(&self, key: &Key, grace: Duration) -> Result<(), BackendError> {
        stop::stop(&self.shared, key, grace).await
    }

    async fn kill(&self, key: &Key) -> Result<(), BackendError> {
        stop::kill(&self.shared, key).await
    }

    async fn pause(&self, key: &Key) -> Result<(), BackendError> {
        pause::pause(&self.shared, key).await
    }

    async fn resume(&self, key: &Key) -> Result<(), BackendError> {
        pause::resume(&self.shared, key).await
    }

    fn outlives_process(&self) -> bool {
        true
    }

    async fn engine(&self) -> Option<String> {
        let known = call::within(call::LIST, self.shared.docker.info()).await.ok().and_then(|info| info.id);
        Some(known.filter(|id| !id.is_empty()).unwrap_or_else(|| "docker".to_owned()))
    }

    fn hands_off(&self) {
        self.shared.hands_off.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    async fn list(&self) -> Result<Vec<Found>, BackendError> {
        watch::list(&self.shared).await
    }

    fn watch(&self) -> BoxStream<'static, Exit> {
        let exits = self.shared.watchers.subscribe();
        self.supervisor.lock().get_or_insert_with(|| tokio::spawn(watch::supervise(self.shared.clone())));
        exits
    }

    async fn frozen(&self, key: &Key) -> bool {
        pause::is_paused(&self.shared, key).await == Some(true)
    }

    async fn logs(
        &self,
        key: &Key,
        tail: usize,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<Bytes, BackendError>>, BackendError> {
        logs::stream(&self.shared, key, tail, follow).await
    }
}
