//! Answers of one service that are shared: identical requests get one answer as long as it is fresh, and one run while
//! there is none. docs/cache.md says which requests and answers those are.
//!
//! | module | owns |
//! | --- | --- |
//! | this one | what becomes of a request: a hit, a run of its own, or somebody else's run |
//! | `asked` | what a request allows, and what it is known by |
//! | `told` | what an answer allows, and for how long |
//! | `directives` | `Cache-Control` |
//! | `stored` | an answer that is kept, and its way to a client |
//! | `shelf` | where answers are, bounded by their bytes |
//! | `keep` | an answer that is passed on and kept meanwhile |
//!
//! Synchronous but for the waiting: one lock a service, held for a lookup at a time.

mod asked;
mod directives;
mod keep;
mod shelf;
mod stored;
mod told;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use longshore_pool::Time;
use parking_lot::Mutex;
use tokio::sync::watch;

pub use asked::{Asked, Id, Known, Terms};
pub use keep::{Keeping, Kept};
use shelf::{Place, Shelf};
pub use stored::{Stored, Way, tell};

use crate::config;
use crate::problem::Problem;

/// The cache of one service.
pub struct Cache {
    ttl: Duration,
    /// Bytes of a body at the most, the request's or the answer's.
    max_entry: u64,
    inner: Mutex<Inner>,
}

struct Inner {
    shelf: Shelf,
    /// Runs that others may wait for.
    runs: HashMap<Id, Arc<Run>>,
}

/// A run that others wait for.
pub struct Run(watch::Sender<Option<End>>);

/// What became of a run, for those who wait for it.
#[derive(Clone)]
pub enum End {
    /// An answer for all of them.
    Shared(Arc<Stored>),
    /// An answer for one only: each asks for itself.
    Alone,
    /// An error of Longshore's own that would be everybody's.
    Failed(Problem),
    /// Whoever it was for has left, or it broke off: another one begins it anew.
    Gone,
}

/// What becomes of a request.
pub enum Found {
    /// An answer is there.
    Hit(Arc<Stored>),
    /// It is to be asked for; the answer may be kept, and others may wait for it.
    Miss(Box<Keeping>, Way),
    /// It is being asked for.
    Running(Arc<Run>),
    /// The client wants nothing but what is there, and nothing is.
    Nothing,
}

impl Cache {
    /// An empty one; none when the service has none.
    pub fn new(config: &config::Cache) -> Option<Arc<Self>> {
        let inner = Inner { shelf: Shelf::new(config.max_bytes), runs: HashMap::new() };
        let (ttl, max_entry) = (config.ttl, config.max_entry);
        (!ttl.is_zero()).then(|| Arc::new(Self { ttl, max_entry, inner: Mutex::new(inner) }))
    }

    /// Bytes of a body at the most, the request's or the answer's.
    pub const fn max_entry(&self) -> u64 {
        self.max_entry
    }

    /// Bytes that are kept now.
    pub fn bytes(&self) -> u64 {
        self.inner.lock().shelf.bytes()
    }

    /// What becomes of a request, in this order:
    ///
    /// 1. an answer is there that is fresh, and new enough for the client;
    /// 2. the client wants nothing else;
    /// 3. answers to requests like this are known to be for one only, or this one's may be: it is asked for by itself;
    /// 4. somebody asks for the same already;
    /// 5. it is the first.
    pub fn find(self: &Arc<Self>, id: Id, terms: &Terms, headers: &HeaderMap, now: Time) -> Found {
        let mut inner = self.inner.lock();
        let (id_in_full, place) = inner.shelf.find(id, headers, now);
        let (way, alone) = match place {
            // 1.
            Some(Place::Answer(stored)) if terms.accept(&stored, now) => return Found::Hit(stored),
            Some(Place::Answer(_)) => (Way::Reload, false),
            Some(Place::ForOne) => (Way::Miss, true),
            None => (Way::Miss, false),
        };
        // 2.
        if terms.only_if_cached {
            return Found::Nothing;
        }
        let keeping =
            |run| Box::new(Keeping::new(self.clone(), (id, id_in_full), terms, headers.clone(), run));
        // 3.
        if alone || terms.for_one() {
            return Found::Miss(keeping(None), way);
        }
        // 4.
        if let Some(run) = inner.runs.get(&id_in_full) {
            return Found::Running(run.clone());
        }
        // 5.
        let run = Arc::new(Run(watch::Sender::new(None)));
        inner.runs.insert(id_in_full, run.clone());
        Found::Miss(keeping(Some((id_in_full, run))), way)
    }

    /// A request that changes things was answered: what was kept of its target is no more.
    pub fn forget(&self, id: Id) {
        self.inner.lock().shelf.remove(id);
    }

    /// The end of a run; whoever comes from now on finds what it left.
    fn end(&self, (id, run): &(Id, Arc<Run>), end: End) {
        let mut inner = self.inner.lock();
        if inner.runs.get(id).is_some_and(|known| Arc::ptr_eq(known, run)) {
            inner.runs.remove(id);
        }
        drop(inner);
        run.0.send_replace(Some(end));
    }
}

impl Run {
    /// Waits for its end.
    pub async fn end(&self) -> End {
        let mut told = self.0.subscribe();
        // The sender is in `self`.
        told.wait_for(Option::is_some).await.ok().and_then(|end| end.clone()).unwrap_or(End::Gone)
    }
}

#[cfg(test)]
mod tests;
