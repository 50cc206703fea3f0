//! The process backend with real processes: shells, which every machine has.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use longshore_backend::process::ProcessBackend;
use longshore_backend::{Backend as _, Cause, Exit, Found, Key, Progress, Pull, Reach, Spec, StartError};

/// Longer than a busy machine takes for anything.
const PATIENCE: Duration = Duration::from_secs(20);
/// Set for a copy of this program that plays the proxy.
const PLAY_PROXY: &str = "PLAY_PROXY";

struct Silent;

impl Progress for Silent {
    fn step(&self, _: &str, _: &str, _: u64, _: u64) {}
}

fn backend() -> ProcessBackend {
    ProcessBackend::new("test", Vec::new())
}

fn key(slot: u32) -> Key {
    Key { service: "calc".into(), slot, incarnation: 1 }
}

fn shell(script: &str) -> Spec {
    Spec {
        image: "calculator".to_owned(),
        build: None,
        pull: Pull::Missing,
        command: Some(["sh", "-c", script].map(str::to_owned).to_vec()),
        port: 8080,
        env: BTreeMap::new(),
        volumes: Vec::new(),
        memory: None,
        cpus: None,
        gpus: None,
        user: None,
        network: None,
        platform: None,
        address: Reach::Published,
    }
}

async fn next(exits: &mut BoxStream<'static, Exit>) -> Exit {
    tokio::time::timeout(PATIENCE, exits.next()).await.expect("an exit is told").expect("the stream goes on")
}

/// The first line that the instance logs.
async fn first_line(backend: &ProcessBackend, key: &Key) -> String {
    let mut log = backend.logs(key, 1, true).await.expect("it is known");
    let line = tokio::time::timeout(PATIENCE, log.next()).await.expect("it logs in time");
    let line = line.expect("it logs before it ends").expect("a log of a process has no errors");
    String::from_utf8_lossy(&line).trim().to_owned()
}

