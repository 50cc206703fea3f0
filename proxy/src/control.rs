//! The control loop: one task a service. It performs what the pool asks of the world (start, probe, stop) and tells
//! the pool what came of it. It decides nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt;
use longshore_backend::{Backend, Cause, Exit, Key, Spec, StartError};
use longshore_pool::{Action, DeathCause, Event, Health, InstanceId, Retry, Time};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use self::charge::Charge;
use crate::clock::Clock;
use crate::config::{self, Check, Pattern};
use crate::gateway::lease::Dispatcher;
use crate::gateway::service::Service;
use crate::metrics::ServiceMetrics;
use crate::{probe, problem};

mod charge;
mod standby;

/// Pause between two tries to stop an instance while the engine does not answer.
const STOP_RETRY: Duration = Duration::from_secs(1);

/// What runs a service's instances.
pub enum Runner {
    /// Instances that are started and stopped.
    Managed {
        /// By whom.
        backend: Arc<dyn Backend>,
        /// From what.
        spec: Arc<Spec>,
    },
    /// Servers that already run.
    Addresses(Vec<SocketAddr>),
}

impl Runner {
    /// The slots whose server is another one in `next`. (Those that are no more are drained by their pool.)
    fn moved(&self, next: &Self) -> Vec<u32> {
        match (self, next) {
            (Self::Addresses(before), Self::Addresses(after)) => {
                let pairs = (0_u32..).zip(before.iter().zip(after));
                pairs.filter(|(_, (before, after))| before != after).map(|(slot, _)| slot).collect()
            }
            (Self::Managed { .. } | Self::Addresses(_), Self::Managed { .. })
            | (Self::Managed { .. }, Self::Addresses(_)) => Vec::new(),
        }
    }

    /// Who starts and stops instances, if anybody.
    pub const fn backend(&self) -> Option<&Arc<dyn Backend>> {
        match self {
            Self::Managed { backend, .. } => Some(backend),
            Self::Addresses(_) => None,
        }
    }
}

/// The control loops of all services, in the order of the file; another list when services come or go.
pub type Controls = Arc<ArcSwap<Vec<Arc<Control>>>>;

/// One service's control loop.
pub struct Control {
    /// Its present generation.
    service: ArcSwap<Service>,
    /// Those before it, which requests may still go by.
    earlier: Mutex<Vec<Weak<Service>>>,
    runner: ArcSwap<Runner>,
    dispatcher: Arc<Dispatcher>,
    metrics: Arc<ServiceMetrics>,
    clock: Clock,
    instances: Mutex<HashMap<InstanceId, Life>>,
    charge: Mutex<Charge>,
    tasks: TaskTracker,
    /// The starts under way; closed, under the lock of `instances`, when no other may begin.
    starts: TaskTracker,
}

/// What the loop remembers of an instance.
struct Life {
    /// When its start was asked for, until it is ready.
    starting: Option<Time>,
    /// Resolves when the last call to the backend about it (start, pause, resume) has returned: one after the other.
    under_way: Option<oneshot::Receiver<()>>,
    /// Whether a line of its log has matched.
    log_matched: bool,
    /// Whether it is being stopped, so that its end is no death.
    stopping: bool,
    /// Whether it is to be replaced once it is ready: it was made from something else.
    outdated: bool,
}

impl Control {
    /// A loop that is not running yet.
    pub fn new(service: Arc<Service>, runner: Runner) -> Arc<Self> {
        Arc::new(Self {
            runner: ArcSwap::from_pointee(runner),
            dispatcher: service.dispatcher.clone(),
            metrics: service.metrics.clone(),
            clock: service.clock,
            service: ArcSwap::new(service),
            earlier: Mutex::default(),
            instances: Mutex::default(),
            charge: Mutex::default(),
            tasks: TaskTracker::new(),
            starts: TaskTracker::new(),
        })
    }

    /// The service as it is configured now.
    pub fn service(&self) -> Arc<Service> {
        self.service.load_full()
    }

    /// The next generation of the service, of which its pool need not know.
    pub fn renew(&self, service: Arc<Service>) -> Arc<Service> {
        let before = self.service.swap(service);
        let mut earlier = self.earlier.lock();
        earlier.retain(|one| one.strong_count() > 0);
        earlier.push(Arc::downgrade(&before));
        before
    }

