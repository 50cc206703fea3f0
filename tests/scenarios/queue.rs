//! What waits: all of it is answered, in order, within its limits.
//!
//! `LONGSHORE_START_SECONDS` sets how long the only instance of the long queue takes to start.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use longshore_tests::server::Recorder;
use longshore_tests::{Backend, Client, Setup, each, from_environment, process};
use parking_lot::Mutex;
use tokio::task::JoinSet;

/// The queue's default limit.
const LIMIT: usize = 10_000;

/// Requests that are sent together; their order among each other is chance.
const BATCH: usize = 200;

async fn ten_thousand_requests_wait_for_an_instance_and_are_answered_in_order() {
    let seconds = from_environment("LONGSHORE_START_SECONDS", 60);
    let arguments = format!("calculator --exclusive --fault-start-delay {seconds}s");
    let cluster = Setup::new(Backend::Process).model("calc", &arguments, "concurrency = 1").serve().await;
    let admin = cluster.admin();
    let before = process::resident_memory(cluster.pid());
    let order: Arc<Mutex<Vec<usize>>> = Arc::default();
    let mut open = JoinSet::new();
    let begun = Instant::now();
    for batch in 0..LIMIT / BATCH {
        for number in batch * BATCH..(batch + 1) * BATCH {
            // A connection of its own for each.
            let (client, order) = (cluster.client(), order.clone());
            open.spawn(async move {
                let reply = client.get(&format!("/add/{number}/1")).await;
                order.lock().push(number);
                assert_eq!((reply.status, reply.text()), (200, (number + 1).to_string()));
            });
        }
        admin.queues("calc", ((batch + 1) * BATCH) as u64).await;
    }
    let queued = begun.elapsed();
    assert!(
        queued < Duration::from_secs(seconds),
        "the instance was ready before all were queued, at {queued:?}"
    );
    let one_more = cluster.client().get("/add/1/1").await;
    assert_eq!((one_more.status, one_more.problem().as_str()), (503, "queue-full"));
    assert!(
        one_more.header("retry-after").parse::<u64>().is_ok_and(|after| after > 0),
        "{:?}",
        one_more.headers
    );
    let waiting = process::resident_memory(cluster.pid());
    while let Some(ended) = open.join_next().await {
        ended.expect("every request is answered, and rightly");
    }
    eprintln!(
        "{LIMIT} requests queued in {queued:.1?}, all answered after {:.1?}; the proxy had {} KiB before, {} KiB with them, {} KiB at the most",
        begun.elapsed(),
        before >> 10,
        waiting >> 10,
        process::peak_memory(cluster.pid()) >> 10,
    );
    // Two answers that are a moment apart may be seen in either order here: a few places, never a batch.
    let order = order.lock().clone();
    assert_eq!(order.len(), LIMIT);
    for (place, number) in order.iter().enumerate() {
        let (place, batch) = (place / BATCH, number / BATCH);
        assert!(place.abs_diff(batch) <= 1, "a request of batch {batch} was answered among those of {place}");
    }
    admin.lost_nothing("calc").await;
    cluster.stop().await;
}

/// A service of one server that is not there yet, and where it will be.
pub async fn unready() -> (std::net::SocketAddr, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let keys = "concurrency = 1\nhealth = { path = \"/healthz\", interval = \"100ms\" }";
    (address, format!("[services.calc]\naddresses = [\"{address}\"]\n{keys}"))
}

async fn requests_reach_the_instance_exactly_in_the_order_of_their_arrival() {
    let (address, service) = unready().await;
    let cluster = Setup::new(Backend::Process).service(&service).serve().await;
    let admin = cluster.admin();
    let mut open = JoinSet::new();
    for number in 0..300 {
        let client = cluster.client();
        open.spawn(async move { client.get(&format!("/{number}")).await.status });
        admin.queues("calc", number + 1).await;
    }
    let listener = tokio::net::TcpListener::bind(address).await.expect("the port is still free");
    let recorder = Recorder::on(listener);
    let statuses = open.join_all().await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let expected: Vec<String> = (0..300).map(|number| format!("/{number}")).collect();
    assert_eq!(recorder.seen(), expected);
    cluster.stop().await;
}

async fn a_full_queue_and_a_long_wait_are_told_apart() {
    let keys = "concurrency = 1\nqueue = { limit = 2, timeout = \"1s\" }";
    let cluster = Setup::new(Backend::Process).model("sleep", "sleep", keys).start().await;
    let admin = cluster.admin();
    let ask = |path: &'static str| {
        let client = cluster.client();
        tokio::spawn(async move { client.get(path).await })
    };
    let working = ask("/sleep/3s");
    admin.works_on("sleep", 1).await;
    let waiting = [ask("/sleep/1ms"), ask("/sleep/1ms")];
    admin.queues("sleep", 2).await;
    let full = cluster.client().get("/sleep/1ms").await;
    assert_eq!((full.status, full.problem().as_str()), (503, "queue-full"));
    assert!(!full.header("retry-after").is_empty());
    let begun = Instant::now();
    for waiting in waiting {
        let late = waiting.await.expect("no panic");
        assert_eq!((late.status, late.problem().as_str()), (504, "queue-timeout"));
    }
    assert!(begun.elapsed() < Duration::from_millis(1_800), "{:?}", begun.elapsed());
    assert_eq!(working.await.expect("no panic").status, 200);
    let hurried = Request::get("/sleep/5s").header("longshore-timeout", "300ms");
    let reply = cluster.client().send(hurried, Bytes::new()).await;
    assert_eq!((reply.status, reply.problem().as_str()), (504, "timeout"));
    admin.works_on("sleep", 0).await;
    for (kind, count) in [("queue-full", 1.0), ("queue-timeout", 2.0), ("timeout", 1.0)] {
        admin.counts("longshore_rejected_total", &[("service", "sleep"), ("kind", kind)], count).await;
    }
    admin.lost_nothing("sleep").await;
    cluster.stop().await;
}

