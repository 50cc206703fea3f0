//! By which a service tells what happens in it.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use longshore_pool::{DeathCause, Decision};
use serde_json::{Map, json};

use super::{Events, Kind, News};
use crate::problem;

/// The events of one service.
#[derive(Clone, Debug)]
pub struct Feed {
    events: Arc<Events>,
    service: Arc<str>,
}

impl Feed {
    /// For the service of this name.
    pub fn new(events: Arc<Events>, service: Arc<str>) -> Self {
        Self { events, service }
    }

    /// Something happened to an instance that needs no words.
    pub fn instance(&self, kind: Kind, instance: impl ToString, text: &str) {
        self.publish(
            kind,
            News { instance: Some(instance.to_string()), text: text.to_owned(), ..News::default() },
        );
    }

    /// An instance takes requests, so long after it was started.
    pub fn ready(&self, instance: impl ToString, took: Duration) {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let text = format!("ready after {} s", took_ms as f64 / 1000.0);
        let details = Map::from_iter([("took_ms".to_owned(), json!(took_ms))]);
        self.publish(
            Kind::InstanceReady,
            News { instance: Some(instance.to_string()), text, details, ..News::default() },
        );
    }

    /// An instance has died.
    pub fn died(&self, instance: impl ToString, cause: &DeathCause, before_ready: bool) {
        let details = Map::from_iter([
            ("cause".to_owned(), json!(problem::death_label(cause))),
            ("before_ready".to_owned(), json!(before_ready)),
        ]);
        let text = problem::death(cause);
        self.publish(
            Kind::InstanceDied,
            News { instance: Some(instance.to_string()), text, details, ..News::default() },
        );
    }

    /// Another size is wanted.
    pub fn resized(&self, decision: &Decision) {
        let text = format!("{} -> {}: {}", decision.before, decision.size, decision.reason);
        let details = Map::from_iter([
            ("before".to_owned(), json!(decision.before)),
            ("size".to_owned(), json!(decision.size)),
            ("policy".to_owned(), json!(decision.policy)),
        ]);
        self.publish(Kind::SizeChanged, News { text, details, ..News::default() });
    }

    /// A request was lost with its instance, and goes back into the queue.
    pub fn replayed(&self, request_id: &HeaderValue, instance: &HeaderValue, how: &str) {
        self.request(Kind::RequestReplayed, request_id, Some(instance), how);
    }

    /// An answer was cut off, and its client sees it.
    pub fn cut(&self, request_id: &HeaderValue, instance: Option<&HeaderValue>, how: impl Into<String>) {
        self.request(Kind::StreamCut, request_id, instance, how);
    }

    /// Something happened to a request.
    pub fn request(
        &self,
        kind: Kind,
        request_id: &HeaderValue,
        instance: Option<&HeaderValue>,
        text: impl Into<String>,
    ) {
        let name = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let (request_id, instance) = (Some(name(request_id)), instance.map(name));
        self.publish(kind, News { instance, request_id, text: text.into(), ..News::default() });
    }

    fn publish(&self, kind: Kind, news: News) {
        self.events.publish(kind, Some(&self.service), news);
    }
}
