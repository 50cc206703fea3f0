//! Two connections that have been taken over by another protocol, and talk to each other until either side ends.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use longshore_pool::{Outcome, Revoked};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::cut;
use super::downstream::Taking;
use super::serve::Active;
use super::stream::Open;
use super::wire::Carrier;

/// Both sides, about to be joined.
pub struct Tunnel {
    /// The instance's.
    pub upstream: OnUpgrade,
    /// The client's.
    pub downstream: Taking,
    /// What ends with it.
    pub open: Open,
    /// The client's request, under way as long as it lasts.
    pub active: Active,
    /// When one side has finished, the other may be silent for so long.
    pub idle: Duration,
}

impl Tunnel {
    /// Joins both and lets them talk; the slot is held until either side ends.
    pub async fn run(self) {
        let Self { upstream, downstream, mut open, active, idle } = self;
        active.take_over();
        let both = async { tokio::join!(upstream, downstream.taken()) };
        let both = match &mut open.carrier {
            Carrier::Wire(wire) => wire.driving(both).await,
            Carrier::Task(_) => both.await,
        };
        if let (Ok(upstream), Some(downstream)) = both {
            join(downstream, TokioIo::new(upstream), idle).await;
            if let Some(Revoked::Drained | Revoked::Cut) = open.lease.link().revoked() {
                let seen = "the upgraded connection ended with its instance";
                cut::report(&open.service, open.lease.link(), &open.request_id, seen);
            }
        }
        open.finish(Outcome::Answered);
        drop(active);
    }
}

/// Carries bytes both ways. When one side has finished, the other goes on, but is not waited for longer than `idle`: one
/// that hangs would never hear that nobody listens.
async fn join<A, B>(one: A, other: B, idle: Duration)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let talk = Talk::default();
    let (mut one, mut other) = (Side { stream: one, talk: &talk }, Side { stream: other, talk: &talk });
    tokio::select! {
        // Either side may end as it likes; that is what the protocol inside is for.
        _ = tokio::io::copy_bidirectional(&mut one, &mut other) => {}
        () = talk.falls_silent(idle) => {}
    }
}

/// What is known of a conversation.
#[derive(Default)]
struct Talk {
    /// Told when the first side has finished.
    finished: Notify,
    /// Grows with everything that is said.
    said: AtomicU64,
}

impl Talk {
    /// Returns when one side has finished and the other has said nothing for so long.
    async fn falls_silent(&self, idle: Duration) {
        self.finished.notified().await;
        let mut before = None;
        loop {
            let said = Some(self.said.load(Ordering::Relaxed));
            if before == said {
                return;
            }
            before = said;
            tokio::time::sleep(idle).await;
        }
    }
}

/// One side.
struct Side<'t, S> {
    stream: S,
    talk: &'t Talk,
}

impl<S: AsyncRead + Unpin> AsyncRead for Side<'_, S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, out);
        if let Poll::Ready(Ok(())) = &read {
            if out.filled().len() > before {
                this.talk.said.fetch_add(1, Ordering::Relaxed);
            } else {
                this.talk.finished.notify_one();
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Side<'_, S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        if written.is_ready() {
            // Slow is not silent.
            this.talk.said.fetch_add(1, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::{Instant, sleep};

    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    fn joined() -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<()>) {
        let ((client, down), (instance, up)) = (duplex(64), duplex(64));
        (client, instance, tokio::spawn(async move { join(down, up, IDLE).await }))
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_nothing_while_both_sides_are_there() {
        let (mut client, mut instance, joined) = joined();
        sleep(100 * IDLE).await;
        client.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        instance.read_exact(&mut heard).await.unwrap();
        assert!(heard == *b"hello" && !joined.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_finishes_hears_the_other_out() {
        let (mut client, mut instance, joined) = joined();
        client.shutdown().await.unwrap();
        assert_eq!(instance.read(&mut [0; 5]).await.unwrap(), 0, "its end is passed on");
        for _ in 0..5 {
            sleep(IDLE * 9 / 10).await;
            instance.write_all(b"x").await.unwrap();
            assert_eq!(client.read(&mut [0; 5]).await.unwrap(), 1);
        }
        drop(instance);
        joined.await.unwrap();
        assert_eq!(client.read(&mut [0; 5]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_is_not_waited_for_when_the_other_has_left() {
        let (client, instance, joined) = joined();
        let begun = Instant::now();
        drop(client);
        joined.await.unwrap();
        assert!((IDLE..IDLE * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        drop(instance);
    }
}
