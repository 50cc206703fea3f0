//! Requests whose instance fails under them: what is sent again, what is not, and what the client sees.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use longshore_tests::load::{Payload, at_rate};
use longshore_tests::{Backend, Cluster, Reply, Setup, both, digest, each};

async fn cluster(backend: Backend, keys: &str) -> Cluster {
    Setup::new(backend).model("calc", "calculator", keys).start().await
}

/// The name by which the model server of an instance knows itself.
async fn somebody(cluster: &Cluster) -> String {
    cluster.client().get("/stats").await.json()["instance"].as_str().expect("it has a name").to_owned()
}

/// Asks until the fault was met, which is meant for one of several instances.
async fn until_met(cluster: &Cluster, path: &str, fault: &str) -> Reply {
    let fault = format!("{fault}; only={}", somebody(cluster).await);
    for _ in 0..30 {
        let reply = cluster.client().get_with_fault(path, &fault).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        if reply.header("longshore-attempts") != "1" {
            return reply;
        }
    }
    panic!("no request met the fault {fault}");
}

/// A connection to the instance lies idle for so long that its server may well have closed it.
async fn a_connection_sleeps(cluster: &Cluster) {
    assert_eq!(cluster.client().get("/add/1/2").await.status, 200);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
}

async fn replays(cluster: &Cluster, reason: &str) -> f64 {
    cluster.admin().metrics().await.sum("longshore_replays_total", &[("service", "calc"), ("reason", reason)])
}

async fn a_request_that_kills_whatever_takes_it_is_given_up_and_harms_no_other(backend: Backend) {
    let cluster = cluster(backend, "size = 3\nconcurrency = 1").await;
    let load = tokio::spawn(at_rate(cluster.client(), Payload::Get, 50.0, Duration::from_secs(4)));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let reply = cluster.client().get_with_fault("/add/3/4", "crash").await;
    assert_eq!((reply.status, reply.problem().as_str()), (502, "attempts-exhausted"));
    let detail = reply.detail();
    assert!(detail.contains("3 instances") && detail.matches("calc-").count() >= 3, "{detail}");
    // Whichever is known first of each: its end, or what the connection saw of it.
    let known = detail.matches("exited with code 70").count() + detail.matches("connection closed").count();
    assert_eq!(known, 3, "{detail}");
    assert!(!detail.contains("last log lines"), "there is no room for them: {detail}");
    load.await.expect("no panic").lost_nothing();
    cluster.admin().counts("longshore_requests_lost_total", &[("service", "calc")], 1.0).await;
    cluster.admin().has("calc", 3).await;
    cluster.stop().await;
}

async fn a_request_of_which_instances_die_is_not_given_up_before_its_attempts(backend: Backend) {
    let cluster = cluster(backend, "size = 1\nreplay.attempts = 5").await;
    a_connection_sleeps(&cluster).await;
    let reply = cluster.client().get_with_fault("/add/3/4", "crash").await;
    assert_eq!(reply.status, 502);
    let detail = reply.detail();
    assert!(detail.contains("5 instances") && detail.matches("calc-0-").count() == 5, "{detail}");
    let count = |text: &str| cluster.log().iter().filter(|line| line.contains(text)).count();
    assert_eq!((count("goes back to the head"), count("is given up")), (4, 1), "{:#?}", cluster.log());
    let log = cluster.log().join("\n");
    for text in [
        "an attempt was lost",
        " instance=calc-0-1 ",
        &format!(" request_id={} ", reply.header("x-request-id")),
    ] {
        assert!(log.contains(text), "{text} is not in:\n{log}");
    }
    cluster.stop().await;
}

