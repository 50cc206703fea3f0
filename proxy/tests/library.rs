//! A cluster in this very process, through the crate's public interface only.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use longshore::{
    BackendKind, Client, Cluster, ClusterError, Load, Recommendation, ScalingPolicy, Service, Time, Traffic,
};
use tower_service::Service as _;

const PATIENCE: Duration = Duration::from_secs(60);

/// A service `calc` with one of the model server's models, in a cluster that no other test has.
async fn started(backend: BackendKind, model: &str, service: impl FnOnce(Service) -> Service) -> Cluster {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let calc = Service::new("calc")
        .image("longshore/model-server")
        .build(concat!(env!("CARGO_MANIFEST_DIR"), "/../images/model-server"))
        .command(["model-server", model])
        .health_path("/healthz");
    let name = format!("library-{}-{count}", std::process::id());
    let builder = Cluster::builder().name(name).backend(backend).service(service(calc));
    builder.start().await.expect("the cluster starts; run tools/build-images model-server if it does not")
}

async fn text(answer: Response<Incoming>) -> String {
    let body = answer.into_body().collect().await.expect("a whole body").to_bytes();
    String::from_utf8(body.to_vec()).expect("text")
}

async fn sum(client: &Client, number: u32) -> String {
    text(client.get(format!("http://calc/add/{number}/1")).await.expect("an answer")).await
}

/// How many different instances answer, asked until it is so many.
async fn has(client: &Client, wanted: usize) {
    let begun = Instant::now();
    loop {
        let asked = (0..24).map(|_| client.get("http://calc/add/1/1"));
        let answers = futures_util::future::join_all(asked).await;
        let instance = |answer: &Response<Incoming>| answer.headers()["longshore-instance"].clone();
        let seen: std::collections::HashSet<_> = answers.iter().flatten().map(instance).collect();
        if seen.len() == wanted {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{} instances answer, not {wanted}", seen.len());
    }
}

/// A policy of somebody else's making.
struct Three;

impl ScalingPolicy for Three {
    fn name(&self) -> &'static str {
        "three"
    }

    fn recommend(&mut self, load: &Load, _: &Traffic, _: Time) -> Recommendation {
        Recommendation::new(3, format!("three, and never {}", load.size + 1))
    }
}

async fn requests_go_to_its_pool_and_every_form_of_size_is_taken(backend: BackendKind) {
    let cluster = started(backend, "calculator", |calc| calc.size(2)).await;
    let client = cluster.client();
    assert_eq!(sum(&client, 3).await, "4", "before all are ready: it queues");
    cluster.ready().await.expect("all become ready");
    let answers = futures_util::future::join_all((0..50).map(|number| sum(&client, number))).await;
    let expected: Vec<String> = (1..=50).map(|number: u32| number.to_string()).collect();
    assert_eq!(answers, expected);

    cluster.set_size("calc", 1).expect("a number");
    has(&client, 1).await;
    cluster.set_size("calc", Three).expect("a policy");
    has(&client, 3).await;
    cluster.set_size("calc", |load: &Load| if load.queue > 1_000 { 2 } else { 4 }).expect("a function");
    has(&client, 4).await;
    cluster.set_size_text("calc", "1 + 1").expect("an expression");
    cluster.set_size_text("calc", "{\"policy\": \"fixed\", \"size\": 2}").expect("a table");
    has(&client, 2).await;
    let wrong = cluster.set_size("clac", 1).expect_err("there is none");
    assert_eq!(wrong.to_string(), "there is no service clac; there are: calc");
    let wrong = cluster.set_size("calc", 1_001).expect_err("too many");
    assert!(wrong.to_string().contains("from 0 to 1000"), "{wrong}");
    let wrong = cluster.set_size_text("calc", "if queue {").expect_err("no expression");
    assert!(matches!(&wrong, ClusterError::Config(text) if text.contains("expression")), "{wrong}");
    cluster.close().await.expect("all of it stops");
    assert!(client.get("http://calc/add/3/4").await.is_err(), "the cluster is closed");
}

#[tokio::test]
async fn as_processes_requests_go_to_its_pool_and_every_form_of_size_is_taken() {
    requests_go_to_its_pool_and_every_form_of_size_is_taken(BackendKind::Process).await;
}

