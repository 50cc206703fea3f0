//! What the pool must be doing, kept by plain means from what crosses its border: no code of the pool, no cleverness.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use longshore_pool::{
    Class, Event, Health, InstanceId, InstanceView, Outcome, PoolConfig, RequestId, Snapshot, StateView, Time,
};

use crate::balance::Standing;
use crate::restarts::Ends;

/// A broken claim, in words.
pub(crate) type Broken = String;

/// Fails with these words unless the claim holds.
macro_rules! ensure {
    ($claim:expr, $($words:tt)+) => {
        if !$claim {
            return Err(format!($($words)+));
        }
    };
}
pub(crate) use ensure;

pub(crate) struct Request {
    pub(crate) order: u64,
    pub(crate) arrived: Time,
    pub(crate) deadline: Time,
    pub(crate) replayable: bool,
    pub(crate) class: Class,
    pub(crate) attempts: u32,
    pub(crate) sent_losses: u32,
    /// It may only go where life was shown since.
    pub(crate) trust_from: Time,
    /// The same, where it was lost before.
    pub(crate) return_from: Time,
    pub(crate) lost_on: Vec<InstanceId>,
    /// When it was dispatched last.
    pub(crate) sent_at: Time,
    /// Whether its answer has begun and has no end.
    pub(crate) streams: bool,
    pub(crate) place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Waiting {
        replay: bool,
        until: Time,
    },
    Flying {
        instance: InstanceId,
        revoked: bool,
    },
    /// Must be rejected in this very step.
    Doomed,
}

/// What is known of an instance by its news.
#[derive(Default)]
pub(crate) struct Instance {
    /// When the probe under way began, and its rank among all that happened.
    pub(crate) probe: Option<(Time, u64)>,
    /// A probe has been answered well since it started.
    pub(crate) ready: bool,
    /// Rank of what made it suspect, and whether that was a mishap of a request.
    pub(crate) suspect: Option<(u64, bool)>,
    /// Upper bounds of what is held against it.
    pub(crate) failed_probes: u32,
    /// Probes in a row, since it serves, that found it frozen.
    pub(crate) frozen: u32,
    /// Different requests that it lost since its last answer.
    pub(crate) losses: BTreeSet<RequestId>,
    pub(crate) paused_until: Time,
    pub(crate) worked_until: Time,
    /// Requests of another process on it.
    pub(crate) taken: u32,
    /// The last sign of life.
    pub(crate) alive_at: Time,
    /// Its drain: since when, when it must end, and how long streams alone hold it up.
    pub(crate) drain: Option<(Time, Time, Duration)>,
    /// When a request began to stream, last.
    pub(crate) streams_since: Time,
    pub(crate) standing: Standing,
}

impl Instance {
    /// A request came to grief. Further ones until it is trusted again are the same mishap.
    fn mishap(&mut self, rank: u64) {
        if self.suspect.is_none_or(|(_, mishap)| !mishap) {
            self.suspect = Some((rank, true));
        }
    }
}

pub(crate) struct Model {
    pub(crate) config: Arc<PoolConfig>,
    /// The longest probe interval and restart delay of any configuration so far: what is under way keeps its time.
    pub(crate) longest: (Duration, Duration),
    pub(crate) now: Time,
    /// Until when timers have been handled.
    pub(crate) timers_at: Option<Time>,
    /// Whether this step is a timeout.
    pub(crate) timing_out: bool,
    pub(crate) rank: u64,
    pub(crate) requests: BTreeMap<u64, Request>,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    pub(crate) views: BTreeMap<InstanceId, InstanceView>,
    /// Who was ready before this step, and who was stopped gently in it.
    pub(crate) was_ready: BTreeSet<InstanceId>,
    pub(crate) stopped: BTreeSet<InstanceId>,
    pub(crate) incarnations: BTreeSet<u32>,
    pub(crate) draining: bool,
    /// Whether nothing is answered any more, and whether that begins in this step.
    pub(crate) cut: bool,
    pub(crate) cutting: bool,
    pub(crate) fixed: Option<u32>,
    /// The request that arrives, and the instance that exits, in this step.
    pub(crate) arriving: Option<u64>,
    pub(crate) exiting: Option<InstanceId>,
    pub(crate) waited_before: bool,
    /// For each two flows that have both been waiting: by how much the first was served more often since, and the least
    /// and the most that this has been.
    pub(crate) shares: BTreeMap<(u64, u64), (i64, i64, i64)>,
    /// Dispatches so far.
    pub(crate) turns: u64,
    /// Keys, and two slots of which each prefers the first.
    pub(crate) preferred: BTreeSet<(u64, u32, u32)>,
    pub(crate) ends: Ends,
}

