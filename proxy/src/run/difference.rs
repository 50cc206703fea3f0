//! What is different between the configuration in force and another one, and whether that can be put in force while the
//! cluster runs. Pure: nothing is done here.

use crate::admin::view::{ChangedService, ReloadView};
use crate::config::{AdminConfig, BackendKind, Config, Listener, ProxyConfig, Service, Source};

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
}

/// A service with other settings.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Changed {
    pub(super) name: String,
    pub(super) keys: Vec<&'static str>,
    /// Whether its instances are to be replaced, because they are made from something else now.
    pub(super) rolls: bool,
}

/// What cannot be changed while the cluster runs, each in a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub(super) struct Fixed(pub(super) Vec<String>);

impl Difference {
    /// From `old` to `new`.
    pub(super) fn between(old: &Config, new: &Config) -> Result<Self, Fixed> {
        let fixed = fixed(old, new);
        if !fixed.is_empty() {
            return Err(Fixed(fixed));
        }
        let mut it = Self::default();
        for service in &new.services {
            match old.service(&service.name) {
                Some(before) if same_kind(before, service) => it.changed.extend(changed(before, service)),
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
        it.proxy = proxy(&old.proxy, &new.proxy);
        it.listeners(&old.proxy.listeners(), &new.proxy.listeners());
        it.admin = admin(&old.admin, &new.admin);
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

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
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
        }
    }

    /// In a line, for the log and for people.
    fn summary(&self) -> String {
        if self.is_empty() {
            return "nothing has changed".to_owned();
        }
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
            parts.push("the order of the services".to_owned());
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

fn fixed(old: &Config, new: &Config) -> Vec<String> {
    let mut out = Vec::new();
    if old.name != new.name {
        out.push(format!(
            "`name` is {:?} and cannot become {:?} while it runs: the instances carry it; start `longshore up` again",
            old.name, new.name
        ));
    }
    if old.backend != new.backend {
        out.push(
            "`[backend]` cannot change while it runs: instances cannot move; start `longshore up` again"
                .to_owned(),
        );
    }
    if old.jobs != new.jobs {
        out.push(
            "`[jobs]` cannot change while it runs: the jobs are in the store that was opened; start `longshore up` again"
                .to_owned(),
        );
    }
    if old.telemetry != new.telemetry {
        out.push(
            "`[telemetry]` cannot change while it runs: it is read at the start; start `longshore up` again"
                .to_owned(),
        );
    }
    let starts = |config: &Config| {
        config.services.iter().any(|service| match service.source {
            Source::Image { .. } => true,
            Source::Addresses(_) => false,
        })
    };
    if new.backend.kind == BackendKind::Auto && starts(new) && !starts(old) {
        out.push(
            "nothing was to be started so far, so no engine was looked for: start `longshore up` again, or name \
             `backend.kind` from the beginning"
                .to_owned(),
        );
    }
    out
}

/// Whether one can become the other by a change of settings: started by Longshore, or not, and spoken to in the same way.
fn same_kind(one: &Service, other: &Service) -> bool {
    if one.protocol != other.protocol {
        return false;
    }
    match (&one.source, &other.source) {
        (Source::Image { .. }, Source::Image { .. }) | (Source::Addresses(_), Source::Addresses(_)) => true,
        (Source::Image { .. }, Source::Addresses(_)) | (Source::Addresses(_), Source::Image { .. }) => false,
    }
}

fn changed(old: &Service, new: &Service) -> Option<Changed> {
    if old == new {
        return None;
    }
    let mut keys = source(&old.source, &new.source);
    keys.extend(differing([
        ("hosts", old.hosts != new.hosts),
        ("paths", old.paths != new.paths),
        ("models", old.models != new.models),
        ("strip_prefix", old.strip_prefix != new.strip_prefix),
        ("default", old.default != new.default),
        ("size", old.size != new.size),
        ("concurrency", old.concurrency != new.concurrency),
        ("timeout", old.timeout != new.timeout),
        ("first_byte_timeout", old.first_byte_timeout != new.first_byte_timeout),
        ("stop_grace", old.stop_grace != new.stop_grace),
        ("health", old.health != new.health),
        ("queue", old.queue != new.queue),
        ("balance", old.balance != new.balance),
        ("replay", old.replay != new.replay),
        ("restart", old.restart != new.restart),
        ("jobs", old.jobs != new.jobs),
    ]));
    if keys.is_empty() {
        keys.push("other settings");
    }
    Some(Changed { name: new.name.to_string(), keys, rolls: rolls(old, new) })
}

/// Whether instances that run are not what would be started now.
fn rolls(old: &Service, new: &Service) -> bool {
    match (&old.source, &new.source) {
        (Source::Image { spec: before }, Source::Image { spec: after }) => before.digest() != after.digest(),
        (Source::Image { .. } | Source::Addresses(_), Source::Addresses(_))
        | (Source::Addresses(_), Source::Image { .. }) => false,
    }
}

fn source(old: &Source, new: &Source) -> Vec<&'static str> {
    match (old, new) {
        (Source::Image { spec: old }, Source::Image { spec: new }) => differing([
            ("image", old.image != new.image),
            ("build", old.build != new.build),
            ("pull", old.pull != new.pull),
            ("command", old.command != new.command),
            ("port", old.port != new.port),
            ("env", old.env != new.env),
            ("volumes", old.volumes != new.volumes),
            ("memory", old.memory != new.memory),
            ("cpus", old.cpus != new.cpus),
            ("gpus", old.gpus != new.gpus),
            ("user", old.user != new.user),
            ("network", old.network != new.network),
            ("platform", old.platform != new.platform),
            ("address", old.address != new.address),
        ]),
        (Source::Addresses(old), Source::Addresses(new)) if old != new => vec!["addresses"],
        (Source::Addresses(_), Source::Addresses(_)) => Vec::new(),
        (Source::Image { .. }, Source::Addresses(_)) => vec!["addresses"],
        (Source::Addresses(_), Source::Image { .. }) => vec!["image"],
    }
}

fn proxy(old: &ProxyConfig, new: &ProxyConfig) -> Vec<&'static str> {
    let mut keys = differing([
        ("listen", old.listen != new.listen),
        ("tls", old.tls != new.tls),
        ("request_header_timeout", old.request_header_timeout != new.request_header_timeout),
        ("idle_timeout", old.idle_timeout != new.idle_timeout),
        ("half_close", old.half_close != new.half_close),
        ("drain", old.drain != new.drain),
        ("max_body", old.max_body != new.max_body),
        ("memory_per_body", old.memory_per_body != new.memory_per_body),
        ("model_head", old.model_head != new.model_head),
        ("forwarded", old.forwarded != new.forwarded),
        ("limits", old.limits != new.limits),
        ("http2", old.http2 != new.http2),
        ("api_keys_file", old.api_keys != new.api_keys),
        ("forward_api_key", old.forward_api_key != new.forward_api_key),
        ("trusted", old.trusted != new.trusted),
    ]);
    if keys.is_empty() && old != new {
        keys.push("other settings");
    }
    keys
}

fn admin(old: &AdminConfig, new: &AdminConfig) -> Vec<&'static str> {
    differing([("listen", old.listen != new.listen), ("token_file", old.token_file != new.token_file)])
}

