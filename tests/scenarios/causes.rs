//! Instances that cannot be started, and why: told to clients and to operators.

use std::time::{Duration, Instant};

use longshore_tests::server::Recorder;
use longshore_tests::{Backend, PATIENCE, Reply, Setup, both, each, eventually};

/// What a client is told: 503 `cannot-start` with these words, and when to come again.
fn told(reply: &Reply, words: &[&str]) {
    assert_eq!((reply.status, reply.problem().as_str()), (503, "cannot-start"), "{}", reply.text());
    assert!(reply.header("retry-after").parse::<u64>().is_ok_and(|after| after > 0), "{:?}", reply.headers);
    let detail = reply.detail();
    for word in words {
        assert!(detail.contains(word), "{word:?} is not in {detail:?}");
    }
}

async fn an_instance_that_exits_at_once_is_told_with_its_last_words(backend: Backend) {
    let cluster = Setup::new(backend)
        .model("good", "calculator", "default = true")
        .model(
            "broken",
            "calculator --fault-exit-at-start 3",
            "restart.backoff = { initial = \"200ms\", max = \"2s\" }",
        )
        .serve()
        .await;
    let client = cluster.client();
    let begun = Instant::now();
    told(&client.get_from("broken", "/add/3/4").await, &["broken", "code 3", "fault: exit 3 at start"]);
    assert!(begun.elapsed() < Duration::from_secs(10), "told after {:?}", begun.elapsed());
    assert_eq!(client.get("/add/3/4").await.text(), "7", "others are not held up");
    let failures = eventually(PATIENCE, "a few starts have failed", async || {
        let instances = cluster.admin().instances("broken").await;
        let backing = instances.iter().find(|instance| instance.state == "backing-off")?;
        backing.json["failures"].as_u64().filter(|failures| *failures >= 3)
    })
    .await;
    let (mut ps, begun) = (String::new(), Instant::now());
    // Between two waits there is a start.
    while !ps.contains("backing-off (") && begun.elapsed() < PATIENCE {
        ps = cluster.command(&["ps"]).await.stdout;
    }
    assert!(ps.contains("backing-off (") && ps.contains("failures)"), "{failures}: {ps}");
    let cause = ps.split("broken cannot start: ").nth(1).unwrap_or_default();
    assert!(cause.contains("code 3") && cause.contains("fault: exit 3 at start"), "{ps}");
    told(&client.get_from("broken", "/add/3/4").await, &["code 3"]);
    cluster.stop().await;
}

