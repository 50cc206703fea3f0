//! Between requests and their pool: the one lock, and the leases that it grants.
//!
//! [`Dispatcher`] owns a service's `Pool`. Requests enter and leave it from their own tasks, in short critical
//! sections; instance news comes from `control.rs`. Whatever the pool decides about a waiting request completes that
//! request's [`Waiter`]; the rest goes to the control loop.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;
use longshore_pool::scaling::Tally;
use longshore_pool::simulate::Job;
use longshore_pool::{
    Action, Advice, Class, DeathCause, Decision, Event, InstanceId, Load, Outcome, Pool, PoolConfig,
    RejectReason, RequestId, ScalingPolicy, Snapshot, Time,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use super::connections::Link;
use crate::clock::Clock;
use crate::connect::Connector;
use crate::problem;

mod grant;
mod queue;

pub use grant::{Lease, Waiter};
pub use queue::InQueue;

/// So many ends of instances are remembered.
const FATES: usize = 64;

/// Owns one pool and what hangs on it: who waits, and the connections to each instance.
pub struct Dispatcher {
    connector: Arc<Connector>,
    clock: Clock,
    inner: Mutex<Inner>,
    actions: mpsc::UnboundedSender<Action>,
    rearm: Notify,
}

struct Inner {
    pool: Pool,
    waiting: HashMap<RequestId, Waiting>,
    links: HashMap<InstanceId, Arc<Link>>,
    /// How instances ended lately, in words.
    fates: VecDeque<(InstanceId, Arc<str>)>,
    /// When the control loop will next look at the pool's timers.
    armed: Time,
    /// The latest time that the pool was told. Requests tell their own, read before they had the lock.
    latest: Time,
}

struct Waiting {
    told: oneshot::Sender<Verdict>,
    /// What people call the request.
    name: HeaderValue,
}

enum Verdict {
    Granted { link: Arc<Link>, attempt: u32, at: Time },
    Refused(RejectReason),
}

/// What became of a request that entered the pool.
pub enum Entry {
    /// It has an instance.
    Granted(Lease),
    /// It will not be served.
    Refused(RejectReason),
    /// It waits.
    Waiting(Waiter),
}

impl Dispatcher {
    /// Takes the pool of a service, and gives what the control loop performs.
    pub fn new(
        connector: Arc<Connector>,
        clock: Clock,
        pool: Pool,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Action>) {
        let (actions, performed) = mpsc::unbounded_channel();
        let inner = Inner {
            pool,
            waiting: HashMap::new(),
            links: HashMap::new(),
            fates: VecDeque::new(),
            armed: Time::MAX,
            latest: Time::ZERO,
        };
        let dispatcher = Self { connector, clock, inner: Mutex::new(inner), actions, rearm: Notify::new() };
        (Arc::new(dispatcher), performed)
    }

    /// A request enters the pool; people call it `name`.
    pub fn arrive(
        self: &Arc<Self>,
        (request, name): (RequestId, &HeaderValue),
        deadline: Time,
        replayable: bool,
        class: Class,
        now: Time,
    ) -> Entry {
        self.enter((request, name), Event::RequestArrived { request, deadline, replayable, class }, now)
    }

    /// An earlier process has used incarnations up to `last`.
    pub fn skip_incarnations(&self, last: u32) {
        self.inner.lock().pool.skip_incarnations(last);
    }

    /// The last incarnation that was used, here or before.
    pub fn last_incarnation(&self) -> u32 {
        self.inner.lock().pool.last_incarnation()
    }

    /// Something happened that no request waits for.
    pub fn tell(&self, event: Event) {
        self.tell_at(event, self.clock.now());
    }

    fn tell_at(&self, event: Event, now: Time) {
        let mut inner = self.inner.lock();
        if let Event::InstanceExited { instance, cause } = &event
            && *cause != DeathCause::Unexplained
        {
            inner.note_fate(*instance, cause);
        }
        let gone = match &event {
            Event::InstanceExited { instance, .. } => Some(*instance),
            Event::RequestArrived { .. }
            | Event::RequestStreams { .. }
            | Event::RequestCancelled { .. }
            | Event::RequestFinished { .. }
            | Event::InstanceFound { .. }
            | Event::InstanceStarted { .. }
            | Event::InstanceExamined { .. }
            | Event::InstanceProbed { .. }
            | Event::InstancePaused { .. }
            | Event::InstanceResumed { .. }
            | Event::SizeSet { .. }
            | Event::InstanceReplace { .. }
            | Event::InstanceTaken { .. }
            | Event::Backlog { .. }
            | Event::Restart
            | Event::ConfigChanged { .. }
            | Event::Drain
            | Event::Cut => None,
        };
        self.apply(&mut inner, event, None, now);
        if let Some(link) = gone.and_then(|instance| inner.links.remove(&instance)) {
            link.close();
        }
    }

    /// Lets the pool act on timers that are due.
    pub fn handle_timeout(&self) {
        let now = self.clock.now();
        let unix_at_zero = self.clock.unix_now() - now.since(Time::ZERO).as_secs_f64();
        let mut inner = self.inner.lock();
        let now = inner.at_least(now);
        inner.pool.set_wall_clock(unix_at_zero);
        inner.pool.handle_timeout(now);
        self.pump(&mut inner, None, now);
        inner.armed = inner.pool.poll_timeout().unwrap_or(Time::MAX);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn armed(&self) -> Time {
        self.inner.lock().armed
    }

    /// Resolves when [`armed`](Self::armed) has become earlier.
    pub async fn rearmed(&self) {
        self.rearm.notified().await;
    }

    /// Connects to the pool's instances.
    pub const fn connector(&self) -> &Arc<Connector> {
        &self.connector
    }

    /// The pool at this instant.
    pub fn snapshot(&self) -> Snapshot {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        let now = inner.at_least(now);
        inner.pool.snapshot(now)
    }

    /// What a scaling policy sees at this instant.
    pub fn load(&self) -> Load {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        let now = inner.at_least(now);
        inner.pool.load(now)
    }

    /// The last size decisions, oldest first.
    pub fn decisions(&self) -> Vec<Decision> {
        self.inner.lock().pool.decisions().cloned().collect()
    }

    /// The decisions after a time that changed the size, oldest first.
    pub fn resized(&self, after: Time) -> Vec<Decision> {
        let inner = self.inner.lock();
        let mut decisions: Vec<Decision> = inner
            .pool
            .decisions()
            .rev()
            .take_while(|decision| decision.since > after)
            .filter(|decision| decision.size != decision.before && !decision.dry_run)
            .cloned()
            .collect();
        decisions.reverse();
        decisions
    }

    /// How many size decisions each policy has made, by direction.
    pub fn decision_tally(&self) -> Tally {
        self.inner.lock().pool.decision_tally().clone()
    }

    /// Puts another policy in charge of the size, with the configuration that it was made for.
    pub fn resize(&self, config: Arc<PoolConfig>, policy: Box<dyn ScalingPolicy>) {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        let now = inner.at_least(now);
        inner.pool.resize(config, policy, now);
        self.pump(&mut inner, None, now);
        self.rearm(&mut inner);
    }

    /// Puts another configuration in force, and another policy in charge of the size if there is one.
    pub fn reconfigure(&self, config: Arc<PoolConfig>, roll: bool, policy: Option<Box<dyn ScalingPolicy>>) {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        let now = inner.at_least(now);
        inner.pool.reconfigure(config, roll, policy, now);
        self.pump(&mut inner, None, now);
        self.rearm(&mut inner);
    }

    /// The requests answered since the last call; the first call begins to keep them.
    pub fn take_record(&self) -> Vec<Job> {
        self.inner.lock().pool.take_record()
    }

    /// Hands the policy what somebody else advises.
    pub fn advise(&self, advice: Advice) {
        self.inner.lock().pool.advise(advice);
    }

    fn enter(self: &Arc<Self>, (request, name): (RequestId, &HeaderValue), event: Event, now: Time) -> Entry {
        let mut inner = self.inner.lock();
        match self.apply(&mut inner, event, Some(request), now) {
            Some(Verdict::Granted { link, attempt, at }) => {
                Entry::Granted(self.lease(request, link, attempt, at))
            }
            Some(Verdict::Refused(reason)) => Entry::Refused(reason),
            None => {
                let (told, receiver) = oneshot::channel();
                inner.waiting.insert(request, Waiting { told, name: name.clone() });
                Entry::Waiting(Waiter { dispatcher: self.clone(), request, receiver })
            }
        }
    }

    fn lease(self: &Arc<Self>, request: RequestId, link: Arc<Link>, attempt: u32, at: Time) -> Lease {
        Lease { dispatcher: self.clone(), request, link, attempt, at, open: true }
    }

    fn apply(&self, inner: &mut Inner, event: Event, mine: Option<RequestId>, now: Time) -> Option<Verdict> {
        let now = inner.at_least(now);
        inner.pool.handle_event(event, now);
        let verdict = self.pump(inner, mine, now);
        self.rearm(inner);
        verdict
    }

    /// Wakes the control loop if a timer is due earlier than it knows.
    fn rearm(&self, inner: &mut Inner) {
        if let Some(next) = inner.pool.poll_timeout()
            && next < inner.armed
        {
            inner.armed = next;
            self.rearm.notify_one();
        }
    }

    /// Hands out what the pool has decided, and returns what concerns `mine`.
    fn pump(&self, inner: &mut Inner, mine: Option<RequestId>, now: Time) -> Option<Verdict> {
        let mut own = None;
        while let Some(action) = inner.pool.poll_action() {
            match action {
                Action::Dispatch { request, instance, address, attempt } => {
                    let link = link(&mut inner.links, &self.connector, instance, address);
                    let verdict = Verdict::Granted { link, attempt, at: now };
                    if mine == Some(request) {
                        own = Some(verdict);
                    } else if !deliver(&mut inner.waiting, request, verdict) {
                        let outcome = Outcome::Abandoned { broken: false };
                        inner.pool.handle_event(Event::RequestFinished { request, outcome }, now);
                    }
                }
                Action::Reject { request, mut reason } => {
                    inner.tell_fates(&mut reason);
                    let verdict = Verdict::Refused(reason);
                    if mine == Some(request) {
                        own = Some(verdict);
                    } else {
                        deliver(&mut inner.waiting, request, verdict);
                    }
                }
                Action::Revoke { request: _, instance, why } => {
                    if let Some(link) = inner.links.get(&instance) {
                        link.revoke(why);
                    }
                }
                Action::Start { .. }
                | Action::Probe { .. }
                | Action::Examine { .. }
                | Action::Pause { .. }
                | Action::Resume { .. }
                | Action::Stop { .. } => {
                    // The control loop outlives every request; without it the process is ending.
                    let _ = self.actions.send(action);
                }
            }
        }
        own
    }
}

impl Inner {
    fn note_fate(&mut self, instance: InstanceId, cause: &DeathCause) {
        let fate = problem::death_in_a_line(cause);
        if let Some(link) = self.links.get(&instance) {
            link.set_fate(&fate);
        }
        if self.fates.len() == FATES {
            self.fates.pop_front();
        }
        self.fates.push_back((instance, fate.into()));
    }

    /// What the backend says of an instance's end is worth more than what a connection saw of it.
    fn tell_fates(&self, reason: &mut RejectReason) {
        let RejectReason::AttemptsExhausted { attempts } = reason else { return };
        for (instance, how) in attempts {
            if let Some((_, fate)) = self.fates.iter().find(|(known, _)| known == instance) {
                *how = fate.clone();
            }
        }
    }

    /// Time does not run backwards, whoever got the lock first.
    fn at_least(&mut self, now: Time) -> Time {
        self.latest = self.latest.max(now);
        self.latest
    }
}

fn link(
    links: &mut HashMap<InstanceId, Arc<Link>>,
    connector: &Arc<Connector>,
    instance: InstanceId,
    address: SocketAddr,
) -> Arc<Link> {
    links.entry(instance).or_insert_with(|| Arc::new(Link::new(connector.clone(), instance, address))).clone()
}

fn deliver(waiting: &mut HashMap<RequestId, Waiting>, request: RequestId, verdict: Verdict) -> bool {
    waiting.remove(&request).is_some_and(|waiting| waiting.told.send(verdict).is_ok())
}