    /// Whether a request goes by any generation of the service: it may be in the pool, or on its way there.
    pub fn is_in_use(&self) -> bool {
        let present = self.service();
        // This one's, and the control loop's own.
        let used = Arc::strong_count(&present) > 2;
        used || self.earlier.lock().iter().any(|one| one.strong_count() > 0) || present.open_requests() > 0
    }

    /// Who starts and stops its instances, if anybody.
    pub fn backend(&self) -> Option<Arc<dyn Backend>> {
        self.runner.load().backend().cloned()
    }

    /// Whether nothing is started any more.
    pub fn is_closed(&self) -> bool {
        self.starts.is_closed()
    }

    /// All instances that are known, as their backend names them.
    pub fn keys(&self) -> Vec<Key> {
        self.instances.lock().keys().map(|instance| self.key(*instance)).collect()
    }

    /// What runs its instances, and the name there of one of them.
    pub fn managed(&self, instance: InstanceId) -> Option<(Arc<dyn Backend>, Key)> {
        Some((self.runner.load().backend()?.clone(), self.key(instance)))
    }

    /// The next generation of the service; instances that run are replaced one by one if they are to `roll`.
    pub fn configure(self: &Arc<Self>, service: Arc<Service>, runner: Runner, roll: bool) {
        let before = self.renew(service.clone());
        let moved = self.runner.load().moved(&runner);
        self.runner.store(Arc::new(runner));
        self.check_logs_anew(&before.config, &service.config);
        service.sizing.configure(service.config.clone(), roll);
        for view in self.dispatcher.snapshot().instances {
            if moved.contains(&view.instance.slot) {
                self.dispatcher.tell(Event::InstanceReplace { instance: view.instance });
            }
        }
    }

    /// Where readiness is told by another line of the log: what was ready stays so, what starts is looked at again.
    fn check_logs_anew(self: &Arc<Self>, before: &config::Service, after: &config::Service) {
        if before.health.check == after.health.check || !matches!(after.health.check, Check::Log(_)) {
            return;
        }
        let starting: Vec<InstanceId> = {
            let mut instances = self.instances.lock();
            instances.values_mut().for_each(|life| life.log_matched = life.starting.is_none());
            instances.iter().filter(|(_, life)| !life.log_matched).map(|(id, _)| *id).collect()
        };
        starting.into_iter().for_each(|instance| self.watch_log(instance));
    }

    /// An instance that an earlier process has left running.
    pub fn adopt(self: &Arc<Self>, instance: InstanceId, address: SocketAddr, paused: bool) {
        self.remember(instance);
        self.watch_log(instance);
        self.dispatcher.tell(Event::InstanceFound { instance, address, paused });
    }

    /// An instance that another process has left running, made from what is not in force any more: it serves until it is
    /// replaced.
    pub fn adopt_outdated(self: &Arc<Self>, instance: InstanceId, address: SocketAddr, paused: bool) {
        self.adopt(instance, address, paused);
        if let Some(life) = self.instances.lock().get_mut(&instance) {
            life.outdated = true;
        }
    }

    /// From now on no instance is started, and one that ends is one that was stopped: the process is ending. Returns
    /// when the starts under way are over, so that what they made can be found and stopped.
    pub async fn close(&self) {
        {
            let mut instances = self.instances.lock();
            self.starts.close();
            instances.values_mut().for_each(|life| life.stopping = true);
        }
        self.starts.wait().await;
    }

    /// Performs the pool's actions and tells it of `exits`, for as long as the process lives.
    pub async fn run(
        self: Arc<Self>,
        mut actions: mpsc::UnboundedReceiver<Action>,
        mut exits: mpsc::UnboundedReceiver<Exit>,
    ) {
        let dispatcher = self.dispatcher.clone();
        self.service().sizing.begin();
        loop {
            let armed = self.clock.instant(dispatcher.armed());
            tokio::select! {
                Some(action) = actions.recv() => self.perform(action),
                Some(exit) = exits.recv() => self.exited(self.own_name(id(&exit.key)), cause(exit.cause)),
                () = dispatcher.rearmed() => {}
                () = tokio::time::sleep_until(armed) => dispatcher.handle_timeout(),
            }
        }
    }

    fn key(&self, instance: InstanceId) -> Key {
        self.dispatcher.connector().key(instance)
    }

