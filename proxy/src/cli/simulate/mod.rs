//! `longshore simulate`: what policies would have made of a workload, in virtual time, side by side.
//!
//! | module | owns |
//! | --- | --- |
//! | this one | the arguments, and the course of it |
//! | `contest` | the workload, who takes part, the runs |
//! | `objective` | `p95 wait < 2s` |
//! | `table` | the result as a table, and as JSON |
//! | `plot` | the same over time, as SVG |
//! | `tune` | looks for the settings that meet an objective at the least cost |

mod contest;
mod objective;
mod plot;
mod table;
mod tune;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use longshore_pool::simulate::Shape;

use super::{CliError, output};
use crate::config::parse_duration;
use contest::Contest;
use objective::Objective;

#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// The file that describes the service [default: cluster.toml, if --service is given]
    #[arg(short, long, value_name = "FILE", requires = "service")]
    config: Option<PathBuf>,
    /// The service whose queue, concurrency and size are meant; without it, those of a service by default.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// A recorded workload: CSV with the columns arrival_s,service_s and perhaps client.
    #[arg(long, value_name = "FILE", conflicts_with = "rate", required_unless_present = "rate")]
    trace: Option<PathBuf>,
    /// Requests a second on average, of a workload that is made up.
    #[arg(long, value_name = "NUMBER", value_parser = rate)]
    rate: Option<f64>,
    /// Mean time that an instance works on a request.
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = parse_duration)]
    service_time: Duration,
    /// Standard deviation of that over its mean, lognormal; 0: all the same.
    #[arg(long, value_name = "NUMBER", default_value_t = 0.5, value_parser = variation)]
    cv: f64,
    /// Service times with a Pareto tail of this exponent instead, above 1.
    #[arg(long, value_name = "NUMBER", value_parser = exponent)]
    pareto: Option<f64>,
    /// How the rate changes: steady, burst, ramp, onoff, daily, step.
    #[arg(long, default_value = "steady", value_parser = shape)]
    shape: Shape,
    /// How long the workload lasts that is made up.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    duration: Duration,
    /// Another number gives another workload of the same kind.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// From the decision to start an instance until it is ready.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    cold_start: Duration,
    /// The time of day at the beginning, for policies that go by it.
    #[arg(long, value_name = "TIME", default_value = "2026-01-05T00:00:00Z")]
    start: jiff::Timestamp,
    /// A size as in cluster.toml, or the name of a policy; hpa and ray too, for comparison. May be repeated
    /// [default: the service's size, queue, concurrency, wait]
    #[arg(long = "policy", value_name = "SIZE")]
    policies: Vec<String>,
    /// Longest wait that is not late, or `p95 wait < 2s`.
    #[arg(long, value_name = "OBJECTIVE", default_value = "p95 wait < 1s", value_parser = Objective::parse)]
    objective: Objective,
    /// Looks for the settings that meet the objective at the least cost, and prints the line to paste.
    #[arg(long)]
    tune: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    /// Draws queue, size and wait over time.
    #[arg(long, value_name = "FILE.svg", conflicts_with = "tune")]
    plot: Option<PathBuf>,
}

fn number(text: &str, right: impl Fn(f64) -> bool, allowed: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && right(*number));
    number.ok_or_else(|| format!("it is a number {allowed}"))
}

fn rate(text: &str) -> Result<f64, String> {
    number(text, |rate| rate > 0.0 && rate <= 1e6, "above 0, up to 1000000")
}

fn variation(text: &str) -> Result<f64, String> {
    number(text, |cv| (0.0..=100.0).contains(&cv), "from 0 to 100")
}

fn exponent(text: &str) -> Result<f64, String> {
    number(text, |alpha| alpha > 1.0 && alpha <= 100.0, "above 1, up to 100")
}

fn shape(text: &str) -> Result<Shape, String> {
    let found = Shape::ALL.iter().find(|(name, _)| *name == text).map(|(_, shape)| *shape);
    let names = || Shape::ALL.map(|(name, _)| name).join(", ");
    found.ok_or_else(|| format!("it is one of {}", names()))
}

pub(super) fn simulate(args: &SimulateArgs) -> Result<(), CliError> {
    let contest = Contest::new(args)?;
    if args.tune {
        let tuned = tune::tune(&contest);
        let text = if args.json {
            format!("{:#}\n", tune::json(&contest, &tuned))
        } else {
            tune::text(&contest, &tuned)
        };
        return Ok(output::write(text.as_bytes())?);
    }
    let results = contest.run();
    if let Some(file) = &args.plot {
        let error = |error| CliError::Failed(format!("cannot write {}: {error}", file.display()));
        std::fs::write(file, plot::svg(&results)).map_err(error)?;
        output::note(&format!("drawn: {}", file.display()));
    }
    let text = if args.json {
        format!("{:#}\n", table::json(&contest, &results))
    } else {
        table::text(&contest, &results)
    };
    Ok(output::write(text.as_bytes())?)
}

#[cfg(test)]
mod tests;
