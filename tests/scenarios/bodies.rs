//! Large bodies: at the memory of small ones, on a disk that may be full, and no faster than whoever takes them.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use longshore_tests::raw::Raw;
use longshore_tests::{Backend, Cluster, PATIENCE, Reply, Setup, client, digest, each, eventually, process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Most memory of the proxy, whatever passes through it.
const MEMORY: u64 = 64 << 20;

/// What is large.
const GIB: usize = 1 << 30;

fn bounded(cluster: &Cluster, what: &str) {
    let memory = process::peak_memory(cluster.pid());
    eprintln!("{what}: the proxy had {} MiB at the most", memory >> 20);
    assert!(memory < MEMORY, "{what}: the proxy had {} MiB", memory >> 20);
}

async fn a_gibibyte_goes_up_at_constant_memory() {
    let cluster = Setup::new(Backend::Process).model("calc", "calculator", "").start().await;
    let part: Bytes = digest::body(7, 1 << 20).into();
    let (sender, body) = client::channel();
    let sent = part.clone();
    let sending = tokio::spawn(async move {
        for _ in 0..GIB >> 20 {
            sender.send(sent.clone()).await.expect("it is taken");
        }
    });
    let request = Request::post("/").header("content-length", GIB);
    let (response, _connection) = cluster.client().open(request, body).await.expect("an answer");
    let reply = Reply::collect(response).await.expect("a whole answer");
    sending.await.expect("no panic");
    assert_eq!((&reply.json()["length"], &reply.json()["sha256"]), (&GIB.into(), &sum_of(&part).into()));
    bounded(&cluster, "1 GiB up");
    cluster.stop().await;
}

/// The digest of the part again and again up to [`GIB`], by a program that is faster at it than a debug build.
fn sum_of(part: &[u8]) -> String {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("coreutils are installed");
    let mut stdin = child.stdin.take().expect("it is piped");
    (0..GIB >> 20).for_each(|_| stdin.write_all(part).expect("it reads"));
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().expect("a sum").to_owned()
}

async fn a_gibibyte_comes_down_at_constant_memory() {
    let cluster = Setup::new(Backend::Process).model("calc", "calculator", "").start().await;
    let nothing = Empty::new().map_err(|never| match never {});
    let request = Request::get(format!("/bytes/{GIB}"));
    let (response, _connection) = cluster.client().open(request, nothing).await.expect("an answer begins");
    assert_eq!(response.headers()["content-length"], GIB.to_string());
    let pattern: Vec<u8> = (0..65_536).map(|index| ((index * 31 + index / 251) % 256) as u8).collect();
    let (mut body, mut length) = (response.into_body(), 0);
    while let Some(frame) = body.frame().await {
        let data = frame.expect("it is whole").into_data().unwrap_or_default();
        let mut rest = &data[..];
        while !rest.is_empty() {
            let wanted = &pattern[length % pattern.len()..];
            let size = wanted.len().min(rest.len());
            assert!(rest[..size] == wanted[..size], "other bytes after {length}");
            rest = &rest[size..];
            length += size;
        }
    }
    assert_eq!(length, GIB);
    bounded(&cluster, "1 GiB down");
    cluster.stop().await;
}

async fn two_hundred_uploads_wait_for_an_instance_at_constant_memory() {
    const COUNT: u64 = 200;
    let arguments = "calculator --fault-start-delay 25s";
    let cluster = Setup::new(Backend::Process).model("calc", arguments, "concurrency = 4").serve().await;
    let (admin, body) = (cluster.admin(), Bytes::from(digest::body(3, 5 << 20)));
    let (field, sum) = (digest::field(&body), digest::hex(&body));
    let mut open = JoinSet::new();
    for _ in 0..COUNT {
        let (client, body, field, sum) = (cluster.client(), body.clone(), field.clone(), sum.clone());
        open.spawn(async move {
            let reply = client.send(Request::post("/").header("content-digest", field), body).await;
            assert_eq!((reply.status, &reply.json()["sha256"]), (200, &sum.into()), "{}", reply.text());
        });
    }
    let all = (COUNT * body.len() as u64) as f64;
    eventually(PATIENCE, "all of them are kept", async || {
        let kept = admin.metrics().await.sum("longshore_queue_bytes", &[("service", "calc")]);
        ((kept - all).abs() < 0.5).then_some(())
    })
    .await;
    assert_eq!(admin.queued("calc").await, COUNT, "an instance was ready before all were kept");
    while let Some(ended) = open.join_next().await {
        ended.expect("every request is answered, and rightly");
    }
    // A gibibyte waited; each of the 200 connections has buffers of its own.
    let memory = process::peak_memory(cluster.pid());
    eprintln!("200 uploads of 5 MiB: the proxy had {} MiB at the most", memory >> 20);
    assert!(memory < 2 * MEMORY, "the proxy had {} MiB", memory >> 20);
    admin.counts("longshore_queue_bytes", &[("service", "calc")], 0.0).await;
    admin.lost_nothing("calc").await;
    cluster.stop().await;
}

/// A file system of its own, of so many bytes, until it is dropped.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn new(bytes: u64) -> Self {
        let folder = tempfile::Builder::new().prefix("longshore-e2e-").tempdir().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "longshore-e2e"])
            .arg(folder.path())
            .status();
        assert!(
            mounted.expect("mount is installed").success(),
            "this test mounts a file system: run it as root"
        );
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

