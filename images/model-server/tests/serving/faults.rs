//! What goes wrong when it is told to.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::support::{Outcome, Server, program, receive, wait};

#[test]
fn a_crash_is_an_exit_without_an_answer() {
    let mut server = Server::start(&["calculator"]);
    assert!(matches!(server.get_with_fault("/add/3/4", "crash"), Outcome::Nothing { .. }));
    assert_eq!(server.wait().code(), Some(70));
    let mut server = Server::start(&["calculator"]);
    assert!(matches!(server.send("GET", "/crash", "", b""), Outcome::Nothing { .. }));
    assert_eq!(server.wait().code(), Some(70));
}

#[test]
fn a_crash_may_come_in_the_middle_of_an_answer() {
    for (fault, bytes) in
        [("crash; after=headers", 0), ("crash; bytes=100; code=3", 100), ("crash; bytes=9999", 999)]
    {
        let mut server = Server::start(&["calculator"]);
        let outcome = server.get_with_fault("/bytes/1000", fault);
        assert!(
            matches!(outcome, Outcome::Cut { received, .. } if received == bytes),
            "{fault}: {outcome:?}"
        );
        assert!(!server.wait().success());
    }
}

#[test]
fn a_connection_is_reset_or_closed_and_the_server_goes_on() {
    let server = Server::start(&["echo"]);
    let with = |fault| server.send("POST", "/bytes/1000", &format!("Fault: {fault}\r\n"), b"abc");
    assert_eq!(with("reset"), Outcome::Nothing { reset: true });
    assert_eq!(with("reset; after=body"), Outcome::Nothing { reset: true });
    assert!(matches!(with("reset; bytes=10"), Outcome::Cut { reset: true, .. }));
    assert_eq!(with("truncate; bytes=100"), Outcome::Cut { received: 100, reset: false });
    assert_eq!(with("truncate"), Outcome::Cut { received: 0, reset: false });
    assert_eq!(
        server.get_with_fault("/stream?interval_ms=1", "truncate; bytes=10"),
        Outcome::Cut { received: 15, reset: false }
    );
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn a_hung_request_leaves_the_others_alone() {
    let server = Server::start(&["calculator"]);
    assert_eq!(server.get_with_fault("/add/3/4", "hang"), Outcome::Silence { head: false });
    assert_eq!(server.get_with_fault("/add/3/4", "hang; after=headers"), Outcome::Silence { head: true });
    assert_eq!(server.get("/add/3/4").text(), "7");
}

#[test]
fn a_frozen_server_accepts_and_says_nothing() {
    let server = Server::start(&["calculator"]);
    assert_eq!(server.get_with_fault("/add/3/4", "freeze; for=1500ms"), Outcome::Silence { head: false });
    let begun = Instant::now();
    let mut waiting = server.connect();
    waiting.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    waiting.write_all(b"GET /healthz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(receive(waiting).whole().status, 200);
    assert!(begun.elapsed() > Duration::from_millis(200));
}

#[test]
fn busy_latency_and_ill_health_are_answers() {
    let server = Server::start(&["calculator"]);
    let busy = server.get_with_fault("/add/3/4", "busy; status=429; retry-after=1").whole();
    assert_eq!((busy.status, busy.header("retry-after")), (429, Some("1")));
    assert_eq!(server.get_with_fault("/add/3/4", "busy").whole().status, 503);
    let begun = Instant::now();
    assert_eq!(server.get_with_fault("/add/3/4", "latency=50ms").whole().text(), "7");
    assert!(begun.elapsed() >= Duration::from_millis(50));
    assert_eq!(server.get_with_fault("/add/3/4", "unhealthy").whole().text(), "7");
    assert_eq!(server.get("/healthz").status, 503);
    assert_eq!(server.get_with_fault("/add/3/4", "explode").whole().status, 400);
}

#[test]
fn a_fault_may_be_meant_for_one_instance_only() {
    let mut server = Server::start(&["calculator"]);
    assert_eq!(server.get_with_fault("/add/3/4", "crash; only=another-1").whole().text(), "7");
    let fault = format!("crash; only={}", server.instance);
    assert!(matches!(server.get_with_fault("/add/3/4", &fault), Outcome::Nothing { .. }));
    assert!(!server.wait().success());
}

#[test]
fn flags_count_what_was_answered() {
    let mut server = Server::start(&["calculator", "--fault-crash-after", "2"]);
    assert_eq!((server.get("/add/1/1").status, server.get("/add/1/1").status), (200, 200));
    assert_eq!(server.get("/healthz").status, 200);
    assert!(matches!(server.send("GET", "/add/1/1", "", b""), Outcome::Nothing { .. }));
    assert_eq!(server.wait().code(), Some(70));
    let server = Server::start(&["calculator", "--fault-hang-after=1", "--fault-unhealthy-after=1"]);
    assert_eq!((server.get("/healthz").status, server.get("/add/1/1").status), (200, 200));
    assert_eq!(server.send("GET", "/add/1/1", "", b""), Outcome::Silence { head: false });
    assert_eq!(server.get("/healthz").status, 503);
    let server = Server::start(&["calculator", "--fault", "busy; status=429", "--fault-latency", "1ms"]);
    assert_eq!(server.get("/add/1/1").status, 429);
}

#[test]
fn a_start_may_fail_take_its_time_or_not_last() {
    let output = program().args(["calculator", "--fault-exit-at-start", "7"]).output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&output.stderr).contains("exit 7"));
    let begun = Instant::now();
    let mut server =
        Server::start(&["calculator", "--fault-start-delay", "200ms", "--fault-exit-after", "100ms"]);
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(server.wait().code(), Some(70));
}

#[test]
fn sigterm_lets_what_is_at_work_end() {
    let mut server = Server::start(&["sleep"]);
    let mut stream = server.connect();
    stream.write_all(b"GET /sleep/300ms HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    while !server.get("/stats").text().contains("\"at_work\":1") {}
    let begun = Instant::now();
    server.terminate();
    assert_eq!(receive(stream).whole().text(), "slept 300ms\n");
    assert!(server.wait().success());
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn sigterm_does_not_wait_for_what_hangs() {
    let mut server = Server::start(&["sleep", "--grace", "100ms"]);
    assert_eq!(server.get_with_fault("/sleep/0", "hang"), Outcome::Silence { head: false });
    let mut hung = server.connect();
    hung.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nFault: hang\r\n\r\n").unwrap();
    server.terminate();
    assert!(server.wait().success());
}

#[test]
fn a_port_in_use_is_said() {
    let server = Server::start(&["calculator"]);
    let port = server.address.rsplit(':').next().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_model-server"));
    let mut child = command.args(["--host", "127.0.0.1", "--port", port]).spawn().unwrap();
    assert_eq!(wait(&mut child).code(), Some(1));
}
