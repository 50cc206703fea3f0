//! A pool, a workload and a virtual clock: what a policy would have made of it.
//!
//! The [`Pool`](crate::Pool) is the one that serves; only the instances are made up. They are ready a fixed time after
//! they were asked for, work on each request for as long as the workload says, and never fail.
//!
//! | module | owns |
//! | --- | --- |
//! | `workload` | [`Workload`]: who arrives when, and how long that takes; read from a trace |
//! | `synthetic` | [`Synthetic`]: workloads made from a few numbers and a seed |
//! | `engine` | [`Simulation`]: runs a policy over a workload |
//! | `report` | [`Report`]: waits, costs, starts |
//! | `bound` | what no policy can beat, and what one that knows the future can do |
//! | `rivals` | the rules of other autoscalers, for comparison |

mod bound;
mod engine;
mod report;
mod rivals;
mod synthetic;
#[cfg(test)]
mod tests;
mod workload;

pub use bound::{bound, greedy};
pub use engine::Simulation;
pub use report::{Moment, Report};
pub use rivals::{HorizontalPodAutoscaler, RayServe};
pub use synthetic::{Services, Shape, Synthetic};
pub use workload::{Job, TraceError, Workload};
