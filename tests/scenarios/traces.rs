//! Traces: what is recorded of a request, as a collector gets it.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use longshore_tests::command::run;
use longshore_tests::otlp::{Collector, Span};
use longshore_tests::raw::Raw;
use longshore_tests::tls::Authority;
use longshore_tests::{Backend, Cluster, PATIENCE, Setup, both, each, eventually};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn setup(backend: Backend, collector: &Collector, telemetry: &str) -> Setup {
    Setup::new(backend)
        .service(&format!("[telemetry]\notlp = \"http://{}\"\n{telemetry}", collector.address))
        .model("calc", "calculator", "default = true\nsize = 2\nconcurrency = 1")
        .model("echo", "echo", "")
}

fn with_parent(request: http::request::Builder, flags: &str) -> http::request::Builder {
    request
        .header("traceparent", format!("00-{TRACE}-{PARENT}-{flags}"))
        .header("tracestate", "a=1")
        .header("tracestate", "b=2")
}

/// The spans of a trace, once its whole is there.
async fn trace(collector: &Collector, id: &str) -> Vec<Span> {
    eventually(PATIENCE, "the trace is exported", async || {
        let spans: Vec<Span> = collector.spans().into_iter().filter(|span| span.trace == id).collect();
        spans.iter().any(|span| span.kind == 2).then_some(spans)
    })
    .await
}

fn named<'s>(spans: &'s [Span], name: &str) -> Vec<&'s Span> {
    let mut named: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    named.sort_by_key(|span| span.begun);
    named
}

/// Every span is within its parent, and has an id of its own.
fn is_a_tree(spans: &[Span], root: &Span) {
    let ids: std::collections::BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    assert_eq!(ids.len(), spans.len(), "{spans:#?}");
    for span in spans.iter().filter(|span| span.id != root.id) {
        assert_eq!(span.parent, root.id, "{span:#?}");
        assert!(span.begun >= root.begun && span.ended <= root.ended, "{span:#?} in {root:#?}");
        assert!(span.begun <= span.ended, "{span:#?}");
    }
}

fn seen(cluster_answer: &serde_json::Value, name: &str) -> Vec<String> {
    let fields = cluster_answer["headers"].as_array().expect("the echo answers");
    let values = fields.iter().filter(|pair| pair[0] == name);
    values.map(|pair| pair[1].as_str().expect("a text").to_owned()).collect()
}

async fn a_request_is_a_span_of_its_client_s_trace_and_the_instance_s_is_one_of_it(backend: Backend) {
    let collector = Collector::start().await;
    let cluster = setup(backend, &collector, "service_name = \"edge\"").start().await;
    let request = with_parent(Request::get("/x?q=1").header("longshore-service", "echo"), "01");
    let reply = cluster.client().send(request.header("user-agent", "tester"), Bytes::new()).await;
    let spans = trace(&collector, TRACE).await;
    let root = named(&spans, "GET echo")[0];
    assert_eq!((root.parent.as_str(), root.kind, root.state.as_str()), (PARENT, 2, "a=1,b=2"));
    is_a_tree(&spans, root);
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("url.path", "/x"),
        ("longshore.service", "echo"),
        ("client.address", "127.0.0.1"),
        ("user_agent.original", "tester"),
        ("longshore.request_id", reply.header("x-request-id")),
    ] {
        assert_eq!(root.attributes.get(name).map(String::as_str), Some(value), "{name}: {root:#?}");
    }
    assert_eq!(root.resource["service.name"], "edge");
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["accept", "queue", "attempt", "response", "GET echo"]);
    let attempt = named(&spans, "attempt")[0];
    assert_eq!(
        (attempt.kind, attempt.attributes["longshore.instance"].as_str()),
        (3, reply.header("longshore-instance"))
    );
    // What the instance is told: the attempt is its parent.
    assert_eq!(seen(&reply.json(), "traceparent"), [format!("00-{TRACE}-{}-01", attempt.id)]);
    assert_eq!(seen(&reply.json(), "tracestate"), ["a=1", "b=2"]);
    cluster.admin().counts("longshore_trace_spans_total", &[("result", "sent")], spans.len() as f64).await;
    cluster.stop().await;
}

