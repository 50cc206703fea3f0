//! The file of api keys: read at the start, and again whenever it changes. One that is wrong changes nothing.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use super::UpError;
use crate::config::ProxyConfig;
use crate::config::keys::{self, ApiKey};
use crate::gateway::Gateway;

/// How soon a change is noticed.
const INTERVAL: Duration = Duration::from_secs(1);

/// What tells one state of a file from another: also where it is replaced, as by an editor or a mounted secret.
type Stamp = Option<(SystemTime, u64, u64)>;

/// Reads the keys, if a key is required.
pub fn read(proxy: &ProxyConfig) -> Result<Option<Vec<ApiKey>>, UpError> {
    match &proxy.api_keys_file {
        Some(path) => Ok(Some(keys::load(path)?)),
        None => Ok(None),
    }
}

/// Reads them again when the file changes, as long as there is a gateway.
pub fn follow(proxy: &ProxyConfig, gateway: &Arc<Gateway>) {
    if let Some(path) = proxy.api_keys_file.clone() {
        // Looked at before anything else happens: a change since it was read is a change.
        let stamp = stamp(&path);
        tokio::spawn(look(path, stamp, Arc::downgrade(gateway)));
    }
}

async fn look(path: PathBuf, mut known: Stamp, gateway: Weak<Gateway>) {
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        interval.tick().await;
        let now = stamp(&path);
        let Some(gateway) = gateway.upgrade() else { return };
        if now == known {
            continue;
        }
        known = now;
        match keys::load(&path) {
            Ok(list) => {
                tracing::info!(file = %path.display(), keys = list.len(), "the api keys have changed");
                gateway.admission.change_keys(list);
            }
            Err(mistakes) => {
                tracing::error!(file = %path.display(), "the api keys stay as they were, since the file is wrong:\n{mistakes}");
            }
        }
    }
}

fn stamp(path: &std::path::Path) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    let file = std::fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len(), file.ino()))
}
