//! Making an image be there: found, built or pulled, by one task an image at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use super::call::{LIST, down, is_down, status, text, within};
use super::{build, pull};
use crate::{Progress, Pull, Spec, StartError};

/// How long a failure to make an image counts for starts that miss it; twice as long after each, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// The longest that it counts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The images that have been asked for, each with its lock.
#[derive(Default)]
pub(super) struct Images(Mutex<HashMap<String, Arc<AsyncMutex<Option<Made>>>>>);

/// The last time that an image was built or pulled.
struct Made {
    at: Instant,
    result: Result<(), StartError>,
    /// How long a start takes a failure for an answer.
    pause: Duration,
}

impl Made {
    fn now(result: Result<(), StartError>, before: Option<&Self>) -> Self {
        let pause = match before {
            Some(before) if before.result.is_err() => (before.pause * 2).min(LONGEST_PAUSE),
            Some(_) | None => FIRST_PAUSE,
        };
        Self { at: Instant::now(), result, pause }
    }

    /// Why it was not made, while that need not be tried again.
    fn failure(&self) -> Option<&StartError> {
        match &self.result {
            Ok(()) | Err(StartError::EngineDown(_)) => None,
            Err(error) => Some(error).filter(|_| self.at.elapsed() < self.pause),
        }
    }
}

impl Images {
    /// Makes sure that the image is there:
    ///
    /// 1. With a `build` folder: built if it is missing or `rebuild` is asked for.
    /// 2. Without: pulled if it is missing, or always, as `pull` says; never pulled and missing is an error.
    /// 3. Whoever has waited while another task built or pulled the same image shares its result.
    pub(super) async fn prepare(
        &self,
        docker: &Docker,
        spec: &Spec,
        rebuild: bool,
        progress: &dyn Progress,
    ) -> Result<(), StartError> {
        let asked = Instant::now();
        let lock = self.lock(spec);
        let mut last = lock.lock().await;
        if let Some(made) = last.as_ref().filter(|made| made.at >= asked) {
            return made.result.clone();
        }
        make(docker, spec, rebuild, progress, &mut last).await
    }

    /// Makes an image that a start has missed, by the same rules, unless that has failed just now. One that somebody has
    /// brought meanwhile is found.
    pub(super) async fn restore(&self, docker: &Docker, spec: &Spec) -> Result<(), StartError> {
        let lock = self.lock(spec);
        let mut last = lock.lock().await;
        if let Some(error) = last.as_ref().and_then(Made::failure) {
            return Err(error.clone());
        }
        make(docker, spec, false, &Logged, &mut last).await
    }

    fn lock(&self, spec: &Spec) -> Arc<AsyncMutex<Option<Made>>> {
        self.0.lock().entry(spec.image.clone()).or_default().clone()
    }
}

async fn make(
    docker: &Docker,
    spec: &Spec,
    rebuild: bool,
    progress: &dyn Progress,
    last: &mut Option<Made>,
) -> Result<(), StartError> {
    let missing = !is_present(docker, &spec.image).await?;
    let result = match (&spec.build, spec.pull) {
        (Some(folder), _) if missing || rebuild => build::build(docker, spec, folder, progress).await,
        (None, Pull::Always) => pull::pull(docker, spec, progress).await,
        (None, Pull::Missing) if missing => pull::pull(docker, spec, progress).await,
        (None, Pull::Never) if missing => return Err(never(&spec.image)),
        (Some(_), _) | (None, Pull::Missing | Pull::Never) => return Ok(()),
    };
    *last = Some(Made::now(result.clone(), last.as_ref()));
    result
}

/// What goes on while nobody looks on.
struct Logged;

impl Progress for Logged {
    fn step(&self, what: &str, status: &str, done: u64, total: u64) {
        tracing::debug!(image = what, status, done, total, "making a missing image");
    }
}

async fn is_present(docker: &Docker, image: &str) -> Result<bool, StartError> {
    match within(LIST, docker.inspect_image(image)).await {
        Ok(_) => Ok(true),
        Err(error) if status(&error) == Some(404) => Ok(false),
        Err(error) if is_down(&error) => Err(down(&error)),
        // 400: no valid reference.
        Err(error) => Err(StartError::Futile(format!("image {image} cannot be used: {}", text(&error)))),
    }
}

fn never(image: &str) -> StartError {
    StartError::Futile(format!(
        "image {image} is not on this engine, and `pull = \"never\"` forbids to fetch it; {}",
        pull::ADVICE
    ))
}
