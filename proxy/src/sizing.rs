//! The size in force of one service: what the file says, or what was asked for since; and the asking of webhooks.

use std::sync::Arc;

use longshore_pool::{Load, ScalingPolicy};
use parking_lot::Mutex;
use serde_json::Value as Json;
use tokio::task::AbortHandle;

use crate::config::{self, ServiceSize, SizeError, Source, size_instead_of};
use crate::gateway::lease::Dispatcher;
use crate::policies::{Policy, Webhook, Zone, webhook};

/// What decides the size of a service now.
pub struct Sizing {
    dispatcher: Arc<Dispatcher>,
    present: Mutex<Present>,
}

struct Present {
    // What the file says.
    config: config::Service,
    size: Arc<ServiceSize>,
    // Ends when another size is set: its advice is for the old one.
    asking: Option<AbortHandle>,
}

impl Sizing {
    /// The size of the file, which the pool already has.
    pub fn new(config: config::Service, dispatcher: Arc<Dispatcher>) -> Self {
        let size = Arc::new(config.size.clone());
        Self { dispatcher, present: Mutex::new(Present { config, size, asking: None }) }
    }

    /// The one in force.
    pub fn present(&self) -> Arc<ServiceSize> {
        self.present.lock().size.clone()
    }

    /// Whether it is another than the file's.
    pub fn overridden(&self) -> bool {
        let present = self.present.lock();
        *present.size != present.config.size
    }

    /// Begins to ask, if the size is a webhook's. Within a runtime.
    pub fn begin(&self) {
        let mut present = self.present.lock();
        present.asking = self.ask(&present.config.name, &present.size);
    }

    /// Asks nobody any more: the service is gone.
    pub fn end(&self) {
        self.present.lock().silence();
    }

    /// Puts another size in force. Within a runtime.
    pub fn set(&self, size: ServiceSize) {
        let mut present = self.present.lock();
        let config = size.within(present.config.pool_config());
        self.dispatcher.resize(Arc::new(config), size.make());
        self.install(&mut present, size);
    }

    /// Puts a policy in charge that no file can name, with the bounds and standby of the file. Within a runtime.
    pub fn govern(&self, policy: Box<dyn ScalingPolicy>) {
        let mut present = self.present.lock();
        present.silence();
        self.dispatcher.resize(Arc::new(present.config.pool_config()), policy);
    }

    /// The file's again.
    pub fn reset(&self) {
        let size = self.present.lock().config.size.clone();
        self.set(size);
    }

    /// Puts another configuration of the service in force, of which the instances that run are outdated if they are to
    /// `roll`. The size goes by the file only if the file's has changed: one that was set at run time stays otherwise.
    /// Within a runtime.
    pub fn configure(&self, config: config::Service, roll: bool) {
        let mut present = self.present.lock();
        let resized = present.config.size != config.size;
        present.config = config;
        let size = if resized { present.config.size.clone() } else { (*present.size).clone() };
        let pool = size.within(present.config.pool_config());
        self.dispatcher.reconfigure(Arc::new(pool), roll, resized.then(|| size.make()));
        if resized {
            self.install(&mut present, size);
        }
    }

    fn install(&self, present: &mut Present, size: ServiceSize) {
        present.silence();
        present.size = Arc::new(size);
        present.asking = self.ask(&present.config.name, &present.size);
    }

    fn ask(&self, name: &Arc<str>, size: &ServiceSize) -> Option<AbortHandle> {
        let Policy::Webhook(webhook) = &size.policy else { return None };
        let name = name.clone();
        let observe = move |load: &Load| webhook::observation(&name, load, &Zone::local());
        Some(
            tokio::spawn(ask_on(self.dispatcher.clone(), webhook.clone(), size.interval, observe))
                .abort_handle(),
        )
    }

    /// The size that somebody asks for at run time, with the file's bounds and standby where it names none.
    pub fn understand(&self, asked: &Json) -> Result<ServiceSize, SizeError> {
        let whole = |message: String| SizeError { pointer: String::new(), message };
        let (name, own, one) = {
            let config = &self.present.lock().config;
            if let Source::Addresses(_) = config.source {
                return Err(whole(format!(
                    "{} has fixed addresses, which are not started or stopped: its size is theirs",
                    config.name
                )));
            }
            (config.name.clone(), config.size.clone(), config.on_the_host())
        };
        let size = size_instead_of(&own, asked)?;
        if one && (size.max > 1 || size.standby > 0) {
            return Err(whole(format!(
                "{name} has `address = \"host\"`: a second instance would want the port of the first, so its size is 1 at \
                 the most"
            )));
        }
        match size.number() {
            Some(number) if !asked.is_object() && !(own.min..=own.max).contains(&number) => {
                Err(whole(format!("size must be from {} to {} for {name}, got {number}", own.min, own.max)))
            }
            Some(_) | None => Ok(size),
        }
    }
}

impl Present {
    fn silence(&mut self) {
        if let Some(asking) = self.asking.take() {
            asking.abort();
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
