//! dashboards/: what Grafana and Prometheus make of it, over a proxy under load.

use std::time::Duration;

use http::Request;
use longshore_tests::document::blocks;
use longshore_tests::load::{Payload, at_rate};
use longshore_tests::prometheus::{Prometheus, names};
use longshore_tests::{Backend, Cluster, PATIENCE, Setup, each, eventually, repository};
use serde_json::Value;

/// How long load lasts; what Prometheus has seen in it is asked for.
const LOAD: Duration = Duration::from_secs(12);

fn file(name: &str) -> String {
    let path = repository().join("dashboards").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What is asked for one line of a panel.
struct Target {
    panel: String,
    expression: String,
    /// Labels that its legend names.
    legend: Vec<String>,
}

/// Every line of every panel, with the variables as Grafana fills them in.
fn targets(dashboard: &Value, service: &str) -> Vec<Target> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let lines = panels.iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().unwrap_or_else(|| panic!("no targets: {panel}"));
        targets.iter().map(move |target| (text(&panel["title"]), target))
    });
    lines
        .map(|(panel, target)| {
            let legend = text(&target["legendFormat"]);
            let labels = legend.split("{{").skip(1).filter_map(|part| part.split_once("}}"));
            // Four scrapes, which come each second here.
            let expression =
                text(&target["expr"]).replace("$__rate_interval", "4s").replace("$service", service);
            assert!(!expression.is_empty() && !expression.contains('$'), "{panel}: {expression}");
            Target { panel, expression, legend: labels.map(|(label, _)| label.trim().to_owned()).collect() }
        })
        .collect()
}

/// A service at work, one that is asked too much, and one that never gets ready.
async fn cluster() -> Cluster {
    let cluster = Setup::new(Backend::Process)
        .model(
            "calc",
            "calculator --fault-latency 100ms",
            "size = 2\nconcurrency = 1\ndefault = true\ncache.ttl = \"1s\"",
        )
        .model("full", "sleep", "concurrency = 1\nqueue.limit = 1")
        .model("never", "calculator", "health = { path = \"/healthz\", status = 299 }")
        .serve()
        .await;
    for (service, size) in [("calc", 2), ("full", 1)] {
        cluster.admin().has(service, size).await;
    }
    cluster
}

/// Prometheus as dashboards/README.md sets it up, for this cluster.
async fn prometheus(cluster: &Cluster) -> Prometheus {
    let config = blocks(&file("README.md"), "yaml").concat();
    let (told, admin) = ("127.0.0.1:5001", cluster.admin().url());
    assert!(config.contains(told), "dashboards/README.md scrapes nothing at {told}");
    let config = config.replace(told, admin.trim_start_matches("http://"));
    Prometheus::start(&config, &[("alerts.yml", &file("alerts.yml"))]).await
}

/// Requests are answered, replayed and refused.
async fn trouble(cluster: &Cluster) {
    let load = tokio::spawn(at_rate(cluster.client(), Payload::Get, 15.0, LOAD));
    let (client, begun) = (cluster.client(), tokio::time::Instant::now());
    while begun.elapsed() < LOAD {
        let ask =
            || client.try_send(Request::get("/sleep/300ms").header("longshore-service", "full"), "".into());
        let (first, second, third) = tokio::join!(ask(), ask(), ask());
        let codes = [first, second, third].map(|reply| reply.expect("an answer").status);
        assert!(codes.contains(&200) && codes.contains(&503), "{codes:?}");
        let busy = cluster.admin().ready("calc").await.into_iter().find(|one| one.json["in_flight"] == 1);
        if let Some(victim) = busy.filter(|_| begun.elapsed() > Duration::from_secs(3)) {
            cluster.kill_instance(&victim).await;
        }
    }
    load.await.expect("no panic").lost_nothing();
}

