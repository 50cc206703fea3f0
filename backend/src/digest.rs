//! A specification's fingerprint: what a label on a running container is compared with.

use sha2::{Digest, Sha256};

use crate::{Gpus, Reach, Spec};

/// Begins every serialisation, so that a change of its rules makes all that runs stale instead of wrongly current.
const VERSION: &str = "longshore-spec-1";

impl Spec {
    /// The SHA-256, in lowercase hexadecimal, of what an instance is made of.
    ///
    /// The same in every process and on every machine. It covers the fields that can be seen from inside an instance
    /// or on its way to the proxy. It does not cover `build` and `pull`, which say how the image comes to be there,
    /// nor the image's content: an image that was rebuilt under its old name is for the caller to roll out.
    #[must_use]
    pub fn digest(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for byte in Sha256::digest(canonical(self).0) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

/// Every field as `name length:value`, in one order; absent ones are left out, lists are told entry by entry.
fn canonical(spec: &Spec) -> Canonical {
    // Taken apart, so that a new field does not compile until it is decided whether it counts.
    let Spec {
        image,
        build: _,
        pull: _,
        command,
        port,
        env,
        volumes,
        memory,
        cpus,
        gpus,
        user,
        network,
        platform,
        address,
    } = spec;
    let mut out = Canonical(VERSION.as_bytes().to_vec());
    out.field("image", image);
    if let Some(command) = command {
        out.field("command", &command.len().to_string());
        command.iter().for_each(|argument| out.field("argument", argument));
    }
    out.field("port", &port.to_string());
    for (name, value) in env {
        out.field("env", name);
        out.field("value", value);
    }
    volumes.iter().for_each(|volume| out.field("volume", volume));
    out.optional("memory", memory.map(|bytes| bytes.to_string()).as_deref());
    out.optional("cpus", cpus.map(|cpus| format!("{:016x}", cpus.to_bits())).as_deref());
    out.optional("gpus", gpus.map(gpus_text).as_deref());
    out.optional("user", user.as_deref());
    out.optional("network", network.as_deref());
    out.optional("platform", platform.as_deref());
    out.field("address", reach_text(*address));
    out
}

struct Canonical(Vec<u8>);

impl Canonical {
    fn field(&mut self, name: &str, value: &str) {
        self.0.extend_from_slice(format!("\n{name} {}:{value}", value.len()).as_bytes());
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.field(name, value);
        }
    }
}

fn gpus_text(gpus: Gpus) -> String {
    match gpus {
        Gpus::All => "all".to_owned(),
        Gpus::Count(count) => count.to_string(),
    }
}

fn reach_text(reach: Reach) -> &'static str {
    match reach {
        Reach::Published => "published",
        Reach::Container => "container",
        Reach::Host => "host",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Pull;

    /// A specification with as little in it as possible.
    pub(crate) fn plain() -> Spec {
        Spec {
            image: "model".to_owned(),
            build: None,
            pull: Pull::Missing,
            command: None,
            port: 8080,
            env: std::collections::BTreeMap::new(),
            volumes: Vec::new(),
            memory: None,
            cpus: None,
            gpus: None,
            user: None,
            network: None,
            platform: None,
            address: Reach::Published,
        }
    }

    fn changed(change: impl FnOnce(&mut Spec)) -> String {
        let mut spec = plain();
        change(&mut spec);
        spec.digest()
    }

    #[test]
    fn a_digest_is_the_same_in_every_version_of_this_program() {
        // Written down, not computed: containers that an older longshore started carry it.
        assert_eq!(plain().digest(), "71c8720fb40a4a388f7bfcd830c18691753cf254957636f1542e681c62c66478");
    }

    #[test]
    fn whatever_can_be_seen_from_an_instance_changes_the_digest() {
        let seen = [
            plain().digest(),
            changed(|spec| spec.image = "other".to_owned()),
            changed(|spec| spec.command = Some(Vec::new())),
            changed(|spec| spec.command = Some(vec!["a b".to_owned()])),
            changed(|spec| spec.command = Some(vec!["a".to_owned(), "b".to_owned()])),
            changed(|spec| spec.port = 80),
            changed(|spec| drop(spec.env.insert("A".to_owned(), "1".to_owned()))),
            changed(|spec| drop(spec.env.insert("A".to_owned(), "2".to_owned()))),
            changed(|spec| spec.volumes.push("/a:/b".to_owned())),
            changed(|spec| spec.memory = Some(1)),
            changed(|spec| spec.cpus = Some(1.5)),
            changed(|spec| spec.gpus = Some(Gpus::All)),
            changed(|spec| spec.gpus = Some(Gpus::Count(1))),
            changed(|spec| spec.user = Some("1000".to_owned())),
            changed(|spec| spec.network = Some("n".to_owned())),
            changed(|spec| spec.platform = Some("linux/arm64".to_owned())),
            changed(|spec| spec.address = Reach::Container),
            changed(|spec| spec.address = Reach::Host),
        ];
        let distinct: std::collections::BTreeSet<&String> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len());
    }

    #[test]
    fn how_the_image_comes_to_be_there_does_not() {
        assert_eq!(plain().digest(), changed(|spec| spec.pull = Pull::Always));
        assert_eq!(plain().digest(), changed(|spec| spec.build = Some("folder".into())));
    }
}
