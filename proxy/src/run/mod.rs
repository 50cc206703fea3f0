//! Puts a cluster together, serves it until somebody says stop, and takes it apart again.

mod backend;
mod keys;
mod record;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use longshore_backend::{Backend, Exit, Found, Key, StartError};
use longshore_pool::{Action, Event, InstanceId, Pool, StateView};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::admin::Admin;
use crate::cli::up::UpOptions;
use crate::clock::Clock;
use crate::config::{self, Config, Source};
use crate::connect::Connector;
use crate::console::Console;
use crate::control::{Control, Runner};
use crate::gateway::Gateway;
use crate::gateway::lease::Dispatcher;
use crate::gateway::listen::{BindError, Bound, Listening};
use crate::gateway::route::Routes;
use crate::gateway::service::Service;
use crate::gateway::space::BodyMemory;
use crate::jobs::Jobs;
use crate::metrics::Metrics;

/// How long after its own grace the removal of an instance may take before the process ends without it.
const STOP_MARGIN: Duration = Duration::from_secs(20);

/// Why a cluster could not be served.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// A port in use, or an address that is not ours.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The token of the admin API cannot be read.
    #[error("cannot read [admin] token_file {path}: {error}")]
    Token {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The demanded backend does not answer, or an image cannot be made.
    #[error(transparent)]
    Backend(#[from] StartError),
    /// The recording cannot be written.
    #[error("cannot record to {path}: {error}")]
    Record {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The job store cannot be opened.
    #[error("cannot open the job store: {0}")]
    Jobs(#[from] longshore_jobs::StoreError),
    /// Something of the process's own.
    #[error("{0}")]
    Own(String),
}

/// Serves a cluster until SIGINT or SIGTERM (or `POST /shutdown`), then drains and stops what it started.
pub async fn up(options: UpOptions, console: Console) -> Result<(), UpError> {
    let config = options.config;
    raise_descriptors();
    let token = token(&config)?;
    // Ports first: a mistake there should be known before a container is touched.
    let bound = Bound::bind(&config.proxy.listen)?;
    let admin_listener = bind_admin(&config)?;
    let backend = backend::choose(&config, options.backend).await?;
    prepare(&config, &*backend, options.build, &console).await?;
    let cluster = Cluster::assemble(&config, backend.clone()).await?;
    let recording = match &options.record {
        Some(file) => Some(record::begin(file, &cluster.services())?),
        None => None,
    };
    let jobs = Jobs::new(config.jobs.clone(), &config.name);
    let (routes, refused) = (Routes::new(&cluster.services()), cluster.metrics.refused());
    let gateway = Gateway::new(routes, &config.proxy, cluster.clock, refused, Some(jobs.clone()));
    jobs.start(&gateway).await?;
    keys::follow(&gateway);
    let listening = bound.serve(gateway);
    let (asked, mut shutdown) = mpsc::unbounded_channel();
    let admin = Arc::new(Admin {
        cluster: config.name.clone(),
        backend: backend.kind(),
        services: cluster.controls.clone(),
        metrics: cluster.metrics.clone(),
        token,
        jobs: jobs.clone(),
        shutdown: asked,
    });
    let admin_address = admin_listener.local_addr().map_err(|error| UpError::Own(error.to_string()))?;
    tokio::spawn(admin.serve(admin_listener));
    console.serving(listening.addresses(), admin_address, backend.kind());
    let announced = tokio::spawn(announce(cluster.controls.clone(), console.clone()));
    signal(&mut shutdown).await?;
    announced.abort();
    // It ends by being cancelled, or has ended.
    let _ = announced.await;
    console.finish();
    tracing::info!("shutting down: answering what was accepted; once more to stop at once");
    tokio::select! {
        () = cluster.drain(listening, &jobs, config.proxy.drain) => {}
        stopped = signal(&mut shutdown) => stopped?,
    }
    if let Some(recording) = recording {
        recording.end().await;
    }
    if options.keep {
        tracing::info!("leaving the instances running, for the next `longshore up` to adopt");
        return Ok(());
    }
    tokio::select! {
        () = cluster.stop() => {}
        stopped = signal(&mut shutdown) => stopped?,
    }
    Ok(())
}

fn token(config: &Config) -> Result<Option<String>, UpError> {
    let Some(path) = &config.admin.token_file else { return Ok(None) };
    let error = |error| UpError::Token { path: path.clone(), error };
    let text = std::fs::read_to_string(path).map_err(error)?;
    let token = text.trim();
    if token.is_empty() {
        return Err(error(std::io::Error::new(std::io::ErrorKind::InvalidData, "it is empty")));
    }
    Ok(Some(token.to_owned()))
}

/// A connection takes a descriptor, and a request at work another: as many as the system lets this process have.
fn raise_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn bind_admin(config: &Config) -> Result<tokio::net::TcpListener, UpError> {
    let listener = Bound::single(config.admin.listen)?;
    tokio::net::TcpListener::from_std(listener).map_err(|error| UpError::Own(error.to_string()))
}

async fn signal(asked: &mut mpsc::UnboundedReceiver<()>) -> Result<(), UpError> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen =
        |kind| signal(kind).map_err(|error| UpError::Own(format!("cannot listen for signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        Some(()) = asked.recv() => {}
    }
    Ok(())
}

/// Builds or pulls the images that are missing, several at once. One that fails is no reason not to serve the others:
/// its service says why it cannot start.
async fn prepare(
    config: &Config,
    backend: &dyn Backend,
    build: bool,
    console: &Console,
) -> Result<(), UpError> {
    let specs = config.services.iter().filter_map(|service| match &service.source {
        Source::Image { spec } => Some((service, spec)),
        Source::Addresses(_) => None,
    });
    let prepared = futures_util::future::join_all(
        specs.map(|(service, spec)| async move { (service, backend.prepare(spec, build, console).await) }),
    )
    .await;
    console.finish();
    let failed: Vec<_> =
        prepared.iter().filter_map(|(service, result)| Some((service, result.as_ref().err()?))).collect();
    for (service, error) in &failed {
        tracing::error!(service = %service.name, %error, "the service cannot start");
    }
    match failed.first() {
        Some((_, error)) if failed.len() == config.services.len() => Err(UpError::Backend((*error).clone())),
        Some(_) | None => Ok(()),
    }
}

/// Says once when each service has all the instances that it wants.
async fn announce(controls: Vec<Arc<Control>>, console: Console) {
    let mut waiting = controls;
    while !waiting.is_empty() {
        let mut rest = Vec::new();
        for control in waiting {
            let service = control.service();
            let snapshot = service.dispatcher.snapshot();
            let ready = snapshot.instances.iter().filter(|view| view.state == StateView::Ready).count();
            console.starting(&service.name, ready, snapshot.wanted);
            if ready < snapshot.wanted as usize {
                rest.push(control);
            } else {
                console.ready(&service.name, &service.config, ready);
            }
        }
        waiting = rest;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    console.finish();
}

/// Everything that runs while a cluster is served.
struct Cluster {
    clock: Clock,
    backend: Arc<dyn Backend>,
    metrics: Arc<Metrics>,
    controls: Vec<Arc<Control>>,
}

type Wires = (Arc<Control>, mpsc::UnboundedReceiver<Action>);

impl Cluster {
    async fn assemble(config: &Config, backend: Arc<dyn Backend>) -> Result<Self, UpError> {
        let clock = Clock::start();
        let metrics = Metrics::new().map_err(|error| UpError::Own(error.to_string()))?;
        let memory = BodyMemory::default();
        let wire = |service| wire(service, config, &backend, &metrics, clock, memory.clone());
        let wires: Vec<Wires> = config.services.iter().map(wire).collect();
        // The watch begins before the list is read, so that no death falls between them.
        let mut exits = backend.watch();
        adopt(&wires, &backend).await?;
        let mut routes = Vec::new();
        let mut controls = Vec::new();
        for (control, actions) in wires {
            let (sender, receiver) = mpsc::unbounded_channel::<Exit>();
            routes.push((control.service().name.clone(), sender));
            controls.push(control.clone());
            // The first look makes the pool ask for what it wants; nobody shall read a size before.
            control.service().dispatcher.handle_timeout();
            tokio::spawn(control.run(actions, receiver));
        }
        tokio::spawn(async move {
            use futures_util::StreamExt;
            while let Some(exit) = exits.next().await {
                if let Some((_, sender)) = routes.iter().find(|(name, _)| *name == exit.key.service) {
                    // A control loop that is gone needs no news.
                    let _ = sender.send(exit);
                }
            }
        });
        Ok(Self { clock, backend, metrics, controls })
    }

    fn services(&self) -> Vec<Arc<Service>> {
        self.controls.iter().map(|control| control.service().clone()).collect()
    }

    /// Refuses what is new and answers what was accepted, for at most `limit`.
    async fn drain(&self, listening: Listening, jobs: &Jobs, limit: Duration) {
        for control in &self.controls {
            control.service().dispatcher.tell(Event::Drain);
        }
        if timeout(limit, async { tokio::join!(listening.drain(), jobs.drain()) }).await.is_err() {
            let open: usize = self.controls.iter().map(|control| control.service().open_requests()).sum();
            tracing::warn!(requests = open, "the drain time is over: what is still open is cut");
        }
    }

    /// Stops every instance that this cluster runs.
    async fn stop(&self) {
        let closed = futures_util::future::join_all(self.controls.iter().map(|control| control.close()));
        if timeout(STOP_MARGIN, closed).await.is_err() {
            tracing::warn!(
                "starting an instance takes too long; it may be left behind, to be adopted or removed by the next `up`"
            );
        }
        let found = match self.backend.list().await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "failed to list what is to be stopped; it is left running");
                return;
            }
        };
        let stops = found.into_iter().map(|found| async move {
            let grace = self
                .controls
                .iter()
                .find(|control| control.service().name == found.key.service)
                .map_or(Duration::ZERO, |control| control.service().config.stop_grace);
            match timeout(grace + STOP_MARGIN, self.backend.stop(&found.key, grace)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(instance = %found.key, %error, "failed to stop an instance")
                }
                Err(_) => {
                    tracing::error!(instance = %found.key, "stopping an instance takes too long; it is left")
                }
            }
        });
        futures_util::future::join_all(stops).await;
    }
}

fn wire(
    service: &config::Service,
    config: &Config,
    backend: &Arc<dyn Backend>,
    metrics: &Metrics,
    clock: Clock,
    memory: BodyMemory,
) -> Wires {
    let seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| u64::try_from(elapsed.as_nanos() & u128::from(u64::MAX)).unwrap_or(0));
    let pool = Pool::new(Arc::new(service.pool_config()), service.size.make(), seed, clock.now());
    let runner = match &service.source {
        Source::Image { spec } => Runner::Managed { backend: backend.clone(), spec: Arc::new(spec.clone()) },
        Source::Addresses(addresses) => Runner::Addresses(addresses.clone()),
    };
    let connector = Connector::new(service.name.clone(), runner.backend().cloned());
    let (dispatcher, actions) = Dispatcher::new(connector, clock, pool);
    let service = Service::new(
        service.clone(),
        &config.proxy,
        dispatcher,
        metrics.service(&service.name),
        clock,
        memory,
    );
    (Control::new(service, runner), actions)
}

