//! Longshore's asynchronous jobs: what a job is, how it lives, and the stores that keep it.
//!
//! | module | owns |
//! | --- | --- |
//! | `job` | what is known of a job; what it shows to a store |
//! | `life` | the only legal changes of a job: pure, `now` is an argument |
//! | `store` | the trait of a store: swaps of whole records, by revision |
//! | `body` | bodies, written piece by piece and read from any place |
//! | `index` | what the stores inside this process know by heart |
//! | `memory`, `file`, `redis` | the three stores |
//! | `transfer` | export and import, as lines of JSON |
//!
//! A store decides nothing: it swaps one record for another if nobody was faster, and keeps what belongs to it. So the
//! three behave alike, which one set of tests demands of them (`tests/conformance`). Nothing here knows HTTP.

mod body;
mod file;
mod id;
mod index;
mod job;
mod life;
mod memory;
mod redis;
mod store;
mod transfer;

pub use body::{Body, BodyId, CHUNK, Reader, Staged, Writer};
pub use file::FileStore;
pub use id::JobId;
pub use job::{
    Answer, CREDENTIALS, Callback, Facets, Fields, Head, Hold, IdempotencyKey, Job, Millis, NewJob, State,
    Status, Ttl,
};
pub use life::{Illegal, Lapse};
pub use memory::MemoryStore;
pub use redis::RedisStore;
pub use store::{Change, Counts, Filter, Limits, News, Outcome, Store, StoreError};
pub use transfer::{Import, ImportError, Imported, export};