async fn an_answer_that_breaks_off_is_asked_for_again_while_it_is_held(backend: Backend) {
    let cluster = cluster(backend, "size = 2").await;
    for fault in ["truncate; bytes=5000", "reset; bytes=5000", "crash; bytes=5000"] {
        let reply = until_met(&cluster, "/bytes/200000", fault).await;
        assert_eq!((reply.body.len(), reply.header("longshore-attempts")), (200_000, "2"), "{fault}");
        assert!(reply.is_intact(), "{fault}");
    }
    assert!(replays(&cluster, "truncated").await >= 3.0);
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

async fn a_connection_that_ends_without_an_answer_is_no_answer() {
    let cluster = cluster(Backend::Process, "size = 2").await;
    for fault in ["reset", "truncate; after=arrival", "crash"] {
        let reply = until_met(&cluster, "/add/3/4", fault).await;
        assert_eq!((reply.text().as_str(), reply.header("longshore-attempts")), ("7", "2"), "{fault}");
    }
    assert!(replays(&cluster, "died").await >= 3.0);
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

async fn a_body_of_any_size_is_sent_again_as_it_was(backend: Backend) {
    let cluster = cluster(backend, "size = 1").await;
    for (size, point) in [(1_000, "arrival"), (300_000, "body"), (5 << 20, "body"), (5 << 20, "arrival")] {
        let body = digest::body(size as u64, size);
        let fault = format!("crash; after={point}; only={}", somebody(&cluster).await);
        let request =
            Request::post("/").header("content-digest", digest::field(&body)).header("fault", fault);
        let reply = cluster.client().send(request, body.clone().into()).await;
        assert_eq!(
            (reply.status, reply.header("longshore-attempts")),
            (200, "2"),
            "{size}: {}",
            reply.text()
        );
        assert_eq!(reply.json()["sha256"], digest::hex(&body));
    }
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

async fn an_answer_that_is_not_held_breaks_off_for_the_client_and_counts_as_lost(backend: Backend) {
    let cluster = cluster(backend, "size = 2\nreplay.hold = \"64KiB\"").await;
    for path in ["/bytes/5000000", "/stream?chunks=100&interval_ms=5&size=1000"] {
        let request = Request::get(path).header("fault", "crash; bytes=20000");
        let broken = cluster.client().try_send(request, Bytes::new()).await;
        assert!(
            broken.as_ref().is_err_and(|error| error.contains("200, then broken off")),
            "{path}: {broken:?}"
        );
    }
    cluster.admin().counts("longshore_requests_lost_total", &[("service", "calc")], 2.0).await;
    assert_eq!(cluster.client().get("/add/3/4").await.text(), "7");
    cluster.stop().await;
}

async fn an_instance_that_is_silent_for_too_long_is_passed_over() {
    let cluster = cluster(Backend::Process, "size = 2\nfirst_byte_timeout = \"500ms\"").await;
    let begun = Instant::now();
    let reply = until_met(&cluster, "/add/3/4", "hang").await;
    assert_eq!((reply.text().as_str(), reply.header("longshore-attempts")), ("7", "2"));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(replays(&cluster, "hang").await >= 1.0);
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

async fn what_must_not_be_sent_twice_is_not(backend: Backend) {
    for (methods, get, post) in [("none", 502, 502), ("idempotent", 200, 502), ("all", 200, 200)] {
        let cluster = cluster(backend, &format!("size = 1\nreplay.methods = \"{methods}\"")).await;
        for (method, status) in [("GET", get), ("POST", post)] {
            a_connection_sleeps(&cluster).await;
            let fault = format!("crash; only={}", somebody(&cluster).await);
            let request = Request::builder().method(method).uri("/").header("fault", fault);
            let reply = cluster.client().send(request, Bytes::from_static(b"x")).await;
            assert_eq!(reply.status, status, "{method} with {methods}: {}", reply.text());
            if status == 502 {
                assert_eq!(reply.problem(), "attempts-exhausted");
                assert!(reply.detail().contains("1 instance "), "{}", reply.detail());
            }
        }
        let lost = f64::from(u8::from(get == 502) + u8::from(post == 502));
        cluster.admin().counts("longshore_requests_lost_total", &[("service", "calc")], lost).await;
        cluster.stop().await;
    }
}

async fn a_busy_answer_goes_back_into_the_queue() {
    let cluster = cluster(Backend::Process, "size = 2").await;
    for fault in ["busy", "busy; status=429; retry-after=1"] {
        let reply = until_met(&cluster, "/add/3/4", fault).await;
        assert_eq!(reply.text(), "7");
    }
    assert!(replays(&cluster, "busy").await >= 2.0);
    cluster.admin().lost_nothing("calc").await;
    assert_eq!(cluster.admin().has("calc", 2).await.len(), 2, "a busy instance is not a dead one");
    cluster.stop().await;
}

async fn an_instance_that_answers_is_answered_for() {
    let cluster = cluster(Backend::Process, "replay.busy = []").await;
    for status in [200, 201, 301, 400, 404, 429, 500, 502, 503] {
        let reply = cluster.client().get(&format!("/status/{status}")).await;
        assert_eq!((reply.status, reply.header("longshore-attempts")), (status, "1"));
        assert!(reply.text().starts_with(&status.to_string()), "{}", reply.text());
    }
    let passed = cluster.client().get_with_fault("/add/3/4", "busy; retry-after=7").await;
    assert_eq!((passed.status, passed.header("retry-after")), (503, "7"));
    cluster.stop().await;
}

async fn a_replayed_request_is_the_next_one(backend: Backend) {
    let cluster = Setup::new(backend).model("sleep", "sleep", "concurrency = 1").start().await;
    let admin = cluster.admin();
    let fault = format!("crash; after=headers; only={}", somebody(&cluster).await);
    let ask = |fault: String| {
        let client = cluster.client();
        tokio::spawn(async move { (client.get_with_fault("/sleep/500ms", &fault).await, Instant::now()) })
    };
    let first = ask(fault);
    admin.works_on("sleep", 1).await;
    let second = ask("latency=0".to_owned());
    admin.queues("sleep", 1).await;
    let (first, first_at) = first.await.expect("no panic");
    let (second, second_at) = second.await.expect("no panic");
    assert_eq!((first.status, first.header("longshore-attempts")), (200, "2"));
    assert_eq!((second.status, second.header("longshore-attempts")), (200, "1"));
    assert!(first_at < second_at, "a request that came later was answered first");
    cluster.stop().await;
}

both!(heavy 60: a_request_that_kills_whatever_takes_it_is_given_up_and_harms_no_other);
both!(light 60: a_request_of_which_instances_die_is_not_given_up_before_its_attempts);
both!(light 60: an_answer_that_breaks_off_is_asked_for_again_while_it_is_held);
both!(light 60: a_body_of_any_size_is_sent_again_as_it_was);
each!(light 60: a_connection_that_ends_without_an_answer_is_no_answer);
both!(light 60: an_answer_that_is_not_held_breaks_off_for_the_client_and_counts_as_lost);
both!(light 60: what_must_not_be_sent_twice_is_not);
each!(light 60: an_instance_that_is_silent_for_too_long_is_passed_over);
each!(light 60: a_busy_answer_goes_back_into_the_queue, an_instance_that_answers_is_answered_for);
both!(light 60: a_replayed_request_is_the_next_one);