async fn a_replay_is_a_second_attempt_in_the_same_trace(backend: Backend) {
    let collector = Collector::start().await;
    let cluster = setup(backend, &collector, "").start().await;
    let doomed = cluster.client().get("/stats").await.json()["instance"].as_str().expect("a name").to_owned();
    let mut reply = None;
    // Which of the two gets it is the balancer's choice: once it has met the one that crashes, there is a replay.
    for _ in 0..20 {
        let request = Request::get("/add/3/4").header("fault", format!("crash; only={doomed}"));
        let answer = cluster.client().send(with_parent(request, "01"), Bytes::new()).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "7"));
        if answer.header("longshore-attempts") == "2" {
            reply = Some(answer);
            break;
        }
    }
    let reply = reply.expect("the doomed instance was never asked");
    let id = reply.header("x-request-id").to_owned();
    let spans = eventually(PATIENCE, "the replayed request is exported", async || {
        let all = collector.spans();
        let root = all.iter().find(|span| span.attributes.get("longshore.request_id") == Some(&id))?;
        let own = all.iter().filter(|span| span.id == root.id || span.parent == root.id);
        Some((root.clone(), own.cloned().collect::<Vec<Span>>()))
    });
    let (root, spans) = spans.await;
    is_a_tree(&spans, &root);
    assert_eq!((root.parent.as_str(), &root.error), (PARENT, &None));
    let attempts = named(&spans, "attempt");
    let queues = named(&spans, "queue");
    assert_eq!((attempts.len(), queues.len()), (2, 2), "{spans:#?}");
    let (first, second) = (attempts[0], attempts[1]);
    assert!(first.error.is_some() && first.attributes.contains_key("error.type"), "{first:#?}");
    assert_eq!((&second.error, second.attributes["http.response.status_code"].as_str()), (&None, "200"));
    assert_eq!(
        (first.attributes["longshore.attempt"].as_str(), second.attributes["longshore.attempt"].as_str()),
        ("1", "2")
    );
    assert_ne!(first.attributes["longshore.instance"], second.attributes["longshore.instance"]);
    assert!(first.ended <= queues[1].begun && queues[1].ended <= second.begun, "{spans:#?}");
    cluster.stop().await;
}

async fn only_what_is_sampled_is_recorded() {
    let collector = Collector::start().await;
    let cluster = setup(Backend::Process, &collector, "sample = 0").start().await;
    let ask = async |flags: Option<&str>| {
        let request = Request::get("/x").header("longshore-service", "echo");
        let request = match flags {
            Some(flags) => with_parent(request, flags),
            None => request,
        };
        let answer = cluster.client().send(request, Bytes::new()).await.json();
        seen(&answer, "traceparent").remove(0)
    };
    assert_eq!(ask(Some("00")).await, format!("00-{TRACE}-{PARENT}-00"), "passed on as it is");
    assert!(ask(None).await.ends_with("-00"), "begun, and not sampled");
    let recorded = ask(Some("01")).await;
    assert!(recorded.starts_with(&format!("00-{TRACE}-")) && recorded.ends_with("-01"), "{recorded}");
    trace(&collector, TRACE).await;
    let roots = collector.spans().iter().filter(|span| span.kind == 2).count();
    assert_eq!(roots, 1, "one of three is recorded");
    cluster.stop().await;
}

async fn a_trace_that_begins_here_has_the_request_s_id() {
    let collector = Collector::start().await;
    let cluster = setup(Backend::Process, &collector, "").start().await;
    let reply = cluster.client().get("/add/3/4").await;
    let spans = trace(&collector, reply.header("x-request-id")).await;
    assert_eq!(named(&spans, "GET calc")[0].parent, "");
    // Longshore's own answer, before there is a service.
    let missing = cluster.client().get_from("clac", "/").await;
    let spans = trace(&collector, missing.header("x-request-id")).await;
    let root = named(&spans, "GET")[0];
    assert_eq!(
        (root.attributes["http.response.status_code"].as_str(), root.attributes["error.type"].as_str()),
        ("404", "no-service")
    );
    cluster.stop().await;
}

async fn a_stream_is_recorded_until_its_last_byte_or_its_client_s_departure() {
    let collector = Collector::start().await;
    let cluster = setup(Backend::Process, &collector, "").start().await;
    let body = Empty::new().map_err(|never| match never {});
    let request = Request::get("/stream?chunks=5&interval_ms=100");
    let (response, _connection) = cluster.client().open(request, body).await.expect("an answer begins");
    let id = response.headers()["x-request-id"].to_str().expect("a text").to_owned();
    response.into_body().collect().await.expect("it is whole");
    let spans = trace(&collector, &id).await;
    let response = named(&spans, "response")[0];
    let took = Duration::from_nanos(response.ended - response.begun);
    assert!(took >= Duration::from_millis(300) && response.error.is_none(), "{response:#?}");
    let mut leaving = Raw::connect(cluster.address()).await;
    leaving
        .send("GET /add/3/4 HTTP/1.1\r\nHost: calc\r\nFault: latency=30s\r\nX-Request-Id: leaves\r\n\r\n")
        .await;
    cluster.admin().works_on("calc", 1).await;
    drop(leaving);
    let left = eventually(PATIENCE, "the departure is exported", async || {
        let spans = collector.spans().into_iter();
        spans
            .clone()
            .find(|span| span.attributes.get("longshore.request_id").is_some_and(|id| id == "leaves"))
    })
    .await;
    assert_eq!(left.error.as_deref(), Some("the client has left"), "{left:#?}");
    cluster.stop().await;
}