/// Takes over what an earlier process has left running and is current, and removes the rest of it.
async fn adopt(wires: &[Wires], backend: &Arc<dyn Backend>) -> Result<(), UpError> {
    let found =
        backend.list().await.map_err(|error| UpError::Backend(StartError::EngineDown(error.to_string())))?;
    for found in &found {
        if let Some((control, _)) =
            wires.iter().find(|(control, _)| control.service().name == found.key.service)
        {
            control.service().dispatcher.skip_incarnations(found.key.incarnation);
        }
    }
    let (current, stale): (Vec<Found>, Vec<Found>) =
        found.into_iter().partition(|found| home(wires, found).is_some() && found.address.is_some());
    for found in current {
        if let (Some(control), Some(address)) = (home(wires, &found), found.address) {
            tracing::info!(instance = %found.key, %address, "adopting a running instance");
            let Key { slot, incarnation, .. } = found.key;
            control.adopt(InstanceId { slot, incarnation }, address);
        }
    }
    let removals = stale.into_iter().map(|found| async move {
        tracing::info!(instance = %found.key, "removing a stale instance");
        if let Err(error) = backend.stop(&found.key, Duration::from_secs(1)).await {
            tracing::error!(instance = %found.key, %error, "failed to remove a stale instance");
        }
    });
    futures_util::future::join_all(removals).await;
    Ok(())
}

/// The control loop that an instance belongs to, if it was made from what the configuration says now.
fn home<'a>(wires: &'a [Wires], found: &Found) -> Option<&'a Arc<Control>> {
    let (control, _) = wires.iter().find(|(control, _)| control.service().name == found.key.service)?;
    match &control.service().config.source {
        Source::Image { spec } if spec.digest() == found.digest => Some(control),
        Source::Image { .. } | Source::Addresses(_) => None,
    }
}
