//! The commands: owns arguments, exit codes and what a person sees. `up` and `run` serve a cluster through
//! [`crate::run`]; the others talk to a running one through its admin API.
//!
//! | module | owns |
//! | --- | --- |
//! | this one | the arguments, and how an error becomes an exit code |
//! | `client` | the admin API, seen from outside |
//! | `http` | one request to a server, and the errors of that |
//! | `output` | stdout and stderr, and how times and sizes are written |
//! | `logging` | what goes to the log, and in which form |
//! | every other one | the command of its name |

mod check;
mod client;
mod completions;
mod events;
mod explain;
mod jobs;
mod key;
mod logging;
mod logs;
mod output;
mod ps;
mod queue;
mod restart;
mod run;
mod scale;
mod simulate;
pub mod up;
mod verify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::Diagnostics;
use crate::console::Console;
use client::{Client, ClientError};
use output::Closed;

/// A load-balancing reverse proxy over pools of model servers that loses no request.
#[derive(Debug, Parser)]
#[command(name = "longshore", version, propagate_version = true, max_term_width = 110)]
struct Cli {
    #[command(flatten, next_help_heading = "Options of every command")]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
struct Global {
    /// The admin API of the running proxy.
    #[arg(long, global = true, value_name = "URL", env = "LONGSHORE_ADMIN")]
    #[arg(default_value = "http://127.0.0.1:5001")]
    admin: String,
    /// The token that the admin API demands, if it does.
    #[arg(long, global = true, env = "LONGSHORE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// How the log is written.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: logging::Format,
    /// error, warn, info, debug, trace, or directives as in RUST_LOG [default: RUST_LOG, or else info]
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts the services of a cluster.toml and serves them until SIGINT or SIGTERM.
    Up(up::UpArgs),
    /// The same for one image, without a file.
    Run(run::RunArgs),
    /// Checks a cluster.toml and shows every mistake in it.
    Check(check::CheckArgs),
    /// Shows services and instances.
    Ps(ps::PsArgs),
    /// Sets how many instances services have.
    Scale(scale::ScaleArgs),
    /// Replaces all instances of a service, losing no request.
    Restart(restart::RestartArgs),
    /// Shows who waits for a service, and for how long yet.
    Queue(queue::QueueArgs),
    /// Shows what happens: instances that come and go, sizes, replays, configurations.
    Events(events::EventsArgs),
    /// Says why a service has the size that it has.
    Explain(explain::ExplainArgs),
    /// Shows what the instances of a service write.
    Logs(logs::LogsArgs),
    /// Asynchronous jobs: what they are, their results, export and import.
    Jobs(jobs::JobsArgs),
    /// Runs policies over a workload in virtual time, side by side.
    Simulate(Box<simulate::SimulateArgs>),
    /// Sends load to a service while killing its instances, and counts what is lost.
    Verify(verify::VerifyArgs),
    /// Makes an api key: prints it, and the line by which it is known.
    Key(key::KeyArgs),
    /// Prints the completions of a shell.
    Completions(completions::CompletionsArgs),
}

/// Why a command ends early.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// The arguments ask for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// A file or an image's arguments are wrong.
    #[error(transparent)]
    Config(#[from] Diagnostics),
    /// The running proxy refused, or does not run.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A cluster could not be served.
    #[error(transparent)]
    Up(#[from] crate::run::UpError),
    /// It failed.
    #[error("{0}")]
    Failed(String),
    /// It failed and has said so in its result.
    #[error("failed")]
    Shown,
    /// Nobody reads the results any more, as in `longshore logs calc | head`.
    #[error(transparent)]
    Closed(#[from] Closed),
}

impl CliError {
    /// 0 done, 1 it failed, 2 wrong usage or wrong config.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Closed(Closed::Pipe) => 0,
            Self::Client(ClientError::Url(..)) | Self::Usage(_) | Self::Config(_) => 2,
            Self::Client(
                ClientError::NoAnswer { .. }
                | ClientError::Unauthorized { .. }
                | ClientError::Refused { .. }
                | ClientError::Garbled { .. },
            )
            | Self::Up(_)
            | Self::Failed(_)
            | Self::Shown
            | Self::Closed(Closed::Failed(_)) => 1,
        }
    }

    fn show(&self) {
        match self {
            Self::Config(mistakes) => output::mistakes(mistakes),
            Self::Usage(_)
            | Self::Client(_)
            | Self::Up(_)
            | Self::Failed(_)
            | Self::Closed(Closed::Failed(_)) => output::error(self),
            Self::Shown | Self::Closed(Closed::Pipe) => {}
        }
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    run_with(std::env::args_os())
}

fn run_with(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to do when not even that can be written.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.show();
            ExitCode::from(error.exit_code())
        }
    }
}

