//! The end: what was accepted is answered, what was started is stopped.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use longshore_tests::http2::Http2;
use longshore_tests::{
    Backend, Client, Cluster, PATIENCE, Reply, Setup, both, each, eventually, model, process,
};
use nix::sys::signal::Signal;
use tokio::task::JoinHandle;

async fn what_waits_and_what_is_at_work_is_answered_before_the_end(backend: Backend) {
    let keys = "concurrency = 1";
    let mut cluster = Setup::new(backend).model("sleep", "sleep", keys).start().await;
    let admin = cluster.admin();
    let asked: Vec<_> = (0..5)
        .map(|_| {
            let client = cluster.client();
            tokio::spawn(async move { client.get("/sleep/400ms").await })
        })
        .collect();
    admin.works_on("sleep", 1).await;
    admin.queues("sleep", 4).await;
    cluster.signal(Signal::SIGTERM);
    for asked in asked {
        let reply = asked.await.expect("no panic");
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let status = cluster.ended(Duration::from_secs(20)).await;
    assert!(status.success(), "{status}");
    cluster.nothing_is_left();
}

async fn nothing_new_is_accepted_while_the_rest_is_answered() {
    let mut cluster = Setup::new(Backend::Process).model("sleep", "sleep", "").start().await;
    let (early, late) = (cluster.client(), cluster.client());
    // An idle connection that the client keeps is no reason to wait.
    assert_eq!(late.get("/sleep/1ms").await.status, 200);
    let asked = tokio::spawn(async move { early.get("/sleep/2s").await });
    cluster.admin().works_on("sleep", 1).await;
    cluster.signal(Signal::SIGINT);
    tokio::time::sleep(Duration::from_millis(300)).await;
    // On the connection that it has kept, it is told so; there is no other.
    let refused = late.send(http::Request::get("/sleep/1ms"), bytes::Bytes::new()).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "shutting-down"));
    assert_eq!(refused.header("connection"), "close");
    let error =
        late.try_send(http::Request::get("/sleep/1ms"), bytes::Bytes::new()).await.expect_err("nobody");
    assert!(error.contains("connect"), "{error}");
    assert_eq!(asked.await.expect("no panic").status, 200);
    let begun = Instant::now();
    assert!(cluster.ended(Duration::from_secs(20)).await.success());
    assert!(begun.elapsed() < Duration::from_secs(3), "it ended {:?} later", begun.elapsed());
}

/// Who has got no byte of an answer is told that it ends.
fn is_told(reply: &Reply) {
    assert_eq!((reply.status, reply.problem().as_str()), (503, "shutting-down"), "{}", reply.text());
    assert_eq!(reply.header("retry-after"), "5");
}

/// One request at work over each protocol, one of each that waits, and a stream that has begun.
struct Asked {
    told: Vec<JoinHandle<Reply>>,
    stream: JoinHandle<Result<Bytes, hyper::Error>>,
}

async fn ask_all(cluster: &Cluster) -> Asked {
    let admin = cluster.admin();
    let (response, connection) = cluster
        .client()
        .open(
            Request::get("/stream?chunks=600&interval_ms=100"),
            Empty::new().map_err(|never| match never {}),
        )
        .await
        .expect("it begins");
    let stream = tokio::spawn(async move {
        let whole = response.into_body().collect().await;
        drop(connection);
        whole.map(|whole| whole.to_bytes())
    });
    let mut told = Vec::new();
    for _ in 0..2 {
        let (client, http2) = (cluster.client(), Http2::connect(cluster.address()).await);
        told.push(tokio::spawn(async move { client.get("/sleep/60s").await }));
        told.push(tokio::spawn(async move {
            http2.send(Request::get("http://calc/sleep/60s"), Bytes::new()).await
        }));
    }
    admin.works_on("calc", 3).await;
    admin.queues("calc", 2).await;
    Asked { told, stream }
}

