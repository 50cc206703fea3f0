//! The size in force of one service: what the file says, or what was asked for since; and the asking of webhooks.

use std::sync::Arc;

use longshore_pool::Load;
use parking_lot::Mutex;
use serde_json::Value as Json;
use tokio::task::AbortHandle;

use crate::config::{self, MAX_SIZE, ServiceSize, SizeError, Source, parse_size};
use crate::gateway::lease::Dispatcher;
use crate::policies::{Policy, Webhook, Zone, webhook};

/// What decides the size of a service now.
pub struct Sizing {
    config: config::Service,
    dispatcher: Arc<Dispatcher>,
    present: Mutex<Present>,
}

struct Present {
    size: Arc<ServiceSize>,
    // Ends when another size is set: its advice is for the old one.
    asking: Option<AbortHandle>,
}

impl Sizing {
    /// The size of the file, which the pool already has.
    pub fn new(config: config::Service, dispatcher: Arc<Dispatcher>) -> Self {
        let size = Arc::new(config.size.clone());
        Self { config, dispatcher, present: Mutex::new(Present { size, asking: None }) }
    }

    /// The one in force.
    pub fn present(&self) -> Arc<ServiceSize> {
        self.present.lock().size.clone()
    }

    /// Whether it is another than the file's.
    pub fn overridden(&self) -> bool {
        *self.present() != self.config.size
    }

    /// Begins to ask, if the size is a webhook's. Within a runtime.
    pub fn begin(&self) {
        let mut present = self.present.lock();
        present.asking = self.ask(&present.size);
    }

    /// Puts another size in force. Within a runtime.
    pub fn set(&self, size: ServiceSize) {
        let mut present = self.present.lock();
        if let Some(asking) = present.asking.take() {
            asking.abort();
        }
        let config = size.within(self.config.pool_config());
        self.dispatcher.resize(Arc::new(config), size.make());
        present.size = Arc::new(size);
        present.asking = self.ask(&present.size);
    }

    /// The file's again.
    pub fn reset(&self) {
        self.set(self.config.size.clone());
    }

    fn ask(&self, size: &ServiceSize) -> Option<AbortHandle> {
        let Policy::Webhook(webhook) = &size.policy else { return None };
        let name = self.config.name.clone();
        let observe = move |load: &Load| webhook::observation(&name, load, &Zone::local());
        Some(
            tokio::spawn(ask_on(self.dispatcher.clone(), webhook.clone(), size.interval, observe))
                .abort_handle(),
        )
    }

    /// The size that somebody asks for at run time, with the file's bounds and standby where it names none.
    pub fn understand(&self, asked: &Json) -> Result<ServiceSize, SizeError> {
        let whole = |message: String| SizeError { pointer: String::new(), message };
        if let Source::Addresses(_) = self.config.source {
            return Err(whole(format!(
                "{} has fixed addresses, which are not started or stopped: its size is theirs",
                self.config.name
            )));
        }
        let ServiceSize { min, max, standby, .. } = self.config.size;
        let mut asked = asked.clone();
        if let Json::Object(map) = &mut asked
            && (min, max) != (0, MAX_SIZE)
        {
            map.entry("min").or_insert_with(|| min.into());
            map.entry("max").or_insert_with(|| max.into());
        }
        if let Json::Object(map) = &mut asked
            && standby > 0
        {
            map.entry("standby").or_insert_with(|| standby.into());
        }
        let size = parse_size(&asked)?;
        if asked.is_object() {
            return Ok(size);
        }
        match size.number() {
            Some(number) if !(min..=max).contains(&number) => {
                Err(whole(format!("size must be from {min} to {max} for {}, got {number}", self.config.name)))
            }
            Some(_) | None => Ok(ServiceSize { min, max, standby, ..size }),
        }
    }
}

/// Asks a webhook for as long as it is in charge.
async fn ask_on(
    dispatcher: Arc<Dispatcher>,
    webhook: Webhook,
    interval: std::time::Duration,
    observe: impl Fn(&Load) -> Json,
) {
    loop {
        let advice = webhook.ask(&observe(&dispatcher.load())).await;
        dispatcher.advise(advice);
        tokio::time::sleep(interval).await;
    }
}