fn start(cli: Cli) -> Result<(), CliError> {
    let console = Console::on_stderr();
    let (format, level) = (cli.global.log_format, cli.global.log_level.as_deref());
    logging::start(format, level, console.clone()).map_err(CliError::Usage)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::Failed(format!("cannot start: {error}")))?;
    let result = runtime.block_on(perform(cli, console));
    // A command that is done does not wait for what it left running, such as a name that is still looked up.
    runtime.shutdown_background();
    result
}

async fn perform(cli: Cli, console: Console) -> Result<(), CliError> {
    let client = || Client::new(&cli.global.admin, cli.global.token.as_deref());
    match cli.command {
        Command::Up(args) => up::up(args, console).await,
        Command::Run(args) => run::run(args, console).await,
        Command::Check(args) => check::check(&args),
        Command::Ps(args) => ps::ps(&args, &client()?).await,
        Command::Queue(args) => queue::queue(&args, &client()?).await,
        Command::Scale(args) => scale::scale(&args, &client()?).await,
        Command::Restart(args) => restart::restart(&args, &client()?).await,
        Command::Events(args) => events::events(&args, &client()?).await,
        Command::Explain(args) => explain::explain(&args, &client()?).await,
        Command::Logs(args) => logs::logs(args, client()?).await,
        Command::Jobs(args) => jobs::jobs(args, &client()?).await,
        Command::Simulate(args) => simulate::simulate(&args),
        Command::Verify(args) => verify::verify(args, client()?).await,
        Command::Key(args) => key::key(&args),
        Command::Completions(args) => completions::completions::<Cli>(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_command_lines_of_the_interface_are_understood() {
        for line in [
            "longshore up",
            "longshore up -c other.toml --build --backend process --keep",
            "longshore run longshore/calculator --port 80 --size 2 --backend docker -- serve --flag",
            "longshore run longshore/calculator:2 --takeover --keep",
            "longshore check -c cluster.toml",
            "longshore ps --json --admin http://10.0.0.1:1 --token t",
            "longshore --log-format json --log-level debug scale calc=3 echo=0",
            "longshore restart calc",
            "longshore events",
            "longshore events calc -f --tail 10 --json",
            "longshore explain calc",
            "longshore explain calc -n 3 --json",
            "longshore simulate --rate 5 --service-time 500ms --cold-start 5s --policy wait --policy hpa --json",
            "longshore simulate -c c.toml --service calc --trace t.csv --tune --objective 2s",
            "longshore logs calc -f --tail 10",
            "longshore verify calc --duration 30s --kill-every 3s --clients 16 --body 256KiB --path /x",
            "longshore key ann",
            "longshore key ann --rate 10/s --concurrent 4 --file keys.txt",
            "longshore jobs ls --service calc --status done -n 5 --json",
            "longshore jobs show 01a1",
            "longshore jobs result 01a1 --wait 30s",
            "longshore jobs cancel 01a1 01a2",
            "longshore jobs retry 01a1",
            "longshore jobs rm 01a1",
            "longshore jobs rm --service calc",
            "longshore jobs rm --all",
            "longshore jobs export -o jobs.ndjson",
            "longshore jobs export --now",
            "longshore jobs import jobs.ndjson --overwrite",
            "longshore completions bash",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn wrong_usage_is_told_apart() {
        for line in [
            "longshore",
            "longshore upp",
            "longshore up --backend swarm",
            "longshore run",
            "longshore run image --port 0",
            "longshore run image --size 1001",
            "longshore scale",
            "longshore scale calc",
            "longshore scale =3",
            "longshore logs",
            "longshore jobs",
            "longshore jobs rm",
            "longshore jobs rm 01a1 --all",
            "longshore jobs export 01a1 --now",
            "longshore jobs result 01a1 --wait soon",
            "longshore verify calc --duration 30",
            "longshore verify calc --clients 0",
            "longshore verify calc --body lots",
            "longshore ps --log-format xml",
            "longshore key",
            "longshore key a:b",
            "longshore key ann --rate fast",
            "longshore key ann --concurrent 0",
        ] {
            let error = parse(line).map(|cli| format!("{cli:?}")).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
        assert_eq!(parse("longshore --version").unwrap_err().exit_code(), 0);
        assert_eq!(parse("longshore verify --help").unwrap_err().exit_code(), 0);
    }

    #[test]
    fn errors_have_the_exit_codes_of_the_interface() {
        let config = crate::config::Config::parse("", "cluster.toml", &|_| None).unwrap_err();
        assert_eq!(CliError::Config(config).exit_code(), 2);
        assert_eq!(CliError::Usage(String::new()).exit_code(), 2);
        assert_eq!(CliError::Failed(String::new()).exit_code(), 1);
        assert_eq!(CliError::Closed(Closed::Pipe).exit_code(), 0);
    }
}
