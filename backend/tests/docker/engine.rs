//! An engine that is killed, hangs and comes back, while its instances go on serving.
//!
//! The engine is one of the tests' own, with its own data and bridge, so that the machine's is left alone. (Without a
//! bridge it would remove docker0, whoever that belongs to.) Its instances are on the host's network, because a
//! published port ends with its engine.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::stream::BoxStream;
use longshore_backend::{Backend as _, Cause, Exit, Reach, Spec, StartError};
use tempfile::TempDir;

use crate::support::{Cluster, PATIENCE, Silent, get, key, next};

/// Longer than a ping and its failure take, so that the supervisor has noticed.
const UNNOTICED: Duration = Duration::from_secs(5);

/// A dockerd of our own.
struct Engine {
    folder: TempDir,
    bridge: String,
    options: &'static [&'static str],
    process: Option<Child>,
}

impl Engine {
    /// With these options beside its places; `number` keeps the bridges of several apart.
    fn start(number: u8, options: &'static [&'static str]) -> Self {
        let bridge = format!("lstest{number}");
        ip(&["link", "delete", &bridge]);
        let made = ip(&["link", "add", &bridge, "type", "bridge"])
            && ip(&["addr", "add", &format!("10.213.{number}.1/24"), "dev", &bridge]);
        assert!(made, "these tests need root, to make a bridge for an engine of their own");
        let folder = tempfile::tempdir().expect("a folder");
        let mut engine = Self { folder, bridge, options, process: None };
        engine.boot();
        engine
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn host(&self) -> String {
        format!("unix://{}", self.path("docker.sock"))
    }

    fn boot(&mut self) {
        // Left by one that was killed; their numbers may name zombies, which a new one takes for living.
        for stale in ["pid", "exec/containerd/containerd.pid"] {
            let _ = std::fs::remove_file(self.path(stale));
        }
        let log = std::fs::File::create(self.path("log")).expect("a log");
        let process = Command::new("dockerd")
            .args(["--data-root", &self.path("data"), "--exec-root", &self.path("exec")])
            .args(["--pidfile", &self.path("pid"), "--host", &self.host()])
            .args(["--bridge", &self.bridge, "--iptables=false", "--ip-masq=false"])
            .args(self.options)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("these tests need root and dockerd (Debian: docker.io)");
        self.process = Some(process);
        let begun = Instant::now();
        while std::os::unix::net::UnixStream::connect(self.path("docker.sock")).is_err() {
            assert!(
                begun.elapsed() < PATIENCE,
                "{}",
                std::fs::read_to_string(self.path("log")).unwrap_or_default()
            );
            std::thread::yield_now();
        }
    }

    fn signal(&self, signal: &str) {
        let id = self.process.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().expect("kill runs").success());
    }

    fn end(&mut self, signal: &str) {
        self.signal(signal);
        let _ = self.process.take().expect("it runs").wait();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.process.is_some() {
            // So that a stopped one hears.
            self.signal("CONT");
            self.end("TERM");
        }
        unmount_below(self.folder.path());
        ip(&["link", "delete", &self.bridge]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    let status = Command::new("ip").args(arguments).stderr(Stdio::null()).status();
    status.expect("these tests need ip (Debian: iproute2)").success()
}

/// What a killed engine has left mounted keeps its folder from being removed.
fn unmount_below(folder: &Path) {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let below = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|at| Path::new(at).starts_with(folder));
    for at in below {
        let _ = Command::new("umount").args(["-l", at]).stderr(Stdio::null()).status();
    }
}

async fn cluster_on(engine: &Engine) -> Cluster {
    let cluster = Cluster::without_image(Some(engine.host())).await;
    cluster.backend.prepare(&cluster.spec(), false, &Silent).await.expect("the image can be built");
    cluster
}

/// The server, on the host's network at a port that is free.
fn on_host(cluster: &Cluster) -> Spec {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port");
    Spec { port: port.port(), address: Reach::Host, ..cluster.spec() }
}

