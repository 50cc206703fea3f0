//! Building an image from a folder, with the engine's classic builder: every engine has it, without plugins.

use std::collections::VecDeque;
use std::path::Path;

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::BuildImageOptionsBuilder;

use super::call::{down, is_down, text};
use super::{context, pull};
use crate::cause::LOG_LINES;
use crate::{Progress, Spec, StartError};

/// Builds the image that the specification names from `folder`, which has a Dockerfile.
pub(super) async fn build(
    docker: &Docker,
    spec: &Spec,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<(), StartError> {
    let image = &spec.image;
    if !folder.join("Dockerfile").is_file() {
        return Err(StartError::Futile(format!(
            "image {image} cannot be built: {} has no Dockerfile",
            folder.display()
        )));
    }
    // A failed step would else leave its container behind.
    let options = BuildImageOptionsBuilder::new().dockerfile("Dockerfile").t(image).rm(true).forcerm(true);
    let options = spec.platform.iter().fold(options, |options, platform| options.platform(platform)).build();
    progress.step(image, "building", 0, 0);
    let (body, packing) = context::tar(folder);
    let mut stream = std::pin::pin!(docker.build_image(options, None, Some(bollard::body_try_stream(body))));
    let mut output = Output::default();
    let failure = loop {
        match pull::next(docker, &mut stream).await {
            Some(Ok(info)) => {
                for line in info.stream.iter().flat_map(|text| text.lines()) {
                    output.add(line, |line| progress.step(image, line, 0, 0));
                }
            }
            Some(Err(error)) => break error,
            None => return Ok(()),
        }
    };
    Err(failed(image, folder, &failure, packing.failure(), &output))
}

/// The last lines that the builder wrote.
#[derive(Default)]
struct Output(VecDeque<String>);

impl Output {
    fn add(&mut self, line: &str, shown: impl FnOnce(&str)) {
        let line = line.trim_end();
        if line.is_empty() {
            return;
        }
        shown(line);
        if self.0.len() == LOG_LINES {
            self.0.pop_front();
        }
        self.0.push_back(line.to_owned());
    }
}

/// A folder that cannot be read shows as a broken connection, so its own error comes first.
fn failed(image: &str, folder: &Path, error: &Error, packing: Option<String>, output: &Output) -> StartError {
    let folder = folder.display();
    if let Some(packing) = packing {
        return StartError::Futile(format!("image {image} cannot be built: cannot read {folder}: {packing}"));
    }
    if is_down(error) {
        return down(error);
    }
    let mut message = format!("image {image} cannot be built from {folder}: {}", text(error));
    for line in &output.0 {
        message.push('\n');
        message.push_str(line);
    }
    StartError::Futile(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_build_is_told_with_its_last_lines() {
        let mut output = Output::default();
        for step in 0..30 {
            output.add(&format!("Step {step}\n"), |_| {});
        }
        output.add("\n", |_| {});
        let error = Error::DockerStreamError { error: "returned a non-zero code: 1".to_owned() };
        let StartError::Futile(text) = failed("m", Path::new("dir"), &error, None, &output) else { panic!() };
        assert!(
            text.starts_with("image m cannot be built from dir: returned a non-zero code: 1\nStep 10\n"),
            "{text}"
        );
        assert!(text.ends_with("Step 29"), "{text}");
    }

    #[test]
    fn an_unreadable_folder_is_not_blamed_on_the_engine() {
        let broken = Error::IOError { err: std::io::Error::other("broken pipe") };
        let told =
            failed("m", Path::new("dir"), &broken, Some("permission denied".to_owned()), &Output::default());
        assert!(matches!(told, StartError::Futile(text) if text.contains("permission denied")));
    }
}
