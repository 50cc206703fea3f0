//! The invariants of ARCHITECTURE.md, checked at every action and after every step.

use std::time::Duration;

use longshore_pool::{Action, InstanceId, Pool, RejectReason, RequestId, Revoked, Snapshot, StateView, Time};

use crate::model::{Broken, Model, Place, Request, ensure};

/// More replays than this may wait without being looked at.
pub(crate) const PASSED_OVER: usize = 64;
/// A probe that takes longer never ends. (No grace here is longer than half of it.)
const LOST_PROBE: Duration = Duration::from_secs(60);
/// One that was asked to go on is given up after so long.
const RESUME_LIMIT: Duration = Duration::from_secs(5);
/// So many probes in a row that found an instance frozen make it hung.
const FROZEN_TOO_OFTEN: u32 = 2;

impl Model {
    /// The pool asked for this; `after` is how it describes itself since.
    pub(crate) fn action(&mut self, action: &Action, after: &Snapshot) -> Result<(), Broken> {
        match action {
            Action::Dispatch { request, instance, attempt, .. } => {
                self.check_dispatch(*request, *instance, *attempt, after)?;
                self.check_turn(request.0, after)?;
                self.check_choice(*request, *instance, after)?;
                let (now_on, now) = (Place::Flying { instance: *instance, revoked: false }, self.now);
                let request = self.requests.get_mut(&request.0).expect("checked");
                request.attempts += 1;
                request.place = now_on;
                request.sent_at = now;
                request.streams = false;
                self.forget_idle_flows();
            }
            Action::Reject { request, reason } => {
                self.check_reject(*request, reason, after)?;
                self.requests.remove(&request.0);
                self.forget_idle_flows();
            }
            Action::Revoke { request, instance, why } => {
                self.check_revoke(*request, *instance, *why)?;
                let request = self.requests.get_mut(&request.0).expect("checked");
                request.place = Place::Flying { instance: *instance, revoked: true };
            }
            Action::Start { instance } => {
                ensure!(self.incarnations.insert(instance.incarnation), "{instance} has lived before");
                self.check_start(*instance)?;
                self.instances.insert(*instance, Default::default());
            }
            Action::Probe { instance, .. } => {
                let states = [self.views.get(instance).map(|it| it.state), self.state(*instance, after)];
                let sleeps = |state| [StateView::Standby, StateView::Resuming].map(Some).contains(&state);
                ensure!(!states.into_iter().all(sleeps), "{instance} is probed in its sleep: {states:?}");
                let (now, rank) = (self.now, self.rank);
                let known = self.instances.entry(*instance).or_default();
                if let Some((since, _)) = known.probe.replace((now, rank)) {
                    let overdue = now.since(since) >= LOST_PROBE;
                    ensure!(overdue, "{instance} is probed twice at once");
                    known.failed_probes += 1;
                    known.frozen = 0;
                }
            }
            Action::Examine { instance } => {
                let state = self.state(*instance, after);
                ensure!(state == Some(StateView::Starting), "{instance} is examined, and is {state:?}");
            }
            Action::Pause { instance } => {
                ensure!(self.flying(*instance) == 0, "{instance} is paused at work");
                ensure!(self.config.managed && !self.draining, "{instance} is paused, and need not be");
                self.stopped.insert(*instance);
            }
            Action::Resume { instance } => {
                let before = self.views.get(instance).map(|view| view.state);
                let asleep = before == Some(StateView::Standby);
                ensure!(asleep, "{instance} is resumed, and was {before:?}");
            }
            Action::Stop { instance, grace } => {
                self.note_stop(*instance, *grace);
                if !grace.is_zero() {
                    self.stopped.insert(*instance);
                }
            }
        }
        Ok(())
    }

