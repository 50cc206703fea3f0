//! The models that the configuration says services have: which service has which, and `GET /v1/models` over all of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::{Value, json};

use super::by_model::Unrouted;
use super::service::Service;
use super::space::Space;

/// Where clients of the OpenAI API ask for models; below it for one of them.
const PATH: &str = "/v1/models";

/// The models of all services.
pub struct Models {
    services: BTreeMap<String, Arc<Service>>,
    /// The list, as clients of the OpenAI API know it.
    list: Bytes,
    each: BTreeMap<String, Bytes>,
    unrouted: Unrouted,
}

impl Models {
    /// Those of these services, which their configuration has made unambiguous; nothing where no service has any.
    pub fn of(services: &[Arc<Service>]) -> Option<Self> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let named =
            || services.iter().flat_map(|one| one.config.models.iter().map(move |model| (one, model)));
        let first = named().next()?.0;
        let shown = |(service, model): (&Arc<Service>, &String)| json!({"id": model, "object": "model", "created": since, "owned_by": &*service.name});
        let line = |value: &Value| Bytes::from(format!("{value}\n"));
        let all: Vec<Value> = named().map(shown).collect();
        let candidates = || services.iter().filter(|one| one.config.default || !one.config.models.is_empty());
        let space = Space {
            memory_per_body: first.space.memory_per_body,
            max_body: first.space.max_body,
            max_total: candidates().map(|one| one.space.max_total).max()?,
            directory: first.space.directory.clone(),
            memory: first.space.memory.clone(),
            kept: Arc::new(AtomicU64::new(0)),
        };
        let unrouted = Unrouted {
            patience: candidates().map(|one| one.config.timeout).max().unwrap_or(Duration::MAX),
            space: Arc::new(space),
        };
        Some(Self {
            services: named().map(|(service, model)| (model.clone(), service.clone())).collect(),
            each: named().map(|one| (one.1.clone(), line(&shown(one)))).collect(),
            list: line(&json!({"object": "list", "data": all})),
            unrouted,
        })
    }

    /// The service that has a model.
    pub fn service(&self, name: &str) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    /// What a request of that path is answered, if it asks for all models or for one that there is.
    pub fn answer(&self, path: &str) -> Option<Bytes> {
        match path.strip_prefix(PATH)? {
            "" | "/" => Some(self.list.clone()),
            rest => self.each.get(&decoded(rest.strip_prefix('/')?)?).cloned(),
        }
    }

    /// What becomes of a request until its model is known.
    pub const fn unrouted(&self) -> &Unrouted {
        &self.unrouted
    }
}

/// A part of a path without its percent-encoding.
fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let byte = if *byte == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            rest = &after[2..];
            u8::from_str_radix(digits, 16).ok()?
        } else {
            *byte
        };
        out.push(byte);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn a_model_s_name_may_be_encoded() {
        for (text, name) in [
            ("tiny", Some("tiny")),
            ("org/tiny:8b", Some("org/tiny:8b")),
            ("org%2Ftiny%3a8b", Some("org/tiny:8b")),
            ("gr%C3%B6%C3%9Fe", Some("größe")),
            ("%ff", None),
            ("%2", None),
            ("%zz", None),
        ] {
            assert_eq!(decoded(text).as_deref(), name, "{text}");
        }
    }
}
