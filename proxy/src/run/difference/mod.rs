//! What is different between the configuration in force and another one, and whether that can be put in force while the
//! cluster runs. Pure: nothing is done here.

mod keys;
#[cfg(test)]
mod tests;

use crate::admin::view::{ChangedService, ReloadView};
use crate::config::{Config, Listener, Service};
use keys::same_kind;

/// What has to be done to get from one configuration to another.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Difference {
    /// Services that are new, or are another thing under an old name.
    pub(super) added: Vec<String>,
    /// Services that are no more, or another thing.
    pub(super) removed: Vec<String>,
    /// Services with other settings.
    pub(super) changed: Vec<Changed>,
    /// Keys of `[proxy]`, `listen` included.
    pub(super) proxy: Vec<&'static str>,
    /// Where to listen, as it is written.
    pub(super) opened: Vec<Listener>,
    /// Where to listen no more.
    pub(super) closed: Vec<Listener>,
    /// Where to go on listening, and speak something else.
    pub(super) switched: Vec<Listener>,
    /// Keys of `[admin]`.
    pub(super) admin: Vec<&'static str>,
    /// Whether the order of the services is another one.
    pub(super) reordered: bool,
    /// What is different and not put in force before the next start, each as `[TABLE] KEY`.
    pub(super) next_start: Vec<String>,
}

/// A service with other settings.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Changed {
    pub(super) name: String,
    pub(super) keys: Vec<&'static str>,
    /// Whether its instances are to be replaced, because they are made from something else now.
    pub(super) rolls: bool,
}

/// What cannot be changed while the cluster runs: the dotted name of each key, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fixed(pub(super) Vec<(&'static str, String)>);

impl Difference {
    /// From `old` to `new`.
    pub(super) fn between(old: &Config, new: &Config) -> Result<Self, Fixed> {
        let fixed = keys::fixed(old, new);
        if !fixed.is_empty() {
            return Err(Fixed(fixed));
        }
        let mut it = Self::default();
        for service in &new.services {
            match old.service(&service.name) {
                Some(before) if same_kind(before, service) => {
                    it.changed.extend(keys::changed(before, service))
                }
                Some(_) | None => it.added.push(service.name.to_string()),
            }
        }
        let stays =
            |before: &Service| new.service(&before.name).is_some_and(|service| same_kind(before, service));
        it.removed =
            old.services.iter().filter(|it| !stays(it)).map(|service| service.name.to_string()).collect();
        let names = |config: &Config| -> Vec<_> {
            config.services.iter().map(|service| service.name.clone()).collect()
        };
        it.reordered = names(old) != names(new);
        it.proxy = keys::proxy(&old.proxy, &new.proxy);
        it.listeners(&old.proxy.listeners(), &new.proxy.listeners());
        it.admin = keys::admin(&old.admin, &new.admin);
        it.next_start = keys::at_the_next_start(old, new);
        Ok(it)
    }

    /// A port that is picked is never the same one: it cannot be switched.
    fn listeners(&mut self, old: &[Listener], new: &[Listener]) {
        self.closed = without(old, new);
        let closed = &mut self.closed;
        let is_open = |one: &Listener| {
            let before = closed.iter().position(|it| it.address == one.address && one.address.port() != 0);
            before.map(|index| closed.swap_remove(index)).is_some()
        };
        (self.switched, self.opened) = without(new, old).into_iter().partition(is_open);
    }

    /// Whether anything is served somewhere else.
    pub(super) fn moves_listeners(&self) -> bool {
        let proxy = [&self.opened, &self.closed, &self.switched];
        proxy.iter().any(|list| !list.is_empty()) || !self.admin.is_empty()
    }

    /// Whether there is none that could be put in force.
    fn is_empty(&self) -> bool {
        Self { next_start: Vec::new(), ..self.clone() } == Self::default()
    }

    /// Keeps in `config` what stays as it is `in_force` until the next start.
    pub(super) fn retain(config: &mut Config, in_force: &Config) {
        keys::retain(config, in_force);
    }

    /// As `POST /reload` answers it.
    pub(super) fn view(&self) -> ReloadView {
        let changed = |one: &Changed| ChangedService {
            name: one.name.clone(),
            keys: one.keys.iter().map(|key| (*key).to_owned()).collect(),
            rolls: one.rolls,
        };
        let owned = |keys: &[&'static str]| keys.iter().map(|key| (*key).to_owned()).collect();
        ReloadView {
            changed: !self.is_empty(),
            summary: self.summary(),
            services_added: self.added.clone(),
            services_removed: self.removed.clone(),
            services_changed: self.changed.iter().map(changed).collect(),
            proxy: owned(&self.proxy),
            listeners_opened: self.opened.iter().map(|one| one.address).collect(),
            listeners_closed: self.closed.iter().map(|one| one.address).collect(),
            admin: owned(&self.admin),
            next_start: self.next_start.clone(),
        }
    }

    /// In a line, for the log and for people.
    fn summary(&self) -> String {
        let mut parts = Vec::new();
        let mut list = |what: &str, names: Vec<String>| {
            if !names.is_empty() {
                parts.push(format!("{what} {}", names.join(", ")));
            }
        };
        list("added", self.added.clone());
        list("removed", self.removed.clone());
        let changed = |one: &Changed| {
            let rolls = if one.rolls { "; its instances are replaced one by one" } else { "" };
            format!("{} ({}{rolls})", one.name, one.keys.join(", "))
        };
        list("changed", self.changed.iter().map(changed).collect());
        list("changed [proxy]", self.proxy.iter().map(|key| (*key).to_owned()).collect());
        list("changed [admin]", self.admin.iter().map(|key| (*key).to_owned()).collect());
        if parts.is_empty() {
            parts.push(
                if self.reordered { "the order of the services" } else { "nothing has changed" }.to_owned(),
            );
        }
        if !self.next_start.is_empty() {
            parts.push(format!("{} at the next start of `longshore up`", self.next_start.join(", ")));
        }
        parts.join("; ")
    }
}

/// Those of `these` that are not among `others`; each as often as it is there too many.
fn without(these: &[Listener], others: &[Listener]) -> Vec<Listener> {
    let mut others = others.to_vec();
    let mut rest = these.to_vec();
    rest.retain(|one| match others.iter().position(|other| other == one) {
        Some(index) => {
            others.swap_remove(index);
            false
        }
        None => true,
    });
    rest
}
