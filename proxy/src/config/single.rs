//! The configuration of `longshore run IMAGE`.

use super::diagnostics::{Diagnostic, Diagnostics};
use super::service::{Service, Source, default_spec};
use super::size::ServiceSize;
use super::{AdminConfig, BackendConfig, Config, JobsConfig, MAX_SIZE, ProxyConfig, Telemetry};

pub(super) fn config(
    image: &str,
    port: Option<u16>,
    size: Option<u32>,
    command: Option<Vec<String>>,
) -> Result<Config, Diagnostics> {
    let mut wrong = Vec::new();
    if image.is_empty() || image.starts_with('-') || !image.chars().all(|c| c.is_ascii_graphic()) {
        wrong.push(Diagnostic::whole(format!(
            "{image:?} is not an image: it is named like registry/name:tag"
        )));
    }
    if port == Some(0) {
        wrong.push(Diagnostic::whole("--port must be from 1 to 65535, got 0"));
    }
    if let Some(size) = size.filter(|size| *size > MAX_SIZE) {
        wrong.push(Diagnostic::whole(format!("--size must be from 0 to {MAX_SIZE}, got {size}")));
    }
    if !wrong.is_empty() {
        return Err(Diagnostics::new("", "", wrong));
    }
    let name = service_name(image);
    let mut spec = default_spec(image);
    spec.port = port.unwrap_or(spec.port);
    spec.command = command.filter(|command| !command.is_empty());
    let mut service = Service::new(&name, Source::Image { spec });
    service.default = true;
    service.size = size.map_or_else(ServiceSize::default, ServiceSize::fixed);
    Ok(Config {
        name,
        proxy: ProxyConfig::default(),
        admin: AdminConfig::default(),
        backend: BackendConfig::default(),
        jobs: JobsConfig::default(),
        telemetry: Telemetry::default(),
        services: vec![service],
    })
}

/// The last part of the image's name, in the letters that a service's name may have.
fn service_name(image: &str) -> String {
    let last = image.split('@').next().and_then(|name| name.rsplit('/').next()).unwrap_or_default();
    let bare = last.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let letters: String =
        bare.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    match letters.trim_matches('-') {
        "" => "run".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_after_its_image() {
        let cases = [
            ("longshore/calculator", "calculator"),
            ("ghcr.io:443/org/Llama_3.2:latest", "llama-3-2"),
            ("nginx", "nginx"),
            ("a/b@sha256:0123", "b"),
            ("x/___", "run"),
        ];
        for (image, name) in cases {
            assert_eq!(service_name(image), name, "{image}");
        }
    }
}
