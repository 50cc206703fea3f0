//! The end of a cluster, or of its part in it: what was accepted is answered, connections are ended, instances stopped.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use longshore_backend::{Backend, Key};
use longshore_pool::Event;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Cluster;
use crate::control::Control;
use crate::gateway::listen::Listening;
use crate::run::handover::old::Successor;

/// How long after its own grace the removal of an instance may take before the process ends without it.
const STOP_MARGIN: Duration = Duration::from_secs(20);

/// Time between two looks whether a service that is no more is still in use.
const IDLE_LOOK: Duration = Duration::from_millis(20);

/// How long connections take to be closed that were left open for another request, or whose requests are refused in the
/// end.
const LAST_WORD: Duration = Duration::from_millis(500);

/// Why what is open is cut.
const LATE: &str = "the drain time is over";
const ASKED: &str = "asked once more to end";

/// How long a process that has been taken over from stays.
pub(in crate::run) struct Limits {
    /// To answer what it has accepted.
    pub(in crate::run) drain: Duration,
    /// For clients that ask for nothing, if that is shorter.
    pub(in crate::run) idle: Option<Duration>,
}

/// How what was accepted came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// It was answered.
    Answered,
    /// Its time was over, or somebody was in a hurry.
    Cut,
}

impl Cluster {
    /// Refuses what is new and answers what was accepted, for at most `limit`, and only until somebody has `asked` for
    /// the end once more.
    pub(crate) async fn drain(
        &self,
        closing: impl Future<Output = ()>,
        limit: Duration,
        asked: impl Future<Output = ()>,
    ) -> Drained {
        self.tell(&Event::Drain);
        self.finish(closing, Instant::now() + limit, asked).await
    }

    async fn finish(
        &self,
        closing: impl Future<Output = ()>,
        end: Instant,
        asked: impl Future<Output = ()>,
    ) -> Drained {
        let mut closing = pin!(closing);
        let why = tokio::select! {
            () = &mut closing => return Drained::Answered,
            () = sleep_until(end) => LATE,
            () = asked => ASKED,
        };
        self.cut(closing, why).await
    }

    /// Cuts what is still open. Who has got no byte of an answer is told, while there is time for a last word.
    async fn cut(&self, closing: impl Future<Output = ()>, why: &str) -> Drained {
        let requests = self.open_requests();
        tracing::warn!(requests, "{why}: what is still open is cut, and everything ends at once");
        self.tell(&Event::Cut);
        // Who does not take it by then does without.
        let _ = timeout(LAST_WORD, closing).await;
        Drained::Cut
    }

    fn tell(&self, event: &Event) {
        for control in self.loops.all() {
            control.service().dispatcher.tell(event.clone());
        }
    }

    /// Returns when no request waits or is at work.
    pub(in crate::run) async fn quiet(&self) {
        while self.open_requests() > 0 {
            tokio::time::sleep(IDLE_LOOK).await;
        }
    }

    fn open_requests(&self) -> usize {
        self.loops.all().iter().map(|control| control.service().open_requests()).sum()
    }

    /// Leaves what comes to the process that has taken over, and answers what was accepted, for at most `limit`. New
    /// requests may still come on connections that are open; they are answered too. It is over earlier when somebody has
    /// `asked` for the end.
    pub(in crate::run) async fn hand_over(
        &self,
        listening: Listening,
        successor: Successor,
        limits: Limits,
        asked: impl Future<Output = ()>,
    ) -> Drained {
        let mut draining = listening.stop().await;
        let all = self.loops.all();
        if successor.adopts() {
            self.backend.hands_off();
        }
        // Told before anything else: where nothing is open, this process ends at once.
        let hurry = Arc::<Notify>::default();
        let sharing = tokio::spawn(successor.let_serve(all, hurry.clone()).await);
        let end = Instant::now() + limits.drain;
        let patience = async {
            tokio::select! {
                () = sleep(limits.idle.unwrap_or(limits.drain)) => {}
                () = hurry.notified() => {}
            }
            self.quiet().await;
        };
        let mut asked = pin!(asked);
        let step = tokio::select! {
            () = draining.ended() => Some(Drained::Answered),
            () = patience => None,
            () = sleep_until(end) => None,
            () = &mut asked => Some(Drained::Cut),
        };
        let drained = match step {
            Some(Drained::Answered) => Drained::Answered,
            Some(Drained::Cut) => self.cut(draining.close(), ASKED).await,
            None => self.finish(draining.close(), end.max(Instant::now() + LAST_WORD), asked).await,
        };
        sharing.abort();
        drained
    }

    /// Stops every instance that this cluster runs: each within its grace, or at once where its requests were cut.
    ///
    /// # Errors
    /// What is left running, and why. It is in the log, too.
    pub(crate) async fn stop(&self, drained: Drained) -> Result<(), Left> {
        let all = self.loops.all();
        let closed = futures_util::future::join_all(all.iter().map(|control| control.close()));
        if timeout(STOP_MARGIN, closed).await.is_err() {
            tracing::warn!(
                "starting an instance takes too long; it may be left behind, to be adopted or removed by the next `up`"
            );
        }
        let found = match self.backend.list().await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "failed to list what is to be stopped; it is left running");
                return Err(Left(format!("the instances cannot be listed: {error}")));
            }
        };
        let grace = |key: &Key| {
            let control = all.iter().find(|control| control.service().name == key.service);
            match drained {
                Drained::Answered => {
                    control.map_or(Duration::ZERO, |control| control.service().config.stop_grace)
                }
                Drained::Cut => Duration::ZERO,
            }
        };
        let stops = found.iter().map(|found| stop_one(&self.backend, &found.key, grace(&found.key)));
        let left: Vec<String> = futures_util::future::join_all(stops).await.into_iter().flatten().collect();
        if left.is_empty() { Ok(()) } else { Err(Left(left.join(", "))) }
    }
}

/// Instances that are left running.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("instances are left running: {0}")]
pub struct Left(String);

/// Returns when no request goes by the service any more, or when its timeout is over.
pub(super) async fn unused(control: &Control) {
    let limit = Instant::now() + control.service().config.timeout;
    while control.is_in_use() {
        if Instant::now() >= limit {
            let service = control.service();
            tracing::warn!(
                service = %service.name, requests = service.open_requests(),
                "the timeout of a service that was removed is over: what is still open is cut"
            );
            return;
        }
        tokio::time::sleep(IDLE_LOOK).await;
    }
}

pub(super) async fn stop_all(control: &Control, grace: Duration) {
    let Some(backend) = control.backend() else { return };
    let keys = control.keys();
    futures_util::future::join_all(keys.iter().map(|key| stop_one(&backend, key, grace))).await;
}

/// Stops an instance; gives its name if it is left.
pub(super) async fn stop_one(backend: &Arc<dyn Backend>, key: &Key, grace: Duration) -> Option<String> {
    match timeout(grace + STOP_MARGIN, backend.stop(key, grace)).await {
        Ok(Ok(())) => return None,
        Ok(Err(error)) => tracing::error!(instance = %key, %error, "failed to stop an instance"),
        Err(_) => tracing::error!(instance = %key, "stopping an instance takes too long; it is left"),
    }
    Some(key.to_string())
}
