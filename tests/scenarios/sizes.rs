//! Sizes that are decided: by load, by an expression, by somebody else; and how they are explained.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use longshore_tests::tls::{Authority, Pair};
use longshore_tests::{Backend, PATIENCE, Setup, both, each, eventually};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

async fn at_size_zero_requests_are_held_and_one_start_answers_them_all(backend: Backend) {
    let keys = "concurrency = 0\nsize = { policy = \"wait\", max = 3 }";
    let cluster =
        Setup::new(backend).model("calc", "calculator --fault-start-delay 500ms", keys).start().await;
    let admin = cluster.admin();
    assert_eq!(admin.service("calc").await["size"]["wanted"], 0);
    let mut open = JoinSet::new();
    for number in 0..40 {
        let client = cluster.client();
        open.spawn(async move { client.get(&format!("/add/{number}/1")).await.status });
    }
    while let Some(status) = open.join_next().await {
        assert_eq!(status.expect("no panic"), 200);
    }
    assert_eq!(admin.has("calc", 1).await.len(), 1);
    let metrics = admin.metrics().await;
    let started = metrics.sum("longshore_instance_starts_total", &[("service", "calc"), ("result", "ready")]);
    assert_eq!(started, 1.0, "once, however many arrive");
    let explained = cluster.command(&["explain", "calc"]).await;
    assert_eq!(explained.code, 0, "{}", explained.stderr);
    assert!(explained.stdout.contains("policy\":\"wait\""), "{}", explained.stdout);
    assert!(explained.stdout.contains("0 -> 1  (wait)"), "{}", explained.stdout);
    cluster.stop().await;
}