/// Nothing is told for a while.
async fn is_quiet(exits: &mut BoxStream<'static, Exit>) {
    let told = tokio::time::timeout(UNNOTICED, next(exits)).await;
    assert!(told.is_err(), "no instance has died: {told:?}");
}

#[tokio::test]
async fn a_killed_engine_takes_no_instance_with_it_and_is_followed_again_when_it_is_back() {
    let mut engine = Engine::start(71, &["--live-restore"]);
    let cluster = cluster_on(&engine).await;
    let mut exits = cluster.backend.watch();
    let address = cluster.backend.start(&key(0), &on_host(&cluster)).await.unwrap();
    cluster.backend.start(&key(1), &on_host(&cluster)).await.unwrap();
    get(address).await;

    engine.end("KILL");
    is_quiet(&mut exits).await;
    assert_eq!(get(address).await, "hello", "it serves without its engine");
    let down = cluster.backend.start(&key(2), &cluster.spec()).await.unwrap_err();
    assert!(matches!(down, StartError::EngineDown(_)), "{down:?}");
    assert!(cluster.backend.list().await.is_err());
    assert!(cluster.backend.stop(&key(0), Duration::ZERO).await.is_err());
    assert!(!cluster.backend.frozen(&key(0)).await);

    engine.boot();
    is_quiet(&mut exits).await;
    let found = cluster.backend.list().await.unwrap();
    assert_eq!((found.len(), found[0].address), (2, Some(address)));
    cluster.backend.kill(&key(1)).await.unwrap();
    assert_eq!(next(&mut exits).await, Exit { key: key(1), cause: Cause::Killed { signal: 9 } });
    assert_eq!(get(address).await, "hello");
    drop(cluster);
}

#[tokio::test]
async fn instances_that_an_engine_ends_when_it_restarts_are_told() {
    let mut engine = Engine::start(72, &[]);
    let cluster = cluster_on(&engine).await;
    let mut exits = cluster.backend.watch();
    for slot in [0, 1] {
        cluster.backend.start(&key(slot), &on_host(&cluster)).await.unwrap();
    }
    engine.end("KILL");
    is_quiet(&mut exits).await;
    engine.boot();
    let mut told = [next(&mut exits).await.key, next(&mut exits).await.key];
    told.sort();
    assert_eq!(told, [key(0), key(1)]);
    cluster.is_empty_soon().await;
    cluster.backend.start(&key(3), &on_host(&cluster)).await.unwrap();
    drop(cluster);
}

#[tokio::test]
async fn an_engine_that_hangs_fails_its_calls_in_time_and_no_instance() {
    let engine = Engine::start(73, &[]);
    let cluster = cluster_on(&engine).await;
    let mut exits = cluster.backend.watch();
    let address = cluster.backend.start(&key(0), &on_host(&cluster)).await.unwrap();
    get(address).await;

    engine.signal("STOP");
    let begun = Instant::now();
    let (spec, one, two) = (on_host(&cluster), key(0), key(1));
    let (started, listed, frozen, ()) = tokio::join!(
        cluster.backend.start(&two, &spec),
        cluster.backend.list(),
        cluster.backend.frozen(&one),
        is_quiet(&mut exits),
    );
    assert!(matches!(started, Err(StartError::EngineDown(_))), "{started:?}");
    assert!(listed.is_err() && !frozen);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(get(address).await, "hello");

    engine.signal("CONT");
    is_quiet(&mut exits).await;
    // The start that nobody waits for any more is heard now, and undone.
    let begun = Instant::now();
    while cluster.backend.list().await.unwrap().len() != 1 {
        assert!(begun.elapsed() < PATIENCE, "{:?}", cluster.backend.list().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.backend.kill(&key(0)).await.unwrap();
    assert_eq!(next(&mut exits).await.cause, Cause::Killed { signal: 9 });
    drop(cluster);
}
