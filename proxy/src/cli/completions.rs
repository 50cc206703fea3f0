//! `longshore completions SHELL`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{CliError, output};

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Which shell.
    shell: Shell,
}

/// Prints the completions of the command line `C`.
pub(super) fn completions<C: CommandFactory>(args: &CompletionsArgs) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut C::command(), "longshore", &mut script);
    Ok(output::write(&script)?)
}
