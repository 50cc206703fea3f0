//! A container's sleep, by the engine's freezer: none of its processes gets any time, none of them can tell.

use super::Shared;
use super::call::{LOOK, backend_error, patiently, within};
use crate::{BackendError, Key};

pub(super) async fn pause(shared: &Shared, key: &Key) -> Result<(), BackendError> {
    let name = shared.name(key);
    match patiently(&shared.docker, shared.docker.pause_container(&name)).await {
        Err(error) if is_paused(shared, key).await != Some(true) => {
            Err(backend_error(&format!("pause {name}"), &error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(super) async fn resume(shared: &Shared, key: &Key) -> Result<(), BackendError> {
    let name = shared.name(key);
    match patiently(&shared.docker, shared.docker.unpause_container(&name)).await {
        Err(error) if is_paused(shared, key).await != Some(false) => {
            Err(backend_error(&format!("resume {name}"), &error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a container that runs is paused; nothing where it does not run, or the engine does not say.
pub(super) async fn is_paused(shared: &Shared, key: &Key) -> Option<bool> {
    let inspected = within(LOOK, shared.docker.inspect_container(&shared.name(key), None)).await;
    let state = inspected.ok()?.state?;
    state.paused.filter(|_| state.running == Some(true))
}
