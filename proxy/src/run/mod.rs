//! Puts a cluster together, serves it until somebody says stop, and takes it apart again.

mod announce;
pub(crate) mod backend;
mod certificate;
mod claim;
pub(crate) mod cluster;
mod difference;
mod doors;
mod handover;
mod keys;
mod record;
mod refused;
mod reload;
mod takeover;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use longshore_backend::{Backend, Progress, StartError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::admin::view::ProxyView;
use crate::admin::{Admin, Order, Refusal};
use crate::cli::up::UpOptions;
use crate::config::{Config, Diagnostics, Listener, Scheme, Source};
use crate::console::Console;
use crate::events::Kind;
use crate::gateway::Gateway;
use crate::gateway::listen::{BindError, Bound, Socket};
use crate::gateway::route::Routes;
use crate::jobs::Jobs;
use crate::telemetry::{Exporter, Sampler, Tracer};
use announce::Announcements;
use claim::Claim;
use cluster::{Cluster, Drained, Limits};
use doors::AdminDoor;
use handover::new::Predecessor;
use handover::old::Before;
use reload::{End, Serving};
use watch::FileWatch;

/// So long clients that ask for nothing keep a process that has been taken over from giving up its folder of jobs.
const FOLDER_IDLE: Duration = Duration::from_secs(2);

/// Why a cluster could not be served.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// A port in use, or an address that is not ours.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The token of the admin API cannot be read.
    #[error(transparent)]
    Token(#[from] Diagnostics),
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
    /// It is not known whom to believe about who the collector of traces is.
    #[error("the collector of traces cannot be reached by https: {0}")]
    Telemetry(String),
    /// The process that runs has not been taken over; it goes on.
    #[error("the take-over has failed: {0}")]
    Takeover(String),
    /// Another process has the cluster's instances.
    #[error("{0}")]
    Taken(String),
    /// Something of the process's own.
    #[error("{0}")]
    Own(String),
}

/// Serves a cluster until SIGINT or SIGTERM (or `POST /shutdown`), then drains and stops what it started.
pub async fn up(options: UpOptions, console: Console) -> Result<(), UpError> {
    let mut ends = Ends::listen()?;
    let config = options.config;
    raise_descriptors();
    let token = config.admin.token()?;
    // Ports first: a mistake there should be known before a container is touched.
    let mut predecessor = match options.takeover {
        true => Predecessor::ask(&config.name).await.map_err(UpError::Takeover)?,
        false => None,
    };
    let mut inherited = |asked| predecessor.as_mut().and_then(|predecessor| predecessor.socket(asked));
    let bound = Bound::bind_or(&config.proxy.listeners(), &mut inherited)?;
    let door = Listener { address: config.admin.listen, scheme: Scheme::Http };
    let admin_socket = inherited(door).map_or_else(|| Socket::bind(door.address), Ok)?;
    let backend = backend::choose(&config, options.backend).await?;
    takeover::same_backend(&*backend, predecessor.as_ref())?;
    let mut claim = match &predecessor {
        None => Some(Claim::take(&config.name, &*backend).await?),
        Some(_) => None,
    };
    let prepared = prepare(&config, &*backend, options.build, &console).await;
    console.finish();
    prepared?;
    let jobs = Jobs::new(config.jobs.clone(), &config.name);
    jobs.prepare().await?;
    let mut cluster = Cluster::assemble_after(&config, backend.clone(), predecessor.as_mut()).await?;
    let recording = match &options.record {
        Some(file) => Some(record::begin(file, &cluster.services())?),
        None => None,
    };
    let telemetry = config.telemetry.clone().within(&|name| std::env::var(name).ok());
    let tracing = Tracer::new(&telemetry, cluster.metrics.spans()).map_err(UpError::Telemetry)?;
    let (tracer, exporting) = tracing.unzip();
    let exporting = exporting.map(Exporter::start);
    let sampler = Sampler::new(telemetry.sample);
    let (routes, entrance) = (Routes::new(&cluster.services()), cluster.metrics.entrance());
    let (clock, kept) = (cluster.clock, Some(jobs.clone()));
    let gateway = Gateway::new(routes, &config.proxy, clock, entrance, tracer, sampler, kept);
    jobs.start(&gateway, &cluster.metrics).await;
    keys::follow(&gateway);
    certificate::follow(&gateway);
    if let Some(predecessor) = &mut predecessor {
        takeover::take_over(&mut cluster, predecessor, &mut ends).await?;
        claim = takeover::claim(&config.name, &*backend).await;
    }
    cluster.run();
    let listening = bound.serve(gateway.clone())?;
    let (orders, mut inbox) = mpsc::unbounded_channel();
    let admin = Arc::new(Admin {
        cluster: config.name.clone(),
        backend: backend.kind(),
        services: cluster.controls.clone(),
        events: cluster.events.clone(),
        proxy: ArcSwap::from_pointee(ProxyView { id: gateway.id(), listen: listening.urls() }),
        metrics: cluster.metrics.clone(),
        token: ArcSwapOption::new(token.map(Arc::new)),
        jobs: jobs.clone(),
        orders,
        ending: AtomicBool::new(false),
    });
    let door = AdminDoor::open(&admin, admin_socket)?;
    console.serving(&listening.urls(), door.address(), backend.kind());
    let meeting = takeover::open_meeting(&config.name, options.takeover).await;
    let before = predecessor.map(|predecessor| {
        let (controls, leftovers) = (cluster.controls.clone(), cluster.remove_leftovers());
        let before = Arc::<Before>::default();
        let sharing = before.clone();
        tokio::spawn(async move {
            predecessor.go_on(|| controls.load().to_vec(), &sharing.hurry).await;
            sharing.gone.cancel();
            leftovers.await;
        });
        before
    });
    let watched = options.file.clone().map(|file| FileWatch::begin(vec![file]));
    let (file, named_backend) = (options.file, options.backend);
    let mut serving = Serving {
        cluster,
        gateway,
        listening,
        admin,
        door,
        config,
        file,
        named_backend,
        console,
        meeting,
        before,
        announcements: Announcements::default(),
    };
    serving.announcements.begin(serving.cluster.controls.load().to_vec(), &serving.console);
    let end = serving.until_the_end(&mut ends, &mut inbox, watched).await;
    let Serving { cluster, listening, config, door, admin, console, announcements, .. } = serving;
    drop(announcements);
    console.clear();
    let (mut leaves_instances, mut door) = (options.keep, Some(door));
    let drained = match end {
        End::Asked => {
            admin.ending.store(true, Ordering::Relaxed);
            tracing::info!("shutting down: answering what was accepted; once more to stop at once");
            claim.iter_mut().for_each(Claim::ends);
            cluster.events.tell(Kind::ShuttingDown, "what was accepted is answered, then the instances stop");
            let closing = async {
                tokio::join!(listening.drain(cluster.quiet()), jobs.drain());
            };
            cluster.drain(closing, config.proxy.drain, ends.asked(&mut inbox)).await
        }
        End::TakenOver(successor) => {
            tracing::info!("another process has taken over: answering what was accepted");
            leaves_instances = successor.adopts();
            drop(claim);
            // Whoever listens finds the other process under the same address.
            cluster.events.end(Kind::TakenOver, "another process serves from now on");
            door = None;
            let limits = Limits { drain: config.proxy.drain, idle: jobs.has_folder().then_some(FOLDER_IDLE) };
            let handing = cluster.hand_over(listening, successor, limits, ends.asked(&mut inbox));
            tokio::join!(handing, jobs.drain()).0
        }
    };
    if let Some(recording) = recording {
        recording.end().await;
    }
    if let Some(exporting) = exporting {
        exporting.end().await;
    }
    if leaves_instances {
        tracing::info!("leaving the instances running, for another `longshore up` to adopt");
    } else {
        end_instances(&cluster, drained, &mut ends, &mut inbox).await;
    }
    cluster.events.close();
    if let Some(door) = door {
        door.close().await;
    }
    Ok(())
}

/// Stops them, at once when somebody asks again; who asks once more than that leaves what is left.
async fn end_instances(
    cluster: &Cluster,
    mut drained: Drained,
    ends: &mut Ends,
    inbox: &mut mpsc::UnboundedReceiver<Order>,
) {
    loop {
        tokio::select! {
            // What is left has been logged.
            _ = cluster.stop(drained) => return,
            () = ends.asked(inbox) => match drained {
                Drained::Answered => tracing::warn!("asked once more to end: the instances are killed"),
                Drained::Cut => return,
            }
        }
        drained = Drained::Cut;
    }
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

    /// Returns at a signal that asks for the end.
    async fn signalled(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
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
