//! `longshore up`: serves a cluster.toml.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::CliError;
use crate::config::{BackendKind, Config};
use crate::console::Console;

/// What is to be served, and how.
#[derive(Debug)]
pub struct UpOptions {
    /// The cluster.
    pub config: Config,
    /// The file that says so, which is watched and read again.
    pub file: Option<PathBuf>,
    /// What runs instances; without it, what the configuration says.
    pub backend: Option<BackendKind>,
    /// Builds images that are there already, too.
    pub build: bool,
    /// Leaves the instances running at the end, for the next `up` to adopt.
    pub keep: bool,
    /// Takes over from the process that serves the cluster, if there is one.
    pub takeover: bool,
    /// Where the workload is recorded.
    pub record: Option<PathBuf>,
}

/// What runs instances, on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Backend {
    /// Docker where an engine answers, else processes.
    Auto,
    /// Containers.
    Docker,
    /// Child processes.
    Process,
}

impl From<Backend> for BackendKind {
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Auto => Self::Auto,
            Backend::Docker => Self::Docker,
            Backend::Process => Self::Process,
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// The file that describes the cluster.
    #[arg(short, long, value_name = "FILE", default_value = "cluster.toml")]
    config: PathBuf,
    /// Builds images that are there already, too.
    #[arg(long)]
    build: bool,
    /// What runs instances [default: the file's].
    #[arg(long, value_name = "KIND")]
    backend: Option<Backend>,
    /// Leaves the instances running at the end, for the next `up` to adopt.
    #[arg(long)]
    keep: bool,
    /// Takes over from the `longshore up` of this cluster that runs, and from its containers: no connection is refused.
    #[arg(long)]
    takeover: bool,
    /// Writes what is answered as a trace for `longshore simulate`; of several services one file each, named after it.
    #[arg(long, value_name = "FILE.csv")]
    record: Option<PathBuf>,
}

pub(super) async fn up(args: UpArgs, console: Console) -> Result<(), CliError> {
    let config = Config::load(&args.config)?;
    let backend = args.backend.map(BackendKind::from);
    let file = Some(args.config);
    let options = UpOptions {
        config,
        file,
        backend,
        build: args.build,
        keep: args.keep,
        takeover: args.takeover,
        record: args.record,
    };
    Ok(crate::run::up(options, console).await?)
}
