//! The listener of the admin API, which may move while the cluster runs.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::UpError;
use crate::admin::Admin;
use crate::gateway::listen::Socket;

/// The admin API, being served at one address.
pub(super) struct AdminDoor {
    socket: Socket,
    /// Dropped when it is to be closed.
    _open: oneshot::Sender<()>,
}

impl AdminDoor {
    /// Serves the API on a socket. Dropping the door closes it: answers under way are finished.
    pub(super) fn open(admin: &Arc<Admin>, socket: Socket) -> Result<Self, UpError> {
        let own = |error: std::io::Error| UpError::Own(error.to_string());
        let copy = socket.copy().map_err(own)?;
        let listener = tokio::net::TcpListener::from_std(copy.into_listener()).map_err(own)?;
        let (open, closed) = oneshot::channel();
        tokio::spawn(admin.clone().serve(listener, async {
            // An error is what tells: nothing is ever sent.
            let _ = closed.await;
        }));
        Ok(Self { socket, _open: open })
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
