//! `longshore ps`: what runs.

use std::fmt::Write;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use http::Method;

use super::client::Client;
use super::{CliError, output};
use crate::admin::view::{InstanceView, ServiceView, Services};

/// Longest cause of death in the table; the whole of it stands below where nothing can be started.
const LONGEST_CAUSE: usize = 60;

#[derive(Debug, Args)]
pub(super) struct PsArgs {
    /// Prints the admin API's JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn ps(args: &PsArgs, client: &Client) -> Result<(), CliError> {
    if args.json {
        let services: serde_json::Value = client.json(Method::GET, "/services", None).await?;
        return Ok(output::line(format!("{services:#}"))?);
    }
    let services: Services = client.json(Method::GET, "/services", None).await?;
    Ok(output::write(page(&services).as_bytes())?)
}

/// Services, instances, and why nothing can be started.
fn page(all: &Services) -> String {
    let mut page =
        format!("cluster {}, {} backend\n\n{}\n", all.cluster, all.backend, services(&all.services));
    if all.services.iter().any(|service| !service.instances.is_empty()) {
        page += &format!("\n{}\n", instances(&all.services));
    }
    for service in &all.services {
        if let Some(cause) = &service.cannot_start {
            // Writing to a string does not fail.
            let what = if service.stopped { "is stopped" } else { "cannot start" };
            let _ = writeln!(page, "\n{} {what}: {}", service.name, cause.trim_end().replace('\n', "\n    "));
        }
    }
    page
}

fn services(services: &[ServiceView]) -> String {
    let mut table =
        columns(&["SERVICE", "WANTED", "READY", "STARTING", "STANDBY", "QUEUE", "IN FLIGHT", "IMAGE"]);
    for service in services {
        let size = &service.size;
        table.add_row([
            service.name.clone(),
            if service.stopped { "stopped".to_owned() } else { size.wanted.to_string() },
            size.ready.to_string(),
            size.starting.to_string(),
            size.standby.to_string(),
            queue(service),
            service.in_flight.to_string(),
            service.image.clone(),
        ]);
    }
    right(&mut table, &[1, 2, 3, 4, 6]);
    table.trim_fmt()
}

/// How many wait, and how long the first of them does.
fn queue(service: &ServiceView) -> String {
    match service.queue.depth {
        0 => "0".to_owned(),
        depth => {
            let left = service.queue.last_wait_s.map(|wait| format!(", done in {}", output::seconds(wait)));
            let oldest = output::seconds(service.queue.oldest_wait_s);
            format!("{depth} ({oldest}{})", left.unwrap_or_default())
        }
    }
}

fn instances(services: &[ServiceView]) -> String {
    let mut table = columns(&["INSTANCE", "STATE", "ADDRESS", "IN FLIGHT", "AGE", "RESTARTS", "LAST DEATH"]);
    for instance in services.iter().flat_map(|service| &service.instances) {
        table.add_row([
            instance.id.clone(),
            state(instance),
            instance.address.map_or_else(|| "-".to_owned(), |address| address.to_string()),
            instance.in_flight.to_string(),
            output::seconds(instance.age_s),
            instance.restarts.to_string(),
            death(instance),
        ]);
    }
    right(&mut table, &[3, 4, 5]);
    table.trim_fmt()
}

fn state(instance: &InstanceView) -> String {
    let failures = match instance.failures {
        0 => String::new(),
        1 => " (1 failure)".to_owned(),
        failures => format!(" ({failures} failures)"),
    };
    let outdated = if instance.outdated { ", to be replaced" } else { "" };
    format!("{}{failures}{outdated}", instance.state)
}

/// How the slot's previous life ended, in a line.
fn death(instance: &InstanceView) -> String {
    let Some(cause) = &instance.last_death else { return "-".to_owned() };
    let line = cause.lines().next().unwrap_or_default();
    let line = line.split("; its last log lines").next().unwrap_or_default();
    let mut text: String = line.chars().take(LONGEST_CAUSE).collect();
    if line.chars().count() > LONGEST_CAUSE {
        text.push('…');
    }
    match instance.last_death_age_s {
        Some(age) => format!("{text}, {} ago", output::seconds(age)),
        None => text,
    }
}

