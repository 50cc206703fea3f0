//! An instance from its start to its end: what is asked of the backend, and what is told of it.

use std::sync::Arc;
use std::time::Duration;

use longshore_backend::StartError;
use longshore_pool::{DeathCause, Event, InstanceId, Retry};
use tokio::sync::oneshot;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Control, Life, Runner, STOP_RETRY};
use crate::events::Kind;
use crate::problem;

impl Control {
    pub(super) fn remember(&self, instance: InstanceId) {
        let life = self.life(None);
        self.instances.lock().insert(instance, life);
    }

    fn life(&self, under_way: Option<oneshot::Receiver<()>>) -> Life {
        Life {
            starting: Some(self.clock.now()),
            under_way,
            log_matched: false,
            stopping: false,
            outdated: false,
            begun: None,
        }
    }

    pub(super) fn start(self: &Arc<Self>, instance: InstanceId) {
        match &**self.runner.load() {
            Runner::Addresses(addresses) => {
                self.remember(instance);
                let slot = usize::try_from(instance.slot).unwrap_or(usize::MAX);
                if let Some(address) = addresses.get(slot % addresses.len()).copied() {
                    self.dispatcher.tell(Event::InstanceStarted { instance, address });
                }
            }
            Runner::Managed { backend, spec } => {
                let (done, started) = oneshot::channel();
                let Some(under_way) = self.begin_start(instance, started) else { return };
                self.events.instance(Kind::InstanceStarting, self.key(instance), &spec.image);
                let (control, backend, spec) = (self.clone(), backend.clone(), spec.clone());
                self.tasks.spawn(async move {
                    match backend.start(&control.key(instance), &spec).await {
                        Ok(address) => {
                            tracing::debug!(instance = %control.key(instance), %address, "instance started");
                            control.watch_log(instance);
                            control.dispatcher.tell(Event::InstanceStarted { instance, address });
                        }
                        Err(error) => control.exited(instance, start_failed(&error)),
                    }
                    // A stop may wait for this; if none does, nobody minds.
                    let _ = done.send(());
                    drop(under_way);
                });
            }
        }
    }

    /// Remembers the instance and its start, which is under way until the result is dropped; `None` once all is closed.
    fn begin_start(&self, instance: InstanceId, started: oneshot::Receiver<()>) -> Option<TaskTrackerToken> {
        let life = self.life(Some(started));
        let mut instances = self.instances.lock();
        if self.starts.is_closed() {
            return None;
        }
        instances.insert(instance, life);
        Some(self.starts.token())
    }

    /// The pool itself finds some dead: hung, or not ready in time. Their end is a stop, their death is told here.
    fn report_sentence(&self, instance: InstanceId) {
        let snapshot = self.dispatcher.snapshot();
        let Some(view) = snapshot.instances.iter().find(|view| view.instance == instance) else { return };
        if let Some((cause, at)) = &view.last_death
            && *at == view.since
        {
            let before_ready =
                self.instances.lock().get(&instance).is_some_and(|life| life.starting.is_some());
            self.report_death(instance, cause, before_ready);
        }
    }

    pub(super) fn stop(self: &Arc<Self>, instance: InstanceId, grace: Duration) {
        self.report_sentence(instance);
        let under_way = self.instances.lock().get_mut(&instance).and_then(|life| {
            life.stopping = true;
            life.under_way.take()
        });
        let control = self.clone();
        self.tasks.spawn(async move {
            if let Some(under_way) = under_way {
                // What is still being created can only be removed after it is there.
                let _ = under_way.await;
            }
            if let Some((backend, key)) = control.managed(instance) {
                tracing::debug!(instance = %key, "stopping instance");
                while let Err(error) = backend.stop(&key, grace).await {
                    tracing::warn!(instance = %key, %error, "failed to stop an instance; trying again");
                    tokio::time::sleep(STOP_RETRY).await;
                }
            }
            control.exited(instance, DeathCause::Stopped);
        });
    }

    pub(super) fn exited(&self, instance: InstanceId, cause: DeathCause) {
        if cause == DeathCause::Unexplained {
            let stopping = self.instances.lock().get(&instance).is_none_or(|life| life.stopping);
            if !stopping {
                tracing::debug!(instance = %self.key(instance), "instance ended, its cause will follow");
                self.dispatcher.tell(Event::InstanceExited { instance, cause });
            }
            return;
        }
        let known = self.instances.lock().remove(&instance);
        match known {
            Some(life) if !life.stopping => self.report_death(instance, &cause, life.starting.is_some()),
            Some(_) => {
                let key = self.key(instance);
                tracing::debug!(instance = %key, "instance stopped");
                self.events.instance(Kind::InstanceStopped, key, "stopped");
            }
            None => {}
        }
        self.dispatcher.tell(Event::InstanceExited { instance, cause });
    }

    fn report_death(&self, instance: InstanceId, cause: &DeathCause, before_ready: bool) {
        let key = self.key(instance);
        if before_ready {
            self.metrics.start_failed();
        }
        self.metrics.died(problem::death_label(cause));
        self.events.died(&key, cause, before_ready);
        tracing::warn!(instance = %key, cause = problem::death(cause), before_ready, "instance died");
    }
}

fn start_failed(error: &StartError) -> DeathCause {
    let (text, retry) = match error {
        StartError::Futile(text) => (text, Retry::Futile),
        StartError::Failed(text) => (text, Retry::Later),
        StartError::EngineDown(text) => (text, Retry::EngineDown),
    };
    DeathCause::StartFailed { error: text.as_str().into(), retry }
}
