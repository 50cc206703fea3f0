//! Everything that runs while a cluster is served: a pool, its control loop and its instances for each service. Services
//! come, change and go while the others run on.

mod adopt;
mod end;
mod loops;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use longshore_backend::{Backend, Key};
use longshore_pool::{Event, Pool};

pub(crate) use self::end::Drained;
pub use self::end::Left;
pub(super) use self::end::Limits;
use self::end::{stop_all, stop_one, unused};
use self::loops::{Loops, Wires};
use super::UpError;
use super::handover::new::Predecessor;
use crate::clock::Clock;
use crate::config::{self, Config, ProxyConfig, Source};
use crate::connect::Connector;
use crate::control::{Control, Controls, Runner};
use crate::events::{Events, Feed};
use crate::gateway::lease::Dispatcher;
use crate::gateway::service::{Service, Told};
use crate::gateway::space::BodyMemory;
use crate::metrics::Metrics;

/// How long an instance that another process has left may take to end.
const LEFT_GRACE: Duration = Duration::from_secs(1);

/// Incarnations left to a service that goes, when another one of its name comes meanwhile.
const SPARE_INCARNATIONS: u32 = 1_000;

/// The services of one process.
pub(crate) struct Cluster {
    pub(crate) clock: Clock,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: Arc<Events>,
    pub(crate) controls: Controls,
    memory: BodyMemory,
    loops: Arc<Loops>,
    /// Until they run.
    waiting: Vec<Wires>,
    /// What another process has left that is to be removed once that has ended.
    leftovers: Vec<Key>,
}

impl Cluster {
    /// Adopts what runs already, and runs.
    pub(crate) async fn assemble(config: &Config, backend: Arc<dyn Backend>) -> Result<Self, UpError> {
        let mut cluster = Self::assemble_after(config, backend, None).await?;
        cluster.run();
        Ok(cluster)
    }

    /// Adopts what runs already; or, where another process is being taken over, what is that one's, which holds still from
    /// then on. Nothing is done to any instance before [`Cluster::run`].
    pub(super) async fn assemble_after(
        config: &Config,
        backend: Arc<dyn Backend>,
        predecessor: Option<&mut Predecessor>,
    ) -> Result<Self, UpError> {
        let metrics = Metrics::new().map_err(|error| UpError::Own(error.to_string()))?;
        let clock = Clock::start();
        let mut cluster = Self {
            clock,
            backend,
            metrics,
            events: Events::new(clock),
            controls: Arc::new(ArcSwap::from_pointee(Vec::new())),
            memory: BodyMemory::default(),
            loops: Arc::default(),
            waiting: Vec::new(),
            leftovers: Vec::new(),
        };
        let wires: Vec<Wires> =
            config.services.iter().map(|service| cluster.wire(service, &config.proxy)).collect();
        // The watch begins before the list is read, so that no death falls between them.
        let exits = cluster.backend.watch();
        match predecessor {
            None => adopt::adopt(&wires, &cluster.backend).await?,
            Some(predecessor) if cluster.backend.outlives_process() => {
                let held = predecessor.hold().await.map_err(UpError::Takeover)?;
                cluster.leftovers = adopt::take_over(&wires, &cluster.backend, &held).await?;
            }
            Some(predecessor) => adopt::skip_incarnations(&wires, predecessor.last()),
        }
        cluster.loops.clone().route(exits);
        cluster.controls.store(Arc::new(wires.iter().map(|(control, _)| control.clone()).collect()));
        cluster.waiting = wires;
        cluster.metrics.configured(cluster.clock.unix_now());
        Ok(cluster)
    }

    /// Acts on instances from now on.
    pub(super) fn run(&mut self) {
        let loops = self.loops.clone();
        self.waiting.drain(..).for_each(|wires| loops.run(wires));
    }

    /// Removes what another process has left, which has ended.
    pub(super) fn remove_leftovers(&mut self) -> impl Future<Output = ()> + use<> {
        let (backend, keys) = (self.backend.clone(), std::mem::take(&mut self.leftovers));
        async move {
            let stops = keys.iter().map(|key| {
                tracing::info!(instance = %key, "removing an instance that is of no use any more");
                stop_one(&backend, key, LEFT_GRACE)
            });
            futures_util::future::join_all(stops).await;
        }
    }

    /// The present generation of each service.
    pub(crate) fn services(&self) -> Vec<Arc<Service>> {
        self.controls.load().iter().map(|control| control.service()).collect()
    }

    /// The control loop of a service.
    pub(crate) fn control(&self, name: &str) -> Option<Arc<Control>> {
        self.controls.load().iter().find(|control| *control.service().name == *name).cloned()
    }

    /// A service that nothing has been asked of yet.
    pub(crate) fn create(&self, service: &config::Service, proxy: &ProxyConfig) -> Arc<Control> {
        let (control, actions) = self.wire(service, proxy);
        if let Some(last) = self.loops.0.lock().used.get(&service.name) {
            control.service().dispatcher.skip_incarnations(*last);
        }
        self.loops.run((control.clone(), actions));
        control
    }

    /// What starts the instances of a service.
    pub(crate) fn runner(&self, service: &config::Service) -> Runner {
        match &service.source {
            Source::Image { spec } => {
                Runner::Managed { backend: self.backend.clone(), spec: Arc::new(spec.clone()) }
            }
            Source::Addresses(addresses) => Runner::Addresses(addresses.clone()),
        }
    }

    /// Ends a service to which no route leads any more: what was accepted for it is answered, for as long as its timeout
    /// allows, then its instances are stopped.
    pub(crate) fn retire(&self, control: Arc<Control>) {
        let (loops, metrics, controls) = (self.loops.clone(), self.metrics.clone(), self.controls.clone());
        let name = control.service().name.clone();
        let last = control.service().dispatcher.last_incarnation().saturating_add(SPARE_INCARNATIONS);
        loops.0.lock().used.insert(name.clone(), last);
        tokio::spawn(async move {
            unused(&control).await;
            let service = control.service();
            service.dispatcher.tell(Event::Drain);
            control.close().await;
            stop_all(&control, service.config.stop_grace).await;
            loops.end(&control);
            service.sizing.end();
            if !controls.load().iter().any(|other| other.service().name == name) {
                metrics.forget(&name);
            }
            tracing::info!(service = %name, "the service is gone, and its instances with it");
        });
    }

    fn wire(&self, service: &config::Service, proxy: &ProxyConfig) -> Wires {
        let seed = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |elapsed| u64::try_from(elapsed.as_nanos() & u128::from(u64::MAX)).unwrap_or(0));
        let pool = Pool::new(Arc::new(service.pool_config()), service.size.make(), seed, self.clock.now());
        let runner = self.runner(service);
        let connector = Connector::new(service.name.clone(), service.protocol, runner.backend().cloned());
        let (dispatcher, actions) = Dispatcher::new(connector, self.clock, pool);
        let metrics = self.metrics.service(&service.name);
        let events = Feed::new(self.events.clone(), service.name.clone());
        let told = Told { metrics, events };
        let memory = self.memory.clone();
        let service = Service::new(service.clone(), proxy, dispatcher, told, self.clock, memory);
        (Control::new(service, runner), actions)
    }
}
