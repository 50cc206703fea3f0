//! `longshore up` on a terminal: progress bars, and the log above them.

use std::net::SocketAddr;

use longshore_tests::screen::Terminal;
use longshore_tests::{Backend, Client, Setup, each};

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
    let (_, admin) = said.split_once("admin API on http://").expect("it says where it is");
    let admin: SocketAddr = admin.split(',').next().and_then(|text| text.parse().ok()).expect("an address");
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

each!(light 60: the_log_stays_whole_above_the_bars);
