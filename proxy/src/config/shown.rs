//! The settings of a service as they are in force, in the words of cluster.toml, defaults included.

use longshore_backend::{Gpus, Pull, Reach, Spec};
use longshore_pool::{BalancePolicy, QueueOrder, RestartPolicy};
use serde_json::{Value as Json, json};

use super::service::{Check, Health, ReplayMethods, RequestKey, Service, Source};
use crate::policies::text;

impl Service {
    /// As JSON. The values of `env` are left out: they are often secrets.
    pub fn shown(&self) -> Json {
        let mut shown = json!({
            "hosts": self.hosts,
            "paths": self.paths,
            "strip_prefix": self.strip_prefix,
            "default": self.default,
            "size": self.size.form(),
            "concurrency": self.concurrency,
            "timeout": text(self.timeout),
            "first_byte_timeout": self.first_byte_timeout.map(text),
            "stop_grace": text(self.stop_grace),
            "health": health(&self.health),
            "queue": {
                "order": order(self.queue.order),
                "fair_key": key(&self.queue.fair_key),
                "limit": self.queue.limit,
                "max_bytes": self.queue.max_bytes,
                "timeout": text(self.queue.timeout),
            },
            "balance": {
                "policy": balance(self.balance.policy),
                "hash_key": self.balance.hash_key.as_ref().map(key),
                "slow_start": text(self.balance.slow_start),
            },
            "replay": {
                "methods": methods(self.replay.methods),
                "attempts": self.replay.attempts,
                "hold": self.replay.hold,
                "busy": self.replay.busy,
            },
            "restart": {
                "policy": restart(self.restart.policy),
                "backoff": { "initial": text(self.restart.backoff_initial), "max": text(self.restart.backoff_max) },
            },
        });
        match &self.source {
            Source::Image { spec: of } => shown["instance"] = spec(of),
            Source::Addresses(addresses) => shown["addresses"] = json!(addresses),
        }
        shown
    }
}

fn spec(spec: &Spec) -> Json {
    json!({
        "image": spec.image,
        "build": spec.build,
        "pull": match spec.pull { Pull::Missing => "missing", Pull::Always => "always", Pull::Never => "never" },
        "command": spec.command,
        "port": spec.port,
        "env": spec.env.keys().collect::<Vec<_>>(),
        "volumes": spec.volumes,
        "memory": spec.memory,
        "cpus": spec.cpus,
        "gpus": spec.gpus.map(|gpus| match gpus {
            Gpus::All => json!("all"),
            Gpus::Count(count) => json!(count),
        }),
        "user": spec.user,
        "network": spec.network,
        "platform": spec.platform,
        "address": match spec.address {
            Reach::Published => "published",
            Reach::Container => "container",
            Reach::Host => "host",
        },
    })
}

fn health(health: &Health) -> Json {
    let mut shown = match &health.check {
        Check::Http { path, status, body } => {
            json!({ "path": path, "status": status, "body": body.as_ref().map(|body| body.as_str()) })
        }
        Check::Tcp => json!({ "tcp": true }),
        Check::Log(pattern) => json!({ "log": pattern.as_str() }),
    };
    shown["interval"] = text(health.interval).into();
    shown["timeout"] = text(health.timeout).into();
    shown["failures"] = health.failures.into();
    shown["start_timeout"] = text(health.start_timeout).into();
    shown
}

const fn order(order: QueueOrder) -> &'static str {
    match order {
        QueueOrder::Fifo => "fifo",
        QueueOrder::Random => "random",
        QueueOrder::Fair => "fair",
        QueueOrder::Priority { .. } => "priority",
    }
}

const fn balance(policy: BalancePolicy) -> &'static str {
    match policy {
        BalancePolicy::LeastBusy => "least-busy",
        BalancePolicy::RoundRobin => "round-robin",
        BalancePolicy::Random => "random",
        BalancePolicy::PeakEwma => "peak-ewma",
        BalancePolicy::Hash => "hash",
    }
}

const fn restart(policy: RestartPolicy) -> &'static str {
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