impl Model {
    pub(crate) fn new(config: Arc<PoolConfig>, fixed: Option<u32>) -> Self {
        Self {
            longest: (config.probe_interval, config.backoff_max),
            config,
            now: Time::ZERO,
            timers_at: None,
            timing_out: false,
            rank: 0,
            requests: BTreeMap::new(),
            instances: BTreeMap::new(),
            views: BTreeMap::new(),
            was_ready: BTreeSet::new(),
            stopped: BTreeSet::new(),
            incarnations: BTreeSet::new(),
            draining: false,
            cut: false,
            cutting: false,
            fixed,
            arriving: None,
            exiting: None,
            waited_before: false,
            shares: BTreeMap::new(),
            turns: 0,
            preferred: BTreeSet::new(),
            ends: Ends::default(),
        }
    }

    /// A step begins.
    pub(crate) fn begin(&mut self, now: Time) {
        self.now = now;
        self.rank += 1;
        self.timing_out = false;
        self.arriving = None;
        self.exiting = None;
        self.cutting = false;
        self.begin_ends();
        let ready = self.views.values().filter(|view| view.state == StateView::Ready);
        self.was_ready = ready.map(|view| view.instance).collect();
        self.stopped.clear();
        let waited = self.waiting().next().is_some();
        self.waited_before = waited;
    }

    /// The step is a timeout.
    pub(crate) fn time_out(&mut self) {
        self.timing_out = true;
        self.timers_at = Some(self.now);
    }

    /// The pool is about to be told this.
    pub(crate) fn event(&mut self, event: &Event) {
        self.note_ends(event);
        match event {
            Event::RequestArrived { request, deadline, replayable, class } => {
                self.arrived(*request, *deadline, *replayable, *class);
            }
            Event::RequestCancelled { request } => {
                if self.requests.get(&request.0).is_some_and(|it| matches!(it.place, Place::Waiting { .. })) {
                    self.requests.remove(&request.0);
                }
            }
            Event::RequestStreams { request } => self.streams(*request),
            Event::RequestFinished { request, outcome } => self.finished(*request, outcome),
            Event::InstanceFound { instance, .. } => {
                self.incarnations.insert(instance.incarnation);
                if !self.views.contains_key(instance) {
                    self.instances.insert(*instance, Instance::default());
                }
            }
            Event::InstanceStarted { .. }
            | Event::InstanceExamined { .. }
            | Event::InstancePaused { .. }
            | Event::InstanceReplace { .. }
            | Event::Restart => {}
            Event::InstanceResumed { instance, failed } => {
                let state = self.views.get(instance).map(|view| view.state);
                if failed.is_none()
                    && state == Some(StateView::Resuming)
                    && let Some(known) = self.instances.get_mut(instance)
                {
                    known.standing.ready(self.config.slow_start, self.now);
                }
            }
            Event::InstanceTaken { instance, slots } => self.taken(*instance, *slots),
            // It changes nothing but what policies see.
            Event::Backlog { .. } => {}
            Event::InstanceProbed { instance, health } => self.probed(*instance, *health),
            Event::InstanceExited { instance, .. } => self.exiting = Some(*instance),
            Event::SizeSet { size } => {
                if self.config.managed {
                    self.fixed = Some(*size);
                }
            }
            Event::ConfigChanged { config, .. } => {
                let (probe, delay) = self.longest;
                self.longest = (probe.max(config.probe_interval), delay.max(config.backoff_max));
                if self.config.balance != config.balance {
                    self.instances.values_mut().for_each(|it| it.standing.cost = None);
                }
                self.config = Arc::clone(config);
                self.shares.clear();
            }
            Event::Drain => self.draining = true,
            Event::Cut => self.cut(),
        }
        self.forget_idle_flows();
    }