    fn check_dispatch(
        &self,
        id: RequestId,
        on: InstanceId,
        attempt: u32,
        after: &Snapshot,
    ) -> Result<(), Broken> {
        let Some(request) = self.requests.get(&id.0) else { return Err(format!("{id:?} is not known")) };
        let Place::Waiting { until, .. } = request.place else {
            return Err(format!("{id:?} is dispatched but does not wait: {:?}", request.place));
        };
        ensure!(!self.cut, "{id:?} is dispatched after the end");
        ensure!(self.now < request.deadline, "{id:?} is dispatched past its deadline");
        ensure!(self.now < until, "{id:?} is dispatched after its wait was over");
        ensure!(attempt == request.attempts + 1, "{id:?}: attempt {attempt} after {}", request.attempts);
        let instance = self.instances.get(&on).filter(|it| it.ready);
        let Some(instance) = instance else { return Err(format!("{on} has never been ready")) };
        ensure!(instance.suspect.is_none(), "{on} is suspect and gets {id:?}");
        ensure!(instance.paused_until <= self.now, "{on} said that it is busy and gets {id:?}");
        ensure!(self.state(on, after) == Some(StateView::Ready), "{on} is not ready and gets {id:?}");
        ensure!(self.has_slot(on), "{on} holds as many as it may and gets {id:?}");
        let avoidable = request.lost_on.contains(&on) && self.other_can_be_had(request, after);
        ensure!(!avoidable, "{id:?} is sent to {on} again, though another can be had");
        ensure!(
            self.shows_life(on, request),
            "{id:?} is sent to {on}, which has shown no sign of life since its last loss"
        );
        Ok(())
    }

    fn check_reject(&self, id: RequestId, reason: &RejectReason, after: &Snapshot) -> Result<(), Broken> {
        let Some(request) = self.requests.get(&id.0) else { return Err(format!("{id:?} ends twice")) };
        let arriving = self.arriving == Some(id.0);
        let (waits, until) = match request.place {
            Place::Waiting { until, .. } => (true, until),
            Place::Doomed => (false, Time::MAX),
            Place::Flying { .. } => return Err(format!("{id:?} is rejected in flight")),
        };
        let expired = self.now >= request.deadline;
        let holds = match reason {
            RejectReason::QueueFull { retry_after } => {
                let fresh = self.waiting().count() - self.replays() - 1;
                let free = after.instances.iter().any(|view| self.surely_free(view.instance, after));
                let sane = (1..=60).contains(&retry_after.as_secs());
                arriving && fresh >= self.config.queue_limit && !free && sane
            }
            RejectReason::QueueTimeout => waits && !arriving && self.now >= until && !expired,
            RejectReason::DeadlinePassed => expired,
            RejectReason::AttemptsExhausted { attempts } => {
                let allowed = request.sent_losses >= self.config.replay_attempts || !request.replayable;
                let told = attempts.iter().all(|(on, _)| request.lost_on.contains(on));
                let all = request.lost_on.iter().all(|on| attempts.iter().any(|(told, _)| told == on));
                !waits && !self.cut && allowed && told && all
            }
            RejectReason::CannotStart { .. } => {
                let serving = [StateView::Ready, StateView::Suspect, StateView::Draining, StateView::Standby];
                after.cannot_start.is_some()
                    && !after.instances.iter().any(|view| serving.contains(&view.state))
            }
            RejectReason::Stopped { cause: None } => arriving && after.wanted == 0 && self.fixed.is_some(),
            RejectReason::Stopped { cause: Some(_) } => {
                let leaving = [StateView::Exited, StateView::Stopping];
                let spent = after.instances.iter().all(|view| leaving.contains(&view.state));
                after.stopped && (self.ends.halted || self.ends.may_halt || spent)
            }
            RejectReason::ShuttingDown => self.cut || (arriving && self.draining),
        };
        ensure!(holds, "{id:?} is rejected without cause: {reason:?}, {:?}", request.place);
        Ok(())
    }

