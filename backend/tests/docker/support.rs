//! An image to run, a cluster of its own for each test, and its removal.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use longshore_backend::docker::DockerBackend;
use longshore_backend::{Backend, Cause, Exit, Key, Progress, Pull, Reach, Spec};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Longer than a busy machine takes for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster that no other test has, and one image in it.
pub struct Cluster {
    pub name: String,
    pub image: String,
    pub backend: DockerBackend,
    /// The same engine, for faults and looks that no backend offers.
    pub docker: Docker,
    host: Option<String>,
    /// A Dockerfile and the server.
    context: TempDir,
}

impl Cluster {
    /// On the machine's engine, with the server's image.
    pub async fn new() -> Self {
        let cluster = Self::without_image(None).await;
        let mut built = cluster.backend.prepare(&cluster.spec(), false, &Silent).await;
        // While other tests' images are removed, the engine's builder may miss a layer that it has just made.
        for _ in 0..2 {
            if !built.as_ref().is_err_and(|error| error.to_string().contains("unable to find image")) {
                break;
            }
            built = cluster.backend.prepare(&cluster.spec(), false, &Silent).await;
        }
        built.expect("the image can be built");
        cluster
    }

    /// On the engine at `host`, with no image yet.
    pub async fn without_image(host: Option<String>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let backend = DockerBackend::connect(&name, host.as_deref())
            .await
            .expect("these tests need a Docker engine: start dockerd, or name one with DOCKER_HOST");
        let docker = docker(host.as_deref());
        let context = context(&name);
        Self { image: format!("longshore-{name}"), name, backend, docker, host, context }
    }

    /// The server, built when missing, and never pulled.
    pub fn spec(&self) -> Spec {
        Spec {
            image: self.image.clone(),
            build: Some(self.context.path().to_owned()),
            pull: Pull::Never,
            command: None,
            port: 8080,
            env: [("GREETING".to_owned(), "hello".to_owned())].into(),
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

    /// The server with other arguments.
    pub fn running(&self, arguments: &[&str]) -> Spec {
        let command = ["/server"].iter().chain(arguments).map(|&word| word.to_owned()).collect();
        Spec { command: Some(command), ..self.spec() }
    }

    pub fn container(&self, key: &Key) -> String {
        format!("longshore-{}-{key}", self.name)
    }

    /// Waits until nothing of the cluster is left in the engine.
    pub async fn is_empty_soon(&self) {
        let begun = Instant::now();
        while !self.backend.list().await.expect("the engine lists").is_empty() {
            assert!(begun.elapsed() < PATIENCE, "a dead container was not removed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let (host, name, image) = (self.host.clone(), self.name.clone(), self.image.clone());
        let removal = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(remove(docker(host.as_deref()), &name, &image));
        });
        // A failure here would hide the test's own.
        let _ = removal.join();
    }
}

async fn remove(docker: Docker, cluster: &str, image: &str) {
    let filters = HashMap::from([("label", vec![format!("longshore.cluster={cluster}")])]);
    let all = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    for container in docker.list_containers(Some(all)).await.unwrap_or_default() {
        let force = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let _ = docker.remove_container(&container.id.unwrap_or_default(), Some(force)).await;
    }
    let force = RemoveImageOptionsBuilder::new().force(true).build();
    let _ = docker.remove_image(image, Some(force), None).await;
}

fn docker(host: Option<&str>) -> Docker {
    match host {
        Some(host) => Docker::connect_with_unix(host, 120, bollard::API_DEFAULT_VERSION),
        None => Docker::connect_with_defaults(),
    }
    .expect("these tests need a Docker engine")
}

/// A folder to build from. The label keeps tests from sharing layers: an engine that removes an image while it builds
/// the same one from its cache fails that build.
fn context(name: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::copy(server(), folder.path().join("server")).expect("the server is there");
    let dockerfile = format!(
        "FROM scratch\nLABEL test={name}\nCOPY server /server\nVOLUME /scratch\nCMD [\"/server\", \"serve\"]\n"
    );
    std::fs::write(folder.path().join("Dockerfile"), dockerfile).expect("a Dockerfile");
    folder
}

/// The server's program, compiled once a test run.
pub fn server() -> &'static Path {
    static SERVER: OnceLock<PathBuf> = OnceLock::new();
    SERVER.get_or_init(compile)
}

fn compile() -> PathBuf {
    // Cargo's own place, because nothing removes what a static holds.
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docker-test-server");
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/docker/server.rs");
    // With a target named, the flag holds for this program and not for the compiler's own.
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let status = std::process::Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition", "2024", "-C", "target-feature=+crt-static", "--target", &target, "-o"])
        .arg(&program)
        .arg(source)
        .status()
        .expect("rustc runs");
    assert!(status.success(), "the server of these tests does not compile");
    program
}

/// The first life of a slot of the service `calc`.
pub fn key(slot: u32) -> Key {
    Key { service: "calc".into(), slot, incarnation: 1 }
}

/// The next exit, which must come in time.
pub async fn next(exits: &mut BoxStream<'static, Exit>) -> Exit {
    loop {
        let exit = next_of_any_kind(exits).await;
        if exit.cause != Cause::Unexplained {
            return exit;
        }
    }
}

/// The next news, with its cause or before it.
pub async fn next_of_any_kind(exits: &mut BoxStream<'static, Exit>) -> Exit {
    tokio::time::timeout(PATIENCE, exits.next()).await.expect("an exit is told").expect("the stream goes on")
}

/// The body of `GET /`, as soon as the server answers.
pub async fn get(address: std::net::SocketAddr) -> String {
    let begun = Instant::now();
    loop {
        match tokio::time::timeout(Duration::from_secs(2), try_get(address)).await {
            Ok(Ok(body)) => return body,
            _ => assert!(begun.elapsed() < PATIENCE, "{address} does not answer"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn try_get(address: std::net::SocketAddr) -> std::io::Result<String> {
    let mut connection = tokio::net::TcpStream::connect(address).await?;
    connection.write_all(b"GET / HTTP/1.1\r\nHost: calc\r\n\r\n").await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok(body.to_owned())
}

/// Shows nothing.
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _: &str, _: &str, _: u64, _: u64) {}
}

/// Remembers what it is told.
#[derive(Default)]
pub struct Recorder(pub Mutex<Vec<String>>, pub Mutex<Vec<(u64, u64)>>);

impl Progress for Recorder {
    fn step(&self, what: &str, status: &str, done: u64, total: u64) {
        self.0.lock().push(format!("{what}: {status}"));
        self.1.lock().push((done, total));
    }
}
