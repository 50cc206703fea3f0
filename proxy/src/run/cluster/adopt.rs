//! What runs already when a process begins: taken over where it is current, removed where it is not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_backend::{Backend, Found, Key, StartError};

use super::super::UpError;
use super::super::handover::new::Held;
use super::loops::Wires;
use crate::config::Source;
use crate::control::Control;

/// Takes over what an earlier process has left running and is current, and removes the rest of it.
pub(super) async fn adopt(wires: &[Wires], backend: &Arc<dyn Backend>) -> Result<(), UpError> {
    let found =
        backend.list().await.map_err(|error| UpError::Backend(StartError::EngineDown(error.to_string())))?;
    for found in &found {
        if let Some((control, _)) =
            wires.iter().find(|(control, _)| control.service().name == found.key.service)
        {
            control.service().dispatcher.skip_incarnations(found.key.incarnation);
        }
    }
    let (current, stale): (Vec<Found>, Vec<Found>) =
        found.into_iter().partition(|found| home(wires, found).is_some() && found.address.is_some());
    for found in current {
        if let (Some(control), Some(address)) = (home(wires, &found), found.address) {
            tracing::info!(instance = %found.key, %address, "adopting a running instance");
            control.adopt(&found, address);
        }
    }
    let removals = stale.into_iter().map(|found| async move {
        tracing::info!(instance = %found.key, "removing a stale instance");
        if let Err(error) = backend.stop(&found.key, Duration::from_secs(1)).await {
            tracing::error!(instance = %found.key, %error, "failed to remove a stale instance");
        }
    });
    futures_util::future::join_all(removals).await;
    Ok(())
}

/// As [`adopt`], from a process that runs on for a while: nothing is removed, and what is not current serves until it is
/// replaced. Gives what is of no use.
pub(super) async fn take_over(
    wires: &[Wires],
    backend: &Arc<dyn Backend>,
    held: &Held,
) -> Result<Vec<Key>, UpError> {
    let found =
        backend.list().await.map_err(|error| UpError::Backend(StartError::EngineDown(error.to_string())))?;
    skip_incarnations(wires, &held.last);
    let mut leftovers = Vec::new();
    for found in found {
        if held.stopping.contains(&found.key.to_string()) {
            continue;
        }
        let control = wires
            .iter()
            .map(|(control, _)| control)
            .find(|control| control.service().name == found.key.service && control.backend().is_some());
        let (Some(control), Some(address)) = (control, found.address) else {
            leftovers.push(found.key);
            continue;
        };
        if home(wires, &found).is_some() {
            tracing::info!(instance = %found.key, %address, "adopting a running instance");
            control.adopt(&found, address);
        } else {
            tracing::info!(instance = %found.key, %address, "adopting a running instance, to be replaced");
            control.adopt_outdated(&found, address);
        }
    }
    Ok(leftovers)
}

/// Those of another process are not used again.
pub(super) fn skip_incarnations(wires: &[Wires], last: &BTreeMap<String, u32>) {
    for (control, _) in wires {
        let service = control.service();
        if let Some(last) = last.get(&*service.name) {
            service.dispatcher.skip_incarnations(*last);
        }
    }
}

/// The control loop that an instance belongs to, if it was made from what the configuration says now.
fn home<'a>(wires: &'a [Wires], found: &Found) -> Option<&'a Arc<Control>> {
    let (control, _) = wires.iter().find(|(control, _)| control.service().name == found.key.service)?;
    match &control.service().config.source {
        Source::Image { spec } if spec.digest() == found.digest => Some(control),
        Source::Image { .. } | Source::Addresses(_) => None,
    }
}
