//! How the world answers the pool, well or badly, and what it does to it unasked.

use std::time::Duration;

use longshore_pool::{
    Action, DeathCause, Event, Health, InstanceId, Outcome, RejectReason, RequestId, Retry, StateView, Time,
};

use crate::model::Broken;
use crate::model::Place;
use crate::profile;
use crate::world::{Container, Planned, World, address};

impl World {
    /// Does what the pool asked for.
    pub(crate) fn act(&mut self, action: Action) {
        match action {
            Action::Dispatch { request, instance, attempt, .. } => self.serve(request, instance, attempt),
            Action::Reject { reason, .. } => self.history.saw(kind(&reason)),
            Action::Revoke { request, .. } => self.revoked(request),
            Action::Start { instance } => self.start(instance),
            Action::Probe { instance, .. } => self.probe(instance),
            Action::Examine { instance } => self.examine(instance),
            Action::Pause { instance } => self.pause(instance),
            Action::Resume { instance } => self.resume(instance),
            Action::Stop { instance, grace } => self.stop(instance, grace),
        }
    }

    fn serve(&mut self, request: RequestId, on: InstanceId, attempt: u32) {
        self.history.saw(if attempt == 1 { "dispatch" } else { "replay" });
        let working =
            self.containers.get(&on).is_some_and(|it| it.alive && !it.paused && it.health == Health::Ready);
        let (after, outcome) = if !working {
            let hangs = self.rng.bool();
            let after = if hangs { Duration::from_secs(30) } else { self.ms(10) };
            (after, Outcome::Lost { how: "refused".into(), sent: hangs })
        } else if self.chance(self.profile.bad_attempt) {
            (self.ms(1_000), self.bad_outcome())
        } else {
            (self.profile.service.mul_f64(self.rng.f64() * 2.0), Outcome::Answered)
        };
        // Some answers begin, and then go on for long.
        let streams = self.rng.u32(0..4) == 0;
        if streams {
            let begun = after.mul_f64(self.rng.f64());
            self.plan(begun, Planned::Tell(Event::RequestStreams { request }));
        }
        let after = if streams && outcome == Outcome::Answered { after * 8 } else { after };
        self.plan(after, Planned::Finish { request: request.0, attempt, outcome });
    }

    fn bad_outcome(&mut self) -> Outcome {
        match self.rng.u32(0..5) {
            4 => self.interrupted(),
            0 => Outcome::Busy { retry_after: Duration::from_millis(self.rng.u64(0..3_000)) },
            1 => Outcome::Busy { retry_after: Duration::from_secs(self.rng.u64(0..100)) },
            2 => Outcome::Abandoned { broken: self.rng.bool() },
            _ => Outcome::Lost { how: "reset".into(), sent: self.rng.bool() },
        }
    }

    /// A stream broke off that can go on elsewhere: its old deadline may well have passed.
    fn interrupted(&mut self) -> Outcome {
        let deadline = match self.rng.u32(0..8) {
            0 => self.now(),
            1 | 2 => self.now() + self.ms(2_000),
            _ => Time::MAX,
        };
        Outcome::Interrupted { how: "broken off".into(), deadline }
    }

    /// The gateway ends the attempt, now or late, and knows best how it ended.
    fn revoked(&mut self, request: RequestId) {
        self.history.saw("revoke");
        let Some(known) = self.model.requests.get(&request.0) else { return };
        if let (true, Place::Flying { instance, .. }) = (known.streams, known.place) {
            let early =
                self.model.instances[&instance].drain.is_some_and(|(_, deadline, _)| self.now() < deadline);
            self.history.saw(if early { "stream cut by a drain" } else { "stream cut" });
        }
        let attempt = known.attempts;
        let most = if self.rng.u32(0..4) == 0 { 10_000 } else { 100 };
        let outcome = match self.rng.u32(0..8) {
            0 => Outcome::Answered,
            1 => Outcome::Abandoned { broken: true },
            2 => self.interrupted(),
            _ => Outcome::Lost { how: "revoked".into(), sent: self.rng.u32(0..3) > 0 },
        };
        let after = self.ms(most);
        self.plan(after, Planned::Finish { request: request.0, attempt, outcome });
    }