    fn perform(self: &Arc<Self>, action: Action) {
        let Some(action) = self.in_charge(action) else { return };
        match action {
            Action::Start { instance } => self.start(instance),
            Action::Probe { instance, address } => self.probe(instance, address),
            Action::Pause { instance } => self.pause(instance),
            Action::Resume { instance } => self.resume(instance),
            Action::Stop { instance, grace } => self.stop(instance, grace),
            Action::Dispatch { .. } | Action::Reject { .. } | Action::Revoke { .. } => {
                unreachable!("the dispatcher handles what concerns requests")
            }
        }
    }

    fn remember(&self, instance: InstanceId) {
        let life = self.life(None);
        self.instances.lock().insert(instance, life);
    }

    fn life(&self, under_way: Option<oneshot::Receiver<()>>) -> Life {
        Life {
            starting: Some(self.clock.now()),
            under_way,
            log_matched: false,
            stopping: false,
            outdated: false,
        }
    }

    fn start(self: &Arc<Self>, instance: InstanceId) {
        match &**self.runner.load() {
            Runner::Addresses(addresses) => {
                self.remember(instance);
                let slot = usize::try_from(instance.slot).unwrap_or(usize::MAX);
                if let Some(address) = addresses.get(slot % addresses.len()).copied() {
                    self.dispatcher.tell(Event::InstanceStarted { instance, address });
                }
            }
            Runner::Managed { backend, spec } => {
                let (done, started) = oneshot::channel();
                let Some(under_way) = self.begin_start(instance, started) else { return };
                let (control, backend, spec) = (self.clone(), backend.clone(), spec.clone());
                self.tasks.spawn(async move {
                    match backend.start(&control.key(instance), &spec).await {
                        Ok(address) => {
                            tracing::debug!(instance = %control.key(instance), %address, "instance started");
                            control.watch_log(instance);
                            control.dispatcher.tell(Event::InstanceStarted { instance, address });
                        }
                        Err(error) => control.exited(instance, start_failed(&error)),
                    }
                    // A stop may wait for this; if none does, nobody minds.
                    let _ = done.send(());
                    drop(under_way);
                });
            }
        }
    }

    /// Remembers the instance and its start, which is under way until the result is dropped; `None` once all is closed.
    fn begin_start(&self, instance: InstanceId, started: oneshot::Receiver<()>) -> Option<TaskTrackerToken> {
        let life = self.life(Some(started));
        let mut instances = self.instances.lock();
        if self.starts.is_closed() {
            return None;
        }
        instances.insert(instance, life);
        Some(self.starts.token())
    }

    fn probe(self: &Arc<Self>, instance: InstanceId, address: SocketAddr) {
        let control = self.clone();
        self.tasks.spawn(async move {
            let health = control.look(instance, address).await;
            let outdated = health == Health::Ready && control.ready(instance);
            control.dispatcher.tell(Event::InstanceProbed { instance, health });
            if outdated {
                control.dispatcher.tell(Event::InstanceReplace { instance });
            }
        });
    }

    async fn look(&self, instance: InstanceId, address: SocketAddr) -> Health {
        let service = self.service();
        let health = &service.config.health;
        if let Check::Log(_) = &health.check {
            let matched = self.instances.lock().get(&instance).is_some_and(|life| life.log_matched);
            if !matched {
                return Health::NotReady;
            }
        }
        let seen = probe::http_or_tcp(
            self.dispatcher.connector(),
            (instance, address),
            &health.check,
            health.timeout,
        )
        .await;
        if self.is_given_up() {
            // It may be at work for the process that has it, which sees to its health.
            return if seen == Health::NotReady { seen } else { Health::Ready };
        }
        let suspicious = seen == Health::Silent || health.check == Check::Tcp;
        match self.managed(instance) {
            // Only the backend can tell a frozen server from a busy one; and a frozen one still accepts connections.
            Some((backend, key)) if suspicious && backend.frozen(&key).await => Health::Frozen,
            Some(_) | None => seen,
        }
    }

    /// It is ready, for the first time perhaps; gives whether it is to be replaced because of what it was made from.
    fn ready(&self, instance: InstanceId) -> bool {
        let (starting, outdated) = match self.instances.lock().get_mut(&instance) {
            Some(life) => (life.starting.take(), std::mem::take(&mut life.outdated)),
            None => (None, false),
        };
        if let Some(since) = starting {
            let took = self.clock.now().since(since);
            self.metrics.started(took);
            tracing::info!(instance = %self.key(instance), took_ms = took.as_millis() as u64, "instance ready");
        }
        outdated
    }

