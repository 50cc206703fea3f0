//! One container's way in: created, started, looked at; nothing else, because a start's time is a user's wait.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bollard::errors::Error;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{CreateContainerOptionsBuilder, StartContainerOptions};

use super::call::{LIST, down, is_down, patiently, start_error, status, text, within};
use super::{Shared, container, death, labels, pulse, stop};
use crate::{Key, Spec, StartError};

/// Creates and starts the container, and tells its address.
pub(super) async fn start(shared: &Arc<Shared>, key: &Key, spec: &Spec) -> Result<SocketAddr, StartError> {
    // Never closed.
    let _turn = shared.starts.acquire().await;
    match run(shared, key, spec).await {
        Err(Failure::NoInit) => {
            tracing::warn!("the engine has no init program; instances run without one");
            shared.init.store(false, Ordering::Relaxed);
            run(shared, key, spec).await.map_err(Failure::error)
        }
        result => result.map_err(Failure::error),
    }
}

enum Failure {
    /// The engine's machine lacks the program that `init` asks for.
    NoInit,
    Other(StartError),
}

impl Failure {
    fn error(self) -> StartError {
        match self {
            Self::NoInit => {
                StartError::Failed("the engine asks for an init program that it lacks".to_owned())
            }
            Self::Other(error) => error,
        }
    }
}

async fn run(shared: &Arc<Shared>, key: &Key, spec: &Spec) -> Result<SocketAddr, Failure> {
    let name = shared.name(key);
    let _held = shared.starting.hold(key);
    create(shared, key, spec, &name).await.map_err(Failure::Other)?;
    // Before it runs, so that no death is too early to be missed.
    shared.known.lock().insert(key.clone(), None);
    let result = launch(shared, key, spec, &name).await;
    if result.is_err() {
        shared.known.lock().remove(key);
        stop::discard(shared.clone(), name);
    }
    result
}

async fn create(shared: &Shared, key: &Key, spec: &Spec, name: &str) -> Result<(), StartError> {
    let frame = container::Frame {
        cluster: &shared.cluster,
        key,
        publish_at: shared.address,
        init: shared.init.load(Ordering::Relaxed),
    };
    let options = CreateContainerOptionsBuilder::new().name(name);
    let options = spec.platform.iter().fold(options, |options, platform| options.platform(platform)).build();
    let body = container::configuration(&frame, spec);
    let docker = &shared.docker;
    let attempt = || patiently(docker, docker.create_container(Some(options.clone()), body.clone()));
    let created = match attempt().await {
        Err(error) if status(&error) == Some(409) => {
            make_room(shared, name).await?;
            attempt().await
        }
        created => created,
    };
    match created {
        Ok(_) => Ok(()),
        Err(error) => {
            if is_down(&error) {
                // The engine may have heard the call all the same.
                shared.doomed.lock().insert(name.to_owned());
            }
            Err(start_error(&spec.image, &error))
        }
    }
}

/// Removes the container that has our name, if an earlier process of this cluster left it.
async fn make_room(shared: &Shared, name: &str) -> Result<(), StartError> {
    let holder = match within(LIST, shared.docker.inspect_container(name, None)).await {
        Ok(holder) => holder,
        Err(error) if status(&error) == Some(404) => return Ok(()),
        Err(error) => return Err(down(&error)),
    };
    let owner = holder
        .config
        .and_then(|config| config.labels)
        .and_then(|labels| labels.get(labels::CLUSTER).cloned());
    if owner.as_ref() != Some(&shared.cluster) {
        return Err(StartError::Failed(format!(
            "the container name {name} is taken by a container that is not of this cluster"
        )));
    }
    tracing::info!(container = name, "removing a container left behind under the name of a new one");
    stop::remove(shared, name).await.map_err(|error| StartError::Failed(error.to_string()))
}

async fn launch(shared: &Arc<Shared>, key: &Key, spec: &Spec, name: &str) -> Result<SocketAddr, Failure> {
    let docker = &shared.docker;
    patiently(docker, docker.start_container(name, None::<StartContainerOptions>)).await.map_err(
        |error| {
            if shared.init.load(Ordering::Relaxed) && lacks_init(&error) {
                return Failure::NoInit;
            }
            Failure::Other(start_error(&spec.image, &error))
        },
    )?;
    let inspected = within(LIST, docker.inspect_container(name, None))
        .await
        .map_err(|error| Failure::Other(start_error(&spec.image, &error)))?;
    let pid = inspected.state.as_ref().and_then(|state| state.pid);
    pulse::feel(shared, key, inspected.id.as_deref().unwrap_or_default(), pid);
    // Unless it has ended already.
    if let Some(known) = shared.known.lock().get_mut(key) {
        *known = container::own_address(&inspected);
    }
    match container::address(&inspected, shared.address) {
        Some(address) => Ok(address),
        None => Err(Failure::Other(no_address(shared, spec, name, &inspected).await)),
    }
}

fn lacks_init(error: &Error) -> bool {
    let text = text(error);
    text.contains("docker-init") && text.contains("not found")
}

/// Most likely it has ended already, and its ports are gone with it: say why, in case nobody watches.
async fn no_address(
    shared: &Shared,
    spec: &Spec,
    name: &str,
    inspected: &ContainerInspectResponse,
) -> StartError {
    let state = inspected.state.clone().unwrap_or_default();
    if state.running == Some(true) {
        return StartError::Failed(format!("the container of {} has no address to reach it at", spec.image));
    }
    let code = state.exit_code.unwrap_or_default();
    let log = death::last_lines_of(shared, name).await;
    StartError::Failed(format!("{} exited at once with code {code}\n{log}", spec.image).trim_end().to_owned())
}
