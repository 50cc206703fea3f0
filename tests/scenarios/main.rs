//! The end-to-end tests: the real binary, real instances, one file a theme.

mod admin;
mod adoption;
mod causes;
mod clients;
mod commands;
mod dashboards;
mod engine;
mod faults;
mod first;
mod forwarding;
mod framing;
mod hangs;
mod jobs;
mod keys;
mod limits;
mod mistakes;
mod policies;
mod queue;
mod readme;
mod replay;
mod resize;
mod rolling;
mod shutdown;
mod sizes;
mod streams;
mod terminal;
