//! The settings of a service as they are in force, in the words of cluster.toml, defaults included.

use longshore_backend::{Gpus, Pull, Reach, Spec};
use longshore_pool::{BalancePolicy, QueueOrder, RestartPolicy};
use serde_json::{Value as Json, json};

use super::jobs::{Credentials, JobsMode, ServiceJobs};
use super::service::{
    Balance, Cache, Check, Health, Protocol, Queue, Replay, ReplayMethods, RequestKey, Restart, Service,
    Source,
};
use crate::policies::text;

impl Service {
    /// As JSON. The values of `env` are left out: they are often secrets. A key that is added to the configuration does not
    /// compile until it is shown here, or said not to be.
    pub fn shown(&self) -> Json {
        let Self {
            name: _,
            source,
            hosts,
            paths,
            strip_prefix,
            default,
            protocol,
            models,
            size,
            concurrency,
            timeout,
            first_byte_timeout,
            stop_grace,
            health: of_health,
            queue: of_queue,
            balance: of_balance,
            replay: of_replay,
            restart: of_restart,
            jobs: of_jobs,
            cache: of_cache,
        } = self;
        let mut shown = json!({
            "hosts": hosts,
            "paths": paths,
            "strip_prefix": strip_prefix,
            "default": default,
            "protocol": match protocol { Protocol::H1 => "h1", Protocol::H2c => "h2c" },
            "models": models,
            "size": size.form(),
            "concurrency": concurrency,
            "timeout": text(*timeout),
            "first_byte_timeout": first_byte_timeout.map(text),
            "stop_grace": text(*stop_grace),
            "health": health(of_health),
            "queue": queue(of_queue),
            "balance": balance(of_balance),
            "replay": replay(of_replay),
            "restart": restart(*of_restart),
            "jobs": jobs(*of_jobs),
            "cache": cache(*of_cache),
        });
        match source {
            Source::Image { spec: of } => shown["instance"] = spec(of),
            Source::Addresses(addresses) => shown["addresses"] = json!(addresses),
        }
        shown
    }
}

fn spec(spec: &Spec) -> Json {
    let Spec {
        image,
        build,
        pull,
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
    json!({
        "image": image,
        "build": build,
        "pull": match pull { Pull::Missing => "missing", Pull::Always => "always", Pull::Never => "never" },
        "command": command,
        "port": port,
        "env": env.keys().collect::<Vec<_>>(),
        "volumes": volumes,
        "memory": memory,
        "cpus": cpus,
        "gpus": gpus.map(|gpus| match gpus {
            Gpus::All => json!("all"),
            Gpus::Count(count) => json!(count),
        }),
        "user": user,
        "network": network,
        "platform": platform,
        "address": match address {
            Reach::Published => "published",
            Reach::Container => "container",
            Reach::Host => "host",
        },
    })
}

fn health(health: &Health) -> Json {
    let Health { check, interval, timeout, failures, start_timeout } = health;
    let mut shown = match check {
        Check::Http { path, status, body } => {
            json!({ "path": path, "status": status, "body": body.as_ref().map(|body| body.as_str()) })
        }
        Check::Tcp => json!({ "tcp": true }),
        Check::Log(pattern) => json!({ "log": pattern.as_str() }),
    };
    shown["interval"] = text(*interval).into();
    shown["timeout"] = text(*timeout).into();
    shown["failures"] = (*failures).into();
    shown["start_timeout"] = text(*start_timeout).into();
    shown
}

fn queue(queue: &Queue) -> Json {
    let Queue { order: by, fair_key, limit, max_bytes, timeout } = queue;
    let ageing = match by {
        QueueOrder::Priority { ageing } => Some(text(*ageing)),
        QueueOrder::Fifo | QueueOrder::Random | QueueOrder::Fair => None,
    };
    json!({
        "order": order(*by),
        "ageing": ageing,
        "fair_key": key(fair_key),
        "limit": limit,
        "max_bytes": max_bytes,
        "timeout": text(*timeout),
    })
}

fn balance(balance: &Balance) -> Json {
    let Balance { policy, hash_key, slow_start } = balance;
    json!({
        "policy": balancing(*policy),
        "hash_key": hash_key.as_ref().map(key),
        "slow_start": text(*slow_start),
    })
}

fn replay(replay: &Replay) -> Json {
    let Replay { methods: which, attempts, hold, resume, resume_keep, busy } = replay;
    json!({
        "methods": methods(*which),
        "attempts": attempts,
        "hold": hold,
        "resume": resume,
        "resume_keep": resume_keep,
        "busy": busy,
    })
}

fn restart(restart: Restart) -> Json {
    let Restart { policy, backoff_initial, backoff_max } = restart;
    json!({
        "policy": restarting(policy),
        "backoff": { "initial": text(backoff_initial), "max": text(backoff_max) },
    })
}

fn jobs(jobs: ServiceJobs) -> Json {
    let ServiceJobs { mode, input_ttl, result_ttl, credentials } = jobs;
    let mode = match mode {
        JobsMode::Off => "off",
        JobsMode::Prefer => "prefer",
        JobsMode::Always => "always",
        JobsMode::Poll => "poll",
    };
    let credentials = match credentials {
        Credentials::Keep => "keep",
        Credentials::Drop => "drop",
    };
    json!({
        "mode": mode,
        "input_ttl": text(input_ttl),
        "result_ttl": text(result_ttl),
        "credentials": credentials,
    })
}

fn cache(cache: Cache) -> Json {
    let Cache { ttl, max_bytes, max_entry } = cache;
    json!({ "ttl": text(ttl), "max_bytes": max_bytes, "max_entry": max_entry })
}

const fn order(order: QueueOrder) -> &'static str {
    match order {
        QueueOrder::Fifo => "fifo",
        QueueOrder::Random => "random",
        QueueOrder::Fair => "fair",
        QueueOrder::Priority { .. } => "priority",
    }
}

