//! A running `longshore up`: where it is, what may be done to its instances, and its end.

use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use parking_lot::Mutex;
use serde_json::Value;

use crate::admin::{Admin, Instance};
use crate::client::Client;
use crate::command::{Done, run};
use crate::docker::Docker;
use crate::log::Log;
use crate::setup::{Backend, Setup, demand_model_server};
use crate::{PATIENCE, eventually, process};

/// The binary under test: `LONGSHORE_BIN`, else the one that `cargo build --release` makes.
pub fn binary() -> std::path::PathBuf {
    let built = || crate::repository().join("target/release/longshore");
    let path = std::env::var_os("LONGSHORE_BIN").map_or_else(built, Into::into);
    assert!(
        path.is_file(),
        "{} is missing: run ./test, or name the binary with LONGSHORE_BIN",
        path.display()
    );
    path
}

/// A cluster that serves. Dropping it kills it, removes its containers, and fails the test if its log has an ERROR that
/// was not announced by [`Cluster::expect_error`].
#[derive(Debug)]
pub struct Cluster {
    setup: Setup,
    child: Child,
    log: Log,
    proxy: SocketAddr,
    admin: SocketAddr,
    expected: Mutex<Vec<String>>,
}

/// Starts the process; its stderr is followed.
pub(crate) fn spawn(setup: &Setup) -> (Child, Log) {
    let config = setup.write();
    let mut child = Command::new(binary())
        .args(["up", "--backend", setup.backend.name(), "-c"])
        .arg(config)
        .args(&setup.arguments)
        .env_remove("RUST_LOG")
        .env_remove("LONGSHORE_ADMIN")
        .env_remove("LONGSHORE_TOKEN")
        .envs(&setup.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let log = Log::follow(child.stderr.take().expect("it is piped"));
    (child, log)
}

impl Cluster {
    pub(crate) async fn serve(setup: Setup) -> Self {
        match setup.backend {
            Backend::Docker => engine_of(&setup).demand(),
            Backend::Process => demand_model_server(),
        }
        let (child, log) = spawn(&setup);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let expected = Mutex::default();
        let mut cluster = Self { setup, child, log, proxy: nowhere, admin: nowhere, expected };
        cluster.find_addresses().await;
        cluster
    }

    async fn find_addresses(&mut self) {
        let (log, child) = (&self.log, &mut self.child);
        let (proxy, admin) = eventually(PATIENCE, "longshore up says where it serves", async || {
            if let Ok(Some(status)) = child.try_wait() {
                panic!("longshore up ended at once with {status}:\n{}", log.tail(50));
            }
            let proxy = log.word_after("serving requests on http://")?;
            let admin = log.word_after("admin API on http://")?;
            Some((proxy.parse().ok()?, admin.parse().ok()?))
        })
        .await;
        (self.proxy, self.admin) = (proxy, admin);
    }

    /// Waits until every service has the instances that it wants, and nothing else.
    pub async fn settled(&self) {
        let admin = self.admin();
        eventually(PATIENCE, "every service has its instances", async || {
            admin.services().await.iter().all(is_settled).then_some(())
        })
        .await;
    }

    /// Runs `up` again, after [`Cluster::kill`], with what the setup says by now.
    pub async fn again(&mut self) {
        assert!(!process::lives(self.pid()), "the first one still runs");
        let (child, log) = spawn(&self.setup);
        (self.child, self.log) = (child, log);
        self.find_addresses().await;
    }

    /// Runs `up --takeover` beside the one that runs, with what the setup says by now, and goes on with the new one.
    pub async fn take_over(&mut self) -> Predecessor {
        let mut arguments = self.setup.arguments.clone();
        arguments.retain(|argument| argument != "--takeover");
        arguments.push("--takeover".to_owned());
        self.setup.arguments = arguments;
        let (child, log) = spawn(&self.setup);
        let old = Predecessor {
            child: std::mem::replace(&mut self.child, child),
            log: std::mem::replace(&mut self.log, log),
        };
        self.find_addresses().await;
        old
    }

    /// Runs `up` with another file beside the one that runs, to its end.
    pub async fn up_beside(&self, config: &std::path::Path, arguments: &[&str]) -> Done {
        let config = config.to_str().expect("a plain path");
        let line = [&["up", "--backend", self.setup.backend.name(), "-c", config], arguments].concat();
        run(PATIENCE, &line, &[]).await
    }

    /// What the next [`Cluster::again`] runs.
    pub fn setup_mut(&mut self) -> &mut Setup {
        &mut self.setup
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.setup.name
    }

    /// The folder with its cluster.toml.
    pub fn folder(&self) -> &std::path::Path {
        self.setup.folder.path()
    }

    /// The proxy's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it serves requests.
    pub const fn address(&self) -> SocketAddr {
        self.proxy
    }

    /// Where it serves requests over TLS.
    ///
    /// # Panics
    /// When it does not.
    pub fn secure_address(&self) -> SocketAddr {
        let address = self.log.word_after("https://").expect("TLS is spoken");
        address.parse().expect("an address")
    }

    /// Its admin API.
    pub fn admin(&self) -> Admin {
        Admin::new(self.admin)
    }

    /// A client of its own for each caller.
    pub fn client(&self) -> Client {
        Client::new(self.proxy)
    }

    /// The engine that it uses.
    pub fn docker(&self) -> Docker {
        engine_of(&self.setup)
    }

    /// An ERROR line with this text is part of the story.
    pub fn expect_error(&self, text: &str) {
        self.expected.lock().push(text.to_owned());
    }

    /// What it has written so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Kills instances from outside, all of them at once: `docker kill`, or SIGKILL.
    pub async fn kill_instances(&self, instances: &[Instance]) {
        self.disturb(instances, "kill", Signal::SIGKILL).await;
    }

    /// Kills an instance from outside.
    pub async fn kill_instance(&self, instance: &Instance) {
        self.kill_instances(std::slice::from_ref(instance)).await;
    }

    /// Freezes an instance: `docker pause`, or SIGSTOP.
    pub async fn freeze_instance(&self, instance: &Instance) {
        self.disturb(std::slice::from_ref(instance), "pause", Signal::SIGSTOP).await;
    }

    /// Lets a frozen instance go on, if it is still there.
    pub async fn thaw_instance(&self, instance: &Instance) {
        self.disturb(std::slice::from_ref(instance), "unpause", Signal::SIGCONT).await;
    }

    async fn disturb(&self, instances: &[Instance], command: &'static str, signal: Signal) {
        match self.setup.backend {
            Backend::Docker => {
                let (docker, names) = (self.docker(), instances.iter().map(|one| self.container(one)));
                let names: Vec<String> = names.collect();
                // Not on this thread: the load that the test sends must not wait for it. It may fail where somebody
                // else's fault came first.
                let done = tokio::task::spawn_blocking(move || {
                    let names = names.iter().map(String::as_str);
                    docker.output(&[command].into_iter().chain(names).collect::<Vec<_>>())
                });
                done.await.expect("no panic");
            }
            Backend::Process => {
                for instance in instances {
                    self.signal_instance(instance, signal);
                }
            }
        }
    }

    /// The container's name.
    pub fn container(&self, instance: &Instance) -> String {
        format!("longshore-{}-{}", self.setup.name, instance.id)
    }

    /// The process of an instance, under the process backend.
    pub fn instance_pid(&self, instance: &Instance) -> Option<u32> {
        let port = instance.address?.port().to_string();
        let children = process::children(self.pid());
        children.into_iter().find(|&child| process::variable(child, "PORT").as_ref() == Some(&port))
    }

    fn signal_instance(&self, instance: &Instance, signal: Signal) {
        // Gone already: somebody else's fault came first.
        if let Some(pid) = self.instance_pid(instance) {
            let _ = process::try_signal(pid, signal);
        }
    }

    /// Signals the proxy.
    pub fn signal(&self, signal: Signal) {
        process::signal(self.pid(), signal);
    }

    /// Waits for the proxy's end.
    ///
    /// # Panics
    /// When it does not end within `limit`.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let child = &mut self.child;
        let status = async || child.try_wait().expect("it is ours to wait for");
        let status = eventually(limit, "longshore up ends", status).await;
        // The reader of its log is a moment behind.
        tokio::time::sleep(Duration::from_millis(50)).await;
        status
    }

    /// SIGKILL, which nothing can prepare for.
    pub async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.ended(PATIENCE).await;
    }

    /// SIGTERM, and what must hold afterwards: exit code 0, nothing left running.
    pub async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.ended(Duration::from_secs(60)).await;
        assert!(status.success(), "longshore up ended with {status}:\n{}", self.log.tail(50));
        self.nothing_is_left();
    }

    /// No container of the cluster is left.
    pub fn nothing_is_left(&self) {
        if self.setup.backend == Backend::Docker {
            let left = self.docker().containers(self.name());
            assert!(left.is_empty(), "containers are left: {left:?}\n{}", self.log.tail(50));
        }
    }
}

