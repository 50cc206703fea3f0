//! An instance from its start to its end: what is asked of the backend, and what is told of it.

use std::sync::Arc;
use std::time::Duration;

use longshore_backend::{Backend, Spec, StartError};
use longshore_pool::{Action, DeathCause, Event, InstanceId, Retry};
use tokio::sync::oneshot;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Control, Life, Runner, STOP_RETRY};
use crate::events::Kind;
use crate::problem;

/// A start that is under way, until this is dropped.
struct Call {
    /// Whoever waits for its end sees it.
    _done: oneshot::Sender<()>,
    _counted: TaskTrackerToken,
}

impl Control {
    pub(super) fn remember(&self, instance: InstanceId) {
        let life = self.life(None);
        self.instances.lock().insert(instance, life);
    }

    fn life(&self, under_way: Option<oneshot::Receiver<()>>) -> Life {
        Life {
            starting: Some(self.clock.now()),
            under_way,
            seen: None,
            told: None,
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
                let Some(call) = self.begin_start(instance) else { return };
                self.events.instance(Kind::InstanceStarting, self.key(instance), &spec.image);
                let (control, backend, spec) = (self.clone(), backend.clone(), spec.clone());
                self.tasks.spawn(async move { control.carry_out(instance, &*backend, &spec, call).await });
            }
        }
    }

    /// Starts it. Where its image is not there, that is built or pulled, and it is started once more.
    async fn carry_out(self: &Arc<Self>, id: InstanceId, backend: &dyn Backend, spec: &Spec, call: Call) {
        let (key, mut call) = (self.key(id), Some(call));
        let mut started = backend.start(&key, spec).await;
        if let Err(StartError::NoImage(why)) = &started {
            tracing::debug!(instance = %key, why, "looking for the image");
            // Nothing is there that a stop or a take-over would have to wait for, however long this takes.
            call = None;
            self.note(id, "its image is not there, and is being built or pulled".to_owned());
            started = match backend.restore(spec).await {
                Ok(()) => {
                    call = self.begin_again(id);
                    if call.is_none() {
                        return;
                    }
                    backend.start(&key, spec).await
                }
                Err(error) => Err(error),
            };
        }
        match started {
            Ok(address) => {
                tracing::debug!(instance = %key, %address, "instance started");
                self.watch_log(id);
                self.dispatcher.tell(Event::InstanceStarted { instance: id, address });
            }
            Err(error) => self.exited(id, start_failed(&error)),
        }
        drop(call);
    }

    /// Remembers the instance and its start, which is under way until the result is dropped; `None` once all is closed.
    fn begin_start(&self, instance: InstanceId) -> Option<Call> {
        let (done, started) = oneshot::channel();
        let life = self.life(Some(started));
        let mut instances = self.instances.lock();
        if self.starts.is_closed() {
            return None;
        }
        instances.insert(instance, life);
        Some(Call { _done: done, _counted: self.starts.token() })
    }

    /// The same for one whose start has waited; `None` if it is not to start any more, or not by this process.
    fn begin_again(self: &Arc<Self>, instance: InstanceId) -> Option<Call> {
        let _ = self.in_charge(Action::Start { instance })?;
        let (done, started) = oneshot::channel();
        let mut instances = self.instances.lock();
        let life = instances.get_mut(&instance).filter(|life| !life.stopping)?;
        if self.starts.is_closed() {
            return None;
        }
        life.under_way = Some(started);
        Some(Call { _done: done, _counted: self.starts.token() })
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
                // What is still being created can only be removed after it is there. An error is what tells.
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
        StartError::Futile(text) | StartError::NoImage(text) => (text, Retry::Futile),
        StartError::Failed(text) => (text, Retry::Later),
        StartError::EngineDown(text) => (text, Retry::EngineDown),
    };
    DeathCause::StartFailed { error: text.as_str().into(), retry }
}
