//! The connections to one instance: opened when none is idle, kept for the next request, all cut when it dies.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::HeaderValue;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use longshore_pool::InstanceId;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::body::AttemptBody;
use crate::connect::Connector;

/// A connection that was just used and is not ready yet is about to be; one whose server still reads is not.
const READY_TIMEOUT: Duration = Duration::from_millis(20);

/// Sends requests over one connection.
pub type Sender = http1::SendRequest<AttemptBody>;

/// Everything that is open to one instance.
pub struct Link {
    instance: InstanceId,
    name: HeaderValue,
    address: SocketAddr,
    connector: Arc<Connector>,
    fate: OnceLock<String>,
    pool: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    idle: Vec<(Sender, Instant)>,
    tasks: Vec<AbortHandle>,
    closed: bool,
}

/// A connection checked out for one attempt.
pub struct Connection {
    /// Sends the request.
    pub sender: Sender,
    /// How long it lay idle before, if it was used before.
    pub idle_for: Option<Duration>,
}

impl Link {
    /// Nothing is opened yet.
    pub fn new(connector: Arc<Connector>, instance: InstanceId, address: SocketAddr) -> Self {
        let name = HeaderValue::try_from(connector.key(instance).to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("unnamed"));
        Self { instance, name, address, connector, fate: OnceLock::new(), pool: Mutex::default() }
    }

    /// Its name, as in the `Longshore-Instance` header.
    pub const fn name(&self) -> &HeaderValue {
        &self.name
    }

    /// Its name in the pool.
    pub const fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Why the instance is no more, once that is known.
    pub fn fate(&self) -> Option<&str> {
        self.fate.get().map(String::as_str)
    }

    /// Notes why the instance is no more; the first to say so is believed.
    pub fn set_fate(&self, fate: &str) {
        let _ = self.fate.set(fate.to_owned());
    }

    /// Takes an idle connection.
    pub async fn idle(&self) -> Option<Connection> {
        loop {
            let (mut sender, since) = self.pool.lock().idle.pop()?;
            let alive = sender.is_ready()
                || (!sender.is_closed()
                    && matches!(timeout(READY_TIMEOUT, sender.ready()).await, Ok(Ok(()))));
            if alive {
                return Some(Connection { sender, idle_for: Some(since.elapsed()) });
            }
        }
    }

    /// Opens a connection.
    pub async fn open(&self) -> std::io::Result<Connection> {
        let stream = self.connector.connect(self.instance, self.address).await?;
        let (sender, connection) =
            http1::Builder::new().handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        let task = tokio::spawn(async move {
            // Its failure is also the failure of the request on it, which is where it is told.
            let _ = connection.with_upgrades().await;
        });
        self.track(task.abort_handle())?;
        Ok(Connection { sender, idle_for: None })
    }

    fn track(&self, task: AbortHandle) -> std::io::Result<()> {
        let mut pool = self.pool.lock();
        if pool.closed {
            task.abort();
            return Err(std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "the instance is gone"));
        }
        if pool.tasks.len() == pool.tasks.capacity() {
            pool.tasks.retain(|task| !task.is_finished());
        }
        pool.tasks.push(task);
        Ok(())
    }

    /// Gives back a connection whose answer has been read to its end.
    pub fn keep(&self, sender: Sender) {
        if sender.is_closed() {
            return;
        }
        let mut pool = self.pool.lock();
        if !pool.closed {
            pool.idle.push((sender, Instant::now()));
        }
    }

    /// Cuts every connection: the instance is dead or hung, and what it holds goes elsewhere.
    pub fn close(&self) {
        let (idle, tasks) = {
            let mut pool = self.pool.lock();
            pool.closed = true;
            (std::mem::take(&mut pool.idle), std::mem::take(&mut pool.tasks))
        };
        drop(idle);
        for task in tasks {
            task.abort();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Upgraded connections live on in their own tasks; the rest is idle by now.
        self.pool.get_mut().idle.clear();
    }
}
