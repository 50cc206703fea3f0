//! A cluster inside a program of yours: what `longshore up` does, without a file and without a port.
//!
//! | module | owns |
//! | --- | --- |
//! | this one | [`Cluster`]: started, resized, closed |
//! | `service` | [`Service`]: what is to run |
//! | `client` | [`Client`]: requests that go straight into the queue |

use std::sync::Arc;
use std::time::Duration;

use longshore_pool::{ScalingPolicy, StateView};
use serde_json::Value as Json;
use tokio_util::task::TaskTracker;

use crate::config::{BackendKind, Config, ServiceSize, typed_size};
use crate::control::Control;
use crate::gateway::Gateway;
use crate::gateway::ending::Ending;
use crate::gateway::route::Routes;
use crate::jobs::Jobs;
use crate::run::cluster::{self as running, Left};
use crate::run::{self, UpError};
use crate::telemetry::Sampler;

mod client;
mod service;

pub use client::{Client, ClientError};
pub use service::Service;

/// How often it is looked whether instances are ready.
const LOOK: Duration = Duration::from_millis(10);

/// Services that run, and the way to them.
///
/// ```
/// use http_body_util::BodyExt;
/// use longshore::{BackendKind, Cluster, Load, Service};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let calc = Service::new("calc").image("longshore/model-server").command(["model-server", "calculator"]).size(2);
/// # let calc = calc.build("../images/model-server");
/// let cluster = Cluster::builder().backend(BackendKind::Process).service(calc).start().await?;
///
/// let client = cluster.client();
/// let sum = client.get("http://calc/add/3/4").await?;
/// assert_eq!(sum.into_body().collect().await?.to_bytes(), "7");
///
/// cluster.set_size("calc", 3)?;
/// cluster.set_size("calc", |load: &Load| if load.queue > 7 { 2 } else { 1 })?;
/// cluster.close().await?;
/// # Ok(())
/// # }
/// ```
///
/// Every request takes the way that requests over the network take: through the queue, to an instance with a free slot,
/// and to another one if that dies. What a cluster logs goes to `tracing`.
///
/// A cluster that is dropped and not closed leaves its containers running, for the next one of its name to adopt. Child
/// processes end with this process at the latest.
pub struct Cluster {
    running: running::Cluster,
    gateway: Arc<Gateway>,
    jobs: Option<Arc<Jobs>>,
    drain: Duration,
    shutdown: Ending,
    connections: TaskTracker,
}

/// What a cluster is to be; made by [`Cluster::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClusterBuilder {
    name: String,
    backend: Option<BackendKind>,
    jobs: Option<String>,
    services: Vec<Service>,
}

