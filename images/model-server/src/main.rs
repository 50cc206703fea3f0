//! An example model server: three small models, and every fault that a server can have, on demand.
//!
//! - [`args`]: the command line, parsed into [`args::Args`].
//! - [`server`]: owns the listener and the connections; ends them on SIGTERM.
//! - [`exchange`]: one request, from its head to its answer; asks [`fault`] what shall go wrong.
//! - [`models`]: what is computed. They know neither faults nor connections.
//! - [`state`]: what the requests of one process share: counters and the limit on work.
//! - [`body`] and [`socket`]: an answer, and a connection, that can fail in the middle.
//! - [`digest`]: the Content-Digest field (RFC 9530).

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

mod args;
mod body;
mod digest;
mod exchange;
mod fault;
mod models;
mod server;
mod socket;
mod state;

fn main() -> ExitCode {
    let args = args::Args::parse();
    if let Some(code) = args.fault_exit_at_start {
        eprintln!("model-server: fault: exit {code} at start");
        return ExitCode::from(code);
    }
    // One thread: a model that blocks it is hung as a whole, which is what the fault `freeze` is for.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let code = match runtime.block_on(server::run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    };
    runtime.shutdown_timeout(Duration::ZERO);
    code
}

fn failed(error: &std::io::Error) -> ExitCode {
    eprintln!("model-server: {error}");
    ExitCode::FAILURE
}
