//! The read-only view of a pool: for the admin API, metrics and people. Nothing here decides anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::event::{DeathCause, InstanceId};
use crate::time::Time;

/// A pool at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// How many instances there should be, after bounds and damping.
    pub wanted: u32,
    /// Fewest and most that may be asked for.
    pub bounds: (u32, u32),
    /// How many there should be in standby beyond them.
    pub standby: u32,
    /// Requests waiting for a slot.
    pub waiting: usize,
    /// How long the oldest of them has waited, since it arrived; zero when none waits.
    pub oldest_wait: Duration,
    /// Requests a second that lately left the queue for a slot.
    pub drain_rate: f64,
    /// How long the last of those that wait has yet to wait at that rate; unknown while the queue does not drain.
    pub last_wait: Option<Duration>,
    /// Requests that an instance works on.
    pub in_flight: usize,
    /// Whether new requests are refused because the process is ending.
    pub draining: bool,
    /// Why no instance can be started or will be, while that is so; or how the instance ended for which the restart
    /// policy has stopped the service.
    pub cannot_start: Option<DeathCause>,
    /// Whether that is the restart policy's doing: nothing will change by itself.
    pub stopped: bool,
    /// Every slot in use, by slot.
    pub instances: Vec<InstanceView>,
    /// The last size decision and its reason, in words.
    pub last_decision: Option<Arc<str>>,
}

/// Where a waiting request stands, if nobody else comes or leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How many are served before it; the mean where the order is random.
    pub ahead: usize,
    /// How many wait, it included.
    pub waiting: usize,
    /// How long it has yet to wait at the rate at which the queue drains; unknown while it does not drain.
    pub wait: Option<Duration>,
    /// Since it arrived.
    pub age: Duration,
    /// How often it was dispatched already, and came back.
    pub attempts: u32,
}

/// One instance at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceView {
    /// Its name.
    pub instance: InstanceId,
    /// Where it is in its life.
    pub state: StateView,
    /// Where it listens, once that is known.
    pub address: Option<SocketAddr>,
    /// Requests that it works on.
    pub in_flight: u32,
    /// When its start was asked for, or it was found.
    pub begun: Time,
    /// When it entered its state.
    pub since: Time,
    /// How often this slot was started again.
    pub restarts: u32,
    /// Failed starts or early deaths in a row.
    pub failures: u32,
    /// How the slot's previous life ended, and when.
    pub last_death: Option<(DeathCause, Time)>,
    /// Whether it runs an older specification and is to be replaced.
    pub outdated: bool,
}

/// The states of an instance, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateView {
    /// Being created, or running and not ready yet.
    Starting,
    /// Takes requests.
    Ready,
    /// Ready, but gets no new request until a probe has passed.
    Suspect,
    /// Finishes what it holds, then stops.
    Draining,
    /// Paused, or about to be: kept beyond the size.
    Standby,
    /// Asked to go on after a pause.
    Resuming,
    /// Asked to stop.
    Stopping,
    /// Waits until it is started again.
    BackingOff,
    /// Has ended, and the restart policy does not replace it.
    Exited,
}

impl StateView {
    /// Whether the slot has nothing that runs, and waits or remains.
    pub const fn has_ended(self) -> bool {
        match self {
            Self::BackingOff | Self::Exited => true,
            Self::Starting
            | Self::Ready
            | Self::Suspect
            | Self::Draining
            | Self::Standby
            | Self::Resuming
            | Self::Stopping => false,
        }
    }

    /// Every state, in the order of a life.
    pub const ALL: [Self; 9] = [
        Self::Starting,
        Self::Ready,
        Self::Suspect,
        Self::Draining,
        Self::Standby,
        Self::Resuming,
        Self::Stopping,
        Self::BackingOff,
        Self::Exited,
    ];

    /// The name in the API and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Suspect => "suspect",
            Self::Draining => "draining",
            Self::Standby => "standby",
            Self::Resuming => "resuming",
            Self::Stopping => "stopping",
            Self::BackingOff => "backing-off",
            Self::Exited => "exited",
        }
    }
}