async fn what_is_left_is_exported_at_the_end_and_the_environment_says_where() {
    let collector = Collector::start().await;
    let setup = Setup::new(Backend::Process)
        .environment("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{}", collector.address))
        .environment("OTEL_SERVICE_NAME", "by-environment");
    let cluster: Cluster = setup.model("calc", "calculator", "").start().await;
    let id = cluster.client().get("/add/3/4").await.header("x-request-id").to_owned();
    cluster.stop().await;
    let spans: Vec<Span> = collector.spans().into_iter().filter(|span| span.trace == id).collect();
    assert!(spans.iter().any(|span| span.resource["service.name"] == "by-environment"), "{spans:#?}");
}

async fn a_collector_that_is_away_costs_requests_nothing_and_what_is_lost_is_counted() {
    let collector = Collector::start().await;
    collector.answer(400);
    let cluster = setup(Backend::Process, &collector, "").start().await;
    for _ in 0..20 {
        assert_eq!(cluster.client().get("/add/3/4").await.status, 200);
    }
    let dropped = async || {
        let metrics = cluster.admin().metrics().await;
        let dropped = metrics.sum("longshore_trace_spans_total", &[("result", "dropped")]);
        (dropped >= 100.0).then_some(dropped)
    };
    eventually(PATIENCE, "refused spans are counted", dropped).await;
    assert!(cluster.log().iter().any(|line| line.contains("does not take traces")), "{:?}", cluster.log());
    collector.answer(200);
    let id = cluster.client().get("/add/3/4").await.header("x-request-id").to_owned();
    trace(&collector, &id).await;
    cluster.stop().await;
}

async fn a_collector_that_speaks_tls_gets_them_once_it_is_believed() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let collector = Collector::secure(&authority.issue()).await;
    // The file's authority, the system's, that of OpenTelemetry's variable; and one who has not signed it.
    for (believed, key, variable) in [
        (true, "ca = \"ca.pem\"", None),
        (true, "", Some("SSL_CERT_FILE")),
        (true, "ca = \"other.pem\"", Some("OTEL_EXPORTER_OTLP_CERTIFICATE")),
        (false, "ca = \"other.pem\"", None),
    ] {
        let mut setup = Setup::new(Backend::Process)
            .service(&format!("[telemetry]\notlp = \"https://{}\"\n{key}\n", collector.address))
            .model("calc", "calculator", "");
        let file = setup.file("ca.pem", &authority.pem());
        setup.file("other.pem", &stranger.pem());
        if let Some(variable) = variable {
            setup = setup.environment(variable, file.to_str().expect("a plain path"));
        }
        let cluster = setup.start().await;
        let id = cluster.client().get("/add/3/4").await.header("x-request-id").to_owned();
        if believed {
            trace(&collector, &id).await;
        } else {
            eventually(PATIENCE, "it is said why it gets none", async || {
                let said = |line: &String| {
                    line.contains("does not take traces") && line.contains("invalid peer certificate")
                };
                cluster.log().iter().any(said).then_some(())
            })
            .await;
            assert!(!collector.spans().iter().any(|span| span.trace == id));
        }
        cluster.stop().await;
    }
}

async fn a_file_of_authorities_that_is_none_is_a_mistake() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cluster.toml");
    let text = "[telemetry]\notlp = \"https://a\"\nca = \"ca.pem\"\n[services.calc]\nimage = \"x\"\n";
    std::fs::write(&path, text).expect("it can be written");
    let done = run(PATIENCE, &["check", "-c", path.to_str().expect("a plain path")], &[]).await;
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains("cannot read the certificates to believe"), "{}", done.stderr);
}

both!(light 60: a_request_is_a_span_of_its_client_s_trace_and_the_instance_s_is_one_of_it);
both!(light 60: a_replay_is_a_second_attempt_in_the_same_trace);
each!(light 90: a_collector_that_speaks_tls_gets_them_once_it_is_believed, a_file_of_authorities_that_is_none_is_a_mistake);
each!(light 60: only_what_is_sampled_is_recorded, a_trace_that_begins_here_has_the_request_s_id);
each!(light 60: a_stream_is_recorded_until_its_last_byte_or_its_client_s_departure);
each!(light 60: what_is_left_is_exported_at_the_end_and_the_environment_says_where);
each!(light 60: a_collector_that_is_away_costs_requests_nothing_and_what_is_lost_is_counted);
