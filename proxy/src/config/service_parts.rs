//! Reads what a service runs, and the tables below `[services.NAME]`.

use std::time::Duration;

use longshore_backend::{Gpus, Pull, Reach, Spec};
use longshore_pool::RestartPolicy;

use super::diagnostics::Diagnostic;
use super::reader::{Reader, Table};
use super::service::{Cache, Check, Health, Pattern, Replay, ReplayMethods, Restart, Service, Source};
use super::service_queue;
use super::value::Value;

/// The keys that say what an instance is made from.
pub(super) const SPEC_KEYS: &[&str] = &[
    "build", "command", "port", "env", "volumes", "memory", "cpus", "gpus", "user", "network", "platform",
    "pull", "address",
];

/// The smallest memory limit that Docker takes.
const LEAST_MEMORY: u64 = 6 << 20;

pub(super) fn read_spec(table: &mut Table<'_>, spec: &mut Spec) {
    let reader = table.reader;
    table.set_some("build", &mut spec.build, |value| value.string().map(|path| reader.path(&path)));
    table.set_some("command", &mut spec.command, command);
    table.set("port", &mut spec.port, |value| value.integer(1..=u16::MAX));
    table.below("env", |table| read_env(table, spec));
    table.set("volumes", &mut spec.volumes, |value| value.list("an array of strings", |one| volume(one)));
    table.set_some("memory", &mut spec.memory, memory);
    table.set_some("cpus", &mut spec.cpus, Value::positive_number);
    table.set_some("gpus", &mut spec.gpus, |value| gpus(value));
    table.set_some("user", &mut spec.user, |value| value.scalar());
    table.set_some("network", &mut spec.network, Value::string);
    table.set_some("platform", &mut spec.platform, Value::string);
    table.set("pull", &mut spec.pull, |value| {
        value.word(&[("missing", Pull::Missing), ("always", Pull::Always), ("never", Pull::Never)])
    });
    table.set("address", &mut spec.address, |value| {
        value.word(&[("published", Reach::Published), ("container", Reach::Container), ("host", Reach::Host)])
    });
}

fn command(value: &Value<'_>) -> Option<Vec<String>> {
    let words: Vec<String> =
        value.list("an array such as [\"server\", \"--flag\"]", |one| one.any_string("a string"))?;
    match words.first() {
        Some(program) if !program.is_empty() => Some(words),
        Some(_) => value.reject(format!("`{}` begins with an empty program", value.path())),
        // An element that is wrong has its own message.
        None if value.array("").is_some_and(|all| !all.is_empty()) => None,
        None => value.reject(format!("`{}` is empty", value.path())),
    }
}

fn read_env(table: &mut Table<'_>, spec: &mut Spec) {
    for value in table.drain() {
        let wrong = match value.name {
            "PORT" => Some("PORT is always the port that the server is to listen on: set `port`"),
            name if name.is_empty() || name.contains(['=', '\0']) => {
                Some("the name of a variable is not empty and has no `=`")
            }
            _ => None,
        };
        if let Some(message) = wrong {
            value.reader.report(Diagnostic::new(value.key.clone(), message));
        } else if let Some(text) = value.scalar() {
            spec.env.insert(value.name.to_owned(), text);
        }
    }
}

/// `host:container[:ro]`: a host path that is relative begins at the file's folder; a bare word is a named volume.
fn volume(value: &Value<'_>) -> Option<String> {
    let text = value.string()?;
    let shape = || Diagnostic::new(value.span.clone(), format!("{text:?} is not a volume"));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, mode) = match parts[..] {
        [host, container] => (host, container, None),
        [host, container, mode @ ("ro" | "rw")] => (host, container, Some(mode)),
        _ => {
            value.reader.report(shape().label("a volume is `host:container` or `host:container:ro`"));
            return None;
        }
    };
    if host.is_empty() || !container.starts_with('/') {
        value.reader.report(shape().label("the path in the container begins with `/`"));
        return None;
    }
    let host = host_path(value.reader, host);
    Some(match mode {
        Some(mode) => format!("{host}:{container}:{mode}"),
        None => format!("{host}:{container}"),
    })
}

