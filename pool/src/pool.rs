//! [`Pool`]: owns the queue, the instances and the scaler of one service, and applies one event at a time.
//!
//! | part | rules |
//! | --- | --- |
//! | `serve` | 1, 4, 5, 6, 21: requests arrive, end, come back, are cut |
//! | `dispatch` | 2, 3: who is sent where |
//! | `lives` | 9, 10, 11, 14, 15, 18: instances start, exit, are stopped |
//! | `late` | 20: instances that are not ready when they ought to be |
//! | `probing` | 13: signs of life |
//! | `reconcile` | 8, 12, 17: from what is to what is wanted |
//! | `view` | what others may read |

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::balance::{Balance, Balancer};
use crate::config::PoolConfig;
use crate::event::{Action, DeathCause, Event};
use crate::habit::Habit;
use crate::instance::Instance;
use crate::queue::Queue;
use crate::requests::Requests;
use crate::scaling::{Advice, Fixed, Scaler, ScalingPolicy, Traffic};
use crate::simulate::Job;
use crate::starts::Starts;
use crate::time::Time;
use crate::window::Rate;

mod dispatch;
mod late;
mod lives;
mod probing;
mod reconcile;
mod serve;
mod standby;
#[cfg(test)]
mod tests;
mod view;

/// Every decision about the requests and instances of one service.
///
/// The caller hands in what happens ([`Pool::handle_event`]), says when time has come ([`Pool::handle_timeout`], at
/// [`Pool::poll_timeout`] or a little later), and after each of both performs all actions that [`Pool::poll_action`]
/// yields. `now` must never run backwards.
///
/// Nothing is started before the first [`Pool::handle_timeout`], which is due at once: instances that already run can
/// be reported by [`Event::InstanceFound`] before it.
pub struct Pool {
    config: Arc<PoolConfig>,
    scaler: Scaler,
    traffic: Traffic,
    // Seconds from 1970 to Time::ZERO, once somebody has said.
    unix_at_zero: Option<f64>,
    rng: fastrand::Rng,
    requests: Requests,
    queue: Queue,
    departures: Rate,
    // By slot. Ordered, since the order in which instances are looked at can be seen in the actions.
    instances: BTreeMap<u32, Instance>,
    balance: Balance,
    timers: BTreeSet<(Time, u32)>,
    starts: Starts,
    // How the instance ended for which the restart policy has stopped the service.
    stopped_by: Option<DeathCause>,
    habit: Habit,
    next_incarnation: u32,
    arrivals: u64,
    in_flight: usize,
    // Requests that wait elsewhere.
    backlog: usize,
    // How many instances take requests or may soon; counted anew whenever instances changed.
    may_serve: usize,
    draining: bool,
    // Whether nothing is answered any more.
    cut: bool,
    // Whether instances, or how many are wanted, changed since the last reconciliation.
    changed: bool,
    actions: VecDeque<Action>,
}

impl Pool {
    /// A pool in which nothing runs yet. `seed` decides every jitter.
    ///
    /// A pool of servers that already run (`managed` is false) has as many instances as addresses, whatever `policy`
    /// says.
    pub fn new(config: Arc<PoolConfig>, policy: Box<dyn ScalingPolicy>, seed: u64, now: Time) -> Self {
        let policy = if config.managed { policy } else { Box::new(Fixed(config.max)) };
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut traffic = Traffic::new(now);
        traffic.call_late(policy.late_after());
        Self {
            queue: Queue::new(config.order),
            balance: Balance::new(config.balance, rng.u64(..)),
            config,
            traffic,
            unix_at_zero: None,
            scaler: Scaler::new(policy, now),
            rng,
            requests: Requests::default(),
            departures: Rate::default(),
            instances: BTreeMap::new(),
            timers: BTreeSet::new(),
            starts: Starts::default(),
            stopped_by: None,
            habit: Habit::default(),
            next_incarnation: 1,
            arrivals: 0,
            in_flight: 0,
            backlog: 0,
            may_serve: 0,
            draining: false,
            cut: false,
            changed: false,
            actions: VecDeque::new(),
        }
    }

    /// Gives no instance an incarnation up to `last`: an earlier process has used those, and news of its instances may
    /// still come.
    pub fn skip_incarnations(&mut self, last: u32) {
        self.next_incarnation = self.next_incarnation.max(last.saturating_add(1));
    }

    /// The last incarnation that was given, here or before.
    pub const fn last_incarnation(&self) -> u32 {
        self.next_incarnation.saturating_sub(1)
    }

