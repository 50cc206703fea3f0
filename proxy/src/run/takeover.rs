//! What a process does that takes over, up to the point from which on it serves; and where it can be taken over from itself.

use std::sync::Arc;
use std::time::Duration;

use longshore_backend::Backend;
use longshore_pool::StateView;

use tokio::time::Instant;

use super::claim::Claim;
use super::cluster::Cluster;
use super::handover::new::Predecessor;
use super::handover::old::Meeting;
use super::{Ends, UpError};
use crate::control::Control;

/// How long the process that is taken over from may take to let go of the instances.
const LETS_GO: Duration = Duration::from_secs(5);

/// The instances that run are adopted: they must be of the same kind.
pub(super) fn same_backend(backend: &dyn Backend, predecessor: Option<&Predecessor>) -> Result<(), UpError> {
    match predecessor {
        Some(predecessor) if predecessor.backend() != backend.kind() => Err(UpError::Takeover(format!(
            "the instances that run are of the {} backend, not of {}: stop the running process first",
            predecessor.backend(),
            backend.kind()
        ))),
        Some(_) | None => Ok(()),
    }
}

/// Everything up to the point from which on this process serves, and the other one does not.
pub(super) async fn take_over(
    cluster: &mut Cluster,
    predecessor: &mut Predecessor,
    ends: &mut Ends,
) -> Result<(), UpError> {
    let controls = cluster.controls.load().to_vec();
    let adopts = cluster.backend.outlives_process();
    if !adopts {
        predecessor.set_sizes(&controls);
        cluster.run();
        tokio::select! {
            ready = ready(&controls) => ready?,
            () = ends.signalled() => return Err(UpError::Takeover("it was interrupted".to_owned())),
        }
    }
    predecessor.commit().await.map_err(UpError::Takeover)?;
    predecessor.keep_free(&controls);
    if adopts {
        predecessor.set_sizes(&controls);
    }
    Ok(())
}

/// The instances are this process's now, and the other one lets go of them at once.
pub(super) async fn claim(cluster: &str, backend: &dyn Backend) -> Option<Claim> {
    let begun = Instant::now();
    loop {
        match Claim::take(cluster, backend).await {
            Ok(claim) => return Some(claim),
            Err(_) if begun.elapsed() < LETS_GO => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => {
                tracing::warn!(%error, "the old process has not let go of the instances");
                return None;
            }
        }
    }
}

/// Returns when every service has the instances that it wants.
async fn ready(controls: &[Arc<Control>]) -> Result<(), UpError> {
    for control in controls {
        let service = control.service();
        loop {
            let snapshot = service.dispatcher.snapshot();
            let ready = snapshot.instances.iter().filter(|view| view.state == StateView::Ready).count();
            if ready >= snapshot.wanted as usize {
                break;
            }
            if let Some(cause) = &snapshot.cannot_start {
                let why = format!("{} cannot start: {}", service.name, crate::problem::death(cause));
                return Err(UpError::Takeover(why));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// Lets itself be taken over, unless another process of the cluster's name does so already.
pub(super) async fn open_meeting(cluster: &str, takeover: bool) -> Option<Meeting> {
    if !takeover && matches!(Predecessor::lives(cluster).await, Ok(true)) {
        tracing::warn!(
            cluster,
            "another `longshore up` of this name runs: `--takeover` will find that one, not this"
        );
        return None;
    }
    match Meeting::open(cluster) {
        Ok(meeting) => Some(meeting),
        Err(error) => {
            tracing::warn!(%error, "this process cannot be taken over by `longshore up --takeover`");
            None
        }
    }
}
