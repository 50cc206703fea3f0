//! Which keys are different. The one place that knows, of every key of cluster.toml, whether a reload puts it in force, has
//! to wait for the next start, or cannot be.
//!
//! A key that is added to the configuration does not compile until it is named here.

use longshore_backend::Spec;

use super::Changed;
use crate::config::{
    AdminConfig, BackendConfig, BackendKind, Config, JobsConfig, ProxyConfig, Service, Source,
};
use crate::telemetry::Telemetry;

/// The keys whose values differ. Every field of the type has to be named: with its key, or behind `besides` where it is
/// no key that a reload could change, or is compared elsewhere.
macro_rules! differing {
    ($old:expr, $new:expr, $of:ident { $($field:ident: $key:literal),+ $(,)? } besides { $($other:ident),* }) => {{
        let $of { $($field: _,)+ $($other: _,)* } = $old;
        let mut keys: Vec<&'static str> = Vec::new();
        $(if $old.$field != $new.$field {
            keys.push($key);
        })+
        keys
    }};
}

/// What cannot change while the cluster runs, each in a sentence.
pub(super) fn fixed(old: &Config, new: &Config) -> Vec<(&'static str, String)> {
    let Config { name, proxy: _, admin: _, backend, jobs: _, telemetry: _, services: _ } = old;
    let BackendConfig { kind: _ } = backend;
    let mut out = Vec::new();
    if *name != new.name {
        let why = format!(
            "`name` is {name:?} and cannot become {:?} while it runs: the instances carry it; start `longshore up` again",
            new.name
        );
        out.push(("name", why));
    }
    if *backend != new.backend {
        let why =
            "`[backend]` cannot change while it runs: instances cannot move; start `longshore up` again";
        out.push(("backend.kind", why.to_owned()));
    }
    let starts = |config: &Config| {
        config.services.iter().any(|service| match service.source {
            Source::Image { .. } => true,
            Source::Addresses(_) => false,
        })
    };
    if new.backend.kind == BackendKind::Auto && starts(new) && !starts(old) {
        let why = "nothing was to be started so far, so no engine was looked for: start `longshore up` again, or name \
                   `backend.kind` from the beginning";
        out.push(("backend.kind", why.to_owned()));
    }
    out
}

/// What is read at the start only: it waits for the next one.
pub(super) fn at_the_next_start(old: &Config, new: &Config) -> Vec<String> {
    let (before, after): (&JobsConfig, &JobsConfig) = (&old.jobs, &new.jobs);
    let jobs = differing!(before, after, JobsConfig {
        store: "store",
        path: "path",
        max_bytes: "max_bytes",
        lease: "lease",
        callbacks: "callbacks",
        export: "export",
    } besides {});
    let (before, after): (&Telemetry, &Telemetry) = (&old.telemetry, &new.telemetry);
    let telemetry = differing!(before, after, Telemetry {
        collector: "otlp",
        sample: "sample",
        service_name: "service_name",
        ca: "ca",
    } besides {});
    let named = |table: &'static str, keys: Vec<&'static str>| {
        keys.into_iter().map(move |key| format!("[{table}] {key}")).collect::<Vec<_>>()
    };
    [named("jobs", jobs), named("telemetry", telemetry)].concat()
}

/// Keeps in `config` what stays in force until the next start.
pub(super) fn retain(config: &mut Config, in_force: &Config) {
    config.jobs = in_force.jobs.clone();
    config.telemetry = in_force.telemetry.clone();
}

/// Whether one can become the other by a change of settings: started by Longshore, or not, and spoken to in the same way.
pub(super) fn same_kind(one: &Service, other: &Service) -> bool {
    if one.protocol != other.protocol {
        return false;
    }
    match (&one.source, &other.source) {
        (Source::Image { .. }, Source::Image { .. }) | (Source::Addresses(_), Source::Addresses(_)) => true,
        (Source::Image { .. }, Source::Addresses(_)) | (Source::Addresses(_), Source::Image { .. }) => false,
    }
}

/// What is different in a service that stays [the same kind](same_kind).
pub(super) fn changed(old: &Service, new: &Service) -> Option<Changed> {
    let mut keys = source(&old.source, &new.source);
    keys.extend(differing!(old, new, Service {
        hosts: "hosts",
        paths: "paths",
        models: "models",
        strip_prefix: "strip_prefix",
        default: "default",
        size: "size",
        concurrency: "concurrency",
        timeout: "timeout",
        first_byte_timeout: "first_byte_timeout",
        stop_grace: "stop_grace",
        health: "health",
        queue: "queue",
        balance: "balance",
        replay: "replay",
        restart: "restart",
        jobs: "jobs",
        cache: "cache",
    } besides { name, source, protocol }));
    (!keys.is_empty()).then(|| Changed { name: new.name.to_string(), keys, rolls: rolls(old, new) })
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
        (Source::Image { spec: old }, Source::Image { spec: new }) => differing!(old, new, Spec {
            image: "image",
            build: "build",
            pull: "pull",
            command: "command",
            port: "port",
            env: "env",
            volumes: "volumes",
            memory: "memory",
            cpus: "cpus",
            gpus: "gpus",
            user: "user",
            network: "network",
            platform: "platform",
            address: "address",
        } besides {}),
        (Source::Addresses(old), Source::Addresses(new)) if old != new => vec!["addresses"],
        (Source::Addresses(_), Source::Addresses(_)) => Vec::new(),
        (Source::Image { .. }, Source::Addresses(_)) => vec!["addresses"],
        (Source::Addresses(_), Source::Image { .. }) => vec!["image"],
    }
}

pub(super) fn proxy(old: &ProxyConfig, new: &ProxyConfig) -> Vec<&'static str> {
    differing!(old, new, ProxyConfig {
        listen: "listen",
        tls: "tls",
        request_header_timeout: "request_header_timeout",
        idle_timeout: "idle_timeout",
        half_close: "half_close",
        drain: "drain",
        max_body: "max_body",
        memory_per_body: "memory_per_body",
        model_head: "model_head",
        forwarded: "forwarded",
        trace: "trace",
        limits: "limits",
        http2: "http2",
        api_keys: "api_keys_file",
        forward_api_key: "forward_api_key",
        trusted: "trusted",
    } besides {})
}

pub(super) fn admin(old: &AdminConfig, new: &AdminConfig) -> Vec<&'static str> {
    differing!(old, new, AdminConfig { listen: "listen", token_file: "token_file" } besides {})
}
