//! The streams that `watch` has handed out. A backend tells an exit once, here, and every stream yields it.

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::Exit;

/// Everyone who watches. Exits are few and small, so that nobody who reads slowly holds up a backend.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Mutex<Vec<UnboundedSender<Exit>>>);

impl Watchers {
    /// A stream of what is told from now on.
    pub(crate) fn subscribe(&self) -> BoxStream<'static, Exit> {
        let (sender, receiver) = unbounded_channel();
        self.0.lock().push(sender);
        UnboundedReceiverStream::new(receiver).boxed()
    }

    /// Tells every stream that is still held.
    pub(crate) fn tell(&self, exit: &Exit) {
        self.0.lock().retain(|sender| sender.send(exit.clone()).is_ok());
    }
}