/// Whether a process runs. One that only waits to be reaped does not.
fn runs(id: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn ends(id: &str) {
    let begun = Instant::now();
    while runs(id) {
        assert!(begun.elapsed() < PATIENCE, "process {id} still runs");
        std::thread::yield_now();
    }
}

fn signal(name: &str, id: &str) {
    assert!(std::process::Command::new("kill").args(["-s", name, id]).status().expect("kill runs").success());
}

#[tokio::test]
async fn an_instance_gets_its_port_and_its_environment_and_is_listed() {
    let backend = backend();
    let mut spec = shell("echo $PORT $GREETING; exec sleep 1000");
    spec.env = [("GREETING", "hello"), ("PORT", "1")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    backend.prepare(&spec, false, &Silent).await.unwrap();
    let begun = Instant::now();
    let address = backend.start(&key(0), &spec).await.unwrap();
    println!("start() took {:?}", begun.elapsed());
    assert!(address.ip().is_loopback());
    assert_eq!(first_line(&backend, &key(0)).await, format!("{} hello", address.port()));
    println!("first line after {:?}", begun.elapsed());
    let found =
        Found { key: key(0), address: Some(address), paused: false, digest: spec.digest(), begun: None };
    assert_eq!(backend.list().await.unwrap(), [found]);
    assert!(matches!(backend.start(&key(0), &spec).await, Err(StartError::Failed(_))));
}

#[tokio::test]
async fn an_exit_code_is_told_with_the_last_lines_of_both_outputs() {
    let backend = backend();
    let mut exits = backend.watch();
    let script = "for i in $(seq 100); do echo line $i; done; echo no weights >&2; exit 3";
    backend.start(&key(0), &shell(script)).await.unwrap();
    let exit = next(&mut exits).await;
    let Cause::Exited { code: 3, log } = exit.cause else { panic!("{exit:?}") };
    assert!(log.lines().count() == 20 && log.contains("line 99"), "{log}");
    assert_eq!(backend.list().await.unwrap(), []);
    let kept = backend.logs(&key(0), 1000, true).await.unwrap();
    assert_eq!(kept.count().await, 101, "its log can be read after its death, to its end");
}

#[tokio::test]
async fn a_killed_instance_is_told_at_once_and_its_workers_end_with_it() {
    let backend = backend();
    let mut exits = backend.watch();
    backend.start(&key(0), &shell("sleep 1000 & echo $!; wait")).await.unwrap();
    let worker = first_line(&backend, &key(0)).await;
    assert!(runs(&worker));
    let begun = Instant::now();
    backend.kill(&key(0)).await.unwrap();
    assert_eq!(next(&mut exits).await, Exit { key: key(0), cause: Cause::Killed { signal: 9 } });
    println!("told {:?} after the kill", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(1));
    ends(&worker);
    backend.kill(&key(0)).await.unwrap();
}

#[tokio::test]
async fn a_crash_is_told_with_its_log() {
    let backend = backend();
    let mut exits = backend.watch();
    backend.start(&key(0), &shell("echo assertion failed; kill -s ABRT $$")).await.unwrap();
    let exit = next(&mut exits).await;
    assert_eq!(exit.cause, Cause::Exited { code: 134, log: "assertion failed".to_owned() });
}

#[tokio::test]
async fn an_instance_that_obeys_is_asked_to_end_and_one_that_does_not_is_killed() {
    let backend = backend();
    let mut exits = backend.watch();
    let obeys = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done";
    backend.start(&key(0), &shell(obeys)).await.unwrap();
    first_line(&backend, &key(0)).await;
    backend.stop(&key(0), PATIENCE).await.unwrap();
    let exit = next(&mut exits).await;
    // Some shells log the end of the sleep too, before or after.
    assert!(
        matches!(&exit.cause, Cause::Exited { code: 0, log } if log.lines().any(|line| line == "bye")),
        "{exit:?}"
    );

    let stubborn = "trap '' TERM; echo up; while :; do sleep 0.01; done";
    backend.start(&key(1), &shell(stubborn)).await.unwrap();
    first_line(&backend, &key(1)).await;
    backend.stop(&key(1), Duration::from_millis(100)).await.unwrap();
    assert_eq!(next(&mut exits).await.cause, Cause::Killed { signal: 9 });
    assert_eq!(backend.list().await.unwrap(), []);
    backend.stop(&key(1), PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_stopped_process_is_frozen_and_hears_that_it_is_to_end() {
    let backend = backend();
    let mut exits = backend.watch();
    backend.start(&key(0), &shell("echo $$; exec sleep 1000")).await.unwrap();
    let id = first_line(&backend, &key(0)).await;
    assert!(!backend.frozen(&key(0)).await);
    signal("STOP", &id);
    let begun = Instant::now();
    while !backend.frozen(&key(0)).await {
        assert!(begun.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
    backend.stop(&key(0), PATIENCE).await.unwrap();
    assert_eq!(next(&mut exits).await.cause, Cause::Killed { signal: 15 });
    assert!(!backend.frozen(&key(0)).await);
}

#[tokio::test]
async fn a_paused_instance_does_nothing_with_all_its_processes_until_it_is_resumed() {
    let backend = backend();
    let mut exits = backend.watch();
    let counting = "(while :; do echo tick; sleep 0.01; done) & echo started; wait";
    backend.start(&key(0), &shell(counting)).await.unwrap();
    let ticks = async || {
        let log = backend.logs(&key(0), 1_000_000, false).await.unwrap();
        log.map(|chunk| chunk.unwrap().len()).collect::<Vec<_>>().await.into_iter().sum::<usize>()
    };
    first_line(&backend, &key(0)).await;
    backend.pause(&key(0)).await.unwrap();
    backend.pause(&key(0)).await.unwrap();
    while !backend.frozen(&key(0)).await {
        tokio::task::yield_now().await;
    }
    assert!(backend.list().await.unwrap()[0].paused);
    // What was in the pipe is read by then.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = ticks().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(ticks().await, before, "its child counts on");
    backend.resume(&key(0)).await.unwrap();
    backend.resume(&key(0)).await.unwrap();
    let begun = Instant::now();
    while ticks().await == before {
        assert!(begun.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
    assert!(!backend.frozen(&key(0)).await);
    backend.pause(&key(0)).await.unwrap();
    backend.kill(&key(0)).await.unwrap();
    assert_eq!(
        next(&mut exits).await.cause,
        Cause::Killed { signal: 9 },
        "its death is told while it is paused"
    );
    assert!(backend.pause(&key(0)).await.is_err() && backend.resume(&key(0)).await.is_err());
}

#[tokio::test]
async fn what_cannot_run_is_told_before_it_is_started() {
    let backend = backend();
    let none = Spec { command: None, ..shell("") };
    let error = backend.start(&key(0), &none).await.unwrap_err();
    assert!(matches!(&error, StartError::Futile(text) if text.contains("`command`")), "{error}");
    let missing = Spec { command: Some(vec!["no-such-server".to_owned()]), ..shell("") };
    let error = backend.prepare(&missing, false, &Silent).await.unwrap_err();
    assert!(matches!(&error, StartError::Futile(text) if text.contains("no-such-server")), "{error}");
    assert!(backend.logs(&key(0), 1, false).await.is_err());
    backend.stop(&key(0), PATIENCE).await.unwrap();
}

#[tokio::test]
async fn instances_end_with_their_backend() {
    let backend = backend();
    backend.start(&key(0), &shell("sleep 1000 & echo $$ $!; wait")).await.unwrap();
    let ids = first_line(&backend, &key(0)).await;
    drop(backend);
    ids.split(' ').for_each(ends);
}

#[tokio::test]
async fn many_instances_come_and_go_without_a_trace() {
    let backend = backend();
    let mut exits = backend.watch();
    let spec = shell("exit 0");
    for slot in 0..100 {
        backend.start(&key(slot), &spec).await.unwrap();
    }
    for _ in 0..100 {
        assert!(matches!(next(&mut exits).await.cause, Cause::Exited { code: 0, .. }));
    }
    assert_eq!(backend.list().await.unwrap(), []);
    // Other tests have some that are just being reaped.
    let begun = Instant::now();
    while zombies() > 0 {
        assert!(begun.elapsed() < PATIENCE, "{} children are not reaped", zombies());
        tokio::task::yield_now().await;
    }
}

/// Children of this process that nobody has reaped.
fn zombies() -> usize {
    let own = format!(" {} ", std::process::id());
    let all = std::fs::read_dir("/proc").expect("processes").filter_map(Result::ok);
    // `ID (NAME) STATE PARENT …`
    all.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok())
        .filter(|stat| stat.rsplit_once(") Z").is_some_and(|(_, rest)| rest.starts_with(&own)))
        .count()
}

/// Not a claim: what a copy of this program does for the next test, until it is killed.
#[tokio::test]
async fn helper_that_plays_the_proxy() {
    if std::env::var_os(PLAY_PROXY).is_none() {
        return;
    }
    let backend = backend();
    for slot in 0..2 {
        backend.start(&key(slot), &shell("sleep 1000 & echo $$ $!; wait")).await.unwrap();
        println!("\nids {}", first_line(&backend, &key(slot)).await);
    }
    println!("\nready");
    std::future::pending::<()>().await;
}

#[test]
fn instances_and_their_workers_end_with_a_proxy_that_is_killed() {
    let mut proxy = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_that_plays_the_proxy", "--nocapture"])
        .env(PLAY_PROXY, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(proxy.stdout.take().unwrap()).lines().map(Result::unwrap);
    let lines: Vec<String> = lines.take_while(|line| line != "ready").collect();
    let ids: Vec<&str> =
        lines.iter().filter_map(|line| line.strip_prefix("ids ")).flat_map(|ids| ids.split(' ')).collect();
    assert_eq!(ids.len(), 4);
    assert!(ids.iter().all(|id| runs(id)));
    proxy.kill().unwrap();
    proxy.wait().unwrap();
    ids.into_iter().for_each(ends);
}