/// A proxy that another one has taken over from. Dropping it kills it, and fails the test if its log has an ERROR.
#[derive(Debug)]
pub struct Predecessor {
    child: Child,
    log: Log,
}

impl Predecessor {
    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end within `limit`.
    pub async fn ended(mut self, limit: Duration) -> ExitStatus {
        let child = &mut self.child;
        let status = async || child.try_wait().expect("it is ours to wait for");
        eventually(limit, "the old longshore up ends", status).await
    }
}

impl Drop for Predecessor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the log of the old process:\n{}", self.log.tail(80));
            return;
        }
        let errors = self.log.errors(&[]);
        assert!(errors.is_empty(), "the log of the old process has errors:\n{}", errors.join("\n"));
    }
}

fn engine_of(setup: &Setup) -> Docker {
    setup.environment.get("DOCKER_HOST").map_or_else(Docker::default, |host| Docker::at(host))
}

fn is_settled(service: &Value) -> bool {
    let wanted = service["size"]["wanted"].as_u64();
    let states: Vec<&str> = service["instances"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one["state"].as_str())
        .collect();
    wanted == Some(states.len() as u64) && states.iter().all(|state| *state == "ready")
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.setup.backend == Backend::Docker {
            self.docker().clear(&self.setup.name);
        }
        if std::thread::panicking() {
            eprintln!("the log of {}:\n{}", self.setup.name, self.log.tail(80));
            return;
        }
        let errors = self.log.errors(&self.expected.lock());
        assert!(errors.is_empty(), "the log has errors:\n{}", errors.join("\n"));
    }
}
