//! Pausing and resuming instances, as the pool asks for it.

use std::sync::Arc;

use longshore_backend::{Backend, Key};
use longshore_pool::{DeathCause, Event, InstanceId, Retry};
use tokio::sync::oneshot;

use super::Control;
use crate::events::Kind;

impl Control {
    pub(super) fn pause(self: &Arc<Self>, instance: InstanceId) {
        self.in_turn(instance, move |control, backend, key| async move {
            let paused = backend.pause(&key).await;
            match &paused {
                Ok(()) => {
                    tracing::debug!(instance = %key, "instance paused, in standby");
                    control.events.instance(Kind::InstancePaused, &key, "in standby");
                }
                Err(error) => {
                    tracing::warn!(instance = %key, %error, "an instance in standby cannot be paused; it runs on");
                }
            }
            control.dispatcher.tell(Event::InstancePaused { instance, done: paused.is_ok() });
        });
    }

    pub(super) fn resume(self: &Arc<Self>, instance: InstanceId) {
        let asked = self.clock.now();
        self.in_turn(instance, move |control, backend, key| async move {
            let failed = backend.resume(&key).await.err();
            let took_ms = control.clock.now().since(asked).as_millis() as u64;
            match &failed {
                None => {
                    tracing::debug!(instance = %key, took_ms, "instance resumed");
                    control.events.instance(Kind::InstanceResumed, &key, "from standby");
                }
                Some(error) => {
                    tracing::warn!(instance = %key, %error, "an instance cannot be resumed; it is replaced")
                }
            }
            let failed = failed.map(|error| DeathCause::StartFailed {
                error: error.to_string().as_str().into(),
                retry: Retry::Later,
            });
            control.dispatcher.tell(Event::InstanceResumed { instance, failed });
        });
    }

    /// Does something to an instance once all that was begun before it is done.
    fn in_turn<F>(
        self: &Arc<Self>,
        instance: InstanceId,
        act: impl FnOnce(Arc<Self>, Arc<dyn Backend>, Key) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some((backend, key)) = self.managed(instance) else { return };
        let (done, next) = oneshot::channel();
        let before = self.instances.lock().get_mut(&instance).and_then(|life| life.under_way.replace(next));
        let acting = act(self.clone(), backend, key);
        self.tasks.spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            acting.await;
            // What follows may wait for this; if nothing does, nobody minds.
            let _ = done.send(());
        });
    }
}
