//! How a container carries its key: its name for people and for calls, its labels for everything else.

use std::collections::HashMap;
use std::hash::BuildHasher;

use crate::{Found, Key};

pub(super) const CLUSTER: &str = "longshore.cluster";
const SERVICE: &str = "longshore.service";
const SLOT: &str = "longshore.slot";
const INCARNATION: &str = "longshore.incarnation";
const SPEC: &str = "longshore.spec";
/// The port inside, so that an address can be told without the specification.
pub(super) const PORT: &str = "longshore.port";

/// `longshore-CLUSTER-SERVICE-SLOT-INCARNATION`.
pub(super) fn container_name(cluster: &str, key: &Key) -> String {
    format!("longshore-{cluster}-{key}")
}

/// All labels of an instance. Those of Compose make its tools show a cluster as a project.
pub(super) fn of(cluster: &str, key: &Key, digest: &str, port: u16) -> HashMap<String, String> {
    [
        (CLUSTER, cluster.to_owned()),
        (SERVICE, key.service.to_string()),
        (SLOT, key.slot.to_string()),
        (INCARNATION, key.incarnation.to_string()),
        (SPEC, digest.to_owned()),
        (PORT, port.to_string()),
        ("com.docker.compose.project", cluster.to_owned()),
        ("com.docker.compose.service", key.service.to_string()),
        ("com.docker.compose.container-number", (u64::from(key.slot) + 1).to_string()),
        ("com.docker.compose.oneoff", "False".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The filter that the engine understands: containers of this cluster.
pub(super) fn filter(cluster: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{CLUSTER}={cluster}")])])
}

/// The key that labels (or an event's attributes, which contain them) tell; none if they were not made here.
pub(super) fn key<S: BuildHasher>(labels: &HashMap<String, String, S>) -> Option<Key> {
    Some(Key {
        service: labels.get(SERVICE)?.as_str().into(),
        slot: labels.get(SLOT)?.parse().ok()?,
        incarnation: labels.get(INCARNATION)?.parse().ok()?,
    })
}

/// What labels tell of an instance that does not run.
pub(super) fn found<S: BuildHasher>(labels: &HashMap<String, String, S>) -> Option<Found> {
    let digest = labels.get(SPEC).cloned().unwrap_or_default();
    Some(Found { key: key(labels)?, address: None, paused: false, digest, begun: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_its_labels() {
        let key = Key { service: "calc".into(), slot: 3, incarnation: 17 };
        let labels = of("demo", &key, "d1", 8080);
        assert_eq!(
            found(&labels),
            Some(Found {
                key: key.clone(),
                address: None,
                paused: false,
                digest: "d1".to_owned(),
                begun: None
            })
        );
        assert_eq!(container_name("demo", &key), "longshore-demo-calc-3-17");
        assert_eq!(labels["com.docker.compose.container-number"], "4");
    }

    #[test]
    fn foreign_labels_are_no_key() {
        let mut labels = of("demo", &Key { service: "calc".into(), slot: 3, incarnation: 1 }, "d1", 80);
        labels.insert(SLOT.to_owned(), "first".to_owned());
        assert_eq!(key(&labels), None);
        assert_eq!(key(&HashMap::<String, String>::new()), None);
    }
}
