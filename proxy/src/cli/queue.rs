//! `longshore queue NAME`: who waits for a service, and for how long yet.

use clap::Args;
use http::Method;
use serde_json::Value as Json;

use super::client::Client;
use super::{CliError, output, ps};
use crate::admin::view::{InQueueView, Queue};
use crate::http_client::segment;

#[derive(Debug, Args)]
pub(super) struct QueueArgs {
    /// The service.
    name: String,
    /// How many requests, of those that have waited longest; the next one first.
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u16).range(..=1000))]
    limit: u16,
    /// Prints the admin API's JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn queue(args: &QueueArgs, client: &Client) -> Result<(), CliError> {
    let path = format!("/services/{}/queue?limit={}", segment(&args.name), args.limit);
    if args.json {
        let queue: Json = client.json(Method::GET, &path, None).await?;
        return Ok(output::line(format!("{queue:#}"))?);
    }
    let queue: Queue = client.json(Method::GET, &path, None).await?;
    Ok(output::write(page(&queue).as_bytes())?)
}

fn page(queue: &Queue) -> String {
    let head =
        format!("{}: {} waiting, {:.1} served a second\n", queue.service, queue.waiting, queue.drain_rate);
    if queue.requests.is_empty() {
        return head;
    }
    let mut table = ps::columns(&["REQUEST", "BEFORE IT", "WAITED", "STILL WAITS", "ATTEMPTS"]);
    for request in &queue.requests {
        table.add_row(row(request));
    }
    ps::right(&mut table, &[1, 2, 3, 4]);
    format!("{head}\n{}\n", table.trim_fmt())
}

fn row(request: &InQueueView) -> [String; 5] {
    [
        request.request_id.clone(),
        request.position.to_string(),
        output::seconds(request.age_s),
        // Nobody can tell while nothing is served.
        request.estimated_wait_s.map_or_else(|| "-".to_owned(), output::seconds),
        request.attempts.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_a_row() {
        let request = |position, estimated_wait_s| InQueueView {
            request_id: format!("r{position}"),
            position,
            estimated_wait_s,
            age_s: 2.0,
            attempts: 1,
        };
        let requests = vec![request(0, Some(0.5)), request(1, None)];
        let page = page(&Queue { service: "calc".into(), waiting: 2, drain_rate: 2.0, requests });
        let lines: Vec<Vec<&str>> = page.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0].join(" "), "calc: 2 waiting, 2.0 served a second");
        assert_eq!((lines[3][0], lines[3][1], lines[4][3]), ("r0", "0", "-"), "{page}");
        let nobody = Queue { service: "calc".into(), waiting: 0, drain_rate: 0.0, requests: Vec::new() };
        assert_eq!(super::page(&nobody), "calc: 0 waiting, 0.0 served a second\n");
    }
}
