//! Something that is polled inside a task and often wakes that very task while it is being polled.
//!
//! hyper's halves of a connection talk through channels, as if they lived in different tasks; in one task, each message
//! would have the whole task polled once more by the scheduler. Here it is only the inner future that is polled again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

/// So many rounds at the most before the scheduler has its turn: what has used up its budget (tokio's cooperative
/// scheduling) wakes itself until then.
const ROUNDS: usize = 8;

/// Nobody polls: a wake goes to the task.
const IDLE: u8 = 0;
/// It is being polled: a wake is noted.
const POLLING: u8 = 1;
/// It was woken while it was being polled.
const AGAIN: u8 = 2;

/// Polls two things that depend on each other on behalf of a task, and again as long as they wake themselves.
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

    /// Polls `awaited`, and `drive`, which brings it forward, until the former is ready or both wait for something from
    /// outside, of which the task in `cx` will be told.
    pub fn poll<T>(
        &self,
        cx: &Context<'_>,
        mut awaited: impl FnMut(&mut Context<'_>) -> Poll<T>,
        mut drive: impl FnMut(&mut Context<'_>),
    ) -> Poll<T> {
        self.inner.tell(cx.waker());
        let inside = &mut Context::from_waker(&self.waker);
        let state = &self.inner.state;
        for _ in 0..ROUNDS {
            state.store(POLLING, Ordering::Release);
            let mut polled = awaited(inside);
            if polled.is_pending() {
                // A wake so far was most likely for what is driven now; if it was not, a second look is cheap.
                let woken = state.swap(POLLING, Ordering::AcqRel) == AGAIN;
                drive(inside);
                if woken {
                    polled = awaited(inside);
                }
            }
            if polled.is_ready() {
                // What a wake was for will be seen by whoever polls next.
                state.store(IDLE, Ordering::Release);
                return polled;
            }
            if state.compare_exchange(POLLING, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Poll::Pending;
            }
        }
        state.store(IDLE, Ordering::Release);
        cx.waker().wake_by_ref();
        Poll::Pending
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
        let (mut awaited, mut driven) = (0, 0);
        let polled = relay.poll(
            &Context::from_waker(&task),
            |_| {
                awaited += 1;
                Poll::<()>::Pending
            },
            |cx| {
                driven += 1;
                if driven < 4 {
                    cx.waker().wake_by_ref();
                }
            },
        );
        assert_eq!((polled, awaited, driven), (Poll::Pending, 4, 4));
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_message_to_what_is_driven_next_costs_no_second_round() {
        let relay = Relay::new();
        let (mut awaited, mut driven) = (0, 0);
        let polled = relay.poll(
            &Context::from_waker(Waker::noop()),
            |cx| {
                awaited += 1;
                if awaited == 1 {
                    cx.waker().wake_by_ref();
                }
                Poll::<()>::Pending
            },
            |_| driven += 1,
        );
        assert_eq!((polled, driven), (Poll::Pending, 1));
    }

    #[test]
    fn what_wakes_itself_for_ever_gives_way_to_other_tasks() {
        let woken = Arc::new(Woken::default());
        let task = Waker::from(woken.clone());
        let awaited = |_: &mut Context<'_>| Poll::<()>::Pending;
        let polled = Relay::new().poll(&Context::from_waker(&task), awaited, |cx| cx.waker().wake_by_ref());
        assert_eq!((polled, woken.0.load(Ordering::Relaxed)), (Poll::Pending, 1));
    }

    #[test]
    fn a_wake_from_outside_reaches_the_task_that_polled_last() {
        let (first, last) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        let relay = Relay::new();
        let mut inside = None;
        for task in [&first, &last] {
            let waker = Waker::from(task.clone());
            let awaited = |_: &mut Context<'_>| Poll::<()>::Pending;
            let _ = relay.poll(&Context::from_waker(&waker), awaited, |cx| inside = Some(cx.waker().clone()));
        }
        inside.expect("polled").wake();
        assert_eq!((first.0.load(Ordering::Relaxed), last.0.load(Ordering::Relaxed)), (0, 1));
    }

    #[test]
    fn a_wake_from_another_thread_is_not_lost_whenever_it_comes() {
        for _ in 0..2_000 {
            let woken = Arc::new(Woken::default());
            let task = Waker::from(woken.clone());
            let relay = Relay::new();
            let told = Arc::new(AtomicUsize::new(0));
            let mut other = None;
            let polled = relay.poll(
                &Context::from_waker(&task),
                |_| if told.load(Ordering::Acquire) > 0 { Poll::Ready(()) } else { Poll::Pending },
                |cx| {
                    other.get_or_insert_with(|| {
                        let (told, waker) = (told.clone(), cx.waker().clone());
                        std::thread::spawn(move || {
                            told.store(1, Ordering::Release);
                            waker.wake();
                        })
                    });
                },
            );
            other.expect("polled").join().expect("no panic");
            assert!(polled.is_ready() || woken.0.load(Ordering::Relaxed) == 1);
        }
    }
}
