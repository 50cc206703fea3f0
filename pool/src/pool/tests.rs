//! Claims in virtual time, one file a theme, and the [`Story`] in which they are told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Pool;
use crate::config::PoolConfig;
use crate::event::{
    Action, Class, DeathCause, Event, Health, InstanceId, Outcome, RejectReason, RequestId, Revoked,
};
use crate::scaling::Fixed;
use crate::snapshot::{InstanceView, StateView};
use crate::time::Time;

mod addresses;
mod balancing;
mod habits;
mod lives;
mod orders;
mod probes;
mod replays;
mod requests;
mod restarts;
mod rolling;
mod sizes;
mod standby;
mod starts;
mod waits;

/// A pool, the time, and what the pool asked for since the last question.
struct Story {
    pool: Pool,
    now: Time,
    asked: Vec<Action>,
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

fn lost(sent: bool) -> Outcome {
    Outcome::Lost { how: "connection reset".into(), sent }
}

fn killed() -> DeathCause {
    DeathCause::Killed { signal: 9 }
}

impl Story {
    /// A pool of fixed size that has asked for its first instances.
    fn new(size: u32, config: PoolConfig) -> Self {
        Self::seeded(7, size, config)
    }

    fn seeded(seed: u64, size: u32, config: PoolConfig) -> Self {
        let pool = Pool::new(Arc::new(config), Box::new(Fixed(size)), seed, Time::ZERO);
        let mut story = Self { pool, now: Time::ZERO, asked: Vec::new() };
        story.pool.handle_timeout(Time::ZERO);
        story
    }

    /// As [`Story::new`], with every instance ready.
    fn ready(size: u32, config: PoolConfig) -> Self {
        let mut story = Self::new(size, config);
        story.start_all();
        story
    }

    /// What the pool asked for since the last time.
    fn asked(&mut self) -> Vec<Action> {
        self.asked.extend(std::iter::from_fn(|| self.pool.poll_action()));
        std::mem::take(&mut self.asked)
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        self.pool.handle_event(event, self.now);
        self.asked()
    }

    /// Lets time pass, with every timeout on the way at its time.
    fn pass(&mut self, duration: Duration) -> Vec<Action> {
        let end = self.now + duration;
        while let Some(at) = self.pool.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.pool.handle_timeout(self.now);
        }
        self.now = end;
        self.asked()
    }

    fn arrive(&mut self, request: u64) -> Vec<Action> {
        self.arrive_until(request, Time::MAX)
    }

    fn arrive_until(&mut self, request: u64, deadline: Time) -> Vec<Action> {
        let (request, class) = (RequestId(request), Class::default());
        self.event(Event::RequestArrived { request, deadline, replayable: true, class })
    }

    fn arrive_as(&mut self, request: u64, class: Class) -> Vec<Action> {
        let (request, deadline) = (RequestId(request), Time::MAX);
        self.event(Event::RequestArrived { request, deadline, replayable: true, class })
    }

    fn finish(&mut self, request: u64, outcome: Outcome) -> Vec<Action> {
        self.event(Event::RequestFinished { request: RequestId(request), outcome })
    }

    fn exit(&mut self, instance: InstanceId, cause: DeathCause) -> Vec<Action> {
        self.event(Event::InstanceExited { instance, cause })
    }

    fn probed(&mut self, instance: InstanceId, health: Health) -> Vec<Action> {
        self.event(Event::InstanceProbed { instance, health })
    }

    fn started(&mut self, instance: InstanceId) -> Vec<Action> {
        self.event(Event::InstanceStarted { instance, address: address() })
    }

    /// Whatever is starting becomes ready; what that made the pool ask for.
    fn start_all(&mut self) -> Vec<Action> {
        let mut asked = self.asked();
        for instance in self.instances_in(StateView::Starting) {
            asked.extend(self.started(instance));
            asked.extend(self.probed(instance, Health::Ready));
        }
        asked
    }

    fn view(&self, slot: u32) -> InstanceView {
        let snapshot = self.pool.snapshot(self.now);
        snapshot.instances.into_iter().find(|view| view.instance.slot == slot).expect("the slot is in use")
    }

    fn id(&self, slot: u32) -> InstanceId {
        self.view(slot).instance
    }

    fn state(&self, slot: u32) -> StateView {
        self.view(slot).state
    }

    fn instances_in(&self, state: StateView) -> Vec<InstanceId> {
        let views = self.pool.snapshot(self.now).instances.into_iter();
        views.filter(|view| view.state == state).map(|view| view.instance).collect()
    }
}

/// The requests dispatched, and the slots that they went to.
fn dispatched(actions: &[Action]) -> Vec<(u64, u32)> {
    let dispatch = |action: &Action| match action {
        Action::Dispatch { request, instance, .. } => Some((request.0, instance.slot)),
        Action::Reject { .. }
        | Action::Revoke { .. }
        | Action::Start { .. }
        | Action::Probe { .. }
        | Action::Examine { .. }
        | Action::Pause { .. }
        | Action::Resume { .. }
        | Action::Stop { .. } => None,
    };
    actions.iter().filter_map(dispatch).collect()
}

/// The requests rejected, and why.
fn rejected(actions: &[Action]) -> Vec<(u64, RejectReason)> {
    let reject = |action: &Action| match action {
        Action::Reject { request, reason } => Some((request.0, reason.clone())),
        Action::Dispatch { .. }
        | Action::Revoke { .. }
        | Action::Start { .. }
        | Action::Probe { .. }
        | Action::Examine { .. }
        | Action::Pause { .. }
        | Action::Resume { .. }
        | Action::Stop { .. } => None,
    };
    actions.iter().filter_map(reject).collect()
}
