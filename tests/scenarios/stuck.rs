//! Clients that leave an instance which hangs: however the request stands, the slot is free soon after.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use longshore_tests::raw::Raw;
use longshore_tests::{Backend, Cluster, Setup, each};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Within which a slot is free after its client has left, on a busy machine.
const FREED: Duration = Duration::from_secs(10);

/// How a client leaves.
#[derive(Clone, Copy, Debug)]
enum Leaving {
    /// It closes.
    Closes,
    /// It is gone, and what it had sent with it.
    Resets,
}

/// A request, and how much of its body is sent, as far as it goes, after its head.
#[derive(Clone, Copy, Debug)]
struct Left {
    head: &'static str,
    body: usize,
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// What the instance does is in the target: see [`hang`].
const LEFT: &[Left] = &[
    Left { head: "GET /silent HTTP/1.1\r\nHost: x\r\n\r\n", body: 0 },
    Left { head: "POST /silent HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", body: 1_000 },
    Left { head: "POST /silent HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n", body: MIB },
    Left { head: "POST /deaf HTTP/1.1\r\nHost: x\r\nContent-Length: 131072\r\n\r\n", body: 128 * KIB },
    Left { head: "POST /deaf HTTP/1.1\r\nHost: x\r\nContent-Length: 134217728\r\n\r\n", body: 128 * MIB },
    Left { head: "POST /deaf HTTP/1.1\r\nHost: x\r\nContent-Length: 134217728\r\n\r\n", body: 30 * MIB },
    // A chunk that never ends.
    Left {
        head: "POST /deaf HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n8000000\r\n",
        body: 128 * MIB,
    },
    // What is sent ahead of an answer does not hide the end behind it.
    Left { head: "GET /silent HTTP/1.1\r\nHost: x\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n", body: 0 },
    Left { head: "GET /silent HTTP/1.1\r\nHost: x\r\n\r\n\r\n", body: 0 },
    // In the middle of an answer: one that is held, one that streams, one that began before the request had ended.
    Left { head: "GET /held HTTP/1.1\r\nHost: x\r\n\r\n", body: 0 },
    Left { head: "GET /begun HTTP/1.1\r\nHost: x\r\n\r\n", body: 0 },
    Left { head: "POST /begun HTTP/1.1\r\nHost: x\r\nContent-Length: 4194304\r\n\r\n", body: 4 * MIB },
    // Taken over, and silent since.
    Left { head: "GET /switched HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", body: 0 },
];

/// A server that hangs after the head of a request: it reads what comes and says nothing (`/silent`), does not even read
/// (`/deaf`), or stops in the middle of an answer (`/held`, `/begun`) or after taking the connection over (`/switched`).
async fn hang() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream));
        }
    });
    address
}

async fn converse(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let said = match head.split(' ').nth(1).unwrap_or_default() {
            "/silent" | "/deaf" => "",
            "/held" => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
            "/begun" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "/switched" => "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
            _ => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?;
                continue;
            }
        };
        stream.write_all(said.as_bytes()).await?;
        if !head.contains(" /silent ") {
            std::future::pending::<()>().await;
        }
        while stream.read(&mut [0; 4096]).await? > 0 {}
    }
}

impl Left {
    /// Sends it, waits until the instance has it, leaves, and says how long the slot was held after that.
    async fn leave(self, cluster: &Cluster, how: Leaving) -> Option<Duration> {
        let before = cluster.admin().in_flight("stuck").await;
        let mut raw = Raw::connect(cluster.address()).await;
        raw.send(self.head).await;
        raw.send_what_goes(&vec![b'x'; self.body]).await;
        cluster.admin().works_on("stuck", before + 1).await;
        if self.head.contains("/begun") || self.head.contains("/switched") {
            raw.until("\r\n\r\n").await;
        }
        // As far as it goes, it has gone.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(cluster.admin().in_flight("stuck").await, before + 1, "{self:?}");
        let begun = Instant::now();
        match how {
            Leaving::Closes => drop(raw),
            Leaving::Resets => raw.reset(),
        }
        while cluster.admin().in_flight("stuck").await > before {
            if begun.elapsed() > FREED {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(begun.elapsed())
    }
}

async fn the_slot_of_an_instance_that_hangs_is_free_when_its_client_has_left() {
    let address = hang().await;
    let cluster = Setup::new(Backend::Process)
        .proxy("idle_timeout = \"2s\"")
        .service(&format!(
            "[services.stuck]\naddresses = [\"{address}\"]\nconcurrency = 100\nhealth = {{ path = \"/healthz\", interval = \"1s\" }}\n"
        ))
        .start()
        .await;
    let mut wrong = Vec::new();
    for how in [Leaving::Closes, Leaving::Resets] {
        for left in LEFT {
            match left.leave(&cluster, how).await {
                Some(took) => eprintln!("{how:?} {left:?}: after {took:.1?}"),
                None => wrong.push(format!("{how:?} {left:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "not free after {FREED:?}:\n{}", wrong.join("\n"));
    assert_eq!(cluster.client().get("/next").await.status, 200);
    cluster.admin().lost_nothing("stuck").await;
    cluster.stop().await;
}

each!(light 180: the_slot_of_an_instance_that_hangs_is_free_when_its_client_has_left);
