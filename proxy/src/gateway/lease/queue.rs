//! Who waits, for those who want to know.

use http::HeaderValue;
use longshore_pool::{RequestId, Standing};

use super::{Dispatcher, Inner};

/// A request that waits.
#[derive(Clone, Debug)]
pub struct InQueue {
    /// Its `X-Request-Id`.
    pub name: HeaderValue,
    /// How many are before it, and how long it has yet to wait.
    pub standing: Standing,
}

impl Dispatcher {
    /// Where up to `limit` of the requests stand that have waited longest; the next one first.
    ///
    /// The lock is taken for each of them anew, so that those on their way in and out need not wait: who leaves meanwhile
    /// is left out.
    pub fn queue(&self, limit: usize) -> Vec<InQueue> {
        let requests: Vec<RequestId> = self.inner.lock().pool.waiting_requests().take(limit).collect();
        let mut queue: Vec<InQueue> =
            requests.into_iter().filter_map(|request| self.in_queue(request)).collect();
        queue.sort_by_key(|one| one.standing.ahead);
        queue
    }

    fn in_queue(&self, request: RequestId) -> Option<InQueue> {
        let now = self.clock.now();
        let mut inner = self.inner.lock();
        let now = inner.at_least(now);
        let Inner { pool, waiting, .. } = &*inner;
        Some(InQueue { name: waiting.get(&request)?.name.clone(), standing: pool.standing(request, now)? })
    }
}