    fn start(&mut self, instance: InstanceId) {
        self.history.saw("start");
        if !self.chance(self.profile.bad_start) {
            let warm = self.ms(200);
            return self.run(instance, warm);
        }
        match self.rng.u32(0..4) {
            0 => {
                let retry = [Retry::Later, Retry::Futile, Retry::EngineDown][self.rng.usize(0..3)];
                self.exit(instance, DeathCause::StartFailed { error: "no".into(), retry }, 500);
            }
            // Never answered; but the shell answers at once for a server that already runs.
            1 if self.model.config.managed => {}
            1 | 2 => {
                let warm = self.ms(30_000);
                self.run(instance, warm);
            }
            _ => {
                self.run(instance, Duration::MAX);
                self.exit(instance, DeathCause::Exited { code: 1, log: "oops".into() }, 1_000);
            }
        }
    }

    fn run(&mut self, instance: InstanceId, warm: Duration) {
        let after = if self.model.config.managed { self.ms(100) } else { Duration::ZERO };
        let warm_at = self.now() + warm;
        self.containers
            .insert(instance, Container { alive: true, warm_at, health: Health::Ready, paused: false });
        self.plan(after, Planned::Tell(Event::InstanceStarted { instance, address: address() }));
    }

    fn exit(&mut self, instance: InstanceId, cause: DeathCause, most: u64) {
        let after = self.ms(most);
        if cause != DeathCause::Stopped && self.rng.bool() {
            let early = after.mul_f64(self.rng.f64());
            let cause = DeathCause::Unexplained;
            self.plan(early, Planned::Tell(Event::InstanceExited { instance, cause }));
        }
        self.plan(after, Planned::Tell(Event::InstanceExited { instance, cause }));
    }

    fn probe(&mut self, instance: InstanceId) {
        let now = self.now();
        let working = self.single && self.model.burden(instance) > 0;
        let truth = match self.containers.get(&instance) {
            Some(it) if it.alive && it.paused => Health::Frozen,
            Some(it) if it.alive && it.warm_at > now && !self.calm => Health::NotReady,
            Some(it) if it.alive && it.health == Health::Ready && working => Health::Silent,
            Some(it) if it.alive => it.health,
            Some(_) | None => Health::NotReady,
        };
        let mut health = truth;
        if self.chance(self.profile.bad_probe) {
            let all = [Health::Ready, Health::NotReady, Health::Silent, Health::Frozen];
            match self.rng.usize(0..6) {
                0 => return self.history.saw("probe that never ends"),
                n => health = *all.get(n - 1).unwrap_or(&truth),
            }
        }
        let after = self.ms(50);
        self.plan(after, Planned::Tell(Event::InstanceProbed { instance, health }));
    }

    fn examine(&mut self, instance: InstanceId) {
        self.history.saw("examination");
        // Now and then nobody says anything.
        if self.rng.u32(0..4) > 0 {
            let (after, saw) = (self.ms(4_000), self.rng.bool().then(|| "refused".into()));
            self.plan(after, Planned::Tell(Event::InstanceExamined { instance, saw, log: "".into() }));
        }
    }

    fn pause(&mut self, instance: InstanceId) {
        self.history.saw("pause");
        let fails = self.chance(self.profile.bad_pause);
        if let Some(container) = self.containers.get_mut(&instance) {
            container.paused = !fails;
        }
        // Now and then it is done, and nobody says so.
        if !fails || self.rng.bool() {
            let after = self.ms(50);
            self.plan(after, Planned::Tell(Event::InstancePaused { instance, done: !fails }));
        }
    }

    fn resume(&mut self, instance: InstanceId) {
        self.history.saw("resume");
        let alive = self.containers.get(&instance).is_some_and(|it| it.alive);
        let fails = !alive || self.chance(self.profile.bad_pause);
        if fails && self.rng.bool() {
            return self.history.saw("resume that hangs");
        }
        let cause = DeathCause::StartFailed { error: "cannot go on".into(), retry: Retry::Later };
        if let Some(container) = self.containers.get_mut(&instance) {
            container.paused &= fails;
        }
        let after = self.ms(50);
        let failed = fails.then_some(cause);
        self.plan(after, Planned::Tell(Event::InstanceResumed { instance, failed }));
    }

    fn stop(&mut self, instance: InstanceId, grace: Duration) {
        self.history.saw(if grace.is_zero() { "kill" } else { "stop" });
        if let Some(container) = self.containers.get_mut(&instance) {
            container.alive = false;
        }
        if !self.chance(self.profile.bad_stop) {
            self.exit(instance, DeathCause::Stopped, grace.as_millis() as u64 + 10);
        }
    }

