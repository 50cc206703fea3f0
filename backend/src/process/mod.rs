//! Instances as child processes: the default where no engine answers.
//!
//! | module | owns |
//! | --- | --- |
//! | this one | [`ProcessBackend`]: the calls of [`Backend`], and the table of what runs |
//! | `program` | which file a command names |
//! | `child` | one process: its start, its end, its signals |
//! | `guard` | that no process outlives this one |
//! | `output` | what a process wrote |
//!
//! A process shares its machine, its files and its environment (without `LONGSHORE_TOKEN`) with the proxy. Image,
//! volumes, memory, cpus, gpus, network and platform mean nothing to it; a service that has some of the latter is told
//! so once, in the log. Its port is one that was free when it was started: between that and its own `bind` another
//! program can take it, in which case it ends, and is started again with another one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use nix::sys::signal::Signal;
use parking_lot::Mutex;

use crate::watchers::Watchers;
use crate::{Backend, BackendError, Exit, Found, Key, Progress, Spec, StartError};

mod child;
mod guard;
mod output;
mod program;

use child::Child;
use output::Output;

/// Dead instances whose last output can still be read.
const REMEMBERED: usize = 16;
/// How long a process may take to end after SIGKILL. Longer means that the kernel holds it (a broken disk or driver).
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// This machine, seen as a place to run the instances of one cluster as children of this process.
///
/// They end with it: when it is dropped, and when this process ends in any way, SIGKILL included.
pub struct ProcessBackend {
    shared: Arc<Shared>,
    program_folders: Vec<PathBuf>,
    /// Services that were told what a process has no use for.
    told: Mutex<BTreeSet<Arc<str>>>,
}

/// What the calls and the children's tasks share.
struct Shared {
    running: Mutex<BTreeMap<Key, Arc<Child>>>,
    dead: Mutex<VecDeque<(Key, Arc<Output>)>>,
    guard: guard::Guard,
    watchers: Watchers,
}

impl ProcessBackend {
    /// For the processes of `cluster`, whose programs are looked for in `program_folders` before anywhere else.
    ///
    /// The cluster's name is not used: processes are found by their parent, and an earlier process's have ended with it.
    #[must_use]
    pub fn new(_cluster: &str, program_folders: Vec<PathBuf>) -> Self {
        let shared = Shared {
            running: Mutex::default(),
            dead: Mutex::default(),
            guard: guard::Guard::default(),
            watchers: Watchers::default(),
        };
        Self { shared: Arc::new(shared), program_folders, told: Mutex::default() }
    }

    fn running(&self, key: &Key) -> Option<Arc<Child>> {
        self.shared.running.lock().get(key).cloned()
    }

    fn warn_of_unused(&self, service: &Arc<str>, spec: &Spec) {
        let unused = unused(spec);
        if !unused.is_empty() && self.told.lock().insert(service.clone()) {
            tracing::warn!(%service, keys = unused.join(", "), "a process has no use for these keys; they are ignored");
        }
    }
}

impl Drop for ProcessBackend {
    fn drop(&mut self) {
        for child in self.shared.running.lock().values() {
            child.signal_group(Signal::SIGKILL);
        }
    }
}

/// The keys of a specification that mean nothing to a process.
fn unused(spec: &Spec) -> Vec<&'static str> {
    [
        ("volumes", !spec.volumes.is_empty()),
        ("memory", spec.memory.is_some()),
        ("cpus", spec.cpus.is_some()),
        ("gpus", spec.gpus.is_some()),
        ("network", spec.network.is_some()),
        ("platform", spec.platform.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, given)| given.then_some(name))
    .collect()
}

impl Shared {
    /// Takes a process that has ended out of the table and remembers what it wrote.
    fn bury(&self, key: &Key, output: &Arc<Output>) {
        output.close();
        let mut dead = self.dead.lock();
        if dead.len() == REMEMBERED {
            dead.pop_front();
        }
        dead.push_back((key.clone(), output.clone()));
        drop(dead);
        self.running.lock().remove(key);
    }
}

#[async_trait]
impl Backend for ProcessBackend {
    fn kind(&self) -> &'static str {
        "process"
    }

    async fn prepare(&self, spec: &Spec, _: bool, _: &dyn Progress) -> Result<(), StartError> {
        program::command(spec, &self.program_folders).map(drop)
    }

    async fn start(&self, key: &Key, spec: &Spec) -> Result<SocketAddr, StartError> {
        self.warn_of_unused(&key.service, spec);
        let command = program::command(spec, &self.program_folders)?;
        if self.running(key).is_some() {
            return Err(StartError::Failed(format!("{key} runs already")));
        }
        child::start(&self.shared, key, spec, &command).await
    }

    async fn stop(&self, key: &Key, grace: Duration) -> Result<(), BackendError> {
        let Some(child) = self.running(key) else { return Ok(()) };
        if !grace.is_zero() {
            child.signal_group(Signal::SIGTERM);
            // A stopped process hears only once it goes on.
            child.signal_group(Signal::SIGCONT);
            if tokio::time::timeout(grace, child.gone()).await.is_ok() {
                return Ok(());
            }
        }
        child.signal_group(Signal::SIGKILL);
        let late = |_| BackendError(format!("cannot stop {key}: process {} survives SIGKILL", child.id()));
        tokio::time::timeout(KILL_LIMIT, child.gone()).await.map_err(late)
    }

    async fn kill(&self, key: &Key) -> Result<(), BackendError> {
        if let Some(child) = self.running(key) {
            child.signal_main(Signal::SIGKILL);
        }
        Ok(())
    }

    async fn pause(&self, key: &Key) -> Result<(), BackendError> {
        let child =
            self.running(key).ok_or_else(|| BackendError(format!("cannot pause {key}: it has ended")))?;
        child.signal_group(Signal::SIGSTOP);
        Ok(())
    }

    async fn resume(&self, key: &Key) -> Result<(), BackendError> {
        let child =
            self.running(key).ok_or_else(|| BackendError(format!("cannot resume {key}: it has ended")))?;
        child.signal_group(Signal::SIGCONT);
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Found>, BackendError> {
        Ok(self.shared.running.lock().iter().map(|(key, child)| child.found(key)).collect())
    }

    fn watch(&self) -> BoxStream<'static, Exit> {
        self.shared.watchers.subscribe()
    }

    async fn frozen(&self, key: &Key) -> bool {
        self.running(key).is_some_and(|child| child.frozen())
    }

    async fn logs(
        &self,
        key: &Key,
        tail: usize,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<Bytes, BackendError>>, BackendError> {
        let living = self.running(key).map(|child| child.output());
        let remembered =
            || self.shared.dead.lock().iter().find(|(dead, _)| dead == key).map(|(_, output)| output.clone());
        let output = living.or_else(remembered);
        output
            .map(|output| output.read(tail, follow))
            .ok_or_else(|| BackendError("it was never started, or ended too long ago".to_owned()))
    }
}
