//! Which backend runs the instances, and why; said clearly, because it changes what an image and a command mean.

use std::path::PathBuf;
use std::sync::Arc;

use longshore_backend::docker::DockerBackend;
use longshore_backend::process::ProcessBackend;
use longshore_backend::{Backend, StartError};

use crate::config::{BackendKind, Config, Source};

/// The backend that the command line or the file names; Docker where an engine answers, else processes, by default. Where
/// nothing is to be started, no engine is looked for by default.
pub async fn choose(config: &Config, named: Option<BackendKind>) -> Result<Arc<dyn Backend>, StartError> {
    match named.unwrap_or(config.backend.kind) {
        BackendKind::Docker => {
            let docker = DockerBackend::connect(&config.name, None).await.map_err(|error| {
                StartError::EngineDown(format!(
                    "{error}; start one, name it with DOCKER_HOST, or use --backend process"
                ))
            })?;
            tracing::info!("instances run as Docker containers");
            Ok(Arc::new(docker))
        }
        BackendKind::Process => {
            tracing::info!("instances run as child processes of this one");
            Ok(Arc::new(processes(config)))
        }
        BackendKind::Auto if !starts_something(config) => {
            tracing::info!("every service is a list of addresses: nothing is to be started");
            Ok(Arc::new(processes(config)))
        }
        BackendKind::Auto => match DockerBackend::connect(&config.name, None).await {
            Ok(docker) => {
                tracing::info!("a Docker engine answers: instances run as containers");
                Ok(Arc::new(docker))
            }
            Err(error) => {
                let why = error.to_string();
                let why = why.strip_prefix("no Docker engine answers ").unwrap_or(&why);
                tracing::warn!(why, "no Docker engine answers: instances run as child processes of this one");
                Ok(Arc::new(processes(config)))
            }
        },
    }
}

/// Whether any service is more than a list of servers that already run.
fn starts_something(config: &Config) -> bool {
    config.services.iter().any(|service| match &service.source {
        Source::Image { .. } => true,
        Source::Addresses(_) => false,
    })
}

fn processes(config: &Config) -> ProcessBackend {
    let own: Vec<PathBuf> =
        std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_path_buf())).into_iter().collect();
    ProcessBackend::new(&config.name, own)
}
