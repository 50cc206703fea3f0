//! The listener of the admin API, which may move while the cluster runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::UpError;
use crate::admin::Admin;
use crate::gateway::listen::Socket;

/// How long an answer may take that is under way at the end.
const LAST_ANSWER: Duration = Duration::from_millis(500);

/// The admin API, being served at one address.
pub(super) struct AdminDoor {
    socket: Socket,
    /// Dropped when it is to be closed.
    open: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl AdminDoor {
    /// Serves the API on a socket. Dropping the door closes it: answers under way are finished.
    pub(super) fn open(admin: &Arc<Admin>, socket: Socket) -> Result<Self, UpError> {
        let own = |error: std::io::Error| UpError::Own(error.to_string());
        let copy = socket.copy().map_err(own)?;
        let listener = tokio::net::TcpListener::from_std(copy.into_listener()).map_err(own)?;
        let (open, closed) = oneshot::channel();
        let serving = tokio::spawn(admin.clone().serve(listener, async {
            // An error is what tells: nothing is ever sent.
            let _ = closed.await;
        }));
        Ok(Self { socket, open, serving })
    }

    /// Closes it; returns when answers under way are finished, or have had their time.
    pub(super) async fn close(self) {
        drop(self.open);
        // Who takes no answer by then does without.
        let _ = timeout(LAST_ANSWER, self.serving).await;
    }

    /// Where it is.
    pub(super) const fn address(&self) -> SocketAddr {
        self.socket.address
    }

    /// Its socket.
    pub(super) const fn socket(&self) -> &Socket {
        &self.socket
    }
}
