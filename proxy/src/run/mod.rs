//! Puts a cluster together, serves it until somebody says stop, and takes it apart again.

pub(crate) mod backend;
pub(crate) mod cluster;
mod difference;
mod doors;
mod keys;
mod record;
mod reload;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use longshore_backend::{Backend, Progress, StartError};
use longshore_pool::StateView;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::admin::{Admin, Order, Refusal};
use crate::cli::up::UpOptions;
use crate::config::{Config, Source};
use crate::console::Console;
use crate::control::Control;
use crate::gateway::Gateway;
use crate::gateway::listen::{BindError, Bound, Socket};
use crate::gateway::route::Routes;
use crate::telemetry::{Exporter, Sampler, Tracer};
use cluster::Cluster;
use doors::AdminDoor;
use reload::Serving;
use watch::FileWatch;

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
    /// Something of the process's own.
    #[error("{0}")]
    Own(String),
}

/// Serves a cluster until SIGINT or SIGTERM (or `POST /shutdown`), then drains and stops what it started.
pub async fn up(options: UpOptions, console: Console) -> Result<(), UpError> {
    let mut ends = Ends::listen()?;
    let config = options.config;
    raise_descriptors();
    let token = token(&config)?;
    // Ports first: a mistake there should be known before a container is touched.
    let bound = Bound::bind(&config.proxy.listen)?;
    let admin_socket = Socket::bind(config.admin.listen)?;
    let backend = backend::choose(&config, options.backend).await?;
    let prepared = prepare(&config, &*backend, options.build, &console).await;
    console.finish();
    prepared?;
    let cluster = Cluster::assemble(&config, backend.clone()).await?;
    let recording = match &options.record {
        Some(file) => Some(record::begin(file, &cluster.services())?),
        None => None,
    };
    let routes = Routes::new(&cluster.services());
    let telemetry = config.telemetry.clone().within(&|name| std::env::var(name).ok());
    let (tracer, exporting) = Tracer::new(&telemetry, cluster.metrics.spans()).unzip();
    let exporting = exporting.map(Exporter::start);
    let sampler = Sampler::new(telemetry.sample);
    let gateway =
        Gateway::new(routes, &config.proxy, cluster.clock, cluster.metrics.refused(), tracer, sampler);
    keys::follow(&gateway);
    let listening = bound.serve(gateway.clone())?;
    let (orders, mut inbox) = mpsc::unbounded_channel();
    let admin = Arc::new(Admin {
        cluster: config.name.clone(),
        backend: backend.kind(),
        services: cluster.controls.clone(),
        metrics: cluster.metrics.clone(),
        token: ArcSwapOption::new(token.map(Arc::new)),
        orders,
    });
    let door = AdminDoor::open(&admin, admin_socket)?;
    console.serving(&listening.addresses(), door.address(), backend.kind());
    let watched = options.file.clone().map(FileWatch::begin);
    let (file, named_backend) = (options.file, options.backend);
    let mut serving =
        Serving { cluster, gateway, listening, admin, door, config, file, named_backend, console };
    serving.announce();
    serving.until_the_end(&mut ends, &mut inbox, watched).await;
    serving.console.finish();
    tracing::info!("shutting down: answering what was accepted; once more to stop at once");
    let Serving { cluster, listening, config, .. } = serving;
    tokio::select! {
        () = cluster.drain(listening.drain(), config.proxy.drain) => {}
        () = ends.asked(&mut inbox) => {}
    }
    if let Some(recording) = recording {
        recording.end().await;
    }
    if let Some(exporting) = exporting {
        exporting.end().await;
    }
    if options.keep {
        tracing::info!("leaving the instances running, for the next `longshore up` to adopt");
        return Ok(());
    }
    tokio::select! {
        () = cluster.stop() => {}
        () = ends.asked(&mut inbox) => {}
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

/// The signals that mean something.
struct Ends {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Ends {
    fn listen() -> Result<Self, UpError> {
        let listen =
            |kind| signal(kind).map_err(|error| UpError::Own(format!("cannot listen for signals: {error}")));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Returns when somebody asks for the end. Who asks for a reload meanwhile is refused.
    async fn asked(&mut self, inbox: &mut mpsc::UnboundedReceiver<Order>) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                Some(order) = inbox.recv() => match order {
                    Order::Shutdown => return,
                    Order::Reload(answer) => {
                        // Whoever asked may have left.
                        let _ = answer.send(Err(Refusal::ending()));
                    }
                },
            }
        }
    }
}

/// Builds or pulls the images that are missing, several at once. One that fails is no reason not to serve the others:
/// its service says why it cannot start.
pub(crate) async fn prepare(
    config: &Config,
    backend: &dyn Backend,
    build: bool,
    progress: &dyn Progress,
) -> Result<(), UpError> {
    let specs = config.services.iter().filter_map(|service| match &service.source {
        Source::Image { spec } => Some((service, spec)),
        Source::Addresses(_) => None,
    });
    let prepared = futures_util::future::join_all(
        specs.map(|(service, spec)| async move { (service, backend.prepare(spec, build, progress).await) }),
    )
    .await;
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
            if ready < snapshot.wanted as usize && !control.is_closed() {
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
