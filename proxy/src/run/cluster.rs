//! Everything that runs while a cluster is served: a pool, its control loop and its instances for each service. Services
//! come, change and go while the others run on.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use longshore_backend::{Backend, Exit, Found, Key, StartError};
use longshore_pool::{Action, Event, InstanceId, Pool};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::UpError;
use super::handover::new::{Held, Predecessor};
use super::handover::old::Successor;
use crate::clock::Clock;
use crate::config::{self, Config, ProxyConfig, Source};
use crate::connect::Connector;
use crate::control::{Control, Controls, Runner};
use crate::events::{Events, Feed};
use crate::gateway::lease::Dispatcher;
use crate::gateway::listen::Listening;
use crate::gateway::service::{Service, Told};
use crate::gateway::space::BodyMemory;
use crate::metrics::Metrics;

/// How long after its own grace the removal of an instance may take before the process ends without it.
const STOP_MARGIN: Duration = Duration::from_secs(20);

/// Time between two looks whether a service that is no more is still in use.
const IDLE_LOOK: Duration = Duration::from_millis(20);

/// How long connections that were left open for another request take to be closed.
const LAST_WORD: Duration = Duration::from_millis(500);

/// How long an instance that another process has left may take to end.
const LEFT_GRACE: Duration = Duration::from_secs(1);

/// Incarnations left to a service that goes, when another one of its name comes meanwhile.
const SPARE_INCARNATIONS: u32 = 1_000;

/// How long a process that has been taken over from stays.
pub(super) struct Limits {
    /// To answer what it has accepted.
    pub(super) drain: Duration,
    /// For clients that ask for nothing, if that is shorter.
    pub(super) idle: Option<Duration>,
}

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

/// The control loops, those of services that are on their way out included.
#[derive(Default)]
struct Loops(Mutex<State>);

#[derive(Default)]
struct State {
    running: Vec<Loop>,
    /// By the name of a service that was removed: the last incarnation that it may have used.
    used: HashMap<Arc<str>, u32>,
}

struct Loop {
    control: Arc<Control>,
    name: Arc<str>,
    exits: mpsc::UnboundedSender<Exit>,
    task: AbortHandle,
}

type Wires = (Arc<Control>, mpsc::UnboundedReceiver<Action>);

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
            None => adopt(&wires, &cluster.backend).await?,
            Some(predecessor) if cluster.backend.outlives_process() => {
                let held = predecessor.hold().await.map_err(UpError::Takeover)?;
                cluster.leftovers = take_over(&wires, &cluster.backend, &held).await?;
            }
            Some(predecessor) => skip_incarnations(&wires, predecessor.last()),
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

    /// Refuses what is new and answers what was accepted, for at most `limit`.
    pub(crate) async fn drain(&self, closing: impl Future<Output = ()>, limit: Duration) {
        for control in self.loops.all() {
            control.service().dispatcher.tell(Event::Drain);
        }
        if timeout(limit, closing).await.is_err() {
            self.warn_of_cut();
        }
    }

    /// Returns when no request waits or is at work.
    pub(super) async fn quiet(&self) {
        while self.open_requests() > 0 {
            tokio::time::sleep(IDLE_LOOK).await;
        }
    }

    fn open_requests(&self) -> usize {
        self.loops.all().iter().map(|control| control.service().open_requests()).sum()
    }

    /// Leaves what comes to the process that has taken over, and answers what was accepted, for at most `limit`. New
    /// requests may still come on connections that are open; they are answered too.
    pub(super) async fn hand_over(&self, listening: Listening, successor: Successor, limits: Limits) {
        let mut draining = listening.stop().await;
        let all = self.loops.all();
        if successor.adopts() {
            self.backend.hands_off();
        }
        // Told before anything else: where nothing is open, this process ends at once.
        let hurry = Arc::<Notify>::default();
        let sharing = tokio::spawn(successor.let_serve(all, hurry.clone()).await);
        let end = Instant::now() + limits.drain;
        let patience = async {
            tokio::select! {
                () = sleep(limits.idle.unwrap_or(limits.drain)) => {}
                () = hurry.notified() => {}
            }
            self.quiet().await;
        };
        let ended = tokio::select! {
            () = draining.ended() => true,
            () = patience => false,
            () = sleep_until(end) => false,
        };
        let end = end.max(Instant::now() + LAST_WORD);
        if !ended && timeout_at(end, draining.close()).await.is_err() {
            self.warn_of_cut();
        }
        sharing.abort();
    }

    fn warn_of_cut(&self) {
        let requests = self.open_requests();
        tracing::warn!(requests, "the drain time is over: what is still open is cut");
    }

    /// Stops every instance that this cluster runs.
    ///
    /// # Errors
    /// What is left running, and why. It is in the log, too.
    pub(crate) async fn stop(&self) -> Result<(), Left> {
        let all = self.loops.all();
        let closed = futures_util::future::join_all(all.iter().map(|control| control.close()));
        if timeout(STOP_MARGIN, closed).await.is_err() {
            tracing::warn!(
                "starting an instance takes too long; it may be left behind, to be adopted or removed by the next `up`"
            );
        }
        let found = match self.backend.list().await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "failed to list what is to be stopped; it is left running");
                return Err(Left(format!("the instances cannot be listed: {error}")));
            }
        };
        let grace = |key: &Key| {
            let control = all.iter().find(|control| control.service().name == key.service);
            control.map_or(Duration::ZERO, |control| control.service().config.stop_grace)
        };
        let stops = found.iter().map(|found| stop_one(&self.backend, &found.key, grace(&found.key)));
        let left: Vec<String> = futures_util::future::join_all(stops).await.into_iter().flatten().collect();
        if left.is_empty() { Ok(()) } else { Err(Left(left.join(", "))) }
    }
}