    /// The pool itself finds some dead: hung, or not ready in time. Their end is a stop, their death is told here.
    fn report_sentence(&self, instance: InstanceId) {
        let snapshot = self.dispatcher.snapshot();
        let Some(view) = snapshot.instances.iter().find(|view| view.instance == instance) else { return };
        if let Some((cause, at)) = &view.last_death
            && *at == view.since
        {
            let before_ready =
                self.instances.lock().get(&instance).is_some_and(|life| life.starting.is_some());
            self.report_death(instance, cause, before_ready);
        }
    }

    fn stop(self: &Arc<Self>, instance: InstanceId, grace: Duration) {
        self.report_sentence(instance);
        let under_way = self.instances.lock().get_mut(&instance).and_then(|life| {
            life.stopping = true;
            life.under_way.take()
        });
        let control = self.clone();
        self.tasks.spawn(async move {
            if let Some(under_way) = under_way {
                // What is still being created can only be removed after it is there.
                let _ = under_way.await;
            }
            if let Some((backend, key)) = control.managed(instance) {
                tracing::debug!(instance = %key, "stopping instance");
                while let Err(error) = backend.stop(&key, grace).await {
                    tracing::warn!(instance = %key, %error, "failed to stop an instance; trying again");
                    tokio::time::sleep(STOP_RETRY).await;
                }
            }
            control.exited(instance, DeathCause::Stopped);
        });
    }

    fn exited(&self, instance: InstanceId, cause: DeathCause) {
        if cause == DeathCause::Unexplained {
            let stopping = self.instances.lock().get(&instance).is_none_or(|life| life.stopping);
            if !stopping {
                tracing::debug!(instance = %self.key(instance), "instance ended, its cause will follow");
                self.dispatcher.tell(Event::InstanceExited { instance, cause });
            }
            return;
        }
        let known = self.instances.lock().remove(&instance);
        match known {
            Some(life) if !life.stopping => self.report_death(instance, &cause, life.starting.is_some()),
            Some(_) => tracing::debug!(instance = %self.key(instance), "instance stopped"),
            None => {}
        }
        self.dispatcher.tell(Event::InstanceExited { instance, cause });
    }

    fn report_death(&self, instance: InstanceId, cause: &DeathCause, before_ready: bool) {
        let key = self.key(instance);
        if before_ready {
            self.metrics.start_failed();
        }
        self.metrics.died(problem::death_label(cause));
        tracing::warn!(instance = %key, cause = problem::death(cause), before_ready, "instance died");
    }

    /// Follows the instance's log until a line matches, where readiness is told by the log.
    fn watch_log(self: &Arc<Self>, instance: InstanceId) {
        let service = self.service();
        let Check::Log(pattern) = &service.config.health.check else { return };
        let (control, pattern) = (self.clone(), pattern.clone());
        self.tasks.spawn(async move {
            if control.log_matches(instance, &pattern).await
                && let Some(life) = control.instances.lock().get_mut(&instance)
            {
                life.log_matched = true;
            }
        });
    }

    async fn log_matches(&self, instance: InstanceId, pattern: &Pattern) -> bool {
        let Some((backend, key)) = self.managed(instance) else { return true };
        let Ok(mut log) = backend.logs(&key, 1000, true).await else { return false };
        let mut line = Vec::new();
        while let Some(Ok(chunk)) = log.next().await {
            for part in chunk.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(part);
                if pattern.is_match(&line) {
                    return true;
                }
                if part.ends_with(b"\n") || line.len() > 64 * 1024 {
                    line.clear();
                }
            }
        }
        false
    }
}

fn id(key: &Key) -> InstanceId {
    InstanceId { slot: key.slot, incarnation: key.incarnation }
}

fn cause(cause: Cause) -> DeathCause {
    match cause {
        Cause::Exited { code, log } => DeathCause::Exited { code, log: log.into() },
        Cause::OutOfMemory { log } => DeathCause::OutOfMemory { log: log.into() },
        Cause::Killed { signal } => DeathCause::Killed { signal },
        Cause::Vanished => DeathCause::Vanished,
        Cause::Unexplained => DeathCause::Unexplained,
    }
}

fn start_failed(error: &StartError) -> DeathCause {
    let (text, retry) = match error {
        StartError::Futile(text) => (text, Retry::Futile),
        StartError::Failed(text) => (text, Retry::Later),
        StartError::EngineDown(text) => (text, Retry::EngineDown),
    };
    DeathCause::StartFailed { error: text.as_str().into(), retry }
}