async fn a_start_that_takes_too_long_is_told(backend: Backend) {
    let keys = "health = { path = \"/healthz\", start_timeout = \"1s\" }";
    let cluster = Setup::new(backend).model("calc", "calculator --fault-start-delay 60s", keys).serve().await;
    let begun = Instant::now();
    told(
        &cluster.client().get("/add/3/4").await,
        &["not ready within the start timeout of 1s: ", "127.0.0.1:"],
    );
    assert!(begun.elapsed() < Duration::from_secs(15), "told after {:?}", begun.elapsed());
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

async fn what_the_last_probe_saw_is_told_with_the_last_log_lines(backend: Backend) {
    let probes = [
        ("status", "path = \"/healthz\", status = 204", "GET /healthz", "answered 200 where 204 is wanted"),
        ("body", "path = \"/sleep/1ms\", body = \"nope\"", "answered 200", "its body does not match /nope/"),
        ("log", "log = \"never said\"", "start timeout of 2s", "no line of its log matches /never said/"),
        ("silent", "path = \"/sleep/60s\", timeout = \"300ms\"", "GET /sleep", "no answer within 300ms"),
    ];
    let setup = probes.iter().fold(Setup::new(backend), |setup, (name, health, ..)| {
        let keys = format!("health = {{ {health}, start_timeout = \"2s\" }}");
        setup.model(name, "sleep", &keys)
    });
    let cluster = setup.serve().await;
    for (name, _, what, saw) in probes {
        let reply = cluster.client().get_from(name, "/add/3/4").await;
        told(
            &reply,
            &["start timeout of 2s: ", what, saw, "its last log lines:\nmodel-server: ", "listens on"],
        );
        let ps = cluster.command(&["ps"]).await.stdout;
        assert!(ps.contains(saw), "{saw} is not in {ps}");
    }
    cluster.stop().await;
}

async fn a_server_that_is_down_is_told_until_it_is_there() {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("it is bound");
    drop(socket);
    let keys = "health = { path = \"/healthz\", interval = \"200ms\", start_timeout = \"2s\" }";
    let setup = Setup::new(Backend::Process);
    let cluster =
        setup.service(&format!("[services.far]\naddresses = [\"{address}\"]\n{keys}")).serve().await;
    let refused = format!("connection refused at {address}");
    let client = cluster.client();
    let begun = Instant::now();
    told(&client.get("/").await, &["start timeout of 2s", &refused]);
    assert!(begun.elapsed() > Duration::from_millis(500), "not at once: {:?}", begun.elapsed());
    told(&client.get("/").await, &[&refused]);
    assert!(cluster.command(&["ps"]).await.stdout.contains(&refused));
    let warned = cluster.log().iter().filter(|line| line.contains("a server is not ready within 2s")).count();
    assert_eq!(warned, 1, "said once, as long as it is the same");
    let server = tokio::net::TcpListener::bind(address).await.expect("the port is free");
    let _server = Recorder::on(server);
    eventually(PATIENCE, "it is served", async || (client.get("/").await.status == 200).then_some(())).await;
    assert!(cluster.admin().service("far").await["cannot_start"].is_null());
    cluster.stop().await;
}

async fn an_image_that_is_nowhere_is_told_to_the_clients_of_its_service() {
    let missing = "[services.missing]\nimage = \"127.0.0.1:1/longshore/nowhere\"";
    let cluster = Setup::new(Backend::Docker)
        .model("calc", "calculator", "default = true")
        .service(missing)
        .serve()
        .await;
    cluster.expect_error("127.0.0.1:1/longshore/nowhere");
    told(
        &cluster.client().get_from("missing", "/").await,
        &["127.0.0.1:1/longshore/nowhere", "cannot be pulled", "connection refused"],
    );
    assert_eq!(cluster.client().get("/add/3/4").await.text(), "7");
    let ready = cluster.admin().client().get("/readyz").await;
    assert!(ready.status == 503 && ready.text().contains("missing"), "{}", ready.text());
    cluster.stop().await;
}

async fn a_program_that_is_nowhere_is_told_to_the_clients_of_its_service() {
    let missing = "[services.missing]\nimage = \"x\"\ncommand = [\"no-such-program\"]";
    let cluster = Setup::new(Backend::Process)
        .model("calc", "calculator", "default = true")
        .service(missing)
        .serve()
        .await;
    cluster.expect_error("no-such-program");
    told(&cluster.client().get_from("missing", "/").await, &["no-such-program"]);
    assert_eq!(cluster.client().get("/add/3/4").await.text(), "7");
    cluster.stop().await;
}

async fn an_instance_that_takes_too_much_memory_is_told_apart() {
    let cluster = Setup::new(Backend::Docker).model("calc", "calculator", "memory = \"32MiB\"").start().await;
    let reply = cluster.client().get_with_fault("/add/3/4", "memory=200000000").await;
    assert_eq!((reply.status, reply.problem().as_str()), (502, "attempts-exhausted"));
    assert!(reply.detail().contains("3 instances"), "{}", reply.detail());
    let deaths = [("service", "calc"), ("cause", "oom")];
    cluster.admin().counts("longshore_instance_deaths_total", &deaths, 3.0).await;
    cluster.stop().await;
}

both!(light 90: an_instance_that_exits_at_once_is_told_with_its_last_words, a_start_that_takes_too_long_is_told);
both!(light 90: what_the_last_probe_saw_is_told_with_the_last_log_lines);
each!(light 90: a_server_that_is_down_is_told_until_it_is_there);
each!(light 90: an_image_that_is_nowhere_is_told_to_the_clients_of_its_service);
each!(light 90: a_program_that_is_nowhere_is_told_to_the_clients_of_its_service);
each!(light 90: an_instance_that_takes_too_much_memory_is_told_apart);