/// A service whose only instance takes a while to start.
async fn with_temporary(folder: &Path) -> Cluster {
    Setup::new(Backend::Process)
        .environment("TMPDIR", &folder.display().to_string())
        .model("calc", "calculator --fault-start-delay 5s", "")
        .serve()
        .await
}

async fn a_disk_that_is_full_refuses_what_is_new_and_loses_nothing_that_was_accepted() {
    let tiny = Tiny::new(18 << 20);
    let cluster = with_temporary(tiny.path()).await;
    cluster.expect_error("failed to keep waiting bodies");
    let (admin, body) = (cluster.admin(), Bytes::from(digest::body(3, 5 << 20)));
    let length = body.len() as u64;
    let mut accepted = JoinSet::new();
    for count in 1..=3 {
        let (client, body) = (cluster.client(), body.clone());
        accepted.spawn(async move { client.post("/", body).await });
        let kept = (count * length) as f64;
        admin.counts("longshore_queue_bytes", &[("service", "calc")], kept).await;
    }
    for _ in 0..3 {
        let refused = cluster.client().post("/", body.clone()).await;
        assert_eq!((refused.status, refused.problem().as_str()), (507, "storage"));
        assert!(refused.detail().contains("the disk for temporary files is full"), "{}", refused.detail());
    }
    assert_eq!(admin.queued("calc").await, 3, "those that were accepted wait");
    let sum = digest::hex(&body);
    for reply in accepted.join_all().await {
        assert_eq!((reply.status, reply.json()["sha256"] == sum.as_str()), (200, true), "{}", reply.text());
    }
    // What they took is free again.
    assert_eq!(cluster.client().post("/", body).await.status, 200);
    admin.counts("longshore_rejected_total", &[("service", "calc"), ("kind", "storage")], 3.0).await;
    admin.lost_nothing("calc").await;
    cluster.stop().await;
}

async fn a_temporary_folder_that_is_missing_refuses_only_what_needs_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = with_temporary(&folder.path().join("missing")).await;
    cluster.expect_error("failed to keep waiting bodies");
    let small = {
        let client = cluster.client();
        tokio::spawn(async move { client.post("/", Bytes::from_static(b"small")).await })
    };
    cluster.admin().queues("calc", 1).await;
    let refused = cluster.client().post("/", Bytes::from(digest::body(3, 5 << 20))).await;
    assert_eq!((refused.status, refused.problem().as_str()), (507, "storage"));
    assert!(refused.detail().contains("the folder for temporary files is missing"), "{}", refused.detail());
    let small = small.await.expect("no panic");
    assert_eq!((small.status, &small.json()["length"]), (200, &5.into()));
    // An answer that cannot be held is passed on as it comes.
    let large = cluster.client().get("/bytes/900000").await;
    assert!(large.is_intact() && large.body.len() == 900_000);
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