    /// Takes in what happened. Events about a request or an instance that is not known (late, doubled, out of order)
    /// change nothing.
    pub fn handle_event(&mut self, event: Event, now: Time) {
        match event {
            Event::RequestArrived { request, deadline, replayable, class } => {
                self.traffic.note_arrival(now);
                let waiting = self.queue.len();
                self.request_arrived(request, deadline, replayable, class, now);
                if self.queue.len() > waiting {
                    self.scaler.hurry(now);
                }
            }
            Event::RequestStreams { request } => self.request_streams(request, now),
            Event::RequestCancelled { request } => self.request_cancelled(request),
            Event::RequestFinished { request, outcome } => self.request_finished(request, outcome, now),
            Event::InstanceFound { instance, address, paused } => {
                self.instance_found(instance, address, paused, now);
            }
            Event::InstanceStarted { instance, address } => self.instance_started(instance, address, now),
            Event::InstanceProbed { instance, health } => self.instance_probed(instance, health, now),
            Event::InstanceExamined { instance, saw, log } => {
                self.instance_examined(instance, (saw, log), now);
            }
            Event::InstancePaused { instance, done } => self.instance_paused(instance, done, now),
            Event::InstanceResumed { instance, failed } => self.instance_resumed(instance, failed, now),
            Event::InstanceExited { instance, cause } => self.instance_exited(instance, cause, now),
            Event::SizeSet { size } => self.set_size(size, now),
            Event::InstanceReplace { instance } => self.replace(instance, now),
            Event::InstanceTaken { instance, slots } => self.instance_taken(instance, slots, now),
            Event::Backlog { requests } => self.backlog = requests,
            Event::Restart => self.restart(now),
            Event::ConfigChanged { config, roll } => self.configure(config, roll, None, now),
            Event::Drain => {
                self.draining = true;
                self.changed = true;
            }
            Event::Cut => self.cut(now),
        }
        self.settle(now);
    }

    /// Does what is due at `now`. Calling it early, or when nothing is due, is harmless.
    pub fn handle_timeout(&mut self, now: Time) {
        self.expire(now);
        while let Some((at, slot)) = self.timers.first().copied() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            self.wake(slot, now);
        }
        if self.scaler.next().is_some_and(|at| at <= now) {
            self.decide_size(now);
        }
        self.settle(now);
    }

    /// The next thing to do, in order. Call it until it says `None` after each event and each timeout.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Pool::handle_timeout`] is due next. It may be earlier than anything is due, never later.
    pub fn poll_timeout(&self) -> Option<Time> {
        let timer = self.timers.first().map(|(at, _)| *at);
        [timer, self.queue.next_deadline(), self.scaler.next()].into_iter().flatten().min()
    }

    /// Puts another policy in charge of the size, at once. (A fixed size needs no more than [`Event::SizeSet`].)
    /// Nothing happens in a pool of servers that already run.
    pub fn set_policy(&mut self, policy: Box<dyn ScalingPolicy>, now: Time) {
        self.install_policy(policy, now);
        self.settle(now);
    }

    /// Puts another balancer in charge, until another policy is configured.
    pub fn set_balancer(&mut self, balancer: Box<dyn Balancer>, now: Time) {
        self.balance.set_balancer(balancer);
        self.list_anew();
        self.settle(now);
    }

    /// Lists every instance with a balance that knows none.
    fn list_anew(&mut self) {
        for instance in self.instances.values_mut() {
            instance.listed = None;
            let candidate = instance.candidate(self.config.concurrency);
            self.balance.list(&mut instance.listed, candidate);
        }
    }

    /// Puts a policy in charge together with the configuration that it was made for: one change, one decision.
    pub fn resize(&mut self, config: Arc<PoolConfig>, policy: Box<dyn ScalingPolicy>, now: Time) {
        self.config = config;
        self.set_policy(policy, now);
    }

    /// As [`Event::ConfigChanged`], and another policy in charge if one is given: one change, one decision.
    pub fn reconfigure(
        &mut self,
        config: Arc<PoolConfig>,
        roll: bool,
        policy: Option<Box<dyn ScalingPolicy>>,
        now: Time,
    ) {
        self.configure(config, roll, policy, now);
        self.settle(now);
    }

    /// Hands the policy what somebody else advises. It is looked at with the next decision.
    pub fn advise(&mut self, advice: Advice) {
        self.scaler.advise(advice);
    }

    /// The requests answered since the last call, with their arrival and the time that an instance worked on them; the
    /// first call begins to keep them.
    pub fn take_record(&mut self) -> Vec<Job> {
        self.traffic.take_record()
    }

    /// Says what time of day it was at [`Time::ZERO`], in seconds since 1970-01-01T00:00:00Z: for policies that go by
    /// the clock. To be said again now and then, since clocks are set.
    pub fn set_wall_clock(&mut self, unix_at_zero: f64) {
        self.unix_at_zero = Some(unix_at_zero);
    }

    /// Brings everything into agreement after a change: instances with the size, waiting requests with free slots.
    fn settle(&mut self, now: Time) {
        // What one look changes can change what is wanted: the last outdated instance gone, its stand-in is surplus.
        while std::mem::take(&mut self.changed) {
            self.reconcile(now);
        }
        if self.is_closed() {
            self.reject_all_waiting(now);
        }
        self.dispatch(now);
        self.traffic.note_level(self.queue.len() + self.in_flight, now);
    }

    /// Brings the balance and the timers up to date with an instance that changed.
    fn touch(&mut self, slot: u32) {
        let Some(instance) = self.instances.get_mut(&slot) else { return };
        let candidate = instance.candidate(self.config.concurrency);
        self.balance.list(&mut instance.listed, candidate);
        let wake = instance.next_wake(&self.config);
        if let Some(old) = instance.wake {
            self.timers.remove(&(old, slot));
        }
        if let Some(new) = wake {
            self.timers.insert((new, slot));
        }
        instance.wake = wake;
    }

    /// Frees a slot, whose instance holds nothing any more.
    fn free_slot(&mut self, slot: u32) {
        if let Some(mut instance) = self.instances.remove(&slot) {
            self.balance.list(&mut instance.listed, None);
            if let Some(wake) = instance.wake {
                self.timers.remove(&(wake, slot));
            }
        }
        self.changed = true;
    }
}
