//! The control loop: one task a service. It performs what the pool asks of the world (start, probe, stop) and tells
//! the pool what came of it. It decides nothing.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use longshore_backend::{Backend, Cause, Exit, Found, Key, Spec};
use longshore_pool::{Action, DeathCause, Event, InstanceId, Time};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use self::charge::Charge;
use crate::clock::Clock;
use crate::events::Feed;
use crate::gateway::lease::Dispatcher;
use crate::gateway::service::Service;
use crate::metrics::ServiceMetrics;

mod charge;
mod lives;
mod looks;
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
    events: Feed,
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
    /// What was seen last while it was not well, in words; and what of that is in the log.
    seen: Option<Arc<str>>,
    told: Option<Arc<str>>,
    /// Whether a line of its log has matched.
    log_matched: bool,
    /// Whether it is being stopped, so that its end is no death.
    stopping: bool,
    /// Whether it is to be replaced once it is ready: it was made from something else.
    outdated: bool,
    /// When it was made, where another process did that and it is known.
    begun: Option<SystemTime>,
}

impl Control {
    /// A loop that is not running yet.
    pub fn new(service: Arc<Service>, runner: Runner) -> Arc<Self> {
        Arc::new(Self {
            runner: ArcSwap::from_pointee(runner),
            dispatcher: service.dispatcher.clone(),
            metrics: service.metrics.clone(),
            events: service.events.clone(),
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

    /// How old an instance is that another process has made, if that is known.
    pub fn age(&self, instance: InstanceId) -> Option<Duration> {
        self.instances.lock().get(&instance)?.begun?.elapsed().ok()
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

    /// An instance that an earlier process has left running.
    pub fn adopt(self: &Arc<Self>, found: &Found, address: SocketAddr) {
        let (instance, paused) = (id(&found.key), found.paused);
        self.remember(instance);
        if let Some(life) = self.instances.lock().get_mut(&instance) {
            life.begun = found.begun;
        }
        self.watch_log(instance);
        self.dispatcher.tell(Event::InstanceFound { instance, address, paused });
    }

    /// An instance that another process has left running, made from what is not in force any more: it serves until it is
    /// replaced.
    pub fn adopt_outdated(self: &Arc<Self>, found: &Found, address: SocketAddr) {
        self.adopt(found, address);
        if let Some(life) = self.instances.lock().get_mut(&id(&found.key)) {
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
        let mut resized = Time::ZERO;
        loop {
            resized = self.tell_sizes(resized);
            let armed = self.clock.instant(dispatcher.armed());
            tokio::select! {
                Some(action) = actions.recv() => {
                    // What it is done for is told before it is.
                    resized = self.tell_sizes(resized);
                    self.perform(action);
                }
                Some(exit) = exits.recv() => self.exited(self.own_name(id(&exit.key)), cause(exit.cause)),
                () = dispatcher.rearmed() => {}
                () = tokio::time::sleep_until(armed) => dispatcher.handle_timeout(),
            }
        }
    }

    /// Tells each size that was decided after a time; gives when the last of them was.
    fn tell_sizes(&self, after: Time) -> Time {
        let decisions = self.dispatcher.resized(after);
        decisions.iter().for_each(|decision| self.events.resized(decision));
        decisions.last().map_or(after, |decision| decision.since)
    }

    fn key(&self, instance: InstanceId) -> Key {
        self.dispatcher.connector().key(instance)
    }

    fn perform(self: &Arc<Self>, action: Action) {
        let Some(action) = self.in_charge(action) else { return };
        match action {
            Action::Start { instance } => self.start(instance),
            Action::Probe { instance, address } => self.probe(instance, address),
            Action::Examine { instance } => self.examine(instance),
            Action::Pause { instance } => self.pause(instance),
            Action::Resume { instance } => self.resume(instance),
            Action::Stop { instance, grace } => self.stop(instance, grace),
            Action::Dispatch { .. } | Action::Reject { .. } | Action::Revoke { .. } => {
                unreachable!("the dispatcher handles what concerns requests")
            }
        }
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
