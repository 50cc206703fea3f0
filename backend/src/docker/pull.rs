//! Pulling an image, with its layers' bytes summed up.

use std::collections::HashMap;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::{Stream, StreamExt as _};

use super::call::{LOOK, down, is_down, status, text, within};
use crate::{Progress, Spec, StartError};

/// What to do about an image that is not there.
pub(super) const ADVICE: &str = "build it with `docker build` or set `build = \"FOLDER\"`";

/// A stream that is silent for so long is asked whether its engine is still there: it has no keepalive of its own.
const SILENCE: Duration = Duration::from_secs(20);

/// Pulls the image that the specification names.
pub(super) async fn pull(docker: &Docker, spec: &Spec, progress: &dyn Progress) -> Result<(), StartError> {
    let image = &spec.image;
    let (name, tag) = split(image);
    let options = CreateImageOptionsBuilder::new().from_image(name);
    let options = tag.iter().fold(options, |options, tag| options.tag(tag));
    let options = spec.platform.iter().fold(options, |options, platform| options.platform(platform)).build();
    progress.step(image, "pulling", 0, 0);
    let mut layers = Layers::default();
    let mut stream = std::pin::pin!(docker.create_image(Some(options), None, None));
    loop {
        match next(docker, &mut stream).await {
            Some(Ok(info)) => {
                let (done, total) = layers.add(&info);
                progress.step(image, "pulling", done, total);
            }
            Some(Err(error)) => return Err(failed(image, &error)),
            None => return Ok(()),
        }
    }
}

/// The stream's next item; an error instead when it is silent because the engine is gone.
pub(super) async fn next<T>(
    docker: &Docker,
    stream: &mut (impl Stream<Item = Result<T, Error>> + Unpin),
) -> Option<Result<T, Error>> {
    loop {
        if let Ok(item) = tokio::time::timeout(SILENCE, stream.next()).await {
            return item;
        }
        if let Err(error) = within(LOOK, docker.ping()).await {
            return Some(Err(error));
        }
    }
}

/// A name without tag or digest means `latest` to people, and every tag to the engine.
fn split(image: &str) -> (&str, Option<&str>) {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { (image, None) } else { (image, Some("latest")) }
}

/// Bytes fetched and to fetch, a layer.
#[derive(Default)]
struct Layers(HashMap<String, (u64, u64)>);

impl Layers {
    /// Takes one line of the engine's report in, and gives the sums over all layers.
    fn add(&mut self, info: &CreateImageInfo) -> (u64, u64) {
        if let Some(id) = &info.id {
            let (current, total) = info
                .progress_detail
                .as_ref()
                .map_or((0, 0), |detail| (bytes(detail.current), bytes(detail.total)));
            match info.status.as_deref() {
                Some("Downloading") if total > 0 => drop(self.0.insert(id.clone(), (current, total))),
                Some("Download complete" | "Pull complete") => {
                    self.0.entry(id.clone()).and_modify(|(done, total)| *done = *total);
                }
                Some(_) | None => {}
            }
        }
        self.0.values().fold((0, 0), |(done, all), (current, total)| (done + current, all + total))
    }
}

fn bytes(count: Option<i64>) -> u64 {
    count.and_then(|count| count.try_into().ok()).unwrap_or_default()
}

/// Why it could not be pulled:
///
/// 1. no answer: the engine is down;
/// 2. the registry is there but slow, overloaded or cut off: may succeed next time;
/// 3. anything else (no such image, no access, no such host): futile.
fn failed(image: &str, error: &Error) -> StartError {
    if is_down(error) {
        return down(error);
    }
    let text = text(error);
    let full = format!("image {image} is not on this engine and cannot be pulled: {text}; {ADVICE}");
    let passing =
        ["timeout", "connection reset", "EOF", "toomanyrequests", "Service Unavailable", "Bad Gateway"];
    if status(error) != Some(404) && passing.iter().any(|sign| text.contains(sign)) {
        StartError::Failed(full)
    } else {
        StartError::Futile(full)
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    #[test]
    fn a_name_without_tag_means_latest() {
        assert_eq!(split("calc"), ("calc", Some("latest")));
        assert_eq!(split("registry:5000/calc"), ("registry:5000/calc", Some("latest")));
        assert_eq!(split("registry:5000/calc:2"), ("registry:5000/calc:2", None));
        assert_eq!(split("calc@sha256:00"), ("calc@sha256:00", None));
    }

    fn line(id: &str, status: &str, current: i64, total: i64) -> CreateImageInfo {
        CreateImageInfo {
            id: Some(id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: Some(ProgressDetail { current: Some(current), total: Some(total) }),
            ..CreateImageInfo::default()
        }
    }

    #[test]
    fn progress_is_summed_over_the_layers_and_never_falls() {
        let mut layers = Layers::default();
        assert_eq!(layers.add(&line("a", "Downloading", 10, 100)), (10, 100));
        assert_eq!(layers.add(&line("b", "Downloading", 5, 50)), (15, 150));
        assert_eq!(layers.add(&line("a", "Download complete", 0, 0)), (105, 150));
        assert_eq!(layers.add(&line("a", "Extracting", 1, 100)), (105, 150));
        assert_eq!(layers.add(&line("c", "Already exists", 0, 0)), (105, 150));
    }

    #[test]
    fn a_missing_image_is_futile_and_an_overloaded_registry_is_not() {
        let answer = |status_code, message: &str| {
            failed("m", &Error::DockerResponseServerError { status_code, message: message.to_owned() })
        };
        assert!(matches!(answer(404, "pull access denied"), StartError::Futile(text)
            if text.contains("m is not on this engine") && text.contains("pull access denied") && text.contains("docker build")));
        assert!(matches!(answer(500, "dial tcp: lookup registry: no such host"), StartError::Futile(_)));
        assert!(matches!(answer(500, "net/http: TLS handshake timeout"), StartError::Failed(_)));
        assert!(matches!(failed("m", &Error::RequestTimeoutError), StartError::EngineDown(_)));
    }
}
