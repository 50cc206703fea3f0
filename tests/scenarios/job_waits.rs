//! Clients that wait for a job by a long poll, or by its events, while what they wait for dies: an instance, or the proxy.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use longshore_tests::raw::Raw;
use longshore_tests::{Backend, Client, PATIENCE, Setup, each, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

/// The path of a job that is at work.
async fn running(client: &Client, path: &str) -> String {
    let request = Request::post(path).header("prefer", "respond-async");
    let ticket = client.send(request, Bytes::new()).await;
    assert_eq!(ticket.status, 202, "{}", ticket.text());
    let job = ticket.header("location").to_owned();
    eventually(PATIENCE, "it is at work", async || {
        (client.get(&job).await.json()["status"] == "running").then_some(())
    })
    .await;
    job
}

/// Asks for the events of a job behind the last one that was seen.
async fn events(address: SocketAddr, job: &str, seen: Option<&str>) -> Raw {
    let last = seen.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    let mut raw = Raw::connect(address).await;
    raw.send(format!("GET {job}/events HTTP/1.1\r\nHost: here\r\nConnection: close\r\n{last}\r\n")).await;
    raw
}

/// What events told, in their order.
fn told(stream: &str) -> Vec<Value> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).expect("a status")).collect()
}

fn last_id(stream: &str) -> &str {
    stream.lines().rev().find_map(|line| line.strip_prefix("id: ")).expect("events have ids")
}

fn setup() -> Setup {
    Setup::new(Backend::Process).model("sleep", "sleep", "size = 1\nconcurrency = 1\n")
}

async fn who_waits_does_not_see_that_an_instance_died() {
    let cluster = setup().start().await;
    let client = cluster.client();
    let job = running(&client, "/sleep/2s").await;
    let mut listening = events(cluster.address(), &job, None).await;
    listening.until("\"running\"").await;
    let (polling, path) = (cluster.client(), format!("{job}/result?wait=60s"));
    let poll = tokio::spawn(async move { polling.get(&path).await });
    cluster.kill_instances(&cluster.admin().ready("sleep").await).await;
    let result = poll.await.expect("no panic");
    assert_eq!((result.status, result.header("longshore-attempts")), (200, "2"), "{}", result.text());
    let told = told(&listening.rest().await);
    let all: Vec<&str> = told.iter().filter_map(|view| view["status"].as_str()).collect();
    assert!(all.iter().all(|status| ["running", "done"].contains(status)), "{all:?}");
    let end = told.last().expect("events");
    assert_eq!((&end["status"], &end["attempts"]), (&"done".into(), &2.into()), "{end}");
    cluster.stop().await;
}

async fn who_waits_comes_back_to_the_next_proxy_and_is_told() {
    let mut cluster = setup().start().await;
    let job = running(&cluster.client(), "/sleep/2s").await;
    let mut listening = events(cluster.address(), &job, None).await;
    let seen = listening.until("\"running\"").await;
    let (polling, path) = (cluster.client(), format!("{job}/result?wait=60s"));
    let poll = {
        let path = path.clone();
        tokio::spawn(async move { polling.try_send(Request::get(path), Bytes::new()).await })
    };
    // It is on its way before the proxy dies, and that the job was begun has reached the disk.
    tokio::time::sleep(Duration::from_millis(200)).await;
    cluster.kill().await;
    assert!(poll.await.expect("no panic").is_err(), "nobody is left to answer");
    let cut = listening.rest().await;
    assert!(!cut.contains("\"done\":true") && !cut.ends_with("0\r\n\r\n"), "it breaks off: {cut}");
    cluster.again().await;
    let again = events(cluster.address(), &job, Some(last_id(&seen))).await;
    let result = cluster.client().get(&path).await;
    assert_eq!(result.status, 200, "{}", result.text());
    let stream = again.rest().await;
    let end = told(&stream).pop().expect("events");
    assert_eq!((&end["status"], &end["attempts"]), (&"done".into(), &2.into()), "it was begun again: {end}");
    let over = events(cluster.address(), &job, Some(last_id(&stream))).await.rest().await;
    assert!(over.starts_with("HTTP/1.1 204 "), "nothing follows the end: {over}");
    cluster.stop().await;
}

async fn who_waits_for_what_runs_is_answered_before_the_proxy_ends() {
    let mut cluster = setup().proxy("drain = \"30s\"").start().await;
    let job = running(&cluster.client(), "/sleep/2s").await;
    let mut listening = events(cluster.address(), &job, None).await;
    let seen = listening.until("\"running\"").await;
    let (polling, path) = (cluster.client(), format!("{job}/result?wait=60s"));
    let poll = tokio::spawn(async move { polling.get(&path).await });
    cluster.client().get(&job).await;
    cluster.signal(Signal::SIGTERM);
    // Sent on rather than held: who comes back finds the next process, or this one's last answers.
    let poll = poll.await.expect("no panic");
    assert_eq!((poll.status, &poll.json()["status"]), (202, &"running".into()), "{}", poll.text());
    let stream = listening.rest().await;
    assert!(stream.ends_with("0\r\n\r\n"), "a whole stream: {stream}");
    assert!(cluster.ended(PATIENCE).await.success());
    cluster.again().await;
    let missed = events(cluster.address(), &job, Some(last_id(&seen))).await.rest().await;
    let end = told(&missed).pop().expect("events");
    assert_eq!((&end["status"], &end["attempts"]), (&"done".into(), &1.into()), "it was finished: {end}");
    cluster.stop().await;
}

each!(light 90: who_waits_does_not_see_that_an_instance_died);
each!(light 90: who_waits_comes_back_to_the_next_proxy_and_is_told);
each!(light 90: who_waits_for_what_runs_is_answered_before_the_proxy_ends);
