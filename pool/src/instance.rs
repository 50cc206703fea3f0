//! One slot of the pool: an instance, the state of its life, and the only legal transitions.
//!
//! ```text
//! Starting -> Ready <-> Suspect -> Draining -> Stopping -> (slot free)
//!     |         |          |           |           |
//!     +---------+----------+--> BackingOff <-------+   BackingOff -> Starting (next incarnation)
//!     +---------+----------+--> Exited <-----------+   Exited -> BackingOff (an operator acts)
//!
//! Ready -> (Draining ->) Standby -> Resuming -> Suspect     Standby, Resuming -> Stopping, BackingOff
//! ```
//!
//! What belongs to a state lives in it: a request can only be held by an instance that serves, a delay only be waited
//! for by one that backs off. A transition that is not legal from the present state does nothing and says so.

use std::net::SocketAddr;
use std::time::Duration;

use crate::balance::Candidate;
use crate::config::PoolConfig;
use crate::event::{DeathCause, InstanceId, RequestId};
use crate::requests::List;
use crate::time::Time;

mod probe;
mod standby;

pub(crate) use probe::{Ended, Probe};
pub(crate) use standby::{Pause, Then};

/// A slot in use.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) state: State,
    /// When its start was asked for, or it was found.
    pub(crate) begun: Time,
    /// When it entered its state.
    pub(crate) since: Time,
    /// Whether it runs an older specification and is to be replaced.
    pub(crate) outdated: bool,
    pub(crate) record: Record,
    /// Requests that another process still has on it, see [`crate::Event::InstanceTaken`].
    pub(crate) taken: u32,
    /// How the balance lists it.
    pub(crate) listed: Option<Candidate>,
    /// When the pool's timers will look at it.
    pub(crate) wake: Option<Time>,
}

/// What a slot remembers over the lives of its instances.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    /// Failed starts or early deaths in a row.
    pub(crate) failures: u32,
    /// How often it was started again.
    pub(crate) restarts: u32,
    /// How the previous life ended, and when.
    pub(crate) last_death: Option<(DeathCause, Time)>,
    /// Whose end that was, while its cause is not known.
    pub(crate) unexplained: Option<InstanceId>,
}

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug)]
pub(crate) enum State {
    /// Being created, or running and not ready yet.
    Starting(Starting),
    /// Takes requests.
    Ready(Serving),
    /// As ready, but gets no new request until a probe has passed.
    Suspect(Serving),
    /// Finishes what it holds.
    Draining {
        /// What it holds.
        serving: Serving,
        /// When it is stopped, whatever it holds.
        deadline: Time,
        /// How long streams alone keep it from that.
        patience: Duration,
        /// What becomes of it when it holds nothing any more.
        then: Then,
    },
    /// Paused, or about to be: not needed now, and kept.
    Standby {
        /// How it served; it holds nothing.
        serving: Serving,
        /// How far the pause has come.
        pause: Pause,
    },
    /// Asked to go on after a pause.
    Resuming {
        /// How it served.
        serving: Serving,
        /// When it counts as hung.
        hung_at: Time,
    },
    /// Asked to stop.
    Stopping {
        /// When it counts as gone without having answered.
        gone_at: Time,
        /// What becomes of the slot.
        next: Next,
    },
    /// Waits until it is started again.
    BackingOff {
        /// Until then.
        until: Time,
    },
    /// Has ended and is not replaced. Its slot stays in use, so that nothing else is started in its stead.
    Exited,
}

/// An instance that is not ready yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Starting {
    /// When its start was asked for, or it was found.
    pub(crate) asked: Time,
    /// Whether the pool found it running at boot, and so did not ask for its start.
    pub(crate) found: bool,
    /// Where it listens and how it is probed, once that is known.
    pub(crate) reached: Option<(SocketAddr, Probe)>,
    /// Whether it is late.
    pub(crate) delay: Delay,
}

/// Whether an instance that is not ready yet ought to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delay {
    /// Not within the start timeout.
    InTime,
    /// It has been asked what is known of it; it is given up by then, whatever that is.
    Examined {
        /// By then.
        until: Time,
    },
    /// It is given up, and goes on being looked at: the pool does not start it.
    GivenUp,
}

impl Starting {
    /// When its delay is looked at next.
    pub(crate) fn judged_at(&self, start_timeout: Duration) -> Option<Time> {
        match self.delay {
            Delay::InTime => Some(self.asked + start_timeout),
            Delay::Examined { until } => Some(until),
            Delay::GivenUp => None,
        }
    }
}

