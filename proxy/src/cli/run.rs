//! `longshore run IMAGE`: serves one image without a file.

use clap::Args;

use super::CliError;
use super::up::{Backend, UpOptions};
use crate::config::{BackendKind, Config, MAX_SIZE};
use crate::console::Console;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The image; the service has the last part of its name.
    image: String,
    /// The server's port inside the instance; also given to it as $PORT [default: 8080].
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// How many instances [default: 1].
    #[arg(long, allow_negative_numbers = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_SIZE)))]
    size: Option<u32>,
    /// What runs instances [default: auto].
    #[arg(long, value_name = "KIND")]
    backend: Option<Backend>,
    /// Leaves the instances running at the end, for the next `run` to adopt.
    #[arg(long)]
    keep: bool,
    /// Takes over from the `longshore run` of this image (of any tag) that runs, and from its containers: no connection is
    /// refused.
    #[arg(long)]
    takeover: bool,
    /// Overrides the image's command; the program to run under the process backend.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

pub(super) async fn run(args: RunArgs, console: Console) -> Result<(), CliError> {
    let command = (!args.command.is_empty()).then_some(args.command);
    let config = Config::single(&args.image, args.port, args.size, command)?;
    let backend = args.backend.map(BackendKind::from);
    let options = UpOptions {
        config,
        file: None,
        backend,
        build: false,
        keep: args.keep,
        takeover: args.takeover,
        record: None,
    };
    Ok(crate::run::up(options, console).await?)
}
