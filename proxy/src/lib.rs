//! Longshore: a load-balancing reverse proxy over pools of containerised model servers that loses no request.
//!
//! | module | owns |
//! | --- | --- |
//! | [`config`] | cluster.toml |
//! | [`gateway`] | carries requests |
//! | [`control`] | performs what the pools ask of the world |
//! | [`probe`] | one look at an instance |
//! | [`admin`] | the API for operators |
//! | [`metrics`] | every metric |
//! | [`problem`] | the one place where an error becomes a status code |
//! | [`run`] | puts a cluster together, serves it, takes it apart |
//! | [`cli`] | the commands |
//! | [`console`] | stderr: the log, and bars |
//!
//! Every decision is made in `longshore-pool`; instances are run by `longshore-backend`.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connect;
pub mod console;
pub mod control;
pub mod gateway;
pub mod http_client;
pub mod jobs;
pub mod metrics;
pub mod policies;
pub mod probe;
pub mod problem;
pub mod run;
pub mod sizing;