pub(super) fn columns(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.iter().copied());
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

pub(super) fn right(table: &mut Table, numbers: &[usize]) {
    for index in numbers {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A cluster in which much goes on.
    pub(in super::super) fn example() -> Services {
        let text = r#"{
            "cluster": "default", "backend": "docker", "services": [
              { "name": "calc", "image": "longshore/model-server", "hosts": ["calc"], "paths": [], "default": true,
                "size": { "wanted": 3, "ready": 1, "starting": 1, "standby": 2, "min": 0, "max": 1000, "policy": 3,
                          "overridden": true, "last_decision": null },
                "queue": { "depth": 12, "limit": 10000, "bytes": 0, "oldest_wait_s": 4.2, "drain_rate": 2.0, "last_wait_s": 6.0 },
                "in_flight": 1, "concurrency": 1, "cannot_start": null,
                "instances": [
                  { "id": "calc-0-4", "state": "ready", "address": "127.0.0.1:32768", "in_flight": 1, "age_s": 192.0,
                    "restarts": 3, "failures": 0, "last_death": "killed by signal 9", "last_death_age_s": 193.0,
                    "outdated": false },
                  { "id": "calc-1-1", "state": "starting", "address": null, "in_flight": 0, "age_s": 0.4,
                    "restarts": 0, "failures": 0, "last_death": null, "last_death_age_s": null, "outdated": false }
                ] },
              { "name": "broken", "image": "example/broken", "hosts": ["broken"], "paths": [], "default": false,
                "size": { "wanted": 1, "ready": 0, "starting": 0, "min": 0, "max": 1000, "policy": 1,
                          "overridden": false, "last_decision": null },
                "queue": { "depth": 0, "limit": 10000, "bytes": 0, "oldest_wait_s": 0.0 },
                "in_flight": 0, "concurrency": 1,
                "cannot_start": "exited with code 3; its last log lines:\nloading\nno such model\n",
                "instances": [
                  { "id": "broken-0-7", "state": "backing-off", "address": null, "in_flight": 0, "age_s": 7.0,
                    "restarts": 6, "failures": 6,
                    "last_death": "exited with code 3; its last log lines:\nloading\nno such model\n",
                    "last_death_age_s": 7.0, "outdated": false }
                ] }
            ] }"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn everything_is_on_one_page() {
        let expected = "\
cluster default, docker backend

SERVICE  WANTED  READY  STARTING  STANDBY  QUEUE                IN FLIGHT  IMAGE
calc          3      1         1        2  12 (4s, done in 6s)          1  longshore/model-server
broken        1      0         0        0  0                            0  example/broken

INSTANCE    STATE                     ADDRESS          IN FLIGHT    AGE  RESTARTS  LAST DEATH
calc-0-4    ready                     127.0.0.1:32768          1  3m12s         3  killed by signal 9, 3m13s ago
calc-1-1    starting                  -                        0  400ms         0  -
broken-0-7  backing-off (6 failures)  -                        0     7s         6  exited with code 3, 7s ago

broken cannot start: exited with code 3; its last log lines:
    loading
    no such model
";
        assert_eq!(page(&example()), expected);
    }

    #[test]
    fn a_service_without_instances_has_no_second_table() {
        let mut all = example();
        all.services.truncate(1);
        all.services[0].instances.clear();
        assert!(!page(&all).contains("INSTANCE"));
    }

    #[test]
    fn a_service_that_is_stopped_is_shown_so() {
        let mut all = example();
        all.services.remove(0);
        all.services[0].stopped = true;
        let page = page(&all);
        assert!(page.contains("broken   stopped      0"), "{page}");
        assert!(page.contains("\nbroken is stopped: exited with code 3"), "{page}");
    }

    #[test]
    fn a_long_cause_is_cut() {
        let mut instance = example().services.remove(1).instances.remove(0);
        instance.last_death = Some("ä".repeat(200));
        assert_eq!(death(&instance), format!("{}…, 7s ago", "ä".repeat(60)));
    }
}