    fn arrived(&mut self, id: RequestId, deadline: Time, replayable: bool, class: Class) {
        if self.requests.contains_key(&id.0) {
            return;
        }
        self.arriving = Some(id.0);
        let until = deadline.min(self.now + self.config.queue_timeout);
        let place = Place::Waiting { replay: false, until };
        let (order, arrived) = (self.rank, self.now);
        let lost_on = Vec::new();
        let (attempts, sent_losses, trust_from) = (0, 0, Time::ZERO);
        let request = Request {
            order,
            arrived,
            deadline,
            replayable,
            class,
            attempts,
            sent_losses,
            trust_from,
            return_from: Time::ZERO,
            lost_on,
            sent_at: Time::ZERO,
            streams: false,
            place,
        };
        self.requests.insert(id.0, request);
    }

    fn cut(&mut self) {
        (self.draining, self.cut, self.cutting) = (true, true, true);
        for request in self.requests.values_mut() {
            if let Place::Waiting { .. } = request.place {
                request.place = Place::Doomed;
            }
        }
    }

    fn streams(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id.0) else { return };
        let Place::Flying { instance, revoked: false } = request.place else { return };
        request.streams = true;
        self.instances.entry(instance).or_default().streams_since = self.now;
    }

    /// When the drain of an instance must end.
    pub(crate) fn drained_by(&self, on: InstanceId) -> Option<Time> {
        let instance = self.instances.get(&on)?;
        let (since, deadline, patience) = instance.drain?;
        let held = Place::Flying { instance: on, revoked: false };
        let mut all = self.requests.values().filter(|it| it.place == held);
        let only_streams = instance.taken == 0 && all.all(|it| it.streams);
        let streams_until = since.max(instance.streams_since) + patience;
        Some(if only_streams { deadline.min(streams_until) } else { deadline })
    }

    fn finished(&mut self, id: RequestId, outcome: &Outcome) {
        let Some(request) = self.requests.get_mut(&id.0) else { return };
        let Place::Flying { instance: on, revoked } = request.place else { return };
        let serving = !revoked;
        if let Outcome::Interrupted { deadline, .. } = outcome {
            request.deadline = *deadline;
        }
        let until = request.deadline.min(self.now + self.config.queue_timeout);
        let ends = self.cut || request.deadline <= self.now;
        let again = if ends { Place::Doomed } else { Place::Waiting { replay: true, until } };
        let instance = self.instances.entry(on).or_default();
        instance.worked_until = self.now;
        if serving {
            let answered = *outcome == Outcome::Answered;
            instance.standing.observe(self.now.since(request.sent_at), answered, self.now);
        }
        match outcome {
            Outcome::Answered => {
                if serving {
                    instance.losses.clear();
                    instance.alive_at = self.now;
                }
                self.requests.remove(&id.0);
            }
            Outcome::Abandoned { broken } => {
                if *broken && serving {
                    instance.mishap(self.rank);
                }
                self.requests.remove(&id.0);
            }
            Outcome::Lost { .. } | Outcome::Interrupted { .. } => {
                let sent = !matches!(outcome, Outcome::Lost { sent: false, .. });
                if sent {
                    let pause = [0, 250, 500, 1_000, 2_000, 4_000][request.sent_losses.min(5) as usize];
                    request.trust_from = self.now + Duration::from_millis(pause);
                    request.return_from = self.now + Duration::from_millis(250);
                    request.sent_losses += 1;
                }
                request.lost_on.push(on);
                request.place = again;
                if sent && (!request.replayable || request.sent_losses >= self.config.replay_attempts) {
                    request.place = Place::Doomed;
                }
                if serving {
                    instance.losses.insert(id);
                    instance.mishap(self.rank);
                }
            }
            Outcome::Busy { retry_after } => {
                request.place = again;
                let pause = (*retry_after).clamp(Duration::from_millis(10), Duration::from_secs(30));
                if serving {
                    instance.paused_until = instance.paused_until.max(self.now + pause);
                }
            }
        }
    }

    fn probed(&mut self, id: InstanceId, health: Health) {
        let flying = self.burden(id) > 0;
        let Some(view) = self.views.get(&id) else { return };
        let serves = match view.state {
            StateView::Starting => false,
            StateView::Ready | StateView::Suspect | StateView::Draining => true,
            StateView::Standby | StateView::Resuming => {
                // It began before the pause, and says nothing.
                if let Some(instance) = self.instances.get_mut(&id) {
                    instance.probe = None;
                }
                return;
            }
            StateView::Stopping | StateView::BackingOff | StateView::Exited => return,
        };
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let Some((since, rank)) = instance.probe.take() else { return };
        instance.frozen = if serves && health == Health::Frozen { instance.frozen + 1 } else { 0 };
        match health {
            Health::Ready => {
                if !instance.ready && !serves {
                    instance.standing.ready(self.config.slow_start, self.now);
                }
                instance.ready = true;
                instance.alive_at = instance.alive_at.max(if serves { since } else { self.now });
                instance.failed_probes = 0;
                instance.suspect = instance.suspect.filter(|(suspect, _)| *suspect > rank);
            }
            Health::NotReady | Health::Frozen | Health::Silent => {
                instance.failed_probes += 1;
                let at_work = flying || instance.worked_until >= since;
                if serves && (health != Health::Silent || !at_work) {
                    instance.suspect.get_or_insert((self.rank, false));
                }
            }
        }
    }

    /// Requests that wait, in no order.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (u64, &Request)> {
        let all = self.requests.iter();
        all.filter(|(_, it)| matches!(it.place, Place::Waiting { .. })).map(|(id, it)| (*id, it))
    }

    /// Requests that an instance holds, those revoked from it not counted.
    /// The same, with those of another process.
    pub(crate) fn burden(&self, on: InstanceId) -> u32 {
        self.flying(on) + self.instances.get(&on).map_or(0, |it| it.taken)
    }

    fn taken(&mut self, id: InstanceId, slots: u32) {
        let now = self.now;
        if let Some(instance) = self.instances.get_mut(&id).filter(|it| it.taken != slots) {
            instance.taken = slots;
            instance.worked_until = now;
        }
    }

    pub(crate) fn flying(&self, on: InstanceId) -> u32 {
        let held = Place::Flying { instance: on, revoked: false };
        self.requests.values().filter(|request| request.place == held).count() as u32
    }

    /// The step is over: takes over what the pool says about its instances.
    pub(crate) fn look(&mut self, snapshot: &Snapshot) {
        self.count_members(snapshot);
        self.views = snapshot.instances.iter().map(|view| (view.instance, view.clone())).collect();
        for view in &snapshot.instances {
            let instance = self.instances.entry(view.instance).or_default();
            if view.state != StateView::Ready {
                // A balancer knows only those that are ready.
                instance.standing.cost = None;
            }
            match view.state {
                StateView::Draining => {
                    let (deadline, patience) = (self.config.drain_timeout, self.config.stop_grace);
                    let drain = (view.since, view.since + deadline, patience);
                    // One that was needed after all may drain once more.
                    instance.drain = instance.drain.filter(|drain| drain.0 == view.since).or(Some(drain));
                }
                // A server that is not ours to start begins anew under its old name.
                StateView::Starting if instance.ready => *instance = Instance::default(),
                // What was held against it before its pause is forgotten.
                StateView::Standby | StateView::Resuming => {
                    instance.drain = None;
                    (instance.failed_probes, instance.frozen) = (0, 0);
                    instance.losses.clear();
                    instance.paused_until = Time::ZERO;
                }
                // Taken back on its way into standby.
                StateView::Ready | StateView::Suspect => instance.drain = None,
                StateView::Starting | StateView::Stopping | StateView::BackingOff | StateView::Exited => {}
            }
        }
        let (views, requests) = (&self.views, &self.requests);
        let flown = |id: &InstanceId| {
            requests.values().any(|it| matches!(it.place, Place::Flying { instance, .. } if instance == *id))
        };
        self.instances.retain(|id, _| views.contains_key(id) || flown(id));
    }
}
