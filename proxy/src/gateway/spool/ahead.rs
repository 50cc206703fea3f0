//! Reading a client's body ahead of an instance that takes none of it: behind what nobody reads, nobody sees that the
//! client has left.

use std::future::{pending, poll_fn};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{Keeping, Spool, SpoolError};

/// An instance that takes nothing for so long stands still.
const STANDSTILL: Duration = Duration::from_secs(1);

/// Then one piece is read each time, at the most: about 4 MB a second. A client that has left is found out soon, since
/// no more is on the way than its sockets' buffers hold; one that is still there feels nearly the instance's pace.
const BETWEEN: Duration = Duration::from_millis(20);

/// How far the newest attempt is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// It has taken so much, and there may be more for it.
    Takes { reader: u64, taken: u64 },
    /// It waits for the client, whose end it will see.
    Waits,
    /// Nothing is left to be read, or what is read is not kept.
    Over,
}

impl Spool {
    /// Watches over the client while an attempt is under way. Ends when its body fails, and never otherwise.
    pub async fn attend(&self) -> SpoolError {
        let (mut before, mut pause) = (Look::Waits, STANDSTILL);
        loop {
            sleep(pause).await;
            let now = self.look();
            pause = match now {
                Look::Over => return pending().await,
                Look::Takes { .. } if now == before => match timeout(STANDSTILL, self.read_ahead()).await {
                    Ok(Err(error)) => return error,
                    // A client that is silent hides nothing.
                    Ok(Ok(())) | Err(_) => BETWEEN,
                },
                Look::Takes { .. } | Look::Waits => STANDSTILL,
            };
            before = now;
        }
    }

    fn look(&self) -> Look {
        let state = self.state.lock();
        if state.error.is_none() && (state.complete || state.keeping != Keeping::Must) {
            Look::Over
        } else if state.awaited.is_some() {
            Look::Waits
        } else {
            Look::Takes { reader: state.reader, taken: state.taken }
        }
    }

    /// Reads one piece.
    async fn read_ahead(&self) -> Result<(), SpoolError> {
        poll_fn(|cx| {
            let mut state = self.state.lock();
            if let Some(error) = &state.error {
                return Poll::Ready(Err(error.clone()));
            }
            if state.complete || state.keeping != Keeping::Must {
                return Poll::Ready(Ok(()));
            }
            let read = ready!(self.poll_source(&mut state, cx)).map(drop);
            if let Some(attempt) = state.awaited.take() {
                attempt.wake();
            }
            Poll::Ready(read)
        })
        .await
    }
}