impl Asked {
    async fn end(self) {
        for told in self.told {
            is_told(&told.await.expect("no panic"));
        }
        self.stream.await.expect("no panic").expect_err("it is cut");
    }
}

async fn what_takes_longer_than_the_drain_is_cut(backend: Backend) {
    let keys = "concurrency = 3\nstop_grace = \"20s\"";
    let mut cluster = Setup::new(backend).proxy("drain = \"1s\"").model("calc", "sleep", keys).start().await;
    let asked = ask_all(&cluster).await;
    let begun = Instant::now();
    cluster.signal(Signal::SIGTERM);
    asked.end().await;
    assert!(cluster.ended(Duration::from_secs(20)).await.success());
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(4), "it ended after {took:?}");
    assert_eq!(cluster.log().iter().filter(|line| line.contains("the drain time is over")).count(), 1);
    cluster.nothing_is_left();
}

async fn who_waits_for_an_instance_that_does_not_come_is_told() {
    let model = "calculator --fault-start-delay 60s";
    let setup = Setup::new(Backend::Process).proxy("drain = \"1s\"").model("calc", model, "");
    let mut cluster = setup.serve().await;
    let client = cluster.client();
    let asked = tokio::spawn(async move { client.get("/add/1/2").await });
    cluster.admin().queues("calc", 1).await;
    cluster.signal(Signal::SIGTERM);
    is_told(&asked.await.expect("no panic"));
    assert!(cluster.ended(Duration::from_secs(20)).await.success());
}

async fn a_second_signal_ends_it_at_once(backend: Backend) {
    let keys = "concurrency = 3\nstop_grace = \"20s\"";
    let mut cluster = Setup::new(backend).model("calc", "sleep", keys).start().await;
    let asked = ask_all(&cluster).await;
    let instance = cluster.admin().has("calc", 1).await.remove(0);
    let child = cluster.instance_pid(&instance);
    cluster.signal(Signal::SIGTERM);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(process::lives(cluster.pid()), "it waits for what it has accepted");
    let begun = Instant::now();
    cluster.signal(Signal::SIGTERM);
    asked.end().await;
    assert!(cluster.ended(Duration::from_secs(15)).await.success());
    // Time for a container to be removed, none for the requests to be answered.
    assert!(begun.elapsed() < Duration::from_secs(4), "it ended {:?} later", begun.elapsed());
    assert_eq!(cluster.log().iter().filter(|line| line.contains("asked once more")).count(), 1);
    cluster.nothing_is_left();
    if let Some(child) = child {
        eventually(Duration::from_secs(5), "its child is gone", async || {
            (!process::lives(child)).then_some(())
        })
        .await;
    }
}