async fn every_form_of_size_is_taken_at_run_time_and_given_back(backend: Backend) {
    let keys = "size = { policy = \"concurrency\", min = 1, max = 4 }";
    let cluster = Setup::new(backend).model("calc", "calculator", keys).start().await;
    let admin = cluster.admin();
    let put = async |size: Value| admin.put_size("calc", json!({ "size": size }).to_string()).await;
    for (size, wanted) in [
        (json!(2), 2),
        (json!("if queue > 7 { 4 } else { 3 }"), 3),
        (json!({"policy": "fixed", "size": 1}), 1),
        (json!({"policy": "schedule", "timezone": "UTC", "lines": {"* * * * *": 2}}), 2),
    ] {
        let reply = put(size.clone()).await;
        assert_eq!(reply.status, 200, "{size}: {}", reply.text());
        let shown = &reply.json()["size"];
        // What falls, falls after a while; a number is obeyed at once.
        let settled = shown["wanted"] == wanted || shown["wanted"].as_u64() > Some(wanted);
        assert!(settled && shown["overridden"] == true, "{size}: {shown}");
        assert_eq!((&shown["min"], &shown["max"]), (&json!(1), &json!(4)), "{size}: the file's bounds stay");
    }
    for (body, pointer, detail) in [
        (r#"{"size":{"policy":"wait","objective":"soon"}}"#, "/size/objective", "must be a duration"),
        (r#"{"size":{"policy":"wait","min":9,"max":2}}"#, "/size/max", "`max` is 2 and below `min`"),
        (r#"{"size":{"policy":"webhook"}}"#, "/size", "needs `url`"),
        (r#"{"size":9}"#, "/size", "size must be from 1 to 4 for calc, got 9"),
        (r#"{"size":-1}"#, "/size", "an integer from 0 to 1000, got -1"),
        (r#"{"size":1.5}"#, "/size", "an integer from 0 to 1000, got 1.5"),
        (r#"{"size":"x"}"#, "/size", "no expression"),
        (r#"{"size":2,"sice":3}"#, "/sice", "unknown key \"sice\""),
        ("{}", "", "it has no \"size\""),
        ("[1]", "", "it is an array"),
        ("3", "", "it is a number"),
        ("{", "", "EOF"),
    ] {
        let reply = admin.put_size("calc", body.to_owned()).await;
        assert_eq!(reply.status, 400, "{body}: {}", reply.text());
        assert!(reply.detail().contains(detail), "{body}: {}", reply.detail());
        let answer = reply.json();
        assert_eq!((&answer["pointer"], &answer["errors"][0]["pointer"]), (&json!(pointer), &json!(pointer)));
        assert!(!reply.text().contains("struct"), "{body}: {}", reply.text());
    }
    let large = admin.put_size("calc", format!("{{\"size\":\"{}\"}}", "1+".repeat(40_000))).await;
    assert_eq!(large.status, 413, "{}", large.text());
    assert!(large.detail().contains("65536 bytes"), "{}", large.detail());
    for path in ["events?follow=maybe", "services/calc/queue?limit=-1", "services/calc/queue?limits=1"] {
        let reply = admin.client().get(&format!("/{path}")).await;
        assert_eq!(reply.status, 400, "{path}");
        assert!(reply.detail().starts_with("the query is wrong: `"), "{path}: {}", reply.detail());
    }
    let reset = admin.client().send(Request::delete("/services/calc/size"), Bytes::new()).await;
    let size = &reset.json()["size"];
    assert_eq!(size["overridden"], false);
    assert_eq!(size["policy"], json!({"policy": "concurrency", "min": 1, "max": 4}));
    cluster.stop().await;
}

async fn an_instance_that_has_the_ports_of_the_machine_gets_no_second_one() {
    let setup = Setup::new(Backend::Process).model("calc", "calculator", "address = \"host\"");
    let cluster = setup.start().await;
    for size in
        [json!(2), json!({"policy": "wait", "max": 2}), json!({"policy": "fixed", "size": 1, "max": 9})]
    {
        let reply = cluster.admin().put_size("calc", json!({ "size": size }).to_string()).await;
        assert_eq!(reply.status, 400, "{size}: {}", reply.text());
        assert!(reply.detail().contains("the port of the first"), "{size}: {}", reply.detail());
    }
    for size in [json!(0), json!("queue"), json!({"policy": "wait"})] {
        let reply = cluster.admin().put_size("calc", json!({ "size": size }).to_string()).await;
        assert_eq!(
            (reply.status, &reply.json()["size"]["max"]),
            (200, &json!(1)),
            "{size}: {}",
            reply.text()
        );
    }
    cluster.stop().await;
}

/// A server that decides: what it answers can be changed; how often it was asked, and what it was sent last.
#[derive(Clone)]
struct Decider {
    url: String,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicU64>,
    seen: Arc<Mutex<Value>>,
}

impl Decider {
    async fn start(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/decide", listener.local_addr().expect("it is bound"));
        let decider = Self::new(url, answer);
        let serving = decider.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        decider
    }

    /// Asked over TLS.
    async fn start_secure(answer: &str, pair: &Pair) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://{}/decide", listener.local_addr().expect("it is bound"));
        let decider = Self::new(url, answer);
        let (serving, acceptor) = (decider.clone(), pair.acceptor());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    tokio::spawn(serving.clone().serve(stream));
                }
            }
        });
        decider
    }

    fn new(url: String, answer: &str) -> Self {
        let answer = Arc::new(Mutex::new(answer.to_owned()));
        Self { url, answer, asked: Arc::default(), seen: Arc::default() }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) {
        let service = service_fn(move |request: Request<Incoming>| {
            let decider = self.clone();
            async move {
                let body = request.into_body().collect().await.expect("a body").to_bytes();
                *decider.seen.lock() = serde_json::from_slice(&body).unwrap_or_default();
                decider.asked.fetch_add(1, Ordering::Relaxed);
                let answer = decider.answer.lock().clone();
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(answer))))
            }
        });
        // One that asks no more is gone.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }
}

async fn a_webhook_over_tls_is_believed_if_this_machine_knows_who_signed_it() {
    let (known, stranger) = (Authority::new(), Authority::new());
    let decider = Decider::start_secure(r#"{"size": 2}"#, &known.issue()).await;
    let other = Decider::start_secure(r#"{"size": 3}"#, &stranger.issue()).await;
    let size = |url: &str| json!({"policy": "webhook", "url": url, "interval": "100ms", "max": 5});
    let setup = Setup::new(Backend::Process).model("calc", "calculator", "size = 1");
    let list = setup.file("authorities.pem", &known.pem());
    let cluster = setup.environment("SSL_CERT_FILE", &list.to_string_lossy()).start().await;
    let admin = cluster.admin();
    let put = async |url: &str| admin.put_size("calc", json!({ "size": size(url) }).to_string()).await;
    assert_eq!(put(&decider.url).await.status, 200);
    admin.has("calc", 2).await;
    assert_eq!(put(&other.url).await.status, 200);
    let refused = async || {
        let decisions = admin.client().get("/services/calc/decisions").await.json();
        let reason = decisions["decisions"][0]["reason"].as_str().unwrap_or_default().to_owned();
        reason.contains("certificate").then_some(reason)
    };
    let reason = eventually(PATIENCE, "the stranger is refused", refused).await;
    assert!(reason.contains("invalid peer certificate"), "{reason}");
    assert_eq!(other.asked.load(Ordering::Relaxed), 0, "it was told nothing");
    admin.has("calc", 2).await;
    cluster.stop().await;
}

async fn a_webhook_decides_and_its_last_good_answer_is_kept_when_it_fails(backend: Backend) {
    let decider = Decider::start(r#"{"size": 2, "reason": "two are enough"}"#).await;
    let keys = format!(
        "size = {{ policy = \"webhook\", url = \"{}\", interval = \"100ms\", max = 5 }}",
        decider.url
    );
    let cluster = Setup::new(backend).model("calc", "calculator", &keys).start().await;
    let admin = cluster.admin();
    admin.has("calc", 2).await;
    let seen = decider.seen.lock().clone();
    assert_eq!(
        (&seen["service"], seen["queue"].is_u64(), seen["hour"].is_u64()),
        (&json!("calc"), true, true)
    );
    *decider.answer.lock() = "no idea".to_owned();
    let failing = async || {
        let decisions = admin.client().get("/services/calc/decisions").await.json();
        (decisions["decisions"][0]["failed"] == true).then(|| decisions["decisions"][0].clone())
    };
    let decision = eventually(PATIENCE, "the failure is recorded", failing).await;
    assert_eq!((&decision["size"], &decision["policy"]), (&json!(2), &json!("webhook")));
    let reason = decision["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("kept at the last advice, 2: its answer is not"), "{reason}");
    assert!(admin.metrics().await.sum("longshore_policy_errors_total", &[("service", "calc")]) >= 1.0);
    *decider.answer.lock() = r#"{"size": 3}"#.to_owned();
    admin.has("calc", 3).await;
    // Another size ends the asking.
    assert_eq!(admin.set_size("calc", 1).await.status, 200);
    admin.has("calc", 1).await;
    let asked = decider.asked.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(decider.asked.load(Ordering::Relaxed) <= asked + 1);
    cluster.stop().await;
}

async fn a_dry_run_records_and_changes_nothing(backend: Backend) {
    let keys = "size = { policy = \"expression\", expression = \"4\", min = 1, dry_run = true, interval = \"50ms\" }";
    let cluster = Setup::new(backend).model("calc", "calculator", keys).start().await;
    let admin = cluster.admin();
    let recorded = async || {
        let decisions = admin.client().get("/services/calc/decisions").await.json();
        (decisions["decisions"][0]["looks"].as_u64() > Some(3)).then_some(decisions)
    };
    let decisions = eventually(PATIENCE, "decisions are recorded", recorded).await;
    let last = &decisions["decisions"][0];
    assert_eq!(
        (&decisions["dry_run"], &last["dry_run"], &last["size"]),
        (&json!(true), &json!(true), &json!(4))
    );
    assert_eq!(admin.service("calc").await["size"]["wanted"], 1);
    assert_eq!(admin.has("calc", 1).await.len(), 1);
    cluster.stop().await;
}

async fn simulate_prints_a_row_for_each_policy_and_tunes() {
    let simulate = async |arguments: &[&str]| {
        let line = [&["simulate", "--rate", "2", "--duration", "5m"], arguments].concat();
        longshore_tests::command::run(Duration::from_secs(60), &line, &[]).await
    };
    let table = simulate(&["--policy", "wait", "--policy", "2"]).await;
    assert_eq!(table.code, 0, "{}", table.stderr);
    let rows =
        table.stdout.lines().filter(|line| line.starts_with("wait ") || line.starts_with("2 ")).count();
    assert_eq!(rows, 2, "{}", table.stdout);
    let tuned = simulate(&["--policy", "1", "--tune", "--cold-start", "0s"]).await;
    assert_eq!(tuned.code, 0, "{}", tuned.stderr);
    assert!(tuned.stdout.lines().last().unwrap_or_default().starts_with("size = "), "{}", tuned.stdout);
    let wrong = simulate(&["--policy", "magic"]).await;
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
}

async fn what_is_recorded_can_be_simulated() {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("trace.csv").display().to_string();
    let setup = Setup::new(Backend::Process).argument("--record").argument(&trace);
    let cluster = setup.model("calc", "calculator --fault-latency 30ms", "concurrency = 1").start().await;
    for number in 0..20 {
        assert_eq!(cluster.client().get(&format!("/add/{number}/1")).await.status, 200);
    }
    cluster.stop().await;
    let simulated = longshore_tests::command::run(
        Duration::from_secs(30),
        &["simulate", "--trace", &trace, "--json"],
        &[],
    )
    .await;
    assert_eq!(simulated.code, 0, "{}", simulated.stderr);
    let json: Value = serde_json::from_str(&simulated.stdout).expect("it is JSON");
    assert_eq!(json["workload"]["requests"], 20, "{json}");
    let work = json["workload"]["work_s"].as_f64().expect("a number");
    assert!((0.6..6.0).contains(&work), "twenty times 30 ms at least: {work}");
}

both!(light 90: at_size_zero_requests_are_held_and_one_start_answers_them_all);
both!(light 90: every_form_of_size_is_taken_at_run_time_and_given_back);
both!(light 90: a_webhook_decides_and_its_last_good_answer_is_kept_when_it_fails);
each!(light 60: a_webhook_over_tls_is_believed_if_this_machine_knows_who_signed_it);
both!(light 60: a_dry_run_records_and_changes_nothing);
each!(light 60: what_is_recorded_can_be_simulated);
each!(light 90: simulate_prints_a_row_for_each_policy_and_tunes);
each!(light 60: an_instance_that_has_the_ports_of_the_machine_gets_no_second_one);
