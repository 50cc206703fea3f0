//! The file of api keys, read again whenever it changes. One that is wrong changes nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use crate::config::keys::{self, ApiKeys};
use crate::gateway::Gateway;

/// How soon a change is noticed.
const INTERVAL: Duration = Duration::from_secs(1);

/// What tells one state of a file from another, also where it was replaced, as by an editor or a mounted secret: when it
/// was written, how long it is, and which file it is.
type Stamp = (SystemTime, u64, u64);

/// Reads the keys in force again when their file changes, as long as there is a gateway. Without a file nothing is looked
/// at: another configuration may name one.
pub fn follow(gateway: &Arc<Gateway>) {
    tokio::spawn(look(Arc::downgrade(gateway)));
}

async fn look(gateway: Weak<Gateway>) {
    let mut interval = tokio::time::interval(INTERVAL);
    let mut known: Option<(PathBuf, Option<Stamp>)> = None;
    loop {
        interval.tick().await;
        let Some(gateway) = gateway.upgrade() else { return };
        let now = gateway.admission.keys_file().map(|file| (file.clone(), stamp(&file)));
        if now == known {
            continue;
        }
        if let Some((file, _)) = &now {
            read(file, &gateway);
        }
        known = now;
    }
}

fn read(file: &Path, gateway: &Gateway) {
    match keys::load(file) {
        Ok(list) => {
            let count = list.len();
            if gateway.admission.change_keys(ApiKeys { file: file.to_owned(), list }) {
                tracing::info!(file = %file.display(), keys = count, "the api keys have changed");
            }
        }
        Err(mistakes) => {
            tracing::error!(file = %file.display(), "the api keys stay as they were, since the file is wrong:\n{mistakes}");
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let file = std::fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len(), file.ino()))
}
