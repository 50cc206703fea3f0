//! The program as a whole, over real connections.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod faults;
mod models;
mod support;
