//! Longshore: a load-balancing reverse proxy over pools of containerised model servers that loses no request.
//!
//! The `longshore` command is made of it, and a program can have a cluster inside: [`Cluster`] shows how.
//!
//! These modules are the command's own parts, which change as it does; the rest of this page is for programs.
//!
//! | module | owns |
//! | --- | --- |
//! | `library` | [`Cluster`], [`Service`], [`Client`] |
//! | `config` | cluster.toml |
//! | `gateway` | carries requests |
//! | `control` | performs what the pools ask of the world |
//! | `probe` | one look at an instance |
//! | `admin` | the API for operators |
//! | `events` | what happens, told to whoever listens |
//! | `metrics` | every metric |
//! | `telemetry` | traces, and where they go |
//! | `problem` | the one place where an error becomes a status code |
//! | `run` | puts a cluster together, serves it, takes it apart |
//! | `cli` | the commands |
//! | `console` | stderr: the log, and bars |
//!
//! Every decision is made in `longshore-pool`; instances are run by `longshore-backend`.

#[doc(hidden)]
pub mod admin;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod clock;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod connect;
#[doc(hidden)]
pub mod console;
#[doc(hidden)]
pub mod control;
#[doc(hidden)]
pub mod events;
#[doc(hidden)]
pub mod gateway;
#[doc(hidden)]
pub mod http_client;
pub mod jobs;
mod library;
#[doc(hidden)]
pub mod metrics;
#[doc(hidden)]
pub mod policies;
#[doc(hidden)]
pub mod probe;
#[doc(hidden)]
pub mod problem;
#[doc(hidden)]
pub mod run;
#[doc(hidden)]
pub mod sizing;
#[doc(hidden)]
pub mod telemetry;

pub use config::BackendKind;
pub use library::{Client, ClientError, Cluster, ClusterBuilder, ClusterError, Service};
pub use longshore_pool::{Load, Recommendation, ScalingPolicy, Time, Traffic};