fn host_path(reader: &Reader<'_>, host: &str) -> String {
    if let (Some(rest), Some(home)) = (host.strip_prefix("~/"), (reader.env)("HOME")) {
        return format!("{}/{rest}", home.trim_end_matches('/'));
    }
    let is_path = host.contains('/') || host.starts_with('.');
    if !is_path {
        return host.to_owned();
    }
    let joined = reader.path(host);
    // An engine takes absolute paths only; without a current folder the engine's own message must do.
    std::path::absolute(&joined).unwrap_or(joined).display().to_string()
}

fn memory(value: &Value<'_>) -> Option<u64> {
    let bytes = value.bytes()?;
    if bytes < LEAST_MEMORY {
        return value.reject(format!("`{}` must be 6MiB or more", value.path()));
    }
    Some(bytes)
}

/// `"all"`, `"2 each"`, or a number.
fn gpus(value: &Value<'_>) -> Option<Gpus> {
    if !value.is_string() {
        return value.integer(1..=1_024).map(Gpus::Count);
    }
    value.parsed(|text| {
        let count = text.strip_suffix("each").unwrap_or(text).trim();
        match (count, count.parse()) {
            ("all", _) => Ok(Gpus::All),
            (_, Ok(count @ 1..=1_024)) => Ok(Gpus::Count(count)),
            _ => Err("gpus are \"1 each\", \"2 each\" or \"all\"".into()),
        }
    })
}

/// The tables below `[services.NAME]`.
pub(super) fn read(table: &mut Table<'_>, service: &mut Service) {
    let started = match service.source {
        Source::Image { .. } => true,
        Source::Addresses(_) => false,
    };
    table.below("health", |table| read_health(table, &mut service.health, started));
    table.below("queue", |table| service_queue::read_queue(table, &mut service.queue));
    table.below("balance", |table| service_queue::read_balance(table, &mut service.balance));
    table.below("replay", |table| read_replay(table, &mut service.replay));
    table.below("restart", |table| read_restart(table, &mut service.restart, started));
    table.below("jobs", |table| super::jobs::read_service(table, &mut service.jobs));
    table.below("cache", |table| read_cache(table, &mut service.cache));
}

fn read_cache(table: &mut Table<'_>, out: &mut Cache) {
    table.set("ttl", &mut out.ttl, Value::duration);
    table.set("max_bytes", &mut out.max_bytes, Value::bytes);
    let max_entry = table.take("max_entry");
    match max_entry.as_ref().and_then(Value::bytes) {
        Some(bytes) => out.max_entry = bytes,
        None => out.max_entry = out.max_entry.min(out.max_bytes),
    }
    if let Some(value) = max_entry.filter(|_| out.max_entry > out.max_bytes) {
        let message =
            format!("`{}` is more than `max_bytes`, which is {} bytes", value.path(), out.max_bytes);
        value.reject::<()>(message);
    }
}

fn read_health(table: &mut Table<'_>, out: &mut Health, logs: bool) {
    read_check(table, out, logs);
    table.set("interval", &mut out.interval, Value::timeout);
    table.set("timeout", &mut out.timeout, Value::timeout);
    table.set("failures", &mut out.failures, |value| value.integer(1..=1_000));
    table.set("start_timeout", &mut out.start_timeout, Value::timeout);
}

