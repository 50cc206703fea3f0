//! A real Prometheus that scrapes a proxy, and the expressions that Grafana would ask it.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::Request;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Client, PATIENCE, eventually};

/// A running Prometheus. Dropping it ends it and removes what it kept.
#[derive(Debug)]
pub struct Prometheus {
    folder: TempDir,
    client: Client,
    daemon: Child,
}

/// A series of an answer: its labels, and its values in time.
#[derive(Debug)]
pub struct Series {
    labels: Value,
    values: Vec<f64>,
}

impl Prometheus {
    /// Starts one that scrapes and evaluates each second what `config` says: the rest of a prometheus.yml, and the
    /// files (name, text) that it names.
    pub async fn start(config: &str, files: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("longshore-prometheus-").tempdir().expect("a folder");
        let global = "global: { scrape_interval: 1s, evaluation_interval: 1s }\n";
        let config = format!("{global}{config}");
        for (name, text) in [("prometheus.yml", config.as_str())].iter().chain(files) {
            std::fs::write(folder.path().join(name), text).expect("the folder can be written to");
        }
        let address = free_address();
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let daemon = Command::new("prometheus")
            .arg(format!("--config.file={}", path("prometheus.yml")))
            .arg(format!("--storage.tsdb.path={}", path("data")))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus is installed; ./test does that");
        let mut prometheus = Self { folder, client: Client::new(address), daemon };
        prometheus.serves().await;
        prometheus
    }

    async fn serves(&mut self) {
        let (client, daemon, log) = (&self.client, &mut self.daemon, self.folder.path().join("log"));
        eventually(PATIENCE, "prometheus serves", async || {
            if let Ok(Some(status)) = daemon.try_wait() {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("prometheus ended with {status}:\n{log}");
            }
            let reply = client.try_send(Request::get("/-/ready"), Bytes::new()).await.ok()?;
            (reply.status == 200).then_some(())
        })
        .await;
    }

    /// `data` of an answer of its API.
    ///
    /// # Panics
    /// When it is an error.
    pub async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let pairs = parameters.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
        let query: Vec<String> = pairs.collect();
        let mut answer = self.client.get(&format!("/api/v1/{path}?{}", query.join("&"))).await.json();
        assert_eq!(answer["status"], "success", "{parameters:?}: {answer}");
        assert!(answer["warnings"].is_null(), "{parameters:?}: {answer}");
        answer["data"].take()
    }

    /// What an expression is now.
    pub async fn now(&self, expression: &str) -> Vec<Series> {
        series(&self.ask("query", &[("query", expression)]).await)
    }

    /// What an expression was in the last `time`, each second, as a panel of Grafana shows it.
    pub async fn lately(&self, expression: &str, time: Duration) -> Vec<Series> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
        let (start, end) = (now.saturating_sub(time).as_secs().to_string(), now.as_secs().to_string());
        let parameters = [("query", expression), ("start", &start), ("end", &end), ("step", "1")];
        series(&self.ask("query_range", &parameters).await)
    }
}

fn series(data: &Value) -> Vec<Series> {
    let number = |pair: &Value| pair[1].as_str().and_then(|text| text.parse().ok()).expect("a number");
    let one = |result: &Value| {
        let many = result["values"].as_array().into_iter().flatten();
        let values = many.chain(result.get("value")).map(number).collect();
        Series { labels: result["metric"].clone(), values }
    };
    data["result"].as_array().expect("a list").iter().map(one).collect()
}

impl Series {
    /// Whether there is any number in it: 0/0 is none.
    pub fn shows_something(&self) -> bool {
        self.values.iter().any(|value| value.is_finite())
    }

    /// Whether it has a label of that name.
    pub fn has_label(&self, name: &str) -> bool {
        self.labels[name].is_string()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("it is bound")
}

fn encoded(text: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(byte).collect()
}

/// The names of the metrics in an expression.
pub fn names(expression: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = expression;
    while let Some(start) =
        rest.find(|c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '{' | '[' | '"'))
    {
        rest = &rest[start..];
        let end = match rest.as_bytes()[0] {
            b'{' => rest.find('}').map(|end| end + 1),
            b'[' => rest.find(']').map(|end| end + 1),
            b'"' => rest[1..].find('"').map(|end| end + 2),
            _ => rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | ':' | '.')),
        };
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        match word {
            // Their labels are not metrics.
            "by" | "without" | "on" | "ignoring" | "group_left" | "group_right" => {
                rest = rest.trim_start();
                if rest.starts_with('(') {
                    rest = &rest[rest.find(')').unwrap_or(rest.len())..];
                }
            }
            "and" | "or" | "unless" | "bool" | "offset" => {}
            _ if rest.trim_start().starts_with('(') || is_aggregation(word) => {}
            _ if word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => {
                names.push(word.to_owned())
            }
            _ => {}
        }
    }
    names
}

/// `sum by (…) (…)`: no bracket follows at once.
fn is_aggregation(word: &str) -> bool {
    ["sum", "min", "max", "avg", "count", "group", "stddev", "stdvar", "topk", "bottomk", "quantile"]
        .contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_told_from_functions_labels_and_numbers() {
        let expression = "(sum by (service) (a_total{state=~\"b_c|x\"}) == 0) and on (service) (d{e=\"f\"} > 1e3) \
                          or histogram_quantile(0.95, sum(rate(g:h_bucket[5m])) without (le)) > bool 2";
        assert_eq!(names(expression), ["a_total", "d", "g:h_bucket"]);
        assert!(names("1 + 2").is_empty());
    }
}
