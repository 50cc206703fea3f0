//! The proxy's own counters, read from `/metrics` (Prometheus text format 0.0.4).

use crate::cli::client::{Client, ClientError};

/// What the proxy has counted for a service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Counters {
    /// Requests that it accepted and that were lost because instances died.
    pub(super) lost: f64,
    /// Requests that it sent again.
    pub(super) replays: f64,
}

impl Counters {
    pub(super) async fn read(client: &Client, service: &str) -> Result<Self, ClientError> {
        Ok(Self::parse(&client.text("/metrics").await?, service))
    }

    fn parse(text: &str, service: &str) -> Self {
        Self {
            lost: sum(text, "longshore_requests_lost_total", service),
            replays: sum(text, "longshore_replays_total", service),
        }
    }

    /// What was counted since then.
    pub(super) fn since(self, before: &Self) -> Self {
        Self { lost: self.lost - before.lost, replays: self.replays - before.replays }
    }
}

/// The sum of all samples of a family that have the service's label.
fn sum(text: &str, family: &str, service: &str) -> f64 {
    let label = format!("service=\"{service}\"");
    let samples =
        text.lines().filter_map(|line| line.strip_prefix(family)?.strip_prefix('{')?.split_once("} "));
    samples
        .filter(|(labels, _)| labels.split(',').any(|part| part == label))
        .filter_map(|(_, value)| value.split(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_the_service_are_summed() {
        let text = "# HELP longshore_replays_total x\n# TYPE longshore_replays_total counter\n\
                    longshore_replays_total{reason=\"refused\",service=\"calc\"} 3\n\
                    longshore_replays_total{reason=\"reset\",service=\"calc\"} 4\n\
                    longshore_replays_total{reason=\"reset\",service=\"calc2\"} 50\n\
                    longshore_requests_lost_total{service=\"calc\"} 1 1700000000000\n";
        assert_eq!(Counters::parse(text, "calc"), Counters { lost: 1.0, replays: 7.0 });
        assert_eq!(Counters::parse(text, "echo"), Counters { lost: 0.0, replays: 0.0 });
    }
}