async fn answers_that_are_held_take_no_memory_either() {
    let keys = "size = 2\nconcurrency = 0\nreplay.hold = \"64MiB\"";
    let cluster = Setup::new(Backend::Process).model("calc", "calculator", keys).start().await;
    let stats = cluster.client().get("/stats").await.json();
    let fault = format!("reset; bytes=20000000; only={}", stats["instance"].as_str().expect("a name"));
    let mut open = JoinSet::new();
    for _ in 0..8 {
        let (client, fault) = (cluster.client(), fault.clone());
        open.spawn(async move { client.get_with_fault("/bytes/40000000", &fault).await });
    }
    let replies = open.join_all().await;
    assert!(replies.iter().all(|reply| reply.body.len() == 40_000_000), "an answer broke off");
    assert!(replies.iter().any(|reply| reply.header("longshore-attempts") != "1"), "no fault was met");
    assert!(replies[0].is_intact());
    bounded(&cluster, "8 answers of 40 MB that are held");
    cluster.admin().counts("longshore_queue_bytes", &[("service", "calc")], 0.0).await;
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

/// A server that answers at once and then writes without end (`/flood`), or reads nothing (`/stuck`); it counts what it
/// could write.
struct Flood {
    address: SocketAddr,
    written: Arc<AtomicU64>,
    /// Ends what is stuck.
    end: Arc<Notify>,
}

impl Flood {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (address, written) = (listener.local_addr().expect("it is bound"), Arc::<AtomicU64>::default());
        let end = Arc::<Notify>::default();
        let flood = Self { address, written, end };
        let (count, end) = (flood.written.clone(), flood.end.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Self::serve(stream, count.clone(), end.clone()));
            }
        });
        flood
    }

    async fn serve(mut stream: TcpStream, written: Arc<AtomicU64>, end: Arc<Notify>) {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).await.is_ok() {
            head.push(byte[0]);
        }
        let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
        if path != "/flood" && path != "/stuck" {
            let _ =
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
            return;
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        if path == "/stuck" {
            let _ = stream.write_all(b"5\r\nbegun\r\n").await;
            return end.notified().await;
        }
        let chunk = [&b"10000\r\n"[..], &[7; 0x10000], b"\r\n"].concat();
        while stream.write_all(&chunk).await.is_ok() {
            written.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        written.store(u64::MAX, Ordering::Relaxed);
    }

    async fn cluster(&self) -> Cluster {
        let keys = "concurrency = 1\nhealth.path = \"/healthz\"";
        let service = format!("[services.calc]\naddresses = [\"{}\"]\n{keys}", self.address);
        Setup::new(Backend::Process).service(&service).start().await
    }
}

/// Waits until a number grows no more, and returns it.
async fn still(number: impl Fn() -> u64) -> u64 {
    let mut last = number();
    eventually(PATIENCE, "it stands still", async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = number();
        let stands = now == std::mem::replace(&mut last, now) && now > 0;
        stands.then_some(now)
    })
    .await
}

async fn a_client_that_reads_nothing_holds_the_instance_back() {
    let flood = Flood::start().await;
    let cluster = flood.cluster().await;
    let mut raw = Raw::connect(cluster.address()).await;
    raw.send("GET /flood HTTP/1.1\r\nHost: calc\r\n\r\n").await;
    let written = still(|| flood.written.load(Ordering::Relaxed)).await;
    eprintln!("the instance could write {} KiB", written >> 10);
    // What the sockets take, and the proxy's own buffers.
    assert!(written < 24 << 20, "the instance could write {} MiB", written >> 20);
    assert_eq!(cluster.admin().in_flight("calc").await, 1, "it holds its slot");
    bounded(&cluster, "a client that reads nothing");
    drop(raw);
    eventually(PATIENCE, "the instance sees that nobody listens", async || {
        (flood.written.load(Ordering::Relaxed) == u64::MAX).then_some(())
    })
    .await;
    cluster.admin().works_on("calc", 0).await;
    cluster.stop().await;
}

async fn an_instance_that_reads_nothing_holds_the_client_back() {
    let flood = Flood::start().await;
    let cluster = flood.cluster().await;
    let (sender, body) = client::channel();
    let request = Request::post("/stuck");
    let (mut response, _connection) = cluster.client().open(request, body).await.expect("an answer begins");
    response.body_mut().frame().await.expect("a part").expect("it has come");
    let taken = Arc::<AtomicU64>::default();
    let count = taken.clone();
    let sending = tokio::spawn(async move {
        let part = Bytes::from(vec![7; 1 << 16]);
        while sender.send(part.clone()).await.is_ok() {
            count.fetch_add(part.len() as u64, Ordering::Relaxed);
        }
    });
    let sent = still(|| taken.load(Ordering::Relaxed)).await;
    eprintln!("the client could send {} KiB", sent >> 10);
    assert!(sent < 24 << 20, "the client could send {} MiB", sent >> 20);
    bounded(&cluster, "an instance that reads nothing");
    cluster.admin().counts("longshore_queue_bytes", &[("service", "calc")], 0.0).await;
    sending.abort();
    flood.end.notify_one();
    cluster.admin().works_on("calc", 0).await;
    cluster.stop().await;
}

each!(heavy 180: a_gibibyte_goes_up_at_constant_memory, a_gibibyte_comes_down_at_constant_memory);
each!(heavy 180: two_hundred_uploads_wait_for_an_instance_at_constant_memory);
each!(light 60: a_disk_that_is_full_refuses_what_is_new_and_loses_nothing_that_was_accepted);
each!(light 60: a_temporary_folder_that_is_missing_refuses_only_what_needs_it);
each!(heavy 90: answers_that_are_held_take_no_memory_either);
each!(light 60: a_client_that_reads_nothing_holds_the_instance_back);
each!(light 60: an_instance_that_reads_nothing_holds_the_client_back);