const fn balancing(policy: BalancePolicy) -> &'static str {
    match policy {
        BalancePolicy::LeastBusy => "least-busy",
        BalancePolicy::RoundRobin => "round-robin",
        BalancePolicy::Random => "random",
        BalancePolicy::PeakEwma => "peak-ewma",
        BalancePolicy::Hash => "hash",
    }
}

const fn restarting(policy: RestartPolicy) -> &'static str {
    match policy {
        RestartPolicy::Always => "always",
        RestartPolicy::OnFailure => "on-failure",
        RestartPolicy::Never => "never",
        RestartPolicy::StopService => "stop-service",
    }
}

const fn methods(methods: ReplayMethods) -> &'static str {
    match methods {
        ReplayMethods::All => "all",
        ReplayMethods::Idempotent => "idempotent",
        ReplayMethods::None => "none",
    }
}

fn key(key: &RequestKey) -> String {
    match key {
        RequestKey::Ip => "ip".to_owned(),
        RequestKey::ApiKey => "api-key".to_owned(),
        RequestKey::Header(name) => format!("header:{name}"),
        RequestKey::Cookie(name) => format!("cookie:{name}"),
        RequestKey::Path => "path".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    /// Written as a file has it, shown as it was written.
    #[test]
    fn what_is_shown_is_what_the_file_says() {
        let tables = "models = [\"m\"]\nprotocol = \"h2c\"\n\
                      queue = { order = \"priority\", ageing = \"7s\" }\n\
                      replay = { resume = true, resume_keep = \"2KiB\" }\n\
                      jobs = { mode = \"always\", result_ttl = \"2h\" }\n\
                      cache = { ttl = \"3s\", max_entry = \"4KiB\" }\n";
        let text = format!("[services.calc]\nimage = \"x\"\nenv = {{ KEY = \"secret\" }}\n{tables}");
        let config = Config::parse(&text, "cluster.toml", &|_| None).unwrap();
        let shown = config.services[0].shown();
        for (pointer, value) in [
            ("/models/0", "m"),
            ("/protocol", "h2c"),
            ("/queue/ageing", "7s"),
            ("/jobs/mode", "always"),
            ("/jobs/result_ttl", "2h"),
            ("/cache/ttl", "3s"),
            ("/instance/env/0", "KEY"),
        ] {
            assert_eq!(
                shown.pointer(pointer).and_then(|value| value.as_str()),
                Some(value),
                "{pointer}: {shown}"
            );
        }
        for (pointer, value) in [("/replay/resume_keep", 2048), ("/cache/max_entry", 4096)] {
            assert_eq!(
                shown.pointer(pointer).and_then(|value| value.as_u64()),
                Some(value),
                "{pointer}: {shown}"
            );
        }
        assert_eq!(shown["replay"]["resume"], true);
        assert!(!shown.to_string().contains("secret"));
    }
}
