//! The world around one pool: clients, an engine, a gateway and an operator, with faults; and the virtual clock.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use longshore_pool::{
    Action, Event, Health, InstanceId, Outcome, Pool, PoolConfig, RequestId, RestartPolicy, StateView, Time,
};

use crate::history::History;
use crate::model::{Broken, Model, Place, ensure};
use crate::profile::{self, Profile};

/// What will happen at some time.
pub(crate) enum Planned {
    /// A client asks.
    Arrival,
    /// A client leaves.
    Departure(u64),
    /// The pool is told.
    Tell(Event),
    /// An attempt ends, if it is still the present one.
    Finish { request: u64, attempt: u32, outcome: Outcome },
}

/// The truth about an instance.
pub(crate) struct Container {
    pub(crate) alive: bool,
    pub(crate) warm_at: Time,
    pub(crate) health: Health,
    pub(crate) paused: bool,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) profile: Profile,
    pub(crate) pool: Pool,
    pub(crate) model: Model,
    pub(crate) history: History,
    pub(crate) containers: BTreeMap<InstanceId, Container>,
    pub(crate) calm: bool,
    pub(crate) events: u64,
    /// Instances do one thing at a time, and do not answer probes meanwhile.
    pub(crate) single: bool,
    agenda: BTreeMap<(Time, u64), Planned>,
    planned: u64,
    now: Time,
    next_request: u64,
}

pub(crate) fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

