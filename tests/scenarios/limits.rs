//! `[proxy.limits]`: each limit as a row of a table, what is within it and what is beyond.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use longshore_tests::raw::Raw;
use longshore_tests::{Backend, Cluster, PATIENCE, Setup, both, each, eventually};

/// One thing that a client does, on a connection of its own that stays open.
#[derive(Clone, Copy, Debug)]
enum Ask {
    /// A request with so many header fields.
    Fields(usize),
    /// A request with a header of this size.
    HeaderBytes(usize),
    /// A request that is answered at once.
    Quick,
    /// A request that is at work until the client leaves.
    Long,
    /// A body of a known length that stops in the middle.
    StoppedBody,
    /// A chunked body that comes byte by byte.
    DribbledBody,
    /// A body that is slow, and fast enough.
    SlowBody,
}

/// What is allowed beside each other, and what is refused after that, with which status and kind.
struct Limit {
    lines: &'static [&'static str],
    within: &'static [Ask],
    beyond: Ask,
    refused: (&'static str, &'static str),
}

/// Limits of one client bind the tests' too.
const ALL: &str = "limits.exempt = []";

const LIMITS: &[Limit] = &[
    Limit {
        lines: &["limits.header_bytes = \"10KiB\""],
        within: &[Ask::HeaderBytes(9_000)],
        beyond: Ask::HeaderBytes(11_000),
        refused: ("431", "headers-too-large"),
    },
    Limit {
        lines: &["limits.header_fields = 20"],
        within: &[Ask::Fields(20)],
        beyond: Ask::Fields(21),
        refused: ("431", "headers-too-large"),
    },
    Limit {
        lines: &["limits.connections = 2"],
        within: &[Ask::Quick, Ask::Quick],
        beyond: Ask::Quick,
        refused: ("503", "overloaded"),
    },
    Limit {
        lines: &["limits.client_connections = 2", ALL, "trusted = []"],
        within: &[Ask::Quick, Ask::Quick],
        beyond: Ask::Quick,
        refused: ("429", "client-limit"),
    },
    Limit {
        lines: &["limits.client_concurrent = 2", ALL],
        within: &[Ask::Long, Ask::Long],
        beyond: Ask::Quick,
        refused: ("429", "client-limit"),
    },
    Limit {
        lines: &["limits.client_rate = \"3/m\"", ALL],
        within: &[Ask::Quick, Ask::Quick, Ask::Quick],
        beyond: Ask::Quick,
        refused: ("429", "client-limit"),
    },
    Limit {
        lines: &["limits.min_rate = 1000", "limits.min_rate_grace = \"1s\""],
        within: &[Ask::SlowBody],
        beyond: Ask::StoppedBody,
        refused: ("408", "request-timeout"),
    },
    Limit {
        lines: &["limits.min_rate = 1000", "limits.min_rate_grace = \"1s\""],
        within: &[Ask::SlowBody],
        beyond: Ask::DribbledBody,
        refused: ("408", "request-timeout"),
    },
];

impl Ask {
    fn text(self) -> String {
        let head = "POST / HTTP/1.1\r\nHost: sleep\r\n";
        match self {
            Self::Fields(count) => {
                let more: String = (1..count).map(|number| format!("X-{number}: y\r\n")).collect();
                format!("GET / HTTP/1.1\r\nHost: sleep\r\n{more}\r\n")
            }
            Self::HeaderBytes(size) => {
                format!("GET / HTTP/1.1\r\nHost: sleep\r\nX-Large: {}\r\n\r\n", "x".repeat(size))
            }
            Self::Quick => "GET / HTTP/1.1\r\nHost: sleep\r\n\r\n".to_owned(),
            Self::Long => "GET /sleep/60s HTTP/1.1\r\nHost: sleep\r\n\r\n".to_owned(),
            Self::StoppedBody => format!("{head}Content-Length: 10\r\n\r\nhello"),
            Self::DribbledBody => format!("{head}Transfer-Encoding: chunked\r\n\r\n"),
            Self::SlowBody => format!("{head}Content-Length: 3000\r\n\r\n"),
        }
    }

    /// Does it, and waits until it is accepted.
    async fn is_accepted(self, cluster: &Cluster, before: u64) -> Raw {
        let mut raw = Raw::connect(cluster.address()).await;
        raw.send(self.text()).await;
        match self {
            Self::Long => cluster.admin().works_on("sleep", before + 1).await,
            Self::SlowBody => {
                for _ in 0..10 {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    raw.send("x".repeat(300)).await;
                }
            }
            Self::Fields(_) | Self::HeaderBytes(_) | Self::Quick | Self::StoppedBody | Self::DribbledBody => {
            }
        }
        if !matches!(self, Self::Long) {
            let answer = raw.until("\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{self:?}: {answer}");
        }
        raw
    }

    /// Does it, and reads what is said about it.
    async fn is_refused(self, cluster: &Cluster) -> String {
        let mut raw = Raw::connect(cluster.address()).await;
        raw.send(self.text()).await;
        match self {
            Self::DribbledBody => {
                let begun = Instant::now();
                while raw.is_silent_for(Duration::from_millis(100)).await {
                    assert!(begun.elapsed() < PATIENCE, "it may dribble for ever");
                    raw.send("1\r\nx\r\n").await;
                }
            }
            Self::Fields(_)
            | Self::HeaderBytes(_)
            | Self::Quick
            | Self::Long
            | Self::StoppedBody
            | Self::SlowBody => {}
        }
        raw.until("}\n").await
    }
}

fn setup(lines: &[&str]) -> Setup {
    let setup = Setup::new(Backend::Process).model("sleep", "sleep", "concurrency = 8");
    lines.iter().fold(setup, |setup, line| setup.proxy(line))
}

