//! Every decision of Longshore, as one synchronous state machine: [`Pool`].
//!
//! The crate reaches no clock, no socket and no engine. Time and the seed of chance are arguments, what happens is an
//! [`Event`], what is to be done is an [`Action`]; the same events at the same times give the same actions.
//!
//! | module | owns |
//! | --- | --- |
//! | [`event`] | the contract: events, actions, outcomes, causes, reasons |
//! | [`config`], [`time`] | plain values |
//! | `pool` | [`Pool`]: applies one event; one file for requests, dispatch, lives, probes, size, views |
//! | `requests` | the table of admitted requests and the lists through it |
//! | `queue` | who waits, in which order, until when |
//! | `instance` | an instance, its states, the only legal transitions |
//! | `balance` | which ready instance gets the next request |
//! | `backoff`, `starts` | when a dead instance starts again, and when starting is hopeless |
//! | `habit` | whether silence at work means a hung instance |
//! | [`scaling`] | what policies see, the policies, the scaler that bounds, damps and explains |
//! | `window` | sliding maximum, rates and samples over virtual time |
//! | [`snapshot`] | the read-only view |
//! | [`simulate`] | a pool, a workload and a virtual clock |

mod backoff;
mod balance;
pub mod config;
pub mod event;
mod habit;
mod instance;
mod pool;
mod queue;
mod requests;
pub mod scaling;
pub mod simulate;
pub mod snapshot;
mod starts;
pub mod time;
mod window;

pub use balance::{Balancer, Candidate};
pub use config::{BalancePolicy, PoolConfig, QueueOrder, RestartPolicy};
pub use event::{
    Action, Class, DeathCause, Event, Health, InstanceId, Outcome, RejectReason, RequestId, Retry, Revoked,
};
pub use pool::Pool;
pub use scaling::{Advice, Decision, Fixed, Load, Recommendation, ScalingPolicy, Traffic};
pub use snapshot::{InstanceView, Snapshot, Standing, StateView};
pub use time::Time;