#[tokio::test]
async fn as_containers_requests_go_to_its_pool_and_every_form_of_size_is_taken() {
    requests_go_to_its_pool_and_every_form_of_size_is_taken(BackendKind::Docker).await;
}

#[tokio::test]
async fn a_body_goes_both_ways_by_tower_too_and_what_is_refused_says_why() {
    let cluster = started(BackendKind::Process, "calculator", |calc| calc.keys("queue.limit = 5")).await;
    let mut client = cluster.client();
    let body = Bytes::from(vec![b'x'; 3_000_000]);
    let request = Request::post("http://calc/reflect").body(Full::new(body.clone())).expect("a request");
    let answer = client.call(request).await.expect("an answer");
    assert_eq!(answer.into_body().collect().await.expect("a whole body").to_bytes(), body);
    // One service is the default one: it takes every host.
    let answer = client.get("http://other/add/1/1").await.expect("an answer");
    assert_eq!(text(answer).await, "2");
    assert!(client.get("no uri at all").await.is_err());
    cluster.close().await.expect("all of it stops");
}

#[tokio::test]
async fn a_request_whose_instance_is_killed_is_answered_by_another() {
    let cluster = started(BackendKind::Process, "sleep", |calc| calc.size(2)).await;
    cluster.ready().await.expect("all become ready");
    let client = cluster.client();
    let answer = client.get("http://calc/sleep/1ms").await.expect("an answer");
    let instance = answer.headers()["model-instance"].to_str().expect("text").to_owned();
    let process = instance.rsplit('-').next().and_then(|id| id.parse().ok()).expect("a process");
    let asked: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("http://calc/sleep/500ms").await.expect("an answer") })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), nix::sys::signal::Signal::SIGKILL)
        .expect("it lives");
    let mut again = 0;
    for answer in asked {
        let answer = answer.await.expect("no panic");
        assert_eq!(answer.status(), 200);
        again += usize::from(answer.headers()["longshore-attempts"] == "2");
    }
    assert_eq!(again, 1, "the one that it was at work on");
    cluster.close().await.expect("all of it stops");
}

#[tokio::test]
async fn mistakes_are_shown_in_their_place() {
    let nonsense = Service::new("calc").image("x").keys("concurency = 4");
    let Err(error) = Cluster::builder().backend(BackendKind::Process).service(nonsense).start().await else {
        panic!("it is no cluster");
    };
    let text = error.to_string();
    assert!(text.contains("unknown key `concurency`") && text.contains("concurrency"), "{text}");
    let none = Service::new("calc").image("x").command(["no-such-program"]);
    let Err(error) = Cluster::builder().backend(BackendKind::Process).service(none).start().await else {
        panic!("it cannot start");
    };
    assert!(error.to_string().contains("no-such-program"), "{error}");
}

#[tokio::test]
async fn jobs_are_kept_where_they_are_said_to_be_and_outlive_the_cluster() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = format!("file:{}", folder.path().display());
    let calc = Service::new("calc")
        .image("longshore/model-server")
        .build(concat!(env!("CARGO_MANIFEST_DIR"), "/../images/model-server"))
        .command(["model-server", "calculator"])
        .health_path("/healthz");
    let name = format!("library-jobs-{}", std::process::id());
    let builder = || {
        let builder = Cluster::builder().name(&name).backend(BackendKind::Process).service(calc.clone());
        builder.jobs(&store)
    };
    let ask = async |cluster: &Cluster, path: &str| {
        let request = Request::get(format!("http://calc{path}")).header("prefer", "respond-async");
        let request = request.body(Full::<Bytes>::default()).expect("a request");
        cluster.client().request(request).await.expect("an answer")
    };
    let cluster = builder().start().await.expect("it starts");
    let ticket = ask(&cluster, "/add/3/4").await;
    assert_eq!(ticket.status(), 202);
    let job = ticket.headers()["location"].to_str().expect("a path").to_owned();
    assert_eq!(text(ask(&cluster, &format!("{job}/result?wait=30s")).await).await, "7");
    cluster.close().await.expect("nothing is left");
    let again = builder().start().await.expect("the folder is free again");
    assert_eq!(text(ask(&again, &format!("{job}/result")).await).await, "7");
    again.close().await.expect("nothing is left");
}
