//! The result as a table, and as JSON.

use std::cmp::Reverse;
use std::collections::HashMap;

use comfy_table::{CellAlignment, Table, presets};
use longshore_pool::simulate::Report;
use serde_json::{Value as Json, json};

use super::contest::{Contest, Outcome};
use crate::policies;

const COLUMNS: [&str; 12] = [
    "POLICY",
    "P50",
    "P95",
    "P99",
    "MAX",
    "LATE",
    "REJECTED",
    "EXPIRED",
    "INSTANCE S",
    "× BOUND",
    "STARTS",
    "USED",
];

/// So many clients are shown.
const CLIENTS: usize = 10;

/// A table with the policies, then what no policy can beat.
pub(super) fn text(contest: &Contest, results: &[Outcome]) -> String {
    let (bound, greedy) = contest.bounds();
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(COLUMNS);
    for outcome in results {
        table.add_row(row(contest, outcome, bound));
    }
    for (name, cost) in [("bound (knows the future)", bound), ("greedy (knows the future)", greedy)] {
        if let Some(cost) = cost {
            let mut cells = vec![String::new(); COLUMNS.len()];
            cells[0] = name.to_owned();
            cells[8] = format!("{cost:.0}");
            cells[9] = bound.map(|bound| format!("{:.2}", cost / bound)).unwrap_or_default();
            table.add_row(cells);
        }
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let (clients, failures) = (clients(contest, results), failures(results));
    format!("{}\n\n{}\n{clients}{failures}", heading(contest), table.trim_fmt())
}

/// Policies that could not tell a size, and why.
fn failures(results: &[Outcome]) -> String {
    let told = results.iter().filter_map(|outcome| match outcome.report.failures() {
        (count, Some(why)) if count > 0 => {
            Some(format!("\n{}: it could not tell a size {count} times; in the end: {why}\n", name(outcome)))
        }
        _ => None,
    });
    told.collect()
}

/// The waits of each client, of those that sent the most.
fn clients(contest: &Contest, results: &[Outcome]) -> String {
    let mut known: Vec<(u64, &str)> =
        (1..).zip(contest.workload.clients().iter().map(String::as_str)).collect();
    if known.len() < 2 {
        return String::new();
    }
    let mut sent: HashMap<u64, usize> = HashMap::new();
    contest.workload.jobs().iter().for_each(|job| *sent.entry(job.client).or_default() += 1);
    known.sort_by_key(|(client, _)| Reverse(sent.get(client).copied()));
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["CLIENT", "POLICY", "DISPATCHED", "P50", "P95", "MAX"]);
    for (client, called) in known.iter().take(CLIENTS) {
        for outcome in results {
            let wait = |part| outcome.report.client_wait(*client, part);
            let [p50, p95, max] = [0.5, 0.95, 1.0].map(|part| seconds(wait(part).1));
            let called: String = called.chars().take(40).collect();
            table.add_row([called, name(outcome), wait(1.0).0.to_string(), p50, p95, max]);
        }
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index > 1 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let more = known.len().saturating_sub(CLIENTS);
    let more = if more > 0 { format!("and {more} more clients\n") } else { String::new() };
    format!("\n{}\n{more}", table.trim_fmt())
}

fn name(outcome: &Outcome) -> String {
    outcome.name.chars().take(60).collect()
}

/// What was simulated, in a line.
pub(super) fn heading(contest: &Contest) -> String {
    let (workload, seconds) = (&contest.workload, contest.workload.span().as_secs_f64());
    let requests = workload.jobs().len();
    let rate = if seconds > 0.0 { requests as f64 / seconds } else { 0.0 };
    format!(
        "{}: {requests} requests in {seconds:.0} s ({rate:.2}/s of {:.3} s each), cold start {}, objective {}",
        contest.what,
        workload.work() / requests.max(1) as f64,
        policies::text(contest.cold_start),
        contest.objective,
    )
}

fn row(contest: &Contest, outcome: &Outcome, bound: Option<f64>) -> Vec<String> {
    let report = &outcome.report;
    let wait = |part| seconds(report.wait(part));
    vec![
        name(outcome),
        wait(0.5),
        wait(0.95),
        wait(0.99),
        wait(1.0),
        percent(late(report)),
        report.rejected.to_string(),
        report.expired.to_string(),
        format!("{:.0}", report.instance_seconds),
        bound.map(|bound| format!("{:.2}", report.instance_seconds / bound)).unwrap_or_default(),
        report.starts.to_string(),
        percent(contest.used(report)),
    ]
}

fn late(report: &Report) -> f64 {
    report.late as f64 / report.requests.max(1) as f64
}

fn percent(part: f64) -> String {
    format!("{:.1} %", 100.0 * part)
}

fn seconds(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.2} s") } else { format!("{seconds:.1} s") }
}

/// The same with every digit.
pub(super) fn json(contest: &Contest, results: &[Outcome]) -> Json {
    let (bound, greedy) = contest.bounds();
    json!({
        "workload": {
            "name": contest.what,
            "requests": contest.workload.jobs().len(),
            "span_s": contest.workload.span().as_secs_f64(),
            "work_s": contest.workload.work(),
        },
        "cold_start_s": contest.cold_start.as_secs_f64(),
        "objective": contest.objective.to_string(),
        "policies": results.iter().map(|it| report(contest, &it.name, &it.report)).collect::<Vec<_>>(),
        "bound_instance_seconds": bound,
        "greedy_instance_seconds": greedy,
    })
}

/// One run.
pub(super) fn report(contest: &Contest, name: &str, report: &Report) -> Json {
    let client = |(client, called): (u64, &String)| {
        let wait = |part| report.client_wait(client, part).1;
        json!({
            "client": called,
            "dispatched": report.client_wait(client, 1.0).0,
            "wait_s": { "p50": wait(0.5), "p95": wait(0.95), "max": wait(1.0) },
        })
    };
    let clients: Vec<Json> = (1..).zip(contest.workload.clients()).map(client).collect();
    json!({
        "policy": name,
        "wait_s": {
            "p50": report.wait(0.5), "p95": report.wait(0.95), "p99": report.wait(0.99), "max": report.wait(1.0),
        },
        "late": late(report),
        "rejected": report.rejected,
        "expired": report.expired,
        "instance_seconds": report.instance_seconds,
        "standby_seconds": report.standby_seconds,
        "starts": report.starts,
        "most_instances": report.most,
        "size_changes": report.resizes,
        "utilisation": contest.used(report),
        "failures": report.failures().0,
        "failure": report.failures().1,
        "clients": clients,
    })
}