    /// Something befalls an instance.
    pub(crate) fn accident(&mut self) {
        let ids: Vec<InstanceId> = self.containers.keys().copied().collect();
        let Some(id) = self.rng.choice(ids.iter()).copied() else { return };
        let managed = self.model.config.managed;
        let Some(container) = self.containers.get_mut(&id).filter(|it| it.alive) else { return };
        match self.rng.u32(0..8) {
            0 => container.health = Health::Frozen,
            1 => container.health = Health::Silent,
            2 => container.health = Health::NotReady,
            3 | 4 => container.health = Health::Ready,
            _ => {
                container.alive = false;
                let causes = [
                    DeathCause::Killed { signal: 9 },
                    DeathCause::Vanished,
                    DeathCause::Exited { code: 0, log: "done".into() },
                ];
                let cause = causes[self.rng.usize(0..3)].clone();
                if managed || self.rng.bool() {
                    let most = if self.rng.bool() { 10 } else { 10_000 };
                    self.exit(id, cause, most);
                }
                if self.model.views.get(&id).is_some_and(|view| view.state == StateView::Standby) {
                    self.history.saw("dies in standby");
                }
                self.cut_connections(id);
            }
        }
    }

    /// The gateway sees the connections of a dead instance break, before or after the news of its death.
    fn cut_connections(&mut self, id: InstanceId) {
        let held = Place::Flying { instance: id, revoked: false };
        let all = self.model.requests.iter().filter(|(_, it)| it.place == held);
        let cut: Vec<(u64, u32)> = all.map(|(request, it)| (*request, it.attempts)).collect();
        for (request, attempt) in cut {
            let outcome = Outcome::Lost { how: "reset".into(), sent: self.rng.u32(0..4) > 0 };
            let after = self.ms(50);
            self.plan(after, Planned::Finish { request, attempt, outcome });
        }
    }

    /// An operator does something.
    pub(crate) fn operate(&mut self) -> Result<(), Broken> {
        match self.rng.u32(0..40) {
            0..=9 if self.model.draining => {
                self.history.saw("cut");
                self.tell(Event::Cut)
            }
            0 => self.tell(Event::Drain),
            1..=6 => self.tell(Event::Restart),
            7..=12 => {
                let config = profile::config(&mut self.rng, self.model.config.managed);
                let roll = self.rng.bool();
                self.tell(Event::ConfigChanged { config, roll })
            }
            13..=15 => self.set_policy(),
            16..=18 => self.reconfigure(),
            19..=21 => {
                let ids: Vec<InstanceId> = self.model.views.keys().copied().collect();
                let Some(instance) = self.rng.choice(ids.iter()).copied() else { return Ok(()) };
                self.history.saw("taken");
                // The other process has done at some time.
                let after = self.ms(5_000);
                self.plan(after, Planned::Tell(Event::InstanceTaken { instance, slots: 0 }));
                let slots = self.rng.u32(1..=3);
                self.tell(Event::InstanceTaken { instance, slots })
            }
            22..=26 => {
                let ids: Vec<InstanceId> = self.model.views.keys().copied().collect();
                match self.rng.choice(ids.iter()).copied() {
                    Some(instance) => self.tell(Event::InstanceReplace { instance }),
                    None => Ok(()),
                }
            }
            _ => {
                let size = if self.rng.u32(0..10) == 0 { u32::MAX } else { self.rng.u32(0..8) };
                self.tell(Event::SizeSet { size })
            }
        }
    }
}

fn kind(reason: &RejectReason) -> &'static str {
    match reason {
        RejectReason::QueueFull { .. } => "queue full",
        RejectReason::QueueTimeout => "queue timeout",
        RejectReason::DeadlinePassed => "deadline passed",
        RejectReason::AttemptsExhausted { .. } => "attempts exhausted",
        RejectReason::CannotStart { .. } => "cannot start",
        RejectReason::Stopped { cause: None } => "stopped",
        RejectReason::Stopped { cause: Some(_) } => "stopped by a policy",
        RejectReason::ShuttingDown => "shutting down",
    }
}

/// Everything that a run over many seeds must have met, or it shows nothing.
pub(crate) const MUST_SEE: [&str; 26] = [
    "stream cut by a drain",
    "dispatch",
    "replay",
    "revoke",
    "start",
    "stop",
    "kill",
    "pause",
    "resume",
    "resume that hangs",
    "dies in standby",
    "suspect",
    "probe that never ends",
    "examination",
    "queue full",
    "queue timeout",
    "deadline passed",
    "attempts exhausted",
    "cannot start",
    "stopped",
    "reconfigured",
    "taken",
    "stopped by a policy",
    "exited",
    "shutting down",
    "cut",
];