/// Instances that are left running.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("instances are left running: {0}")]
pub struct Left(String);

impl Loops {
    /// Runs a control loop until it is ended.
    fn run(&self, (control, actions): Wires) {
        let (exits, receiver) = mpsc::unbounded_channel::<Exit>();
        // The first look makes the pool ask for what it wants; nobody shall read a size before.
        control.service().dispatcher.handle_timeout();
        let task = tokio::spawn(control.clone().run(actions, receiver)).abort_handle();
        let name = control.service().name.clone();
        self.0.lock().running.push(Loop { control, name, exits, task });
    }

    fn end(&self, control: &Arc<Control>) {
        self.0.lock().running.retain(|one| {
            let ended = Arc::ptr_eq(&one.control, control);
            if ended {
                one.task.abort();
            }
            !ended
        });
    }

    fn all(&self) -> Vec<Arc<Control>> {
        self.0.lock().running.iter().map(|one| one.control.clone()).collect()
    }

    /// Tells each loop of the ends of its instances. One that goes and one that has come in its place both hear of them:
    /// no two lives have the same incarnation.
    fn route(self: Arc<Self>, mut exits: futures_util::stream::BoxStream<'static, Exit>) {
        tokio::spawn(async move {
            while let Some(exit) = exits.next().await {
                for one in self.0.lock().running.iter().filter(|one| one.name == exit.key.service) {
                    // A control loop that is gone needs no news.
                    let _ = one.exits.send(exit.clone());
                }
            }
        });
    }
}

/// Returns when no request goes by the service any more, or when its timeout is over.
async fn unused(control: &Control) {
    let limit = Instant::now() + control.service().config.timeout;
    while control.is_in_use() {
        if Instant::now() >= limit {
            let service = control.service();
            tracing::warn!(
                service = %service.name, requests = service.open_requests(),
                "the timeout of a service that was removed is over: what is still open is cut"
            );
            return;
        }
        tokio::time::sleep(IDLE_LOOK).await;
    }
}

async fn stop_all(control: &Control, grace: Duration) {
    let Some(backend) = control.backend() else { return };
    let keys = control.keys();
    futures_util::future::join_all(keys.iter().map(|key| stop_one(&backend, key, grace))).await;
}

/// Stops an instance; gives its name if it is left.
async fn stop_one(backend: &Arc<dyn Backend>, key: &Key, grace: Duration) -> Option<String> {
    match timeout(grace + STOP_MARGIN, backend.stop(key, grace)).await {
        Ok(Ok(())) => return None,
        Ok(Err(error)) => tracing::error!(instance = %key, %error, "failed to stop an instance"),
        Err(_) => tracing::error!(instance = %key, "stopping an instance takes too long; it is left"),
    }
    Some(key.to_string())
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
            control.adopt(InstanceId { slot, incarnation }, address, found.paused);
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

/// As [`adopt`], from a process that runs on for a while: nothing is removed, and what is not current serves until it is
/// replaced. Gives what is of no use.
async fn take_over(wires: &[Wires], backend: &Arc<dyn Backend>, held: &Held) -> Result<Vec<Key>, UpError> {
    let found =
        backend.list().await.map_err(|error| UpError::Backend(StartError::EngineDown(error.to_string())))?;
    skip_incarnations(wires, &held.last);
    let mut leftovers = Vec::new();
    for found in found {
        if held.stopping.contains(&found.key.to_string()) {
            continue;
        }
        let control = wires
            .iter()
            .map(|(control, _)| control)
            .find(|control| control.service().name == found.key.service && control.backend().is_some());
        let (Some(control), Some(address)) = (control, found.address) else {
            leftovers.push(found.key);
            continue;
        };
        let id = InstanceId { slot: found.key.slot, incarnation: found.key.incarnation };
        if home(wires, &found).is_some() {
            tracing::info!(instance = %found.key, %address, "adopting a running instance");
            control.adopt(id, address, found.paused);
        } else {
            tracing::info!(instance = %found.key, %address, "adopting a running instance, to be replaced");
            control.adopt_outdated(id, address, found.paused);
        }
    }
    Ok(leftovers)
}

fn skip_incarnations(wires: &[Wires], last: &BTreeMap<String, u32>) {
    for (control, _) in wires {
        let service = control.service();
        if let Some(last) = last.get(&*service.name) {
            service.dispatcher.skip_incarnations(*last);
        }
    }
}

/// The control loop that an instance belongs to, if it was made from what the configuration says now.
fn home<'a>(wires: &'a [Wires], found: &Found) -> Option<&'a Arc<Control>> {
    let (control, _) = wires.iter().find(|(control, _)| control.service().name == found.key.service)?;
    match &control.service().config.source {
        Source::Image { spec } if spec.digest() == found.digest => Some(control),
        Source::Image { .. } | Source::Addresses(_) => None,
    }
}