    fn check_revoke(&self, id: RequestId, on: InstanceId, why: Revoked) -> Result<(), Broken> {
        let place = self.requests.get(&id.0).map(|request| request.place);
        let held = Place::Flying { instance: on, revoked: false };
        ensure!(place == Some(held), "{id:?} is revoked from {on}, but is {place:?}");
        ensure!(self.cutting == (why == Revoked::Cut), "{id:?} is revoked from {on}: {why:?}");
        if self.cutting {
            return Ok(());
        }
        let instance = &self.instances[&on];
        let exited = self.exiting == Some(on);
        let drained = self.drained_by(on).is_some_and(|at| at <= self.now);
        let lost = instance.probe.is_some_and(|(since, _)| self.now.since(since) >= LOST_PROBE);
        let failed = instance.failed_probes + u32::from(lost);
        let frozen = instance.frozen >= FROZEN_TOO_OFTEN;
        let hung = frozen || failed >= self.config.probe_failures || instance.losses.len() >= 3;
        ensure!(exited || drained || hung, "{id:?} is cut from {on} without cause");
        Ok(())
    }

    /// After the step.
    pub(crate) fn check(&self, pool: &Pool, after: &Snapshot) -> Result<(), Broken> {
        self.check_requests(pool, after)?;
        self.check_instances(after)?;
        self.check_size(after)?;
        self.check_ends(after)?;
        self.check_timeout(pool, after)
    }

    fn check_requests(&self, pool: &Pool, after: &Snapshot) -> Result<(), Broken> {
        let waiting = self.waiting().count();
        let flying = self.requests.values().filter(|it| matches!(it.place, Place::Flying { .. })).count();
        ensure!(waiting + flying == self.requests.len(), "a request that must be rejected is not");
        ensure!(after.waiting == waiting, "{} wait, not {waiting}", after.waiting);
        ensure!(after.in_flight == flying, "{} in flight, not {flying}", after.in_flight);
        ensure!((pool.waiting(), pool.in_flight()) == (waiting, flying), "the counters are wrong");
        let oldest = self.waiting().map(|(_, it)| self.now.since(it.arrived)).max().unwrap_or_default();
        ensure!(after.oldest_wait == oldest, "the oldest wait is {oldest:?}, not {:?}", after.oldest_wait);
        self.check_standing(pool)?;
        let (known, notes) = pool.table_sizes();
        ensure!(known == self.requests.len(), "{known} requests kept, {} known", self.requests.len());
        ensure!(notes <= 2 * waiting.max(1_024), "{notes} deadlines kept for {waiting} that wait");
        ensure!(after.cannot_start.is_none() || waiting == 0, "some wait though nothing can start");
        if self.arriving.is_some_and(|id| self.waiting().any(|(waits, _)| waits == id)) {
            let fresh = waiting - self.replays();
            ensure!(fresh <= self.config.queue_limit, "{fresh} wait that were never dispatched");
        }
        let skip_fresh = self.replays() >= PASSED_OVER;
        for (id, request) in self.waiting() {
            let replay = matches!(request.place, Place::Waiting { replay: true, .. });
            if replay || !skip_fresh {
                ensure!(!self.could_go(request, after), "{id} waits though it could be sent");
            }
        }
        Ok(())
    }

    fn check_instances(&self, after: &Snapshot) -> Result<(), Broken> {
        for view in &after.instances {
            let held = self.flying(view.instance);
            ensure!(view.in_flight == held, "{} holds {held}, not {}", view.instance, view.in_flight);
            let serves = match view.state {
                StateView::Ready | StateView::Suspect | StateView::Draining => true,
                StateView::Starting
                | StateView::Standby
                | StateView::Resuming
                | StateView::Stopping
                | StateView::BackingOff
                | StateView::Exited => false,
            };
            let frozen = self.instances.get(&view.instance).map_or(0, |it| it.frozen);
            ensure!(!serves || frozen < FROZEN_TOO_OFTEN, "{} serves, and is frozen", view.instance);
        }
        for (id, request) in &self.requests {
            if let Place::Flying { instance, revoked: false } = request.place {
                let serving = match self.state(instance, after) {
                    Some(StateView::Ready | StateView::Suspect | StateView::Draining) => true,
                    Some(
                        StateView::Starting
                        | StateView::Standby
                        | StateView::Resuming
                        | StateView::Stopping
                        | StateView::BackingOff
                        | StateView::Exited,
                    )
                    | None => false,
                };
                ensure!(serving, "{id} was not revoked from {instance}, which does not serve");
            }
        }
        Ok(())
    }