async fn a_second_signal_does_not_wait_for_an_instance_that_takes_its_time() {
    let setup = Setup::new(Backend::Process).model("calc", "sleep --grace 30s", "stop_grace = \"30s\"");
    let mut cluster = setup.start().await;
    let instance = cluster.admin().has("calc", 1).await.remove(0);
    let child = cluster.instance_pid(&instance).expect("it is a child");
    // It works on what nobody knows of, and so takes its time to end.
    let address = instance.address.expect("it has one");
    let direct = Client::new(address);
    let asked = tokio::spawn(async move { direct.try_send(Request::get("/sleep/60s"), Bytes::new()).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    cluster.signal(Signal::SIGTERM);
    // Nothing waits and nothing is at work here: it is the instance's end that takes its time.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(process::lives(cluster.pid()), "it waits for its instance");
    let begun = Instant::now();
    cluster.signal(Signal::SIGTERM);
    assert!(cluster.ended(Duration::from_secs(20)).await.success());
    assert!(begun.elapsed() < Duration::from_secs(4), "it ended {:?} later", begun.elapsed());
    assert!(!process::lives(child) && asked.await.expect("no panic").is_err());
}

async fn jobs_that_are_cut_at_the_end_are_carried_on_by_the_next_process() {
    let keys = "concurrency = 1";
    let setup = Setup::new(Backend::Process).proxy("drain = \"1s\"").model("calc", "sleep", keys);
    let mut cluster = setup.start().await;
    let submit = async |path: &str| {
        let request = Request::post(path).header("prefer", "respond-async");
        cluster.client().send(request, Bytes::new()).await.header("location").to_owned()
    };
    let jobs = [submit("/sleep/4s").await, submit("/sleep/0s").await];
    cluster.admin().works_on("calc", 1).await;
    cluster.signal(Signal::SIGTERM);
    assert!(cluster.ended(Duration::from_secs(20)).await.success());
    cluster.again().await;
    for job in jobs {
        let result = cluster.client().get(&format!("{job}/result?wait=30s")).await;
        assert_eq!(result.status, 200, "{}", result.text());
    }
    cluster.stop().await;
}

async fn neither_a_reload_nor_the_end_tells_what_is_no_news() {
    let calc = model("calc", "calculator", "");
    let late = model("late", "calculator --fault-start-delay 60s", "");
    let setup = Setup::new(Backend::Process).service(&calc).service(&late);
    let mut cluster = setup.serve().await;
    cluster.admin().has("calc", 1).await;
    let says =
        |cluster: &Cluster, text: &str| cluster.log().iter().filter(|line| line.contains(text)).count();
    eventually(PATIENCE, "calc is ready", async || (says(&cluster, "calc is ready") == 1).then_some(()))
        .await;
    let third = model("third", "echo", "");
    cluster.setup_mut().replace_services(&format!("{calc}{late}{third}"));
    cluster.setup_mut().write();
    assert_eq!(cluster.admin().post("/reload").await.status, 200);
    eventually(PATIENCE, "third is ready", async || (says(&cluster, "third is ready") == 1).then_some(()))
        .await;
    cluster.signal(Signal::SIGTERM);
    assert!(cluster.ended(Duration::from_secs(20)).await.success());
    for (text, count) in [
        ("calc: starting", 1),
        ("calc is ready: 1 of 1", 1),
        ("late: starting", 1),
        ("late is ready", 0),
        ("third is ready: 1 of 1", 1),
    ] {
        assert_eq!(says(&cluster, text), count, "{text}: {:#?}", cluster.log());
    }
}

async fn an_instance_that_ignores_the_request_to_stop_is_stopped_all_the_same() {
    let setup = Setup::new(Backend::Process).model("calc", "calculator", "stop_grace = \"1s\"");
    let cluster = setup.start().await;
    let instance = cluster.admin().has("calc", 1).await.remove(0);
    let child = cluster.instance_pid(&instance).expect("it is a child");
    cluster.freeze_instance(&instance).await;
    let begun = Instant::now();
    cluster.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(!process::lives(child));
}

async fn what_is_being_started_at_the_end_is_not_left_behind(backend: Backend) {
    // The end meets the starts at another moment each time.
    for pause in [0, 5, 40] {
        let cluster = Setup::new(backend).model("calc", "calculator", "").start().await;
        assert_eq!(cluster.admin().set_size("calc", 4).await.status, 200);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        cluster.stop().await;
    }
}

both!(light 90: what_is_being_started_at_the_end_is_not_left_behind);
both!(light 60: what_waits_and_what_is_at_work_is_answered_before_the_end, a_second_signal_ends_it_at_once);
both!(light 60: what_takes_longer_than_the_drain_is_cut);
each!(light 60: nothing_new_is_accepted_while_the_rest_is_answered, who_waits_for_an_instance_that_does_not_come_is_told);
each!(light 60: jobs_that_are_cut_at_the_end_are_carried_on_by_the_next_process);
each!(light 60: a_second_signal_does_not_wait_for_an_instance_that_takes_its_time);
each!(light 60: an_instance_that_ignores_the_request_to_stop_is_stopped_all_the_same);
each!(light 60: neither_a_reload_nor_the_end_tells_what_is_no_news);