/// One of `path`, `tcp` and `log`; `status` and `body` belong to `path`.
fn read_check(table: &mut Table<'_>, out: &mut Health, logs: bool) {
    let [path, tcp, log, status, body] = ["path", "tcp", "log", "status", "body"].map(|key| table.take(key));
    let tcp = tcp.filter(|value| value.boolean() == Some(true));
    let chosen: Vec<&Value<'_>> = [&path, &tcp, &log].into_iter().flatten().collect();
    if let [first, second, ..] = chosen[..] {
        let message = format!("a service has one health check, not `{}` and `{}`", first.name, second.name);
        table
            .reader
            .report(Diagnostic::new(second.key.clone(), message).also(first.key.clone(), "the first"));
        return;
    }
    if let Some(other) = tcp.as_ref().or(log.as_ref()) {
        for http in [&status, &body].into_iter().flatten() {
            let message =
                format!("`{}` is of an http check, and this service has `{}`", http.name, other.name);
            table.reader.report(Diagnostic::new(http.key.clone(), message));
        }
    }
    if let Some(value) = log {
        if !logs {
            value.reject::<()>("servers that already run have no log that Longshore could read");
        } else if let Some(pattern) = pattern(&value) {
            out.check = Check::Log(pattern);
        }
    } else if tcp.is_some() {
        out.check = Check::Tcp;
    } else {
        let path = path.as_ref().and_then(|value| value.parsed(probe_path));
        out.check = Check::Http {
            path: path.unwrap_or_else(|| "/".into()),
            status: status.as_ref().and_then(|value| value.integer(100..=599)),
            body: body.as_ref().and_then(pattern),
        };
    }
}

fn probe_path(text: &str) -> Result<String, String> {
    let right = text.starts_with('/') && text.parse::<http::Uri>().is_ok() && !text.contains('#');
    if right { Ok(text.to_owned()) } else { Err("a path begins with `/`, such as `/health`".into()) }
}

/// A regular expression; what is wrong with it in one line.
fn pattern(value: &Value<'_>) -> Option<Pattern> {
    value.parsed(|text| {
        Pattern::new(text).map_err(|error| {
            let error = error.to_string();
            error
                .lines()
                .last()
                .unwrap_or("not a regular expression")
                .trim_start_matches("error: ")
                .to_owned()
        })
    })
}

fn read_replay(table: &mut Table<'_>, out: &mut Replay) {
    table.set("methods", &mut out.methods, |value| {
        value.word(&[
            ("all", ReplayMethods::All),
            ("idempotent", ReplayMethods::Idempotent),
            ("none", ReplayMethods::None),
        ])
    });
    table.set("attempts", &mut out.attempts, |value| value.integer(1..=1_000));
    table.set("hold", &mut out.hold, Value::bytes);
    read_resume(table, out);
    table.set("busy", &mut out.busy, |value| {
        value.list("an array of statuses such as [429, 503]", |one| one.integer(400..=599))
    });
}

/// `resume` and `resume_keep`, which want requests that may be sent again.
fn read_resume(table: &mut Table<'_>, out: &mut Replay) {
    let resume = table.take("resume");
    out.resume = resume.as_ref().and_then(Value::boolean).unwrap_or(out.resume);
    if let Some(value) = resume.filter(|_| out.resume && out.methods == ReplayMethods::None) {
        value.reject::<()>("`resume` sends a request again, and `methods = \"none\"` forbids that");
    }
    table.set("resume_keep", &mut out.resume_keep, Value::bytes);
}

fn read_restart(table: &mut Table<'_>, out: &mut Restart, started: bool) {
    table.set("policy", &mut out.policy, |value| {
        let policy = value.word(&[
            ("always", RestartPolicy::Always),
            ("on-failure", RestartPolicy::OnFailure),
            ("never", RestartPolicy::Never),
            ("stop-service", RestartPolicy::StopService),
        ])?;
        if !started && policy != RestartPolicy::Always {
            return value
                .reject("servers that already run are not Longshore's to start, or to leave stopped");
        }
        Some(policy)
    });
    table.below("backoff", |table| {
        table.set("initial", &mut out.backoff_initial, Value::timeout);
        let max = table.take("max");
        // A maximum that nobody wrote gives way to a larger beginning.
        out.backoff_max = match max.as_ref().map(Value::timeout) {
            Some(max) => max.unwrap_or(Duration::MAX),
            None => out.backoff_max.max(out.backoff_initial),
        };
        if let Some(value) = max.filter(|_| out.backoff_max < out.backoff_initial) {
            value.reject::<()>(format!("`{}` is below `initial`", value.path()));
        }
    });
}