/// An instance that may hold requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    /// When it became ready first.
    pub(crate) ready_since: Time,
    /// The requests that it holds, in the order of their dispatch.
    pub(crate) held: List,
    /// How many of them stream.
    pub(crate) streams: u32,
    /// When one began to, last.
    pub(crate) streams_since: Time,
    /// When it showed life last: the beginning of a probe that it passed, or the end of an answer.
    pub(crate) alive_at: Time,
    /// When it gave up a request last.
    pub(crate) worked_until: Time,
    /// The turn of its last dispatch.
    pub(crate) turn: u64,
    /// So many of its slots are open so far, while it is eased in.
    pub(crate) open: Option<u32>,
    /// It said that it is busy: no new request before this.
    pub(crate) paused_until: Option<Time>,
    /// What it lost while it was trusted, since its last answer.
    pub(crate) losses: Losses,
    pub(crate) probe: Probe,
    /// A request that it held over a probe which it answered, and when it answered.
    pub(crate) witness: Option<(RequestId, Time)>,
    /// When the last probe began to which it was silent at work.
    pub(crate) silent_from: Option<Time>,
}

/// What becomes of the slot of an instance that was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is free.
    Free,
    /// It starts again, not before this.
    Restart(Time),
    /// It stays in use, by what has ended.
    Remain,
}

/// Different requests that an instance has lost one after another. One request that breaks whatever takes it is one,
/// however often it comes back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Losses([Option<RequestId>; 3]);

impl Losses {
    /// Counts one more. Returns whether there are three.
    pub(crate) fn note(&mut self, request: RequestId) -> bool {
        if !self.0.contains(&Some(request))
            && let Some(free) = self.0.iter_mut().find(|slot| slot.is_none())
        {
            *free = Some(request);
        }
        self.0.iter().all(Option::is_some)
    }
}

impl Instance {
    /// A slot whose instance has just been asked to start.
    pub(crate) fn starting(id: InstanceId, record: Record, now: Time) -> Self {
        let state =
            State::Starting(Starting { asked: now, found: false, reached: None, delay: Delay::InTime });
        Self {
            id,
            state,
            begun: now,
            since: now,
            outdated: false,
            record,
            taken: 0,
            listed: None,
            wake: None,
        }
    }

    /// A slot whose instance was found running.
    pub(crate) fn found(id: InstanceId, address: SocketAddr, now: Time) -> Self {
        let reached = Some((address, Probe::due(now)));
        let state = State::Starting(Starting { asked: now, found: true, reached, delay: Delay::InTime });
        Self { state, ..Self::starting(id, Record::default(), now) }
    }

    fn enter(&mut self, state: State, now: Time) {
        self.state = state;
        self.since = now;
    }

    /// Starting: the backend says where it listens. Once only.
    pub(crate) fn reach(&mut self, address: SocketAddr, now: Time) -> bool {
        let State::Starting(starting) = &mut self.state else { return false };
        if starting.reached.is_some() {
            return false;
        }
        starting.reached = Some((address, Probe::due(now)));
        true
    }

    /// Starting to Ready; the first liveness probe is due at `probe_at`.
    pub(crate) fn ready(&mut self, probe_at: Time, now: Time) -> bool {
        let State::Starting(Starting { reached: Some((address, _)), .. }) = self.state else { return false };
        let serving = Serving {
            address,
            ready_since: now,
            held: List::default(),
            streams: 0,
            streams_since: Time::ZERO,
            alive_at: now,
            worked_until: Time::ZERO,
            turn: 0,
            open: None,
            paused_until: None,
            losses: Losses::default(),
            probe: Probe::due(probe_at),
            witness: None,
            silent_from: None,
        };
        self.enter(State::Ready(serving), now);
        true
    }

    /// Ready to Suspect.
    pub(crate) fn suspect(&mut self, now: Time) -> bool {
        let State::Ready(serving) = self.state else { return false };
        self.enter(State::Suspect(serving), now);
        true
    }

    /// Suspect to Ready.
    pub(crate) fn trust(&mut self, now: Time) -> bool {
        let State::Suspect(serving) = self.state else { return false };
        self.enter(State::Ready(serving), now);
        true
    }

    /// Ready or Suspect to Draining.
    pub(crate) fn drain(&mut self, deadline: Time, patience: Duration, then: Then, now: Time) -> bool {
        let (State::Ready(serving) | State::Suspect(serving)) = self.state else { return false };
        self.enter(State::Draining { serving, deadline, patience, then }, now);
        true
    }

    /// Draining: when it is stopped whatever it holds. Streams have no deadline to wait for: where nothing else is held,
    /// each has the patience of a stop, from the beginning of the drain or of the stream.
    pub(crate) fn drained_by(&self) -> Option<Time> {
        let State::Draining { serving, deadline, patience, .. } = &self.state else { return None };
        let only_streams = serving.streams == serving.held.len() && self.taken == 0;
        let streams_until = self.since.max(serving.streams_since) + *patience;
        Some(if only_streams { streams_until.min(*deadline) } else { *deadline })
    }

