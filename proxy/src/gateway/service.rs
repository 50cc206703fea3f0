//! One service as the gateway sees it: its settings, its pool, its metrics. Shared by every request to it.
//!
//! A [`Service`] never changes. Another configuration makes the next generation of it, around the same pool, and the
//! routes lead there from then on; a request goes on with the generation that it began with.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use longshore_pool::StateView;

use super::cache::Cache;
use super::lease::Dispatcher;
use super::space::{BodyMemory, Space};
use crate::clock::Clock;
use crate::config;
use crate::events::Feed;
use crate::metrics::{PoolGauges, ServiceMetrics};
use crate::sizing::Sizing;

/// Everything that a request to one service needs.
pub struct Service {
    /// Its name.
    pub name: Arc<str>,
    /// What the file says of it.
    pub config: config::Service,
    /// Its pool.
    pub dispatcher: Arc<Dispatcher>,
    /// What decides its size.
    pub sizing: Arc<Sizing>,
    /// Its metrics.
    pub metrics: Arc<ServiceMetrics>,
    /// Where it tells what happens.
    pub events: Feed,
    /// The time.
    pub clock: Clock,
    /// Where its bodies are kept.
    pub space: Arc<Space>,
    /// Its answers that are shared, if they are.
    pub cache: Option<Arc<Cache>>,
}

/// Where a service tells what happens: in numbers, and in words.
pub struct Told {
    /// Numbers.
    pub metrics: Arc<ServiceMetrics>,
    /// Words.
    pub events: Feed,
}

impl Service {
    /// Puts the parts together.
    pub fn new(
        config: config::Service,
        proxy: &config::ProxyConfig,
        dispatcher: Arc<Dispatcher>,
        told: Told,
        clock: Clock,
        memory: BodyMemory,
    ) -> Arc<Self> {
        let Told { metrics, events } = told;
        let sizing = Arc::new(Sizing::new(config.clone(), dispatcher.clone()));
        let space = Arc::new(space(&config, proxy, memory, Arc::new(AtomicU64::new(0))));
        let name = config.name.clone();
        let cache = Cache::new(&config.cache);
        if cache.is_some() {
            metrics.begin_cache();
        }
        Arc::new(Self { name, sizing, config, dispatcher, metrics, events, clock, space, cache })
    }

    /// The same service under another configuration, which its pool and its size are not told of here.
    pub fn next(&self, config: config::Service, proxy: &config::ProxyConfig) -> Arc<Self> {
        let space = space(&config, proxy, self.space.memory.clone(), self.space.kept.clone());
        Arc::new(Self {
            name: self.name.clone(),
            sizing: self.sizing.clone(),
            dispatcher: self.dispatcher.clone(),
            metrics: self.metrics.clone(),
            events: self.events.clone(),
            clock: self.clock,
            space: Arc::new(space),
            // What answers were made by may be another thing now.
            cache: Cache::new(&config.cache),
            config,
        })
    }

    /// Requests that wait or are at work.
    pub fn open_requests(&self) -> usize {
        let snapshot = self.dispatcher.snapshot();
        snapshot.waiting + snapshot.in_flight
    }

    /// What a scrape shows of it.
    pub fn gauges(&self) -> PoolGauges {
        let snapshot = self.dispatcher.snapshot();
        let count =
            |state| snapshot.instances.iter().filter(|instance| instance.state == state).count() as i64;
        PoolGauges {
            waiting: snapshot.waiting,
            queue_bytes: self.space.kept(),
            cache_bytes: self.cache.as_ref().map(|cache| cache.bytes()),
            in_flight: snapshot.in_flight,
            instances: StateView::ALL.into_iter().map(|state| (state.name(), count(state))).collect(),
            wanted: snapshot.wanted,
            min: snapshot.bounds.0,
            max: snapshot.bounds.1,
            decisions: self.dispatcher.decision_tally(),
        }
    }
}

fn space(
    config: &config::Service,
    proxy: &config::ProxyConfig,
    memory: BodyMemory,
    kept: Arc<AtomicU64>,
) -> Space {
    Space {
        memory_per_body: proxy.memory_per_body,
        max_body: proxy.max_body,
        max_total: config.queue.max_bytes,
        directory: std::env::temp_dir(),
        memory,
        kept,
    }
}
