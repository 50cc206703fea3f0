//! The command line.

use std::net::IpAddr;
use std::time::Duration;

use clap::Parser;

use crate::fault::{Fault, Kind, Point};
use crate::models::Model;

/// A small model server with faults on demand.
#[derive(Parser, Debug)]
#[command(version, about)]
pub(crate) struct Args {
    /// What it computes.
    #[arg(value_enum, default_value_t = Model::Calculator)]
    pub(crate) model: Model,
    /// Address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    pub(crate) host: IpAddr,
    /// Port to listen on; 0 lets the system pick one. The address is printed either way.
    #[arg(long, env = "PORT", default_value_t = 8080)]
    pub(crate) port: u16,
    /// Requests worked on at once; one more is answered 503 at once. 0: no limit.
    #[arg(long, default_value_t = 0, value_name = "N", conflicts_with = "exclusive")]
    pub(crate) concurrency: usize,
    /// One request at a time; a second one is logged as a violation and answered 500.
    #[arg(long)]
    pub(crate) exclusive: bool,
    /// How long requests may go on after SIGTERM.
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "TIME")]
    pub(crate) grace: Duration,
    /// Waits before it listens.
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub(crate) fault_start_delay: Option<Duration>,
    /// Prints an error and exits before it listens.
    #[arg(long, value_name = "CODE")]
    pub(crate) fault_exit_at_start: Option<u8>,
    /// Exits with 70 after having listened for so long.
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub(crate) fault_exit_after: Option<Duration>,
    /// Every request takes so much longer.
    #[arg(long, value_parser = duration, value_name = "TIME")]
    fault_latency: Option<Duration>,
    /// Answers N requests and exits on the next one.
    #[arg(long, value_name = "N")]
    fault_crash_after: Option<u64>,
    /// Answers N requests and none of the later ones; /healthz goes on answering.
    #[arg(long, value_name = "N")]
    fault_hang_after: Option<u64>,
    /// Answers N requests and then freezes as a whole, /healthz and SIGTERM included.
    #[arg(long, value_name = "N")]
    fault_freeze_after: Option<u64>,
    /// /healthz answers 503 once N requests were answered; 0: from the start.
    #[arg(long, value_name = "N")]
    pub(crate) fault_unhealthy_after: Option<u64>,
    /// Any fault as the `Fault` header has it, for every request; may be repeated.
    #[arg(long = "fault", value_parser = Fault::parse, value_name = "FAULT")]
    faults: Vec<Fault>,
}

impl Args {
    /// The faults that every request meets, in the order in which they are applied.
    pub(crate) fn request_faults(&self) -> Vec<Fault> {
        let latency = self.fault_latency.map(|time| Fault::always(Kind::Latency { time }));
        let crash = self.fault_crash_after.map(|n| Fault::once_served(n, Kind::CRASH));
        let hang = self.fault_hang_after.map(|n| Fault::once_served(n, Kind::Hang { at: Point::Arrival }));
        let freeze = self.fault_freeze_after.map(|n| Fault::once_served(n, Kind::Freeze { time: None }));
        [latency, crash, hang, freeze].into_iter().flatten().chain(self.faults.iter().cloned()).collect()
    }
}

/// `250ms`, `2s`; a bare number is milliseconds.
pub(crate) fn duration(text: &str) -> Result<Duration, humantime::DurationError> {
    match text.parse() {
        Ok(milliseconds) => Ok(Duration::from_millis(milliseconds)),
        Err(_) => humantime::parse_duration(text),
    }
}
