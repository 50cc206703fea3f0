//! One container's way out.

use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::{
    KillContainerOptionsBuilder, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
};

use super::Shared;
use super::call::{LOOK, backend_error, patiently, status, within};
use crate::{BackendError, Key};

/// How long a dead container is left lying while its replacement starts.
const REMOVAL_PAUSE: Duration = Duration::from_secs(1);
/// How often a removal that somebody else has begun is looked at.
const GONE_INTERVAL: Duration = Duration::from_millis(50);
/// How long it may take.
const GONE_LIMIT: Duration = Duration::from_secs(10);

/// Asks the container to end if there is any grace, then removes it with its anonymous volumes.
pub(super) async fn stop(shared: &Arc<Shared>, key: &Key, grace: Duration) -> Result<(), BackendError> {
    let name = shared.name(key);
    let _held = shared.stopping.hold(key);
    if !grace.is_zero() {
        ask_to_end(shared, &name, grace).await?;
    }
    remove(shared, &name).await
}

async fn ask_to_end(shared: &Shared, name: &str, grace: Duration) -> Result<(), BackendError> {
    // The engine counts whole seconds, and 0 would mean at once.
    let seconds = i32::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
    let options = StopContainerOptionsBuilder::new().t(seconds).build();
    let docker = &shared.docker;
    // The grace is the instance's; the patience begins after it.
    let mut call = std::pin::pin!(docker.stop_container(name, Some(options)));
    let result = match tokio::time::timeout(grace, &mut call).await {
        Ok(result) => result,
        Err(_) => patiently(docker, call).await,
    };
    tolerate(result, &[404, 409]).map_err(|error| backend_error(&format!("stop {name}"), &error))
}

/// Kills and removes it, by name or id, and waits until it is gone. One that is not there is no error.
pub(super) async fn remove(shared: &Shared, name: &str) -> Result<(), BackendError> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    let docker = &shared.docker;
    match patiently(docker, docker.remove_container(name, Some(options))).await {
        Ok(()) => Ok(()),
        // Somebody else is at it.
        Err(error) if status(&error) == Some(409) => wait_until_gone(shared, name).await,
        Err(error) => {
            tolerate(Err(error), &[404]).map_err(|error| backend_error(&format!("remove {name}"), &error))
        }
    }
}

async fn wait_until_gone(shared: &Shared, name: &str) -> Result<(), BackendError> {
    let gone = async {
        loop {
            let seen = within(LOOK, shared.docker.inspect_container(name, None)).await;
            if seen.as_ref().err().and_then(status) == Some(404) {
                return;
            }
            tokio::time::sleep(GONE_INTERVAL).await;
        }
    };
    let late = |_| BackendError(format!("cannot remove {name}: a removal under way does not end"));
    tokio::time::timeout(GONE_LIMIT, gone).await.map_err(late)
}

/// As [`discard`], after a moment: the engine is about to start the replacement, and does both at once half as fast.
pub(super) async fn discard_later(shared: Arc<Shared>, name: String) {
    shared.doomed.lock().insert(name.clone());
    tokio::time::sleep(REMOVAL_PAUSE).await;
    discard(shared, name);
}

/// Removes it in the background; if the engine does not answer, once it does again.
pub(super) fn discard(shared: Arc<Shared>, name: String) {
    shared.doomed.lock().insert(name.clone());
    tokio::spawn(async move {
        match remove(&shared, &name).await {
            Ok(()) => drop(shared.doomed.lock().remove(&name)),
            Err(error) => tracing::debug!(container = name, %error, "a container is left for later"),
        }
    });
}

/// SIGKILL. One that does not run is dead enough.
pub(super) async fn kill(shared: &Shared, key: &Key) -> Result<(), BackendError> {
    let name = shared.name(key);
    let options = KillContainerOptionsBuilder::new().signal("KILL").build();
    let result = patiently(&shared.docker, shared.docker.kill_container(&name, Some(options))).await;
    tolerate(result, &[404, 409]).map_err(|error| backend_error(&format!("kill {name}"), &error))
}

fn tolerate(result: Result<(), Error>, statuses: &[u16]) -> Result<(), Error> {
    match result {
        Err(error) if status(&error).is_some_and(|status| statuses.contains(&status)) => Ok(()),
        result => result,
    }
}
