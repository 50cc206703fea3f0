//! A client of whom nothing is read for now, because it has sent ahead or because nobody takes its body: it would not
//! be seen to leave, so the socket is asked.

use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pingora_core::protocols::SocketDigest;
use tokio::time::{Instant, Sleep, sleep};

/// How often the socket is asked.
const LOOK: Duration = Duration::from_secs(1);

/// `TCP_CLOSE`: it has been reset.
const CLOSED: u8 = 7;
/// `TCP_CLOSE_WAIT`: the client has closed, and all that it ever sent is here.
const CLOSE_WAIT: u8 = 8;

/// What is known of a client between two reads.
pub struct Unread {
    socket: Option<Arc<SocketDigest>>,
    descriptor: RawFd,
    /// Whether somebody has begun to wait for it since the last look.
    is_awaited: bool,
    alarm: Option<Pin<Box<Sleep>>>,
}

impl Unread {
    /// Of a client on this socket; one that is no TCP socket is never asked.
    pub const fn new(socket: Option<Arc<SocketDigest>>, descriptor: RawFd) -> Self {
        Self { socket, descriptor, is_awaited: false, alarm: None }
    }

    /// The end of the connection is to be no proper one: its client hears that it broke.
    pub fn reset(&self) {
        let Some(descriptor) = self.socket.as_ref().map(|_| self.descriptor) else { return };
        // Where the system does not allow it, the end looks like any other.
        let _ = reset(descriptor);
    }

    /// Somebody has tried to read; whoever waits for more sees the end.
    pub const fn read(&mut self, waits: bool) {
        self.is_awaited = waits;
    }

    /// Whether nobody has waited for the client since the last call.
    pub const fn is_overlooked(&mut self) -> bool {
        !std::mem::replace(&mut self.is_awaited, false)
    }

    /// Ready when the client has gone; `finished` says whether one is gone that has only finished sending.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>, finished: bool) -> Poll<()> {
        let Some(socket) = &self.socket else { return Poll::Pending };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(LOOK)));
        while alarm.as_mut().poll(cx).is_ready() {
            match socket.tcp_info().map(|info| info.tcpi_state) {
                Some(CLOSED) => return Poll::Ready(()),
                Some(CLOSE_WAIT) if finished => return Poll::Ready(()),
                Some(_) | None => alarm.as_mut().reset(Instant::now() + LOOK),
            }
        }
        Poll::Pending
    }
}

/// A second descriptor of the socket is the way to it that needs no trust in a number.
fn reset(descriptor: RawFd) -> rustix::io::Result<()> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let process = pidfd_open(getpid(), PidfdFlags::empty())?;
    let socket = pidfd_getfd(process, descriptor, PidfdGetfdFlags::empty())?;
    rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO))
}
