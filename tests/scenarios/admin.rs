//! The admin API: who may ask, and what it says of health and numbers.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use longshore_tests::{Backend, PATIENCE, Setup, command, each, eventually};
use nix::sys::signal::Signal;

async fn a_token_is_demanded_of_everybody() {
    let setup = Setup::new(Backend::Process).model("calc", "calculator --fault-start-delay 3s", "");
    let token = setup.file("token", "s3cret\n");
    let cluster = setup.admin(&format!("token_file = {token:?}")).serve().await;
    let admin = cluster.admin();
    let client = admin.client();
    for (path, header) in
        [("/services", ""), ("/services", "Bearer wrong"), ("/metrics", ""), ("/services", "s3cret")]
    {
        let request = Request::get(path).header("authorization", header);
        let reply = client.send(request, Bytes::new()).await;
        assert_eq!((reply.status, reply.problem().as_str()), (401, "unauthorized"), "{path} {header}");
        assert_eq!(reply.header("www-authenticate"), "Bearer");
    }
    // Orchestrators have no token, and are told no names.
    assert_eq!(client.get("/healthz").await.status, 200);
    let ready = client.get("/readyz").await;
    assert_eq!((ready.status, ready.text().as_str()), (503, "not ready\n"));
    let ready =
        client.send(Request::get("/readyz").header("authorization", "Bearer s3cret"), Bytes::new()).await;
    assert!(ready.status == 503 && ready.text().contains("calc"), "{}", ready.text());
    let reply =
        client.send(Request::get("/services").header("authorization", "Bearer s3cret"), Bytes::new()).await;
    assert_eq!(reply.status, 200);
    let (limit, url) = (Duration::from_secs(20), admin.url());
    let done = command::run(limit, &["--admin", &url, "ps"], &[]).await;
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("token"), "{}", done.stderr);
    let done = command::run(limit, &["--admin", &url, "ps"], &[("LONGSHORE_TOKEN", "s3cret")]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    cluster.stop().await;
}

async fn pages_of_other_origins_change_nothing() {
    let cluster = Setup::new(Backend::Process).model("calc", "calculator", "").start().await;
    let admin = cluster.admin();
    for request in [
        Request::put("/services/calc/size").header("origin", "http://evil.example"),
        Request::get("/services").header("host", "evil.example"),
        Request::put("/services/calc/size").header("host", "evil.example:5001"),
    ] {
        let reply = admin.client().send(request, "{\"size\": 0}".into()).await;
        assert_eq!((reply.status, reply.problem().as_str()), (403, "forbidden"), "{}", reply.text());
        assert!(!reply.headers.contains_key("www-authenticate"), "{:?}", reply.headers);
    }
    assert_eq!(admin.service("calc").await["size"]["wanted"], 1);
    cluster.stop().await;
}

async fn alive_is_at_once_and_ready_is_with_the_last_service() {
    let cluster = Setup::new(Backend::Process)
        .model("calc", "calculator", "")
        .model("late", "calculator --fault-start-delay 2s", "")
        .serve()
        .await;
    let admin = cluster.admin();
    assert_eq!(admin.client().get("/healthz").await.status, 200);
    let reply = admin.client().get("/readyz").await;
    assert_eq!(reply.status, 503);
    assert!(reply.text().contains("late"), "{}", reply.text());
    cluster.settled().await;
    assert_eq!(admin.client().get("/readyz").await.status, 200);
    for (path, status) in [("/nowhere", 404), ("/services/clac", 404)] {
        assert_eq!(admin.client().get(path).await.status, status, "{path}");
    }
    let wrong = admin.post("/metrics").await;
    assert_eq!((wrong.status, wrong.problem().as_str()), (405, "method-not-allowed"));
    assert_eq!((&wrong.json()["status"], wrong.header("allow")), (&405.into(), "GET,HEAD"));
    cluster.stop().await;
}

