//! The kills: one random ready instance after another.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::cli::client::{Client, ClientError};

/// What was done to the instances.
#[derive(Debug, Default)]
pub(super) struct Kills {
    /// Instances that were killed.
    pub(super) done: u64,
    /// Times at which no instance was ready.
    pub(super) nobody_ready: u64,
    /// Why the last kill that failed did.
    pub(super) failed: Option<String>,
}

/// Kills until told to stop. A period of zero kills nothing.
pub(super) async fn run(
    client: Client,
    service: String,
    every: Duration,
    seed: u64,
    kills: Arc<Mutex<Kills>>,
    mut stopped: watch::Receiver<bool>,
) {
    if every.is_zero() {
        return;
    }
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            _ = ticks.tick() => {}
        }
        let result = kill_one(&client, &service, &mut chance).await;
        let mut kills = kills.lock();
        match result {
            Ok(true) => kills.done += 1,
            Ok(false) => kills.nobody_ready += 1,
            Err(error) => kills.failed = Some(error.to_string()),
        }
    }
}

/// Whether there was an instance to kill.
async fn kill_one(client: &Client, service: &str, chance: &mut fastrand::Rng) -> Result<bool, ClientError> {
    let view = client.service(service).await?;
    let ready: Vec<&str> = view
        .instances
        .iter()
        .filter(|instance| instance.state == "ready")
        .map(|instance| instance.id.as_str())
        .collect();
    let Some(victim) = chance.choice(ready) else { return Ok(false) };
    client.kill(service, victim).await?;
    Ok(true)
}
