//! What `longshore up` writes on a terminal: progress bars, and the log above them; and nobody who reads it.

use std::net::SocketAddr;
use std::process::Stdio;

use longshore_tests::admin::Admin;
use longshore_tests::screen::Terminal;
use longshore_tests::{Backend, Client, Setup, binary, each};
use tokio::io::AsyncReadExt as _;

/// The address behind `text`, once it is whole.
fn address_after(text: &str, said: &str) -> Option<SocketAddr> {
    said.split_once(text)?.1.split_once(',')?.0.parse().ok()
}

async fn the_log_stays_whole_above_the_bars() {
    let setup = Setup::new(Backend::Process).model("fast", "calculator", "size = 4").model(
        "slow",
        "calculator --fault-start-delay 1500ms",
        "size = 2",
    );
    let config = setup.write();
    let config = config.to_str().expect("a plain path");
    let mut terminal = Terminal::run(&["--log-level", "debug", "up", "--backend", "process", "-c", config]);
    let said = terminal.until("slow is ready").await;
    assert!(said.contains("0/2 ready starting"), "no bar was shown: {said}");
    let admin = address_after("admin API on http://", &said).expect("it says where it is");
    let reply = Client::new(admin).send(http::Request::post("/shutdown"), bytes::Bytes::new()).await;
    assert!(reply.status < 300, "{} {}", reply.status, reply.text());
    let (code, rows) = terminal.end().await;
    let screen = rows.join("\n");
    assert_eq!(code, 0, "{screen}");
    assert!(!screen.contains("ready starting"), "a bar is left:\n{screen}");
    for (text, count) in [
        ("serving requests on", 1),
        ("instance started", 6),
        ("instance ready", 6),
        ("fast is ready: 4 of 4", 1),
        ("slow is ready: 2 of 2", 1),
        ("shutting down", 1),
    ] {
        // A whole line begins with its time.
        let whole = rows.iter().filter(|row| row.starts_with("20") && row.contains(text)).count();
        assert_eq!(whole, count, "lines with {text:?}:\n{screen}");
    }
}

async fn a_log_that_nobody_reads_harms_nothing() {
    let setup =
        Setup::new(Backend::Process).model("calc", "calculator --fault-start-delay 500ms", "size = 2");
    let mut child = tokio::process::Command::new(binary())
        .args(["up", "--backend", "process", "-c"])
        .arg(setup.write())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary runs");
    let mut log = child.stderr.take().expect("it is piped");
    let mut said = String::new();
    let admin = loop {
        if let Some(admin) = address_after("admin API on http://", &said) {
            break Admin::new(admin);
        }
        let mut part = [0; 4096];
        let count = log.read(&mut part).await.expect("its log can be read");
        assert!(count > 0, "it ended: {said}");
        said.push_str(&String::from_utf8_lossy(&part[..count]));
    };
    drop(log);
    // From here on every line of the log fails.
    let proxy = address_after("serving requests on http://", &said).expect("it says where it serves");
    let victim = admin.has("calc", 2).await.remove(0);
    let killed = admin.post(&format!("/services/calc/instances/{}/kill", victim.id)).await;
    assert!(killed.status < 300, "{}", killed.text());
    longshore_tests::eventually(longshore_tests::PATIENCE, "it is replaced", async || {
        let ready = admin.ready("calc").await;
        (ready.len() == 2 && ready.iter().all(|one| one.id != victim.id)).then_some(())
    })
    .await;
    assert_eq!(Client::new(proxy).get("/add/3/4").await.text(), "7");
    admin.post("/shutdown").await;
    assert!(child.wait().await.expect("it is ours to wait for").success());
}

each!(light 60: a_log_that_nobody_reads_harms_nothing);
each!(light 60: the_log_stays_whole_above_the_bars);