async fn what_is_within_a_limit_is_answered_and_what_is_beyond_is_refused() {
    for Limit { lines, within, beyond, refused } in LIMITS {
        let cluster = setup(lines).start().await;
        let mut open = Vec::new();
        for (number, ask) in within.iter().enumerate() {
            open.push(ask.is_accepted(&cluster, number as u64).await);
        }
        let answer = beyond.is_refused(&cluster).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        let kind = answer.split("urn:longshore:").nth(1).and_then(|rest| rest.split('"').next());
        assert_eq!((status, kind.unwrap_or_default()), *refused, "{lines:?}: {answer}");
        if matches!(status, "429" | "503") {
            assert!(answer.to_lowercase().contains("\r\nretry-after: "), "{answer}");
        }
        drop(open);
        if !lines.iter().any(|line| line.contains("rate =")) {
            eventually(PATIENCE, "what was taken is given back", async || {
                cluster
                    .client()
                    .try_send(Request::get("/"), Bytes::new())
                    .await
                    .ok()
                    .filter(|reply| reply.status == 200)
            })
            .await;
        }
        cluster.admin().works_on("sleep", 0).await;
        cluster.stop().await;
    }
}

async fn a_client_that_does_not_take_its_answer_holds_its_slot_no_longer_than_the_grace() {
    let lines = ["limits.min_rate = 100000", "limits.min_rate_grace = \"2s\""];
    let cluster = setup(&lines).model("one", "calculator", "concurrency = 1").start().await;
    let mut raw = Raw::connect(cluster.address()).await;
    // More than any socket's buffers hold.
    raw.send("GET /bytes/100000000 HTTP/1.1\r\nHost: one\r\n\r\n").await;
    cluster.admin().works_on("one", 1).await;
    let begun = Instant::now();
    let reply = cluster.client().get_from("one", "/add/3/4").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "7"), "the slot is free again");
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(20), "cut off after {took:?}");
    cluster.admin().counts("longshore_client_gone_total", &[("service", "one")], 1.0).await;
    // One that reads slowly, and fast enough, gets all of it.
    let mut reader = Raw::connect(cluster.address()).await;
    reader.send("GET /bytes/3000000 HTTP/1.1\r\nHost: one\r\nConnection: close\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert!(reader.rest().await.len() > 3_000_000);
    cluster.stop().await;
}

async fn a_limit_that_is_changed_holds_from_then_on_and_counts_what_is_there() {
    let mut cluster = setup(&["limits.client_concurrent = 1", ALL]).start().await;
    let first = Ask::Long.is_accepted(&cluster, 0).await;
    assert_eq!(cluster.client().get("/").await.problem(), "client-limit");
    let path = cluster.setup_mut().write();
    let text = std::fs::read_to_string(&path).expect("it was written");
    let text = text.replace("client_concurrent = 1", "client_concurrent = 2");
    std::fs::write(&path, text).expect("it can be written");
    assert_eq!(cluster.admin().post("/reload").await.status, 200);
    let second = Ask::Long.is_accepted(&cluster, 1).await;
    assert_eq!(cluster.client().get("/").await.problem(), "client-limit", "the first still counts");
    drop((first, second));
    cluster.admin().works_on("sleep", 0).await;
    cluster.stop().await;
}

async fn what_a_client_takes_counts_while_its_instances_die_and_is_given_back_once(backend: Backend) {
    let setup = Setup::new(backend).proxy("limits.client_concurrent = 2").proxy(ALL);
    let cluster = setup.model("sleep", "sleep", "size = 2\nconcurrency = 1").start().await;
    let instances = cluster.admin().has("sleep", 2).await;
    for round in 0..2 {
        let asked: Vec<_> = (0..2)
            .map(|_| {
                let client = cluster.client();
                tokio::spawn(async move { client.get("/sleep/1500ms").await })
            })
            .collect();
        cluster.admin().works_on("sleep", 2).await;
        assert_eq!(cluster.client().get("/sleep/1ms").await.problem(), "client-limit");
        if round == 0 {
            cluster.kill_instances(&instances).await;
            // They wait again, and are the client's still.
            assert_eq!(cluster.client().get("/sleep/1ms").await.problem(), "client-limit");
        }
        for one in asked {
            let reply = one.await.expect("no panic");
            let attempts = if round == 0 { "2" } else { "1" };
            assert_eq!(
                (reply.status, reply.header("longshore-attempts")),
                (200, attempts),
                "{}",
                reply.text()
            );
        }
    }
    cluster.admin().lost_nothing("sleep").await;
    cluster.stop().await;
}

async fn refusals_before_a_service_is_chosen_are_counted() {
    let cluster = setup(&["limits.client_rate = \"1/h\"", ALL]).start().await;
    assert_eq!(cluster.client().get("/").await.status, 200);
    let refused = cluster.client().get("/").await;
    assert_eq!((refused.status, refused.problem().as_str()), (429, "client-limit"));
    let after: u64 = refused.header("retry-after").parse().expect("a number");
    assert!((3_000..=3_600).contains(&after), "{after}");
    cluster.admin().counts("longshore_refused_total", &[("kind", "client-limit")], 1.0).await;
    cluster.stop().await;
}

each!(light 120: what_is_within_a_limit_is_answered_and_what_is_beyond_is_refused);
each!(light 90: a_client_that_does_not_take_its_answer_holds_its_slot_no_longer_than_the_grace);
each!(light 60: a_limit_that_is_changed_holds_from_then_on_and_counts_what_is_there);
both!(light 90: what_a_client_takes_counts_while_its_instances_die_and_is_given_back_once);
each!(light 60: refusals_before_a_service_is_chosen_are_counted);
