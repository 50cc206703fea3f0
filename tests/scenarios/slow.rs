//! slowhttptest in its modes: many clients that are as slow as they can be, and others who are answered all the same.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;
use std::time::{Duration, Instant};

use longshore_tests::raw::Raw;
use longshore_tests::{Backend, Cluster, PATIENCE, Setup, each, eventually};
use tokio::process::Command;

/// Connections of the slow ones.
const SLOW: &str = "250";

/// How long each attack lasts at the most.
const SECONDS: &str = "15";

/// Longest time that anybody else waits where slow clients hold slots: a few times what one may hold a slot for.
const WAIT: Duration = Duration::from_secs(8);

/// The same where they hold none.
const SOON: Duration = Duration::from_millis(1_500);

/// Where everybody else is.
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

struct Mode {
    name: &'static str,
    options: &'static str,
    path: &'static str,
    /// Whether they see that they are cut off. Whoever has not read what came before does not.
    is_seen: bool,
    /// Longest time that anybody else waits.
    wait: Duration,
}

const MODES: &[Mode] = &[
    Mode { name: "headers that do not end", options: "-H -i 1 -x 8", path: "/", is_seen: true, wait: SOON },
    Mode {
        name: "small bodies that do not end",
        options: "-B -i 1 -x 8 -s 8192",
        path: "/",
        is_seen: true,
        wait: SOON,
    },
    // Larger than what is kept in memory.
    Mode {
        name: "large bodies that do not end",
        options: "-B -i 1 -x 8 -s 1000000",
        path: "/",
        is_seen: true,
        wait: SOON,
    },
    // Larger than what the system keeps for a socket: smaller ones are out of the proxy at once.
    Mode {
        name: "answers that stream and are not read",
        options: "-X -n 1 -z 16 -w 64 -y 256",
        path: "/bytes/9000000",
        is_seen: false,
        wait: WAIT,
    },
];

async fn cluster(mode: &Mode) -> Cluster {
    // One slot is enough where the slow ones hold none.
    let keys = if mode.wait == SOON { "" } else { "concurrency = 8\nqueue.order = \"fair\"" };

    // The defaults, but for the times, so that it is over within the test.
    Setup::new(Backend::Process)
        .proxy("request_header_timeout = \"2s\"")
        .proxy("limits.min_rate_grace = \"2s\"")
        .model("calc", "calculator", keys)
        .start()
        .await
}

/// Runs it, until all its connections are cut or it gives up; what it says at its end, and how long it took.
async fn attack(cluster: &Cluster, mode: &Mode) -> (String, Duration) {
    let url = format!("http://{}{}", cluster.address(), mode.path);
    let mut command = Command::new("slowhttptest");
    command
        .args(mode.options.split(' '))
        .args(["-c", SLOW, "-r", SLOW, "-l", SECONDS, "-p", "3", "-u", &url]);
    command.env("TERM", "dumb").stdin(Stdio::null()).kill_on_drop(true);
    let begun = Instant::now();
    let done = command.output().await.expect("slowhttptest is installed, as ./test does");
    (String::from_utf8_lossy(&done.stdout).into_owned(), begun.elapsed())
}

/// Asks again and again, each time on a new connection, until `over`; how often, and the longest wait.
async fn others(cluster: &Cluster, over: &tokio::sync::Notify) -> (u32, Duration) {
    let (mut count, mut longest) = (0, Duration::ZERO);
    loop {
        let begun = Instant::now();
        let mut raw = Raw::connect_from(OTHERS, cluster.address()).await;
        raw.send("GET /add/3/4 HTTP/1.1\r\nHost: calc\r\nConnection: close\r\n\r\n").await;
        let answer = raw.rest().await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\n7"), "{answer}");
        (count, longest) = (count + 1, longest.max(begun.elapsed()));
        if tokio::time::timeout(Duration::from_millis(50), over.notified()).await.is_ok() {
            return (count, longest);
        }
    }
}

async fn slow_clients_are_cut_off_and_others_are_answered_meanwhile() {
    for mode in MODES {
        let cluster = cluster(mode).await;
        let over = tokio::sync::Notify::new();
        let attacked = async {
            let ended = attack(&cluster, mode).await;
            over.notify_one();
            ended
        };
        let ((said, took), (count, longest)) = tokio::join!(attacked, others(&cluster, &over));
        eprintln!(
            "{}: over after {took:.1?}; {count} others were answered meanwhile, after {longest:.1?} at the most",
            mode.name
        );
        if mode.is_seen {
            assert!(said.contains("No open connections left"), "{}: they are not cut off: {said}", mode.name);
        } else {
            let gone =
                cluster.admin().metrics().await.sum("longshore_client_gone_total", &[("service", "calc")]);
            assert!(gone >= 24.0, "{}: {gone} are cut off: {said}", mode.name);
        }
        assert!(took > Duration::from_secs(1), "{}: that was no attack: {said}", mode.name);
        assert!(count > 5 && longest < mode.wait, "{}: {count} others, {longest:?}", mode.name);
        eventually(PATIENCE, "nothing is left of it", async || {
            let service = cluster.admin().service("calc").await;
            (service["queue"]["depth"] == 0 && service["in_flight"] == 0).then_some(())
        })
        .await;
        cluster.admin().lost_nothing("calc").await;
        cluster.stop().await;
    }
}

each!(heavy 240: slow_clients_are_cut_off_and_others_are_answered_meanwhile);
