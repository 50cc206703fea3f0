//! The transitions into standby and out of it. One that is in standby holds no request and is not probed.

use std::net::SocketAddr;

use crate::config::PoolConfig;
use crate::event::InstanceId;
use crate::time::Time;

use super::{Instance, Losses, Probe, Serving, State};

/// What becomes of an instance that drains, once it holds nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// It is stopped.
    Stop,
    /// It is put into standby.
    Pause,
}

/// How far the pause of an instance in standby has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// It was asked for.
    Asked,
    /// It is paused.
    Done,
    /// It could not be paused and runs on; that is tried again then.
    Failed {
        /// When.
        again: Time,
    },
}

impl Pause {
    /// When it is tried again.
    pub(super) const fn again(self) -> Option<Time> {
        match self {
            Self::Asked | Self::Done => None,
            Self::Failed { again } => Some(again),
        }
    }
}

impl Instance {
    /// A slot whose instance was found paused.
    pub(crate) fn found_paused(id: InstanceId, address: SocketAddr, now: Time) -> Self {
        let mut instance = Self::found(id, address, now);
        if instance.ready(now, now) {
            let _ = instance.park(Pause::Done, now);
        }
        instance
    }

    /// Ready, or Draining with nothing held, to Standby.
    pub(crate) fn park(&mut self, pause: Pause, now: Time) -> bool {
        let (State::Ready(serving) | State::Draining { serving, .. }) = self.state else { return false };
        if self.burden() > 0 {
            return false;
        }
        self.enter(State::Standby { serving, pause }, now);
        true
    }

    /// Standby: the pause has come so far.
    pub(crate) fn pausing(&mut self, to: Pause) -> bool {
        let State::Standby { pause, .. } = &mut self.state else { return false };
        *pause = to;
        true
    }

    /// Standby to Resuming, which counts as hung at `hung_at`.
    pub(crate) fn resume(&mut self, hung_at: Time, now: Time) -> bool {
        let State::Standby { serving, .. } = self.state else { return false };
        self.enter(State::Resuming { serving, hung_at }, now);
        true
    }

    /// Resuming to Suspect: it serves again once a probe has passed, which is due at once. Its earlier failures are
    /// forgotten, and it counts as newly ready.
    pub(crate) fn resumed(&mut self, config: &PoolConfig, now: Time) -> bool {
        let State::Resuming { mut serving, .. } = self.state else { return false };
        serving.ready_since = now;
        serving.probe.failures = 0;
        serving.probe.last = None;
        serving.probe.anew(now);
        serving.losses = Losses::default();
        serving.paused_until = None;
        serving.open_slots(config, now);
        self.enter(State::Suspect(serving), now);
        true
    }

    /// Draining on the way to standby back to Suspect: needed after all.
    pub(crate) fn stay(&mut self, config: &PoolConfig, now: Time) -> bool {
        let State::Draining { mut serving, then: Then::Pause, .. } = self.state else { return false };
        serving.probe.anew(now);
        serving.open_slots(config, now);
        self.enter(State::Suspect(serving), now);
        true
    }

    /// Draining on the way to standby: it is stopped instead.
    pub(crate) fn forgo_standby(&mut self) {
        if let State::Draining { then, .. } = &mut self.state {
            *then = Then::Stop;
        }
    }

    /// In standby, or on the way there.
    pub(crate) fn is_parked(&self) -> bool {
        match self.state {
            State::Standby { .. } | State::Draining { then: Then::Pause, .. } => true,
            State::Starting(_)
            | State::Ready(_)
            | State::Suspect(_)
            | State::Draining { then: Then::Stop, .. }
            | State::Resuming { .. }
            | State::Stopping { .. }
            | State::BackingOff { .. }
            | State::Exited => false,
        }
    }

    /// The probe of one that is not probed now: one that began before may still end.
    pub(crate) fn sleeping_probe(&mut self) -> Option<&mut Probe> {
        match &mut self.state {
            State::Standby { serving, .. } | State::Resuming { serving, .. } => Some(&mut serving.probe),
            State::Starting(_)
            | State::Ready(_)
            | State::Suspect(_)
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::BackingOff { .. }
            | State::Exited => None,
        }
    }

    /// How one that sleeps served.
    pub(crate) fn slept(&self) -> Option<&Serving> {
        match &self.state {
            State::Standby { serving, .. } | State::Resuming { serving, .. } => Some(serving),
            State::Starting(_)
            | State::Ready(_)
            | State::Suspect(_)
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::BackingOff { .. }
            | State::Exited => None,
        }
    }
}