    /// Whatever runs to Stopping; returns what it held.
    pub(crate) fn stop(&mut self, gone_at: Time, next: Next, now: Time) -> Option<List> {
        let held = match self.state {
            State::Starting(_) => List::default(),
            State::Ready(serving)
            | State::Suspect(serving)
            | State::Draining { serving, .. }
            | State::Standby { serving, .. }
            | State::Resuming { serving, .. } => serving.held,
            State::Stopping { .. } | State::BackingOff { .. } | State::Exited => return None,
        };
        self.enter(State::Stopping { gone_at, next }, now);
        Some(held)
    }

    /// Whatever is gone to BackingOff; returns what it held.
    pub(crate) fn back_off(&mut self, until: Time, now: Time) -> Option<List> {
        self.end(State::BackingOff { until }, now)
    }

    /// Whatever is gone to Exited; returns what it held.
    pub(crate) fn exit(&mut self, now: Time) -> Option<List> {
        self.end(State::Exited, now)
    }

    fn end(&mut self, state: State, now: Time) -> Option<List> {
        let held = match self.state {
            State::Starting(_) | State::Stopping { .. } => List::default(),
            State::Ready(serving)
            | State::Suspect(serving)
            | State::Draining { serving, .. }
            | State::Standby { serving, .. }
            | State::Resuming { serving, .. } => serving.held,
            State::BackingOff { .. } | State::Exited => return None,
        };
        self.enter(state, now);
        Some(held)
    }

    /// BackingOff to Starting, as the next incarnation.
    pub(crate) fn start_again(&mut self, id: InstanceId, now: Time) -> bool {
        let State::BackingOff { .. } = self.state else { return false };
        let restarts = self.record.restarts.saturating_add(1);
        let record = Record { restarts, ..std::mem::take(&mut self.record) };
        let (listed, wake) = (self.listed, self.wake);
        *self = Self { listed, wake, ..Self::starting(id, record, now) };
        true
    }

    /// Exited, or Stopping to remain so: to start again at `now`, and earlier failures are forgotten.
    pub(crate) fn revive(&mut self, now: Time) {
        match &mut self.state {
            State::Exited => self.enter(State::BackingOff { until: now }, now),
            State::Stopping { next, .. } if *next == Next::Remain => *next = Next::Restart(now),
            State::Starting(_)
            | State::Ready(_)
            | State::Suspect(_)
            | State::Draining { .. }
            | State::Standby { .. }
            | State::Resuming { .. }
            | State::Stopping { .. }
            | State::BackingOff { .. } => return,
        }
        self.record.failures = 0;
    }

    /// BackingOff, or Stopping to start again: not later than `now`, and earlier failures are forgotten.
    pub(crate) fn hurry_start(&mut self, now: Time) {
        self.revive(now);
        match &mut self.state {
            State::BackingOff { until: at } | State::Stopping { next: Next::Restart(at), .. } => {
                *at = (*at).min(now);
                self.record.failures = 0;
            }
            State::Starting(_)
            | State::Ready(_)
            | State::Suspect(_)
            | State::Draining { .. }
            | State::Standby { .. }
            | State::Resuming { .. }
            | State::Stopping { next: Next::Free | Next::Remain, .. }
            | State::Exited => {}
        }
    }

    /// A server that the pool did not start and that fails: back to Starting, as the same incarnation, probed again at
    /// `probe_at`; returns what it held.
    pub(crate) fn look_again(&mut self, probe_at: Time, now: Time) -> Option<List> {
        let (State::Ready(serving) | State::Suspect(serving)) = self.state else { return None };
        let reached = Some((serving.address, Probe::due(probe_at)));
        let starting = Starting { asked: now, found: false, reached, delay: Delay::InTime };
        self.enter(State::Starting(starting), now);
        // What another process had there is lost, too.
        self.taken = 0;
        Some(serving.held)
    }

    /// What it holds and how it serves, in the states that serve.
    pub(crate) fn serving(&self) -> Option<&Serving> {
        match &self.state {
            State::Ready(serving) | State::Suspect(serving) | State::Draining { serving, .. } => {
                Some(serving)
            }
            State::Starting(_)
            | State::Standby { .. }
            | State::Resuming { .. }
            | State::Stopping { .. }
            | State::BackingOff { .. }
            | State::Exited => None,
        }
    }

    /// As [`Instance::serving`], to change it.
    pub(crate) fn serving_mut(&mut self) -> Option<&mut Serving> {
        match &mut self.state {
            State::Ready(serving) | State::Suspect(serving) | State::Draining { serving, .. } => {
                Some(serving)
            }
            State::Starting(_)
            | State::Standby { .. }
            | State::Resuming { .. }
            | State::Stopping { .. }
            | State::BackingOff { .. }
            | State::Exited => None,
        }
    }

