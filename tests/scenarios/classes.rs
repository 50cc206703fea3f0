//! Classes of jobs: services of one image with queues, limits, sizes and timeouts of their own, as inference and training
//! need them.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use longshore_tests::{Backend, Client, Cluster, PATIENCE, Reply, Setup, each, eventually};
use serde_json::Value;

const INFERENCE: &str = "size = 2\nconcurrency = 2\ntimeout = \"2s\"\n\
                         jobs = { mode = \"always\", result_ttl = \"2s\" }";

const TRAINING: &str = "size = 1\nconcurrency = 1\ntimeout = \"30s\"\nqueue.order = \"fair\"\n\
                        jobs = { mode = \"always\", result_ttl = \"1h\" }";

async fn two_classes() -> Cluster {
    let setup = Setup::new(Backend::Process);
    setup.model("inference", "sleep", INFERENCE).model("training", "sleep", TRAINING).start().await
}

async fn send(client: &Client, service: &str, path: &str, body: &[u8]) -> Reply {
    let request = Request::post(path).header("longshore-service", service);
    client.send(request, Bytes::copy_from_slice(body)).await
}

async fn submit(client: &Client, service: &str, path: &str) -> String {
    let ticket = send(client, service, path, b"").await;
    assert_eq!(ticket.status, 202, "{}", ticket.text());
    assert_eq!(ticket.json()["service"], service);
    ticket.header("location").to_owned()
}

async fn becomes(client: &Client, job: &str, status: &str) -> Value {
    eventually(PATIENCE, &format!("{job} is {status}"), async || {
        let view = client.get(job).await.json();
        (view["status"] == status).then_some(view)
    })
    .await
}

async fn count(client: &Client, service: &str, status: &str) -> usize {
    let list = client.get(&format!("/_jobs?service={service}&status={status}&limit=1000")).await.json();
    list["jobs"].as_array().expect("a list").len()
}

async fn a_class_that_is_full_holds_up_no_other() {
    let cluster = two_classes().await;
    let client = cluster.client();
    let mut long = Vec::new();
    for _ in 0..6 {
        long.push(submit(&client, "training", "/sleep/3s").await);
    }
    becomes(&client, &long[0], "running").await;
    for _ in 0..20 {
        let job = submit(&client, "inference", "/sleep/10ms").await;
        let result = client.get(&format!("{job}/result?wait=20s")).await;
        assert_eq!(result.status, 200, "{}", result.text());
    }
    assert!(count(&client, "training", "running").await <= 1, "one at a time");
    assert!(
        count(&client, "training", "queued").await >= 1,
        "inference went ahead of what was there before it"
    );
    assert_eq!(count(&client, "inference", "queued").await, 0);
    let training = becomes(&client, long.last().expect("there are some"), "queued").await;
    assert!(training["load"].as_u64().is_some_and(|load| load <= 6), "only its own class waits: {training}");
    for job in long {
        let end = client.send(Request::delete(&job), Bytes::new()).await;
        assert!([200, 204].contains(&end.status), "{}", end.text());
    }
    cluster.stop().await;
}

async fn each_class_has_its_own_limits() {
    let cluster = two_classes().await;
    let (client, admin) = (cluster.client(), cluster.admin());
    let images = ["inference", "training"].map(async |name| admin.service(name).await["image"].clone());
    let [inference, training] = images;
    let (inference, training) = (inference.await, training.await);
    assert!(inference.is_string() && inference == training, "{inference} {training}");
    // How long a job may take.
    let (fast, slow) =
        (submit(&client, "inference", "/sleep/4s").await, submit(&client, "training", "/sleep/4s").await);
    let late = becomes(&client, &fast, "failed").await;
    assert_eq!(late["response_status"], 504, "{late}");
    becomes(&client, &slow, "done").await;
    // How long its result is kept.
    let gone = submit(&client, "inference", "/sleep/1ms").await;
    becomes(&client, &gone, "expired").await;
    assert_eq!(client.get(&format!("{slow}/result")).await.status, 200);
    // How many instances it has.
    let before: Vec<String> = admin.instances("training").await.into_iter().map(|one| one.id).collect();
    assert_eq!(admin.set_size("inference", 4).await.status, 200);
    admin.has("inference", 4).await;
    let after: Vec<String> = admin.instances("training").await.into_iter().map(|one| one.id).collect();
    assert_eq!(before, after);
    tokio::time::timeout(Duration::from_secs(60), cluster.stop()).await.expect("it ends");
}

each!(light 90: a_class_that_is_full_holds_up_no_other, each_class_has_its_own_limits);
