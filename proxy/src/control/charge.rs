//! Whose the instances are. A process that is taken over first holds still, and then has given them up: it answers what
//! it has accepted with instances that another process starts, watches and stops.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use longshore_backend::Key;
use longshore_pool::{Action, DeathCause, Event, InstanceId};

use super::Control;

/// Incarnations left to the process that takes over; news of its instances must not be taken for news of others.
const THEIRS: u32 = 1_000;

/// Incarnations that may be given while it is told which were.
const MARGIN: u32 = 10;

/// Whose the instances are.
#[derive(Default)]
pub(super) enum Charge {
    /// This process's.
    #[default]
    Ours,
    /// It is being decided. What the pool asks for waits.
    Held(Vec<Action>),
    /// The other process's.
    Theirs(Theirs),
}

/// What is known of instances that belong to another process.
#[derive(Default)]
pub(super) struct Theirs {
    /// Those that the pool wants started. Each becomes one that the other process has.
    wanted: Vec<InstanceId>,
    /// Of each of theirs that has become one of the pool's: what the pool calls it.
    names: HashMap<InstanceId, InstanceId>,
}

impl Control {
    /// From now on nothing is begun with any instance. Gives the last incarnation that is left to this process: the other
    /// one may use those after it.
    pub fn hold(&self) -> u32 {
        *self.charge.lock() = Charge::Held(Vec::new());
        let last = self.dispatcher.last_incarnation().saturating_add(MARGIN);
        self.dispatcher.skip_incarnations(last.saturating_add(THEIRS));
        last
    }

    /// Returns when the starts under way are over.
    pub async fn started(&self) {
        while !self.starts.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Those that are being stopped.
    pub fn stopping(&self) -> Vec<Key> {
        let instances = self.instances.lock();
        instances.iter().filter(|(_, life)| life.stopping).map(|(instance, _)| self.key(*instance)).collect()
    }

    /// The other process has given up: what waits is done.
    pub fn resume_charge(self: &Arc<Self>) {
        match std::mem::take(&mut *self.charge.lock()) {
            Charge::Held(waiting) => waiting.into_iter().for_each(|action| self.perform(action)),
            Charge::Ours | Charge::Theirs(_) => {}
        }
    }

    /// The instances are the other process's. What ends is its business, and no death here.
    pub fn give_up(self: &Arc<Self>) {
        self.instances.lock().values_mut().for_each(|life| life.stopping = true);
        let before = std::mem::replace(&mut *self.charge.lock(), Charge::Theirs(Theirs::default()));
        match before {
            Charge::Held(waiting) => waiting.into_iter().for_each(|action| self.perform(action)),
            Charge::Ours | Charge::Theirs(_) => {}
        }
    }

    /// Instances that the other process has: those that are not known here may be what is waited for.
    pub fn learn(&self, theirs: &[(InstanceId, SocketAddr)]) {
        let mut found = Vec::new();
        if let Charge::Theirs(charge) = &mut *self.charge.lock() {
            let instances = self.instances.lock();
            for (id, address) in theirs {
                if charge.names.contains_key(id) || instances.contains_key(id) {
                    continue;
                }
                let Some(instance) = charge.wanted.pop() else { break };
                charge.names.insert(*id, instance);
                found.push((instance, *address));
            }
        }
        for (instance, address) in found {
            self.remember(instance);
            if let Some(life) = self.instances.lock().get_mut(&instance) {
                (life.stopping, life.log_matched) = (true, true);
            }
            self.dispatcher.tell(Event::InstanceStarted { instance, address });
        }
    }

    /// What the pool calls an instance of which the backend has news.
    pub(super) fn own_name(&self, instance: InstanceId) -> InstanceId {
        match &*self.charge.lock() {
            Charge::Theirs(theirs) => theirs.names.get(&instance).copied().unwrap_or(instance),
            Charge::Ours | Charge::Held(_) => instance,
        }
    }

    /// Whether another process sees to the instances' health.
    pub(super) fn is_given_up(&self) -> bool {
        match &*self.charge.lock() {
            Charge::Theirs(_) => true,
            Charge::Ours | Charge::Held(_) => false,
        }
    }

    /// Gives back an action that is to be performed now.
    pub(super) fn in_charge(&self, action: Action) -> Option<Action> {
        let acts = match &action {
            Action::Start { .. } | Action::Pause { .. } | Action::Resume { .. } | Action::Stop { .. } => true,
            Action::Probe { .. }
            | Action::Examine { .. }
            | Action::Dispatch { .. }
            | Action::Reject { .. }
            | Action::Revoke { .. } => false,
        };
        // Servers that nobody starts belong to nobody.
        if !acts || self.backend().is_none() {
            return Some(action);
        }
        match &mut *self.charge.lock() {
            Charge::Ours => return Some(action),
            Charge::Held(waiting) => {
                waiting.push(action);
                return None;
            }
            Charge::Theirs(theirs) => {
                if let Action::Start { instance } = action {
                    theirs.wanted.push(instance);
                    return None;
                }
            }
        }
        self.disclaim(action);
        None
    }

    /// What would act on an instance of another process is told to have come to its end.
    fn disclaim(&self, action: Action) {
        match action {
            Action::Stop { instance, .. } => {
                self.instances.lock().remove(&instance);
                self.dispatcher.tell(Event::InstanceExited { instance, cause: DeathCause::Stopped });
            }
            Action::Pause { instance } => {
                self.dispatcher.tell(Event::InstancePaused { instance, done: false })
            }
            Action::Resume { instance } => {
                let failed = Some(DeathCause::Vanished);
                self.dispatcher.tell(Event::InstanceResumed { instance, failed });
            }
            Action::Start { .. }
            | Action::Probe { .. }
            | Action::Examine { .. }
            | Action::Dispatch { .. }
            | Action::Reject { .. }
            | Action::Revoke { .. } => {}
        }
    }
}
