//! Making an image be there: found, built or pulled, by one task an image at a time.

use std::collections::HashMap;
use std::sync::Arc;

use bollard::Docker;
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use super::call::{LIST, down, is_down, status, text, within};
use super::{build, pull};
use crate::{Progress, Pull, Spec, StartError};

/// The images that have been asked for, each with its lock.
#[derive(Default)]
pub(super) struct Images(Mutex<HashMap<String, Arc<AsyncMutex<Option<Made>>>>>);

/// The last time that an image was built or pulled.
struct Made {
    at: Instant,
    result: Result<(), StartError>,
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
        let lock = self.0.lock().entry(spec.image.clone()).or_default().clone();
        let mut last = lock.lock().await;
        if let Some(made) = last.as_ref().filter(|made| made.at >= asked) {
            return made.result.clone();
        }
        let missing = !is_present(docker, &spec.image).await?;
        let result = match (&spec.build, spec.pull) {
            (Some(folder), _) if missing || rebuild => build::build(docker, spec, folder, progress).await,
            (None, Pull::Always) => pull::pull(docker, spec, progress).await,
            (None, Pull::Missing) if missing => pull::pull(docker, spec, progress).await,
            (None, Pull::Never) if missing => return Err(never(&spec.image)),
            (Some(_), _) | (None, Pull::Missing | Pull::Never) => return Ok(()),
        };
        *last = Some(Made { at: Instant::now(), result: result.clone() });
        result
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