async fn every_panel_shows_what_it_is_for_and_every_alert_can_fire() {
    let cluster = cluster().await;
    let prometheus = prometheus(&cluster).await;
    trouble(&cluster).await;
    let dashboard: Value = serde_json::from_str(&file("longshore.json")).expect("it is JSON");
    the_variables_have_values(&prometheus, &dashboard).await;
    panels_show_something(&cluster, &prometheus, &dashboard).await;
    alerts_can_fire(&cluster, &prometheus).await;
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

/// `label_values(METRIC, LABEL)` finds the services.
async fn the_variables_have_values(prometheus: &Prometheus, dashboard: &Value) {
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let mut queries = variables.iter().filter(|variable| variable["type"] == "query");
    let variable = queries.next().expect("a variable that is asked for");
    assert!(queries.next().is_none() && variable["name"] == "service", "{variables:?}");
    let query = variable["query"]["query"].as_str().expect("a query");
    let asked = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
    let (metric, label) =
        asked.and_then(|asked| asked.split_once(", ")).expect("label_values(METRIC, LABEL)");
    let values = prometheus.ask(&format!("label/{label}/values"), &[("match[]", metric)]).await;
    assert_eq!(values, serde_json::json!(["calc", "full", "never"]));
}

async fn panels_show_something(cluster: &Cluster, prometheus: &Prometheus, dashboard: &Value) {
    let metrics = cluster.admin().metrics().await;
    let services = dashboard["templating"]["list"].as_array().into_iter().flatten();
    let all = services.filter_map(|variable| variable["allValue"].as_str()).next().expect("a value for all");
    // All of them, and several chosen.
    for service in [all, "(calc|full)"] {
        for Target { panel, expression, legend } in targets(dashboard, service) {
            for name in names(&expression) {
                assert!(metrics.has(&name), "{panel}: /metrics has no {name}");
            }
            prometheus.now(&expression).await;
            let shown = prometheus.lately(&expression, LOAD).await;
            assert!(shown.iter().any(|one| one.shows_something()), "{panel} shows nothing: {expression}");
            for label in &legend {
                let has = shown.iter().all(|one| one.has_label(label));
                assert!(has, "{panel}: no label {label} for its legend: {shown:?}");
            }
        }
    }
}

async fn alerts_can_fire(cluster: &Cluster, prometheus: &Prometheus) {
    let metrics = cluster.admin().metrics().await;
    let rules = rules(prometheus).await;
    assert_eq!(rules.len(), file("alerts.yml").matches("- alert:").count(), "{rules:?}");
    for rule in &rules {
        let (name, expression) = (&rule["name"], rule["query"].as_str().expect("a query"));
        assert!(
            names(expression).iter().all(|name| metrics.has(name)),
            "{name}: not in /metrics: {expression}"
        );
        prometheus.now(expression).await;
        // Without its threshold, an alert is a number that is there all the time.
        let threshold = expression.rsplit_once(" > ").filter(|(_, number)| number.parse::<f64>().is_ok());
        let observed = threshold.map_or(expression, |(observed, _)| observed);
        let some = prometheus.now(observed).await.iter().any(|one| one.shows_something());
        assert!(some, "{name} looks at nothing: {observed}");
    }
    // One service refuses, one has no instance; nothing else is wrong.
    for rule in &rules {
        let expected = match rule["name"].as_str().expect("a name") {
            "LongshoreRefuses" | "LongshoreNoInstance" => "pending",
            _ => "inactive",
        };
        assert_eq!(rule["state"], expected, "{rule}");
    }
}

/// All rules, once each has been evaluated.
async fn rules(prometheus: &Prometheus) -> Vec<Value> {
    eventually(PATIENCE, "all rules are evaluated", async || {
        let groups = prometheus.ask("rules", &[]).await;
        let groups = groups["groups"].as_array().cloned().expect("groups");
        let rules: Vec<Value> =
            groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect();
        for rule in &rules {
            assert_ne!(rule["health"], "err", "{rule}");
        }
        (!rules.is_empty() && rules.iter().all(|rule| rule["health"] == "ok")).then_some(rules)
    })
    .await
}

each!(heavy 90: every_panel_shows_what_it_is_for_and_every_alert_can_fire);