async fn who_waits_is_told_and_for_how_long_yet() {
    let cluster = Setup::new(Backend::Process).model("sleep", "sleep", "concurrency = 1").start().await;
    let admin = cluster.admin();
    let ask = |path: &'static str, id: &'static str| {
        let (client, request) = (cluster.client(), Request::get(path).header("x-request-id", id));
        tokio::spawn(async move { client.send(request, Bytes::new()).await.status })
    };
    let mut open = vec![ask("/sleep/1s", "at-work")];
    admin.works_on("sleep", 1).await;
    for (place, id) in ["zeroth", "first", "second", "third"].into_iter().enumerate() {
        open.push(ask("/sleep/2s", id));
        admin.queues("sleep", place as u64 + 1).await;
    }
    // Nothing was taken from the queue before, so that nobody could tell how fast it drains.
    admin.queues("sleep", 3).await;
    let queue = admin.client().get("/services/sleep/queue?limit=2").await.json();
    assert_eq!((&queue["service"], &queue["waiting"]), (&"sleep".into(), &3.into()));
    let told: Vec<(&str, u64)> = queue["requests"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (one["request_id"].as_str().unwrap_or("?"), one["position"].as_u64().unwrap_or(99)))
        .collect();
    assert_eq!(told, [("first", 0), ("second", 1)]);
    let waits = |place: usize| queue["requests"][place]["estimated_wait_s"].as_f64().unwrap_or(0.0);
    assert!(waits(0) > 0.0 && (waits(1) / waits(0) - 2.0).abs() < 0.2, "{queue}");
    let page = cluster.command(&["queue", "sleep"]).await.stdout;
    assert!(page.starts_with("sleep: 3 waiting, ") && page.contains("third"), "{page}");
    let wrong = admin.client().get("/services/sleep/queue?limit=1001").await;
    assert_eq!(
        (wrong.status, wrong.detail().as_str()),
        (400, "the query is wrong: `limit`, and nothing else, from 0 to 1000")
    );
    for one in open {
        assert_eq!(one.await.expect("no panic"), 200);
    }
    cluster.stop().await;
}

async fn bodies_wait_on_disk_up_to_their_limit() {
    let (_, service) = unready().await;
    let service = format!("{service}\nqueue.max_bytes = \"40MiB\"");
    let cluster = Setup::new(Backend::Process).service(&service).serve().await;
    let admin = cluster.admin();
    let body: Bytes = longshore_tests::digest::body(1, 9 << 20).into();
    let mut open = JoinSet::new();
    for number in 1..=4 {
        let (client, body): (Client, Bytes) = (cluster.client(), body.clone());
        open.spawn(async move { client.post("/", body).await.status });
        admin.queues("calc", number).await;
    }
    longshore_tests::eventually(longshore_tests::PATIENCE, "all four bodies are kept", async || {
        (admin.service("calc").await["queue"]["bytes"] == 4 * (9 << 20)).then_some(())
    })
    .await;
    let mut raw = longshore_tests::raw::Raw::connect(cluster.address()).await;
    raw.send(format!("POST / HTTP/1.1\r\nHost: calc\r\nContent-Length: {}\r\n\r\n", body.len())).await;
    raw.send(&body).await;
    let refused = raw.until("urn:longshore:").await;
    assert!(refused.contains(" 503 ") && refused.contains("urn:longshore:queue-full"), "{refused}");
    let memory = process::peak_memory(cluster.pid());
    assert!(memory < 64 << 20, "the proxy had {} MiB", memory >> 20);
    open.shutdown().await;
    longshore_tests::eventually(
        longshore_tests::PATIENCE,
        "nothing is kept for clients that have left",
        async || {
            let queue = &admin.service("calc").await["queue"];
            (queue["bytes"] == 0 && queue["depth"] == 0).then_some(())
        },
    )
    .await;
    cluster.stop().await;
}

async fn a_body_that_would_not_fit_if_it_were_alone_is_told_so() {
    let setup = Setup::new(Backend::Process).model("echo", "echo", "queue.max_bytes = \"1MiB\"");
    let cluster = setup.start().await;
    for framing in ["Content-Length: 2097152", "Transfer-Encoding: chunked"] {
        let mut raw = longshore_tests::raw::Raw::connect(cluster.address()).await;
        raw.send(format!("POST / HTTP/1.1\r\nHost: echo\r\n{framing}\r\n\r\n")).await;
        let chunk = if framing.contains("chunked") { "200000\r\n" } else { "" };
        raw.send(chunk).await;
        raw.send_what_goes(&vec![0; 2 << 20]).await;
        let refused = raw.until("services.echo.queue.max_bytes").await;
        assert!(refused.contains(" 413 ") && refused.contains("urn:longshore:body-too-large"), "{refused}");
        assert!(!refused.to_lowercase().contains("retry-after"), "{refused}");
    }
    let fits = cluster.client().post("/", longshore_tests::digest::body(1, 1 << 20)).await;
    assert_eq!(fits.status, 200, "{}", fits.text());
    cluster.stop().await;
}

each!(light 60: a_body_that_would_not_fit_if_it_were_alone_is_told_so);
each!(light 240: ten_thousand_requests_wait_for_an_instance_and_are_answered_in_order);
each!(light 60: requests_reach_the_instance_exactly_in_the_order_of_their_arrival);
each!(light 60: who_waits_is_told_and_for_how_long_yet);
each!(light 60: a_full_queue_and_a_long_wait_are_told_apart, bodies_wait_on_disk_up_to_their_limit);