/// Why a cluster could not be started, or a size not be set.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// What was asked for makes no sense; the text shows each mistake in its place in the cluster.toml that it would be.
    #[error("{0}")]
    Config(String),
    /// No engine answers, or no image can be had.
    #[error(transparent)]
    Start(#[from] UpError),
    /// Instances that could not be stopped.
    #[error(transparent)]
    Left(#[from] Left),
    /// No service has this name.
    #[error("there is no service {name}; there are: {names}")]
    NoService {
        /// The name.
        name: String,
        /// Those that there are.
        names: String,
    },
    /// A service whose instances cannot be started, or all have ended: why.
    #[error("{service} cannot start: {cause}")]
    CannotStart {
        /// Its name.
        service: String,
        /// What its instances ended of.
        cause: String,
    },
}

impl Cluster {
    /// A cluster named `default`, on Docker where an engine answers, else as child processes, without services yet.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder { name: "default".to_owned(), backend: None, jobs: None, services: Vec::new() }
    }

    /// A client of all services. Cheap, and so are its clones.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.gateway.clone(), self.shutdown.notice(), self.connections.clone())
    }

    /// Puts a number, a function of the [`Load`](crate::Load), or any [`ScalingPolicy`] in charge of a service's size. It
    /// is held between the service's `min` and `max`, whatever it says.
    ///
    /// # Errors
    /// [`ClusterError::NoService`]; [`ClusterError::Config`] for a number that is not within the bounds, and for servers
    /// that already run.
    pub fn set_size(&self, service: &str, policy: impl ScalingPolicy + 'static) -> Result<(), ClusterError> {
        let control = self.control(service)?;
        let sizing = &control.service().sizing;
        // Also where it is no number: whether the service has a size to set.
        let asked = sizing.understand(&policy.fixed().map_or_else(|| Json::from("1"), Json::from));
        let asked = asked.map_err(|error| ClusterError::Config(error.to_string()))?;
        match policy.fixed() {
            Some(_) => sizing.set(asked),
            None => sizing.govern(Box::new(policy)),
        }
        Ok(())
    }

    /// The same with a size as it is typed on a command line: the name of a policy, an expression, or the JSON of a
    /// table of `size`.
    ///
    /// # Errors
    /// [`ClusterError::NoService`], and [`ClusterError::Config`] for what cannot be understood.
    pub fn set_size_text(&self, service: &str, size: &str) -> Result<(), ClusterError> {
        let control = self.control(service)?;
        let sizing = &control.service().sizing;
        let understood = typed_size(size, &ServiceSize::default())
            .and_then(|typed: ServiceSize| sizing.understand(&typed.form()));
        sizing.set(understood.map_err(|error| ClusterError::Config(error.to_string()))?);
        Ok(())
    }

    /// Returns when every service has as many ready instances as it wants. (Requests need not wait for that: they queue.)
    ///
    /// # Errors
    /// [`ClusterError::CannotStart`] as soon as one cannot have them.
    pub async fn ready(&self) -> Result<(), ClusterError> {
        for service in self.running.services() {
            loop {
                let snapshot = service.dispatcher.snapshot();
                if let Some(cause) = &snapshot.cannot_start {
                    let cause = crate::problem::death(cause);
                    return Err(ClusterError::CannotStart { service: service.name.to_string(), cause });
                }
                let ready = snapshot.instances.iter().filter(|view| view.state == StateView::Ready).count();
                if ready >= snapshot.wanted as usize {
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(())
    }

    /// Refuses what is new, answers what was accepted (for 30 s at the most), and stops every instance.
    ///
    /// # Errors
    /// [`ClusterError::Left`] when some of them could not be stopped.
    pub async fn close(self) -> Result<(), ClusterError> {
        let Self { running, jobs, drain, shutdown, connections, gateway } = self;
        let closing = async {
            shutdown.close();
            connections.close();
            let jobs = async {
                if let Some(jobs) = &jobs {
                    jobs.drain().await;
                }
            };
            tokio::join!(connections.wait(), jobs);
            // Jobs that are at work are finished by way of it.
            drop(gateway);
        };
        let drained = running.drain(closing, drain, std::future::pending()).await;
        Ok(running.stop(drained).await?)
    }

    fn control(&self, name: &str) -> Result<Arc<Control>, ClusterError> {
        self.running.control(name).ok_or_else(|| {
            let names: Vec<String> = self.running.services().iter().map(|it| it.name.to_string()).collect();
            ClusterError::NoService { name: name.to_owned(), names: names.join(", ") }
        })
    }
}

impl ClusterBuilder {
    /// Names it: its containers carry the name, and a cluster takes over those that one of the same name has left.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Says what runs the instances.
    pub fn backend(mut self, kind: BackendKind) -> Self {
        self.backend = Some(kind);
        self
    }

    /// Keeps jobs there: `"file:FOLDER"`, `"memory:"` or `"redis://HOST:PORT/DATABASE"`. Then a request with
    /// `Prefer: respond-async` is answered with a ticket as soon as it is kept, and its `Location` is asked for the rest,
    /// at any service. Without this there are no jobs.
    pub fn jobs(mut self, store: impl Into<String>) -> Self {
        self.jobs = Some(store.into());
        self
    }

    /// Adds a service.
    pub fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// Makes images be there, adopts what runs already, and begins to start the rest; does not wait until it is ready.
    ///
    /// # Errors
    /// [`ClusterError::Config`] and [`ClusterError::Start`].
    pub async fn start(self) -> Result<Cluster, ClusterError> {
        let config = self.config()?;
        let backend = run::backend::choose(&config, self.backend).await.map_err(UpError::from)?;
        run::prepare(&config, &*backend, false, &Logged).await?;
        let jobs = self.jobs.is_some().then(|| Jobs::new(config.jobs.clone(), &config.name));
        if let Some(jobs) = &jobs {
            jobs.prepare().await.map_err(UpError::from)?;
        }
        let running = running::Cluster::assemble(&config, backend).await?;
        let routes = Routes::new(&running.services());
        // Whether traces are exported is the surrounding program's own affair.
        let sampler = Sampler::new(config.telemetry.sample);
        let entrance = running.metrics.entrance();
        let gateway =
            Gateway::new(routes, &config.proxy, running.clock, entrance, None, sampler, jobs.clone());
        if let Some(jobs) = &jobs {
            jobs.start(&gateway, &running.metrics).await;
        }
        let shutdown = Ending::default();
        let drain = config.proxy.drain;
        Ok(Cluster { running, gateway, jobs, drain, shutdown, connections: TaskTracker::new() })
    }

    /// By way of the text of a cluster.toml, so that there is one reader, and one set of messages.
    fn config(&self) -> Result<Config, ClusterError> {
        let services: String = self.services.iter().map(Service::text).collect();
        let jobs = self.jobs.as_ref().map(|store| format!("jobs.store = {}\n", service::quoted(store)));
        let jobs = jobs.unwrap_or_default();
        let text = format!("name = {}\n{jobs}\n{services}", service::quoted(&self.name));
        Config::parse(&text, "the cluster", &|name| std::env::var(name).ok())
            .map_err(|mistakes| ClusterError::Config(mistakes.render(false)))
    }
}

/// What is done to images, as log lines.
struct Logged;

impl longshore_backend::Progress for Logged {
    fn step(&self, what: &str, status: &str, _done: u64, _total: u64) {
        tracing::debug!(image = what, status, "preparing an image");
    }
}