    /// Where it listens and how it is probed, in the states that are probed.
    pub(crate) fn probe_mut(&mut self) -> Option<(SocketAddr, &mut Probe)> {
        match &mut self.state {
            State::Starting(starting) => starting.reached.as_mut().map(|(address, probe)| (*address, probe)),
            State::Ready(serving) | State::Suspect(serving) | State::Draining { serving, .. } => {
                Some((serving.address, &mut serving.probe))
            }
            State::Standby { .. }
            | State::Resuming { .. }
            | State::Stopping { .. }
            | State::BackingOff { .. }
            | State::Exited => None,
        }
    }

    /// Holds nothing any more; returns what it held, in the states that serve.
    pub(crate) fn give_up_held(&mut self, now: Time) -> Option<List> {
        let serving = self.serving_mut()?;
        (serving.streams, serving.worked_until) = (0, now);
        Some(std::mem::take(&mut serving.held))
    }

    /// Requests that it holds.
    pub(crate) fn in_flight(&self) -> u32 {
        self.serving().map_or(0, |serving| serving.held.len())
    }

    /// Requests that it works on, whoever sent them.
    pub(crate) fn burden(&self) -> u32 {
        self.in_flight().saturating_add(self.taken)
    }

    /// How the balance should list it: while it is ready; free when it is not paused and has a slot free.
    pub(crate) fn candidate(&self, concurrency: u32) -> Option<Candidate> {
        let State::Ready(serving) = &self.state else { return None };
        let in_flight = self.burden();
        let slots =
            if concurrency == 0 { u32::MAX } else { concurrency.min(serving.open.unwrap_or(u32::MAX)) };
        let free = serving.paused_until.is_none() && in_flight < slots;
        Some(Candidate { slot: self.id.slot, in_flight, free, turn: serving.turn })
    }

    /// When something is due.
    pub(crate) fn next_wake(&self, config: &PoolConfig) -> Option<Time> {
        match &self.state {
            State::Starting(starting) => {
                let probe = starting.reached.map(|(_, probe)| probe.wake());
                probe.into_iter().chain(starting.judged_at(config.start_timeout)).min()
            }
            State::Ready(serving) | State::Suspect(serving) => {
                let timers = [Some(serving.probe.wake()), serving.paused_until, serving.opens_next(config)];
                timers.into_iter().flatten().min()
            }
            State::Draining { serving, .. } => {
                let drained_by = self.drained_by().unwrap_or(Time::MAX);
                Some(serving.probe.wake().min(drained_by))
            }
            State::Standby { pause, .. } => pause.again(),
            State::Resuming { hung_at, .. } => Some(*hung_at),
            State::Stopping { gone_at, .. } => Some(*gone_at),
            State::BackingOff { until } => Some(*until),
            State::Exited => None,
        }
    }

    /// Counts towards the size: serves, will serve, will be started again, or has ended and is not replaced.
    pub(crate) fn is_live(&self) -> bool {
        match self.state {
            State::Starting(_)
            | State::Ready(_)
            | State::Suspect(_)
            | State::Resuming { .. }
            | State::BackingOff { .. }
            | State::Exited => true,
            State::Stopping { next, .. } => next != Next::Free,
            State::Draining { .. } | State::Standby { .. } => false,
        }
    }

    /// Takes requests now, or may soon: what a replay that avoids another instance can wait for.
    pub(crate) fn may_serve(&self) -> bool {
        match self.state {
            State::Starting(_) | State::Ready(_) | State::Suspect(_) | State::Resuming { .. } => true,
            State::Draining { .. }
            | State::Standby { .. }
            | State::Stopping { .. }
            | State::BackingOff { .. }
            | State::Exited => false,
        }
    }
}

impl Serving {
    /// Opens as many slots as it may have at this age: of `concurrency` the part that its age is of the slow start, one
    /// at least; all when it is over, or where there is no limit.
    pub(crate) fn open_slots(&mut self, config: &PoolConfig, now: Time) {
        let (age, ramp) = (now.since(self.ready_since), config.slow_start);
        let part = age.as_nanos().saturating_mul(u128::from(config.concurrency)) / ramp.as_nanos().max(1);
        let open = u32::try_from(part).unwrap_or(u32::MAX).max(1);
        self.open = (age < ramp && open < config.concurrency).then_some(open);
    }

    /// When the next of its slots opens.
    fn opens_next(&self, config: &PoolConfig) -> Option<Time> {
        let next = self.open? + 1;
        // Rounded up, so that it is open by then.
        let nanos = config.slow_start.as_nanos().saturating_mul(u128::from(next));
        let nanos = nanos.div_ceil(u128::from(config.concurrency.max(1)));
        Some(self.ready_since + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}