fn differing<const N: usize>(keys: [(&'static str, bool); N]) -> Vec<&'static str> {
    keys.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str =
        "[services.calc]\nimage = \"x\"\nsize = 2\n[services.far]\naddresses = [\"127.0.0.1:9\"]\n";

    fn parse(text: &str) -> Config {
        Config::parse(text, "cluster.toml", &|_| None).unwrap()
    }

    fn to(text: &str) -> Difference {
        Difference::between(&parse(BASE), &parse(text)).unwrap()
    }

    #[test]
    fn the_same_is_no_difference() {
        assert!(to(BASE).is_empty());
        assert_eq!(to(&format!("# a remark\n{BASE}")).summary(), "nothing has changed");
    }

    #[test]
    fn what_instances_are_made_from_rolls_and_the_rest_does_not() {
        for (line, rolls) in [
            ("env = { A = \"1\" }", true),
            ("command = [\"x\"]", true),
            ("volumes = [\"a:/a\"]", true),
            ("port = 81", true),
            ("pull = \"never\"", false),
            ("timeout = \"3s\"", false),
            ("queue.limit = 3", false),
            ("balance.policy = \"random\"", false),
            ("replay.attempts = 2", false),
            ("restart.policy = \"never\"", false),
            ("health.interval = \"1s\"", false),
            ("stop_grace = \"1s\"", false),
            ("concurrency = 3", false),
            ("hosts = [\"else\"]", false),
            ("paths = [\"/x\"]", false),
            ("first_byte_timeout = \"1s\"", false),
        ] {
            let found = to(&BASE.replace("size = 2", &format!("size = 2\n{line}")));
            let key = line.split([' ', '.']).next().unwrap();
            let expected = Changed { name: "calc".into(), keys: vec![key], rolls };
            assert_eq!(found, Difference { changed: vec![expected], ..Difference::default() }, "{line}");
        }
    }

    #[test]
    fn services_come_and_go_and_one_of_another_kind_is_another_one() {
        let found = to("[services.calc]\naddresses = [\"127.0.0.1:1\"]\n[services.new]\nimage = \"y\"\n");
        assert_eq!(
            (found.added, found.removed),
            (vec!["calc".to_owned(), "new".to_owned()], vec!["calc".to_owned(), "far".to_owned()])
        );
    }

    #[test]
    fn listeners_are_compared_as_they_are_written() {
        let with = |listen: &str| parse(&format!("[proxy]\nlisten = [{listen}]\n{BASE}"));
        let old = with("\"127.0.0.1:0\", \"127.0.0.1:0\", \"127.0.0.1:7\"");
        let new = with("\"127.0.0.1:8\", \"127.0.0.1:0\"");
        let found = Difference::between(&old, &new).unwrap();
        let all = |list: &[Listener]| list.iter().map(|one| one.address.port()).collect::<Vec<_>>();
        assert_eq!((all(&found.opened), all(&found.closed)), (vec![8], vec![0, 7]));
        assert_eq!(found.summary(), "changed [proxy] listen");
    }

    #[test]
    fn a_listener_that_speaks_something_else_is_neither_closed_nor_opened() {
        let with = |listen: &str, tls: &str| {
            let tls = format!("tls = {{ listen = [{tls}], cert = \"c\", key = \"k\" }}");
            parse(&format!("[proxy]\nlisten = [{listen}]\n{tls}\n{BASE}"))
        };
        let old = with("\"127.0.0.1:7\", \"127.0.0.1:0\"", "\"127.0.0.1:8\"");
        let new = with("\"127.0.0.1:8\"", "\"127.0.0.1:7\", \"127.0.0.1:0\"");
        let found = Difference::between(&old, &new).unwrap();
        let all = |list: &[Listener]| {
            list.iter().map(|one| (one.address.port(), one.scheme.name())).collect::<Vec<_>>()
        };
        assert_eq!(all(&found.switched), [(8, "http"), (7, "https")]);
        assert_eq!((all(&found.opened), all(&found.closed)), (vec![(0, "https")], vec![(0, "http")]));
        assert_eq!(found.summary(), "changed [proxy] listen, tls");
        assert!(found.moves_listeners());
        assert!(!Difference::between(&new, &new).unwrap().moves_listeners());
    }

    #[test]
    fn what_cannot_change_is_said() {
        for (text, said) in [
            (format!("name = \"other\"\n{BASE}"), "`name`"),
            (format!("[backend]\nkind = \"process\"\n{BASE}"), "`[backend]`"),
            (format!("[telemetry]\nsample = 0.5\n{BASE}"), "`[telemetry]`"),
        ] {
            let error = Difference::between(&parse(BASE), &parse(&text)).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let listed = "[services.far]\naddresses = [\"127.0.0.1:9\"]\n";
        let error = Difference::between(&parse(listed), &parse(BASE)).unwrap_err().to_string();
        assert!(error.contains("no engine was looked for"), "{error}");
    }

    #[test]
    fn a_summary_names_everything() {
        let text = BASE.replace("size = 2", "size = 3\nenv = { A = \"1\" }").replace("far", "near");
        let text = format!("[proxy]\ndrain = \"1s\"\n[admin]\ntoken_file = \"t\"\n{text}");
        assert_eq!(
            to(&text).summary(),
            "added near; removed far; changed calc (env, size; its instances are replaced one by one); \
             changed [proxy] drain; changed [admin] token_file"
        );
    }
}
