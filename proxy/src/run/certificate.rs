//! The certificate and its key, read again whenever their files change. What cannot be used changes nothing.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::watch::FileWatch;
use crate::config::TlsFiles;
use crate::config::identity;
use crate::gateway::Gateway;

/// How soon it is noticed that another configuration names other files.
const INTERVAL: Duration = Duration::from_secs(1);

/// Reads the identity in force again when its files change, as long as there is a gateway.
pub(super) fn follow(gateway: &Arc<Gateway>) {
    tokio::spawn(look(Arc::downgrade(gateway)));
}

async fn look(gateway: Weak<Gateway>) {
    let mut watched: Option<(TlsFiles, FileWatch)> = None;
    loop {
        let Some(files) = gateway.upgrade().map(|gateway| gateway.tls_files()) else { return };
        if watched.as_ref().map(|(files, _)| files) != files.as_ref() {
            // What has changed since the configuration was read is seen at once.
            watched = files.map(|files| {
                let watch = FileWatch::begin(vec![files.cert.clone(), files.key.clone()]);
                (files, watch)
            });
        } else if !changed(&mut watched).await {
            continue;
        }
        if let (Some(gateway), Some((files, _))) = (gateway.upgrade(), &watched) {
            read(files, &gateway);
        }
    }
}

/// Whether they have, within the interval.
async fn changed(watched: &mut Option<(TlsFiles, FileWatch)>) -> bool {
    match watched {
        Some((_, watch)) => tokio::time::timeout(INTERVAL, watch.changed()).await.is_ok(),
        None => {
            tokio::time::sleep(INTERVAL).await;
            false
        }
    }
}

fn read(files: &TlsFiles, gateway: &Gateway) {
    match identity::load(files) {
        Ok(identity) => {
            let until = identity.expires().map(|expires| expires.to_string()).unwrap_or_default();
            if gateway.change_identity(files, identity) {
                tracing::info!(cert = %files.cert.display(), until, "the certificate has changed");
            }
        }
        Err(mistakes) => {
            gateway.identity_refused();
            tracing::error!(cert = %files.cert.display(), "the certificate stays as it was, since its files are wrong:\n{mistakes}");
        }
    }
}
