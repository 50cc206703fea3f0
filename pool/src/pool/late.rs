//! Instances that are not ready when they ought to be.
//!
//! 20. One that is not ready within the start timeout is given up: no instance can be started (12). First the world is
//!     asked what is known of it, so that whoever is refused is told why; should it become ready meanwhile, all is well.
//!
//!     a. It is killed, and its slot backs off.
//!     b. A server that the pool does not start is probed as before, and serves once a probe has passed. The time
//!     begins anew when one that was ready is lost. What is said of it is as of the last probe.

use std::sync::Arc;
use std::time::Duration;

use crate::event::{Action, DeathCause, Health, InstanceId};
use crate::instance::{Delay, Instance, Starting, State};
use crate::time::Time;

use super::Pool;

/// Whoever is asked what is known of an instance may take so long to say.
const EXAMINED_WITHIN: Duration = Duration::from_secs(3);

/// What the last probe saw, if somebody knows in words, and the last lines of the log.
type Findings = (Option<Arc<str>>, Arc<str>);

impl Pool {
    fn starting_mut(&mut self, slot: u32) -> Option<(InstanceId, &mut Starting)> {
        match self.instances.get_mut(&slot) {
            Some(Instance { id, state: State::Starting(starting), .. }) => Some((*id, starting)),
            Some(_) | None => None,
        }
    }

    /// The start timeout of an instance has passed, or the time to say what is known of it.
    pub(super) fn overdue(&mut self, slot: u32, now: Time) {
        match self.starting_mut(slot) {
            Some((_, Starting { delay: Delay::InTime, .. })) => {
                self.examine(slot, now);
                self.look(slot, now);
            }
            Some((_, Starting { delay: Delay::Examined { .. }, .. })) => {
                self.start_timed_out(slot, (None, Arc::default()), now);
            }
            Some((_, Starting { delay: Delay::GivenUp, .. })) | None => {}
        }
    }

    /// Asks what is known of an instance.
    fn examine(&mut self, slot: u32, now: Time) {
        if let Some((instance, starting)) = self.starting_mut(slot) {
            starting.delay = Delay::Examined { until: now + EXAMINED_WITHIN };
            self.actions.push_back(Action::Examine { instance });
        }
    }

    /// A probe of an instance has failed that is given up already: what is said of it is out of date.
    pub(super) fn examine_again(&mut self, slot: u32, now: Time) {
        if let Some((_, Starting { delay: Delay::GivenUp, .. })) = self.starting_mut(slot) {
            self.examine(slot, now);
        }
    }

    /// What is known of an instance. One that is not asked about any more is ready, or gone.
    pub(super) fn instance_examined(&mut self, id: InstanceId, findings: Findings, now: Time) {
        if let Some((known, Starting { delay: Delay::Examined { .. }, .. })) = self.starting_mut(id.slot)
            && known == id
        {
            self.start_timed_out(id.slot, findings, now);
        }
    }

    fn start_timed_out(&mut self, slot: u32, (saw, log): Findings, now: Time) {
        let after = self.config.start_timeout;
        let Some((_, starting)) = self.starting_mut(slot) else { return };
        starting.delay = Delay::GivenUp;
        let saw = saw.unwrap_or_else(|| last_look(starting).into());
        let cause = DeathCause::StartTimeout { after, saw, log };
        if self.config.managed {
            let next = self.after_death(slot, cause, None, now);
            self.stop(slot, Duration::ZERO, next, now);
            return;
        }
        if let Some(instance) = self.instances.get_mut(&slot) {
            instance.record.failures = 1;
        }
        self.starts.failed(&cause);
        self.touch(slot);
        self.changed = true;
    }
}

/// What is known to the pool itself.
fn last_look(starting: &Starting) -> &'static str {
    match starting.reached.map(|(_, probe)| probe.last) {
        None => "the backend has not said that it runs",
        Some(None) => "no probe has ended",
        Some(Some(Health::Ready)) => "it is ready",
        Some(Some(Health::NotReady)) => "its last probe was refused, or not answered as configured",
        Some(Some(Health::Silent)) => "its last probe was not answered in time",
        Some(Some(Health::Frozen)) => "its processes are paused",
    }
}
