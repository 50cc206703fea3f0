//! `longshore check`: says whether a cluster.toml is right.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, output};
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The file to check.
    #[arg(short, long, value_name = "FILE", default_value = "cluster.toml")]
    config: PathBuf,
}

pub(super) fn check(args: &CheckArgs) -> Result<(), CliError> {
    let config = Config::load(&args.config)?;
    let names: Vec<&str> = config.services.iter().map(|service| &*service.name).collect();
    let plural = if names.len() == 1 { "" } else { "s" };
    let file = args.config.display();
    Ok(output::line(format!("{file} is right: {} service{plural} ({})", names.len(), names.join(", ")))?)
}
