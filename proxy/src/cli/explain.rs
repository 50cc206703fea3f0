//! `longshore explain NAME`: why a service has the size that it has.

use std::fmt::Write;

use clap::Args;
use http::Method;
use serde_json::Value as Json;

use super::client::Client;
use super::{CliError, output};
use crate::admin::view::{DecisionView, Decisions};
use crate::http_client::segment;

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The service.
    name: String,
    /// How many decisions, the newest first.
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 5)]
    last: usize,
    /// Prints the admin API's JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn explain(args: &ExplainArgs, client: &Client) -> Result<(), CliError> {
    let path = format!("/services/{}/decisions", segment(&args.name));
    if args.json {
        let decisions: Json = client.json(Method::GET, &path, None).await?;
        return Ok(output::line(format!("{decisions:#}"))?);
    }
    let decisions: Decisions = client.json(Method::GET, &path, None).await?;
    Ok(output::write(page(&decisions, args.last).as_bytes())?)
}

fn page(all: &Decisions, last: usize) -> String {
    let dry = if all.dry_run { " (a dry run: decided and recorded, not obeyed)" } else { "" };
    let mut page = format!("{}: size = {}{dry}\n", all.service, all.size);
    for decision in all.decisions.iter().take(last) {
        page += &paragraph(decision);
    }
    if all.decisions.is_empty() {
        page += "\nnothing was decided yet\n";
    }
    page
}

fn paragraph(decision: &DecisionView) -> String {
    let mut text = String::new();
    let step = if decision.size == decision.before {
        format!("stays {}", decision.size)
    } else {
        format!("{} -> {}", decision.before, decision.size)
    };
    let would = if decision.dry_run { "would be: " } else { "" };
    let failed = if decision.failed { ", it could not tell" } else { "" };
    // Writing to a string does not fail.
    let _ = writeln!(text, "\n{}  {would}{step}  ({}{failed})", when(decision), decision.policy);
    let _ = writeln!(text, "    {}", decision.reason);
    let mut path = format!("recommended {}", decision.recommended);
    for damping in &decision.damping {
        let _ = write!(path, ", {} made it {}", damping.by, damping.to);
    }
    let _ = writeln!(text, "    {path}");
    let load = &decision.load;
    let standby = if load.standby > 0 { format!(", standby {}", load.standby) } else { String::new() };
    let _ = writeln!(
        text,
        "    saw: queue {}, oldest wait {}, in flight {}, ready {}, starting {}{}, {}/s arriving, {} s each",
        load.queue,
        output::seconds(load.oldest_wait),
        load.in_flight,
        load.ready,
        load.starting,
        standby,
        short(load.arrival_rate),
        short(load.service_time),
    );
    if !decision.inputs.is_empty() {
        let inputs: Vec<String> =
            decision.inputs.iter().map(|(name, value)| format!("{name} {}", short(*value))).collect();
        let _ = writeln!(text, "    reckoned with: {}", inputs.join(", "));
    }
    text
}

/// `12s ago`, or `from 3m00s to 12s ago, 168 looks`.
fn when(decision: &DecisionView) -> String {
    let ago = output::seconds(decision.age_s);
    if decision.looks > 1 {
        format!("from {} to {ago} ago, {} looks", output::seconds(decision.since_age_s), decision.looks)
    } else {
        format!("{ago} ago")
    }
}

/// Three decimals at the most.
fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_told_with_its_inputs_its_dampers_and_its_reason() {
        let decisions: Decisions = serde_json::from_str(
            r#"{ "service": "calc", "size": {"policy": "wait", "max": 8}, "dry_run": false, "decisions": [
              { "at": 1.0, "age_s": 12.0, "since_age_s": 180.0, "looks": 168, "policy": "wait",
                "load": { "queue": 3, "oldest_wait": 0.25, "in_flight": 5, "ready": 5, "starting": 1, "standby": 2, "size": 8,
                          "arrival_rate": 10.25, "service_time": 0.5, "start_time": 4.0 },
                "inputs": { "want": 9.0, "rate": 10.1234 },
                "recommended": 9, "failed": false,
                "damping": [{ "by": "max", "from": 9, "to": 8, "reason": "held to max 8" }],
                "before": 8, "size": 8, "dry_run": false, "reason": "many come; held to max 8" },
              { "at": 0.0, "age_s": 181.0, "since_age_s": 181.0, "looks": 1, "policy": "wait",
                "load": { "queue": 0, "oldest_wait": 0, "in_flight": 0, "ready": 0, "starting": 0, "size": 0,
                          "arrival_rate": 0, "service_time": 0, "start_time": 0 },
                "inputs": {}, "recommended": 8, "failed": true, "damping": [], "before": 0, "size": 8,
                "dry_run": true, "reason": "many come" } ] }"#,
        )
        .unwrap();
        let expected = "\
calc: size = {\"max\":8,\"policy\":\"wait\"}

from 3m00s to 12s ago, 168 looks  stays 8  (wait)
    many come; held to max 8
    recommended 9, max made it 8
    saw: queue 3, oldest wait 250ms, in flight 5, ready 5, starting 1, standby 2, 10.25/s arriving, 0.5 s each
    reckoned with: rate 10.123, want 9

3m01s ago  would be: 0 -> 8  (wait, it could not tell)
    many come
    recommended 8
    saw: queue 0, oldest wait 0ms, in flight 0, ready 0, starting 0, 0/s arriving, 0 s each
";
        assert_eq!(page(&decisions, 5), expected);
        assert!(!page(&decisions, 1).contains("3m01s ago"));
    }
}
