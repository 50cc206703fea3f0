//! Something that is polled inside a task and often wakes that very task while it is being polled.
//!
//! hyper's halves of a connection talk through channels, as if they lived in different tasks; in one task, each message
//! would have the whole task polled once more by the scheduler. Here it is only the inner future that is polled again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

/// Nobody polls: a wake goes to the task.
const IDLE: u8 = 0;
/// It is being polled: a wake is noted.
const POLLING: u8 = 1;
/// It was woken while it was being polled.
const AGAIN: u8 = 2;

/// Polls on behalf of a task, and again as long as that wakes itself.
#[derive(Debug)]
pub struct Relay {
    inner: Arc<Inner>,
    waker: Waker,
}

#[derive(Debug)]
struct Inner {
    state: AtomicU8,
    task: Mutex<Option<Waker>>,
}

impl Relay {
    /// Not polling.
    pub fn new() -> Self {
        let inner = Arc::new(Inner { state: AtomicU8::new(IDLE), task: Mutex::new(None) });
        Self { waker: Waker::from(inner.clone()), inner }
    }

    /// Polls until it is ready or waits for something from outside, of which the task in `cx` will be told.
    pub fn poll<T>(&self, cx: &Context<'_>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        self.inner.tell(cx.waker());
        loop {
            self.inner.state.store(POLLING, Ordering::Release);
            let polled = poll(&mut Context::from_waker(&self.waker));
            let quiet = self.inner.state.compare_exchange(POLLING, IDLE, Ordering::AcqRel, Ordering::Acquire);
            match polled {
                Poll::Pending if quiet.is_err() => {}
                // What a wake was for will be seen by whoever polls next.
                Poll::Ready(_) | Poll::Pending => {
                    self.inner.state.store(IDLE, Ordering::Release);
                    return polled;
                }
            }
        }
    }
}

impl Inner {
    fn tell(&self, waker: &Waker) {
        let mut task = self.task.lock();
        if !task.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let noted = self
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| (state != IDLE).then_some(AGAIN));
        if noted.is_err()
            && let Some(task) = self.task.lock().as_ref()
        {
            task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_wakes_itself_is_polled_again_at_once_and_its_task_is_left_alone() {
        let woken = Arc::new(Woken::default());
        let task = Waker::from(woken.clone());
        let relay = Relay::new();
        let mut polls = 0;
        let polled = relay.poll(&Context::from_waker(&task), |cx| {
            polls += 1;
            if polls < 4 {
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert_eq!((polled, polls), (Poll::Pending, 4));
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_wake_from_outside_reaches_the_task_that_polled_last() {
        let (first, last) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        let relay = Relay::new();
        let mut inside = None;
        for task in [&first, &last] {
            let _ = relay.poll(&Context::from_waker(&Waker::from(task.clone())), |cx| {
                inside = Some(cx.waker().clone());
                Poll::<()>::Pending
            });
        }
        inside.expect("polled").wake();
        assert_eq!((first.0.load(Ordering::Relaxed), last.0.load(Ordering::Relaxed)), (0, 1));
    }

    #[test]
    fn a_wake_between_two_polls_is_not_lost_when_it_comes_from_another_thread() {
        for _ in 0..2_000 {
            let woken = Arc::new(Woken::default());
            let task = Waker::from(woken.clone());
            let relay = Relay::new();
            let told = Arc::new(AtomicUsize::new(0));
            let mut other = None;
            let polled = relay.poll(&Context::from_waker(&task), |cx| {
                if told.load(Ordering::Acquire) > 0 {
                    return Poll::Ready(());
                }
                if other.is_none() {
                    let (told, waker) = (told.clone(), cx.waker().clone());
                    other = Some(std::thread::spawn(move || {
                        told.store(1, Ordering::Release);
                        waker.wake();
                    }));
                }
                Poll::Pending
            });
            other.expect("polled").join().expect("no panic");
            assert!(polled.is_ready() || woken.0.load(Ordering::Relaxed) == 1);
        }
    }
}