impl World {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let profile = Profile::draw(&mut rng);
        let managed = rng.u32(0..7) > 0;
        let config = profile::config(&mut rng, managed);
        let (policy, fixed) = profile::policy(&mut rng);
        let pool = Pool::new(Arc::clone(&config), policy, rng.u64(..), Time::ZERO);
        let single = rng.bool();
        Self {
            rng,
            profile,
            pool,
            model: Model::new(config, fixed),
            history: History::new(traced),
            containers: BTreeMap::new(),
            calm: false,
            events: 0,
            single,
            agenda: BTreeMap::new(),
            planned: 0,
            now: Time::ZERO,
            next_request: 1,
        }
    }

    /// A whole history: boot, trouble, calm, quiet.
    pub(crate) fn live(&mut self) -> Result<(), Broken> {
        self.boot()?;
        self.plan(Duration::ZERO, Planned::Arrival);
        for step in 0..self.profile.length {
            self.next()?;
            // Little happens in a pool that drains.
            if self.model.draining && self.rng.u32(0..200) == 0 {
                break;
            }
            if step % 64 == 0 {
                self.time_out()?;
            }
            if self.chance(self.profile.accident) {
                self.accident();
            }
            if self.chance(self.profile.operator) {
                self.operate()?;
            }
        }
        self.calm_down()
    }

    fn boot(&mut self) -> Result<(), Broken> {
        if !self.model.config.managed {
            return Ok(());
        }
        for _ in 0..self.rng.u32(0..8).saturating_sub(3) {
            let instance = InstanceId { slot: self.rng.u32(0..4), incarnation: self.rng.u32(1..100) };
            let health = [Health::Ready, Health::Ready, Health::NotReady][self.rng.usize(0..3)];
            let paused = self.rng.u32(0..4) == 0;
            self.containers.insert(instance, Container { alive: true, warm_at: Time::ZERO, health, paused });
            self.tell(Event::InstanceFound { instance, address: address(), paused })?;
        }
        Ok(())
    }

    /// Whatever comes next, the pool's own timer or the world.
    fn next(&mut self) -> Result<(), Broken> {
        let late = if self.chance(self.profile.late_timer) { self.ms(300) } else { Duration::ZERO };
        let timer = self.pool.poll_timeout().map(|at| at + late);
        let world = self.agenda.first_key_value().map(|((at, _), _)| *at);
        match (timer, world) {
            (Some(timer), Some(world)) if timer > world => self.happen(),
            (Some(timer), _) => {
                self.now = self.now.max(timer);
                self.time_out()
            }
            (None, Some(_)) => self.happen(),
            (None, None) => Ok(()),
        }
    }

    fn happen(&mut self) -> Result<(), Broken> {
        let Some(((at, _), planned)) = self.agenda.pop_first() else { return Ok(()) };
        self.now = self.now.max(at);
        match planned {
            Planned::Arrival => self.arrive(),
            Planned::Departure(request) => self.depart(request),
            Planned::Tell(event) => self.tell(event),
            Planned::Finish { request, attempt, outcome } => {
                let present = self
                    .model
                    .requests
                    .get(&request)
                    .is_some_and(|it| it.attempts == attempt && matches!(it.place, Place::Flying { .. }));
                let event = Event::RequestFinished { request: RequestId(request), outcome };
                if present { self.tell(event) } else { Ok(()) }
            }
        }
    }

    fn arrive(&mut self) -> Result<(), Broken> {
        if self.calm {
            return Ok(());
        }
        let between = self.profile.between.mul_f64(self.rng.f64() * 2.0);
        self.plan(between, Planned::Arrival);
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let deadline = match self.rng.u32(0..40) {
            0 => self.now,
            1..=8 => self.now + self.ms(2_000),
            _ => Time::MAX,
        };
        if self.rng.u32(0..5) == 0 {
            let stays = self.ms(2_000);
            self.plan(stays, Planned::Departure(request.0));
        }
        let replayable = self.rng.u32(0..5) > 0;
        let class = profile::class(&mut self.rng);
        self.tell(Event::RequestArrived { request, deadline, replayable, class })
    }

    fn depart(&mut self, id: u64) -> Result<(), Broken> {
        let Some(request) = self.model.requests.get(&id) else { return Ok(()) };
        match request.place {
            // Now and then the gateway does not know yet that it is in flight.
            Place::Flying { .. } if self.rng.u32(0..4) > 0 => {
                let outcome = Outcome::Abandoned { broken: false };
                self.tell(Event::RequestFinished { request: RequestId(id), outcome })
            }
            Place::Flying { .. } | Place::Waiting { .. } | Place::Doomed => {
                self.tell(Event::RequestCancelled { request: RequestId(id) })
            }
        }
    }

    /// Tells the pool, now; perhaps once more later.
    pub(crate) fn tell(&mut self, event: Event) -> Result<(), Broken> {
        let once = matches!(event, Event::ConfigChanged { .. } | Event::InstanceTaken { .. } | Event::Drain);
        if self.chance(self.profile.double) && !once {
            let later = self.ms(5_000);
            self.plan(later, Planned::Tell(event.clone()));
        }
        self.history.note(self.now, "<-", &event);
        self.model.begin(self.now);
        self.model.event(&event);
        self.pool.handle_event(event, self.now);
        self.after_step()
    }

    /// Puts another policy in charge.
    pub(crate) fn set_policy(&mut self) -> Result<(), Broken> {
        let (policy, fixed) = profile::policy(&mut self.rng);
        self.history.note(self.now, "<-", &policy.name());
        self.model.begin(self.now);
        if self.model.config.managed {
            self.model.fixed = fixed;
            self.model.operated();
        }
        self.pool.set_policy(policy, self.now);
        self.after_step()
    }

    /// Another configuration together with another policy, as when the file's `size` has changed too.
    pub(crate) fn reconfigure(&mut self) -> Result<(), Broken> {
        let config = profile::config(&mut self.rng, self.model.config.managed);
        let roll = self.rng.bool();
        let (policy, fixed) = profile::policy(&mut self.rng);
        let event = Event::ConfigChanged { config: config.clone(), roll };
        self.history.note(self.now, "<-", &event);
        self.history.note(self.now, "<-", &policy.name());
        self.history.saw("reconfigured");
        self.model.begin(self.now);
        self.model.event(&event);
        if config.managed {
            self.model.fixed = fixed;
        }
        self.pool.reconfigure(config, roll, Some(policy), self.now);
        self.after_step()
    }

    fn time_out(&mut self) -> Result<(), Broken> {
        self.history.note(self.now, "<-", &"timeout");
        self.model.begin(self.now);
        self.model.time_out();
        self.pool.handle_timeout(self.now);
        self.after_step()
    }

    fn after_step(&mut self) -> Result<(), Broken> {
        self.events += 1;
        let after = self.pool.snapshot(self.now);
        let most = 100 + 2 * self.model.requests.len() + 4 * after.instances.len();
        let waited = self.model.waited_before || self.model.waiting().next().is_some();
        for asked in 0.. {
            let Some(action) = self.pool.poll_action() else { break };
            ensure!(asked < most, "more than {most} actions in one step");
            self.history.note(self.now, "  ->", &action);
            self.model.action(&action, &after)?;
            let start = matches!(action, Action::Start { .. });
            ensure!(!start || !self.model.draining || waited, "a pool that drains starts for nobody");
            self.act(action);
        }
        self.model.look(&after);
        if after.instances.iter().any(|view| view.state == StateView::Suspect) {
            self.history.saw("suspect");
        }
        if after.instances.iter().any(|view| view.state == StateView::Exited) {
            self.history.saw("exited");
        }
        self.model.check(&self.pool, &after)
    }

    /// From here on everything goes well, and the pool must come to rest.
    fn calm_down(&mut self) -> Result<(), Broken> {
        self.calm = true;
        let Profile { service, length, .. } = self.profile;
        self.profile = Profile {
            bad_start: 0.0,
            bad_probe: 0.0,
            bad_attempt: 0.0,
            accident: 0.0,
            bad_stop: 0.0,
            bad_pause: 0.0,
            double: 0.0,
            operator: 0.0,
            late_timer: 0.0,
            between: service,
            service,
            length,
        };
        self.heal();
        // What ends unasked is replaced from now on, or nothing need be left.
        let config = PoolConfig { restart: RestartPolicy::Always, ..(*self.model.config).clone() };
        self.tell(Event::ConfigChanged { config: Arc::new(config), roll: false })?;
        let size = self.rng.u32(0..=6);
        self.tell(Event::SizeSet { size })?;
        let (end, budget) = (self.now + Duration::from_secs(1_800), self.events + 400_000);
        while !self.is_quiet() {
            ensure!(self.now < end && self.events < budget, "it never comes to rest: {:#?}", self.rest());
            self.heal();
            self.next()?;
        }
        Ok(())
    }

    fn rest(&self) -> longshore_pool::Snapshot {
        self.pool.snapshot(self.now)
    }

    fn heal(&mut self) {
        let managed = self.model.config.managed;
        for container in self.containers.values_mut() {
            container.health = Health::Ready;
            container.alive |= !managed;
        }
    }

    fn is_quiet(&self) -> bool {
        let snapshot = self.rest();
        let served = self.model.requests.is_empty() && self.pool.table_sizes().0 == 0;
        let count =
            |state| snapshot.instances.iter().filter(|view| view.state == state && !view.outdated).count();
        let (ready, standby) = (count(StateView::Ready), count(StateView::Standby));
        let settled = snapshot.instances.len() == ready + standby;
        let kept = if self.model.config.managed { self.model.config.standby } else { 0 };
        let sized = ready == snapshot.wanted as usize && standby == kept as usize;
        served && (snapshot.draining || (settled && sized && snapshot.cannot_start.is_none()))
    }

    pub(crate) fn plan(&mut self, after: Duration, planned: Planned) {
        self.planned += 1;
        self.agenda.insert((self.now + after, self.planned), planned);
    }

    pub(crate) fn now(&self) -> Time {
        self.now
    }

    pub(crate) fn chance(&mut self, chance: f64) -> bool {
        self.rng.f64() < chance
    }

    /// Up to so many milliseconds; often none at all, so that things coincide.
    pub(crate) fn ms(&mut self, most: u64) -> Duration {
        if self.rng.u32(0..8) == 0 {
            Duration::ZERO
        } else {
            Duration::from_micros(self.rng.u64(0..=most * 1_000))
        }
    }
}