    /// Before the first timeout, nothing is decided.
    fn check_size(&self, after: &Snapshot) -> Result<(), Broken> {
        if self.timers_at.is_none() {
            return Ok(());
        }
        let (min, max) = (self.config.min, self.config.max);
        ensure!((min..=max).contains(&after.wanted), "{} is not in {min}..={max}", after.wanted);
        if let Some(fixed) = self.fixed.filter(|_| self.config.managed) {
            ensure!(after.wanted == fixed.clamp(min, max), "{fixed} was asked for, not {}", after.wanted);
        }
        let count = |states: &[StateView]| {
            after.instances.iter().filter(|view| states.contains(&view.state)).count() as u32
        };
        let serves = |state| matches!(state, StateView::Ready | StateView::Suspect);
        let outdated = after.instances.iter().any(|view| view.outdated && serves(view.state));
        let surge = u32::from(outdated && self.wanted(after) > 0 && self.config.managed);
        let wanted = self.wanted(after);
        let live = count(&[
            StateView::Starting,
            StateView::Ready,
            StateView::Suspect,
            StateView::Resuming,
            StateView::BackingOff,
            StateView::Exited,
        ]);
        let leaving = count(&[StateView::Stopping, StateView::Draining]);
        let standby = self.standby();
        let asleep = count(&[StateView::Standby]);
        ensure!(asleep <= standby, "{asleep} in standby, not {standby}");
        // What another process works on cannot go before it serves.
        let taken = after.instances.iter().filter(|view| {
            let known = self.instances.get(&view.instance);
            view.state == StateView::Starting && known.is_some_and(|it| it.taken > 0)
        });
        let most = wanted + surge + standby + taken.count() as u32;
        ensure!(live + asleep <= most, "{live} live, {asleep} asleep, {wanted} wanted");
        self.check_standby(wanted, after)?;
        let enough = live + leaving >= wanted + surge;
        ensure!(enough || self.draining, "only {live} live and {leaving} leaving, {wanted} wanted");
        let given_up = after.instances.iter().any(|view| {
            let gentle = view.state == StateView::Draining || self.stopped.contains(&view.instance);
            gentle && self.was_ready.contains(&view.instance)
        });
        let served = !self.config.managed || count(&[StateView::Ready]) >= wanted;
        ensure!(served || !given_up, "a ready one is given up, with fewer ready than {wanted}");
        Ok(())
    }

    /// How many there may be in standby.
    fn standby(&self) -> u32 {
        let stopped = self.ends.halted || !self.config.managed;
        if stopped { 0 } else { self.config.standby }
    }

    /// Nobody sleeps while one that serves is missing; unless the pool drains and nobody waits.
    fn check_standby(&self, wanted: u32, after: &Snapshot) -> Result<(), Broken> {
        let count = |states: &[StateView]| {
            after.instances.iter().filter(|view| states.contains(&view.state)).count() as u32
        };
        let serving = count(&[StateView::Ready, StateView::Suspect, StateView::Resuming]);
        let asleep = count(&[StateView::Standby]);
        let needed = !self.draining || self.waiting().next().is_some();
        ensure!(
            !needed || asleep == 0 || serving >= wanted,
            "{asleep} sleep, {serving} serve, {wanted} wanted"
        );
        let outdated = after.instances.iter().any(|it| it.state == StateView::Standby && it.outdated);
        ensure!(!outdated, "an outdated one is kept in standby");
        Ok(())
    }

