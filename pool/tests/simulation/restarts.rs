//! What becomes of instances that end unasked, by the restart policy, by plain means.

use std::time::Duration;

use longshore_pool::{
    DeathCause, Event, InstanceId, InstanceView, PoolConfig, RestartPolicy, Retry, Snapshot, StateView,
};

use crate::model::{Broken, Model, Place, ensure};

/// What is known of ends so far.
#[derive(Default)]
pub(crate) struct Ends {
    /// The instance that ended in this step, and whether it must remain.
    told: Option<(InstanceId, bool)>,
    /// An end was told for which the service must stop, and none has been undone by an operator since.
    pub(crate) halted: bool,
    /// The pool itself found one dead, for which it may have stopped the service.
    pub(crate) may_halt: bool,
    /// An operator has acted in this step.
    operated: bool,
}

fn is_starting(view: &InstanceView) -> bool {
    view.state == StateView::Starting
}

impl Model {
    /// A step begins.
    pub(crate) fn begin_ends(&mut self) {
        self.ends.told = None;
        self.ends.operated = false;
    }

    /// An operator acts: whatever has ended may start again.
    pub(crate) fn operated(&mut self) {
        self.ends = Ends { operated: true, ..Ends::default() };
    }

    /// The pool is about to be told this.
    pub(crate) fn note_ends(&mut self, event: &Event) {
        match event {
            Event::SizeSet { .. } if self.config.managed => self.operated(),
            Event::Restart => self.operated(),
            Event::ConfigChanged { .. } if self.config.managed => self.operated(),
            // Of one that has ended: it may start again, alone.
            Event::InstanceReplace { .. } => self.ends.operated = true,
            Event::InstanceExited { instance, cause } => self.note_end(*instance, cause),
            Event::RequestArrived { .. }
            | Event::RequestStreams { .. }
            | Event::RequestCancelled { .. }
            | Event::RequestFinished { .. }
            | Event::InstanceFound { .. }
            | Event::InstanceStarted { .. }
            | Event::InstanceProbed { .. }
            | Event::InstanceExamined { .. }
            | Event::InstancePaused { .. }
            | Event::InstanceResumed { .. }
            | Event::InstanceTaken { .. }
            | Event::Backlog { .. }
            | Event::SizeSet { .. }
            | Event::ConfigChanged { .. }
            | Event::Drain
            | Event::Cut => {}
        }
    }

    fn note_end(&mut self, id: InstanceId, cause: &DeathCause) {
        let unasked = self.views.get(&id).is_some_and(|view| match view.state {
            // One that is outdated is replaced anyway.
            StateView::Starting | StateView::Ready | StateView::Suspect => !view.outdated,
            // One that did not serve is replaced under every policy.
            StateView::Standby | StateView::Resuming => false,
            StateView::Draining | StateView::Stopping | StateView::BackingOff | StateView::Exited => false,
        });
        let always = self.config.restart == RestartPolicy::Always;
        if *cause == DeathCause::Unexplained && (!always || self.views.get(&id).is_some_and(is_starting)) {
            // What follows from it depends on the cause.
            self.ends.told = None;
            return;
        }
        if !unasked || !self.config.managed {
            let outdated = self.views.get(&id).is_some_and(|view| view.outdated);
            self.ends.told = outdated.then_some((id, false));
            return;
        }
        let engine = matches!(cause, DeathCause::StartFailed { retry: Retry::EngineDown, .. });
        let remains = !engine
            && match self.config.restart {
                RestartPolicy::Always => false,
                RestartPolicy::OnFailure => matches!(cause, DeathCause::Exited { code: 0, .. }),
                RestartPolicy::Never | RestartPolicy::StopService => true,
            };
        self.ends.told = Some((id, remains));
        self.ends.halted |= remains && self.config.restart == RestartPolicy::StopService;
    }

    /// The pool stops an instance: if at once, it may have found it dead.
    pub(crate) fn note_stop(&mut self, id: InstanceId, grace: Duration) {
        let live = self.views.get(&id).is_some_and(|view| {
            [StateView::Starting, StateView::Ready, StateView::Suspect].contains(&view.state)
        });
        self.ends.may_halt |= live && grace.is_zero() && self.config.restart == RestartPolicy::StopService;
    }

    /// An instance is started: not in the stead of one that has ended, unless an operator acted.
    pub(crate) fn check_start(&self, id: InstanceId) -> Result<(), Broken> {
        let before = self.views.values().find(|view| view.instance.slot == id.slot);
        let ended = before.is_some_and(|view| view.state == StateView::Exited);
        ensure!(!ended || self.ends.operated, "{id} is started in the stead of one that has ended");
        ensure!(!self.ends.halted, "{id} is started, though the service was stopped");
        Ok(())
    }

    /// How many there should be, as far as the restart policy lets there be any.
    pub(crate) fn wanted(&self, after: &Snapshot) -> u32 {
        let stopped = self.ends.may_halt && after.cannot_start.is_some();
        if self.ends.halted || stopped { 0 } else { after.wanted }
    }

    /// After the step.
    pub(crate) fn check_ends(&self, after: &Snapshot) -> Result<(), Broken> {
        let PoolConfig { restart, managed, .. } = *self.config;
        if let Some((id, remains)) = self.ends.told {
            let state = after.instances.iter().find(|view| view.instance == id).map(|view| view.state);
            let right = match state {
                None => true,
                Some(state) => (state == StateView::Exited) == remains,
            };
            ensure!(right, "{id} has ended under {restart:?} and is {state:?}");
        }
        for view in after.instances.iter().filter(|view| view.state == StateView::Exited) {
            let new = self.views.get(&view.instance).is_none_or(|it| it.state != StateView::Exited);
            let told = self.ends.told == Some((view.instance, true));
            let right = managed && (!new || told || restart == RestartPolicy::Never);
            ensure!(right, "{} is not replaced under {restart:?}", view.instance);
        }
        let waiting = self.requests.values().any(|it| matches!(it.place, Place::Waiting { .. }));
        let all = |states: &[StateView]| after.instances.iter().all(|view| states.contains(&view.state));
        let spent = after.wanted > 0 && !after.instances.is_empty() && all(&[StateView::Exited]);
        ensure!(!spent || !waiting, "some wait though all have ended and none will start");
        // One that another process uses while it starts here goes once it serves.
        let taken = |view: &InstanceView| self.instances.get(&view.instance).is_some_and(|it| it.taken > 0);
        let leaving = after.instances.iter().all(|view| match view.state {
            StateView::Draining | StateView::Stopping => true,
            StateView::Starting => taken(view),
            StateView::Ready
            | StateView::Suspect
            | StateView::Standby
            | StateView::Resuming
            | StateView::BackingOff
            | StateView::Exited => false,
        });
        let halts = !self.ends.halted || (leaving && !waiting);
        ensure!(halts, "the service was stopped, and goes on");
        Ok(())
    }
}
