//! The admin API, seen from outside: its JSON, and nothing that the proxy's own code would know.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Client, Reply};
use crate::metrics::Metrics;
use crate::{PATIENCE, eventually};

/// A client of one admin API.
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

/// An instance as `GET /services/NAME` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// `calc-0-1`.
    pub id: String,
    /// `ready` and so on.
    pub state: String,
    /// Where it listens, if it does.
    pub address: Option<SocketAddr>,
    /// The whole of it.
    pub json: Value,
}

impl Admin {
    /// A client of the API at this address.
    pub fn new(address: SocketAddr) -> Self {
        Self { client: Client::new(address) }
    }

    /// Where it is, for `--admin`.
    pub fn url(&self) -> String {
        format!("http://{}", self.client.address())
    }

    /// For requests that the methods below do not make.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// `GET /services`: the services.
    pub async fn services(&self) -> Vec<Value> {
        let reply = self.client.get("/services").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["services"].as_array().cloned().expect("a list")
    }

    /// `GET /services/NAME`.
    pub async fn service(&self, name: &str) -> Value {
        let reply = self.client.get(&format!("/services/{name}")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    /// All instances of a service.
    pub async fn instances(&self, name: &str) -> Vec<Instance> {
        let service = self.service(name).await;
        let instances = service["instances"].as_array().cloned().expect("a list");
        instances.into_iter().map(Instance::from).collect()
    }

    /// Those that take requests.
    pub async fn ready(&self, name: &str) -> Vec<Instance> {
        let mut instances = self.instances(name).await;
        instances.retain(|instance| instance.state == "ready");
        instances
    }

    /// Waits until so many take requests, and no instance is in any other state.
    pub async fn has(&self, name: &str, count: usize) -> Vec<Instance> {
        eventually(PATIENCE, &format!("{name} has {count} ready instances and no other"), async || {
            let instances = self.instances(name).await;
            let ready = instances.iter().all(|instance| instance.state == "ready");
            (ready && instances.len() == count).then_some(instances)
        })
        .await
    }

    /// `PUT /services/NAME/size` with an integer.
    pub async fn set_size(&self, name: &str, size: u32) -> Reply {
        self.put_size(name, json!({ "size": size }).to_string()).await
    }

    /// The same with any body, and no `Content-Type`.
    pub async fn put_size(&self, name: &str, body: impl Into<bytes::Bytes>) -> Reply {
        let request = http::Request::put(format!("/services/{name}/size"));
        self.client.send(request, body.into()).await
    }

    /// `POST` without a body.
    pub async fn post(&self, path: &str) -> Reply {
        self.client.send(http::Request::post(path), bytes::Bytes::new()).await
    }

    /// `GET /metrics`.
    pub async fn metrics(&self) -> Metrics {
        let reply = self.client.get("/metrics").await;
        assert_eq!(reply.status, 200);
        Metrics::parse(&reply.text())
    }

    /// How many requests of a service wait.
    pub async fn queued(&self, name: &str) -> u64 {
        self.service(name).await["queue"]["depth"].as_u64().expect("a number")
    }

    /// How many requests of a service are being worked on.
    pub async fn in_flight(&self, name: &str) -> u64 {
        self.service(name).await["in_flight"].as_u64().expect("a number")
    }

    /// Waits until so many requests wait.
    pub async fn queues(&self, name: &str, count: u64) {
        let what = format!("{count} requests wait for {name}");
        eventually(PATIENCE, &what, async || (self.queued(name).await == count).then_some(())).await;
    }

    /// Waits until so many requests are being worked on.
    pub async fn works_on(&self, name: &str, count: u64) {
        let what = format!("{name} works on {count} requests");
        eventually(PATIENCE, &what, async || (self.in_flight(name).await == count).then_some(())).await;
    }

    /// Nothing was lost.
    pub async fn lost_nothing(&self, name: &str) {
        let lost = self.metrics().await.sum("longshore_requests_lost_total", &[("service", name)]);
        assert!(lost.abs() < 0.5, "the proxy counts {lost} lost requests of {name}");
    }

    /// Waits, for a short while, until a metric has this value: some are counted a moment after the answer.
    pub async fn counts(&self, metric: &str, labels: &[(&str, &str)], value: f64) {
        let begun = std::time::Instant::now();
        loop {
            let counted = self.metrics().await.sum(metric, labels);
            if (counted - value).abs() < 0.5 {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(5), "{metric}{labels:?} is {counted}, not {value}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl From<Value> for Instance {
    fn from(json: Value) -> Self {
        let text = |name: &str| json[name].as_str().map(str::to_owned);
        Self {
            id: text("id").expect("an id"),
            state: text("state").expect("a state"),
            address: text("address").and_then(|address| address.parse().ok()),
            json,
        }
    }
}