    fn check_timeout(&self, pool: &Pool, after: &Snapshot) -> Result<(), Broken> {
        let next = pool.poll_timeout().unwrap_or(Time::MAX);
        if self.timing_out {
            ensure!(next > self.now, "the next timeout does not lie ahead");
        }
        for (id, request) in self.waiting() {
            let Place::Waiting { until, .. } = request.place else { continue };
            ensure!(next <= until, "the next timeout comes after the wait of {id} is over");
            let asks = next <= request.trust_from.max(request.return_from).max(self.now)
                || self.replays() >= PASSED_OVER;
            ensure!(
                asks || !self.waits_for_life(request, after),
                "{id} waits for life that nobody looks for"
            );
        }
        let (probe, delay) = self.longest;
        for view in &after.instances {
            let known = &self.instances[&view.instance];
            let by = match view.state {
                StateView::Draining => self.drained_by(view.instance).unwrap_or(Time::MAX),
                StateView::Ready | StateView::Suspect if known.probe.is_some() => self.now + LOST_PROBE,
                StateView::Ready | StateView::Suspect => self.now + probe.max(Duration::from_millis(5)),
                StateView::Stopping => self.now + LOST_PROBE,
                StateView::BackingOff => self.now + delay.max(probe).max(Duration::from_secs(2)),
                StateView::Resuming => self.now + RESUME_LIMIT,
                StateView::Starting | StateView::Standby | StateView::Exited => Time::MAX,
            };
            ensure!(next <= by, "the next timeout comes too late for {}", view.instance);
        }
        Ok(())
    }

    fn state(&self, id: InstanceId, after: &Snapshot) -> Option<StateView> {
        after.instances.iter().find(|view| view.instance == id).map(|view| view.state)
    }

    /// Ready, with a slot, and not paused, or the pool has been told that its pause is over.
    pub(crate) fn surely_free(&self, id: InstanceId, after: &Snapshot) -> bool {
        let pause = self.instances.get(&id).map_or(Time::MAX, |it| it.paused_until);
        let told = pause == Time::ZERO || self.timers_at.is_some_and(|at| at >= pause);
        told && self.state(id, after) == Some(StateView::Ready) && self.surely_has_slot(id)
    }

    fn other_can_be_had(&self, request: &Request, after: &Snapshot) -> bool {
        let may = [StateView::Starting, StateView::Ready, StateView::Suspect, StateView::Resuming];
        after.instances.iter().any(|it| may.contains(&it.state) && !request.lost_on.contains(&it.instance))
    }

    /// Whether this request could be sent to some instance that is surely free.
    pub(crate) fn could_go(&self, request: &Request, after: &Snapshot) -> bool {
        let other = self.other_can_be_had(request, after);
        after.instances.iter().any(|view| {
            let barred = request.lost_on.contains(&view.instance) && other;
            !barred && self.shows_life(view.instance, request) && self.surely_free(view.instance, after)
        })
    }

    /// Whether an instance has shown life since this request was lost.
    fn shows_life(&self, id: InstanceId, request: &Request) -> bool {
        let returns = request.lost_on.contains(&id);
        let from = if returns { request.trust_from.max(request.return_from) } else { request.trust_from };
        self.instances.get(&id).is_some_and(|it| it.alive_at >= from)
    }

    /// Whether nothing but a sign of life of a free instance is missing, and none is being probed.
    fn waits_for_life(&self, request: &Request, after: &Snapshot) -> bool {
        let other = self.other_can_be_had(request, after);
        let mut free = after.instances.iter().map(|view| view.instance).filter(|id| {
            let barred = request.lost_on.contains(id) && other;
            !barred && !self.shows_life(*id, request) && self.surely_free(*id, after)
        });
        let some = free.clone().next().is_some();
        some && !free.any(|id| self.instances.get(&id).is_some_and(|it| it.probe.is_some()))
    }

    pub(crate) fn replays(&self) -> usize {
        self.waiting().filter(|(_, it)| matches!(it.place, Place::Waiting { replay: true, .. })).count()
    }
}