async fn a_process_that_ends_is_alive_and_not_ready() {
    let mut cluster = Setup::new(Backend::Process).model("sleep", "sleep", "").start().await;
    let (admin, client) = (cluster.admin(), cluster.client());
    let asked = tokio::spawn(async move { client.get("/sleep/3s").await });
    admin.works_on("sleep", 1).await;
    assert_eq!(admin.client().get("/readyz").await.status, 200);
    cluster.signal(Signal::SIGTERM);
    let ready = eventually(PATIENCE, "it is not ready any more", async || {
        let reply = admin.client().get("/readyz").await;
        (reply.status == 503).then_some(reply)
    })
    .await;
    assert!(ready.text().contains("shutting down"), "{}", ready.text());
    assert_eq!(admin.client().get("/healthz").await.status, 200);
    assert_eq!(asked.await.expect("no panic").status, 200);
    assert!(cluster.ended(Duration::from_secs(20)).await.success());
}

async fn the_metrics_are_what_prometheus_expects() {
    let keys = "size = 2\ndefault = true";
    let cluster = Setup::new(Backend::Process)
        .model("calc", "calculator", keys)
        .model("echo", "echo", "")
        .start()
        .await;
    for _ in 0..5 {
        cluster.client().get("/add/1/2").await;
    }
    cluster.client().get("/nonsense").await;
    let admin = cluster.admin();
    let calc = ("service", "calc");
    // A rate misses the first event of a series that begins with it.
    let quiet = admin.metrics().await;
    for (name, label, values) in [
        ("longshore_replays_total", "reason", &["died", "refused", "hang", "busy", "truncated", "reset"][..]),
        (
            "longshore_rejected_total",
            "kind",
            &["queue-full", "queue-timeout", "timeout", "cannot-start", "stopped"],
        ),
    ] {
        for value in values {
            assert!(quiet.has_series(name, &[("service", "echo"), (label, value)]), "{name} {value}");
        }
    }
    admin.counts("longshore_requests_total", &[calc, ("code", "200")], 5.0).await;
    admin.counts("longshore_requests_total", &[calc, ("code", "404")], 1.0).await;
    admin.counts("longshore_request_duration_seconds_count", &[calc], 6.0).await;
    admin.counts("longshore_queue_wait_seconds_count", &[calc], 6.0).await;
    admin.counts("longshore_instances", &[calc, ("state", "ready")], 2.0).await;
    admin.counts("longshore_size", &[calc, ("kind", "wanted")], 2.0).await;
    admin.counts("longshore_instance_starts_total", &[calc, ("result", "ready")], 2.0).await;
    let scrape = admin.client().get("/metrics").await;
    let metrics = longshore_tests::metrics::Metrics::parse(&scrape.text());
    for name in [
        "longshore_queue_depth",
        "longshore_queue_bytes",
        "longshore_in_flight",
        "longshore_requests_lost_total",
        "longshore_client_gone_total",
        "longshore_instance_start_seconds_count",
        "longshore_build_info",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(metrics.has(name), "{name} is missing");
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed; ./test does that");
    promtool.stdin.take().expect("it is piped").write_all(&scrape.body).expect("it reads");
    let judged = promtool.wait_with_output().expect("it ends");
    let said =
        String::from_utf8_lossy(&judged.stderr).into_owned() + &String::from_utf8_lossy(&judged.stdout);
    assert!(judged.status.success() && said.trim().is_empty(), "{said}");
    cluster.stop().await;
}

async fn a_shutdown_that_is_asked_for_is_one() {
    let mut cluster = Setup::new(Backend::Process).model("calc", "calculator", "").start().await;
    assert_eq!(cluster.admin().post("/shutdown").await.status, 202);
    assert!(cluster.ended(Duration::from_secs(20)).await.success());
}

each!(light 60: a_token_is_demanded_of_everybody, pages_of_other_origins_change_nothing);
each!(light 60: alive_is_at_once_and_ready_is_with_the_last_service, the_metrics_are_what_prometheus_expects);
each!(light 60: a_shutdown_that_is_asked_for_is_one, a_process_that_ends_is_alive_and_not_ready);
