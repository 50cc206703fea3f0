//! What the end-to-end tests share. Every test drives the real binary as a child process, with real instances.
//!
//! | module | owns |
//! | --- | --- |
//! | `cluster` | [`Setup`] and [`Cluster`]: a running `longshore up`, and its end |
//! | `log` | what it writes, and that no ERROR in it goes unnoticed |
//! | `admin` | its admin API, seen from outside |
//! | `metrics` | its metrics, read |
//! | `news` | its events, listened to |
//! | `prometheus` | a real Prometheus that scrapes one |
//! | `command` | the other commands, run to their end |
//! | `schema` | answers held against an OpenAPI document |
//! | `screen` | a terminal, and what a person sees on it |
//! | `client` | requests and answers |
//! | `http2` | requests over HTTP/2, and gRPC calls |
//! | `raw` | bytes on a socket, where framing matters |
//! | `frames` | HTTP/2, frame by frame |
//! | `strict` | RFC 9112 to the letter |
//! | `mutate` | requests with mistakes in them |
//! | `tap` | a server that notes every byte |
//! | `digest` | `Content-Digest` |
//! | `document` | the commands in a Markdown file |
//! | `load` | requests at a rate, each answer verified |
//! | `hook` | who takes the results of jobs |
//! | `loyal` | clients that keep their connections, and ask nothing twice |
//! | `jobs` | jobs that are submitted and read while something dies |
//! | `redis` | a Redis that may be killed |
//! | `server` | servers inside a test, for `addresses` |
//! | `tls` | a certificate authority, and clients that believe it |
//! | `docker` | the Docker command line; a second engine that may be killed |
//! | `otlp` | a collector of traces |
//! | `process` | `/proc`, and signals |
//! | `turn` | which tests run side by side, and for how long at the most |

pub mod admin;
pub mod client;
pub mod cluster;
pub mod command;
pub mod digest;
pub mod docker;
pub mod document;
mod engine;
pub mod frames;
pub mod hook;
pub mod http2;
pub mod jobs;
pub mod load;
mod log;
pub mod loyal;
pub mod metrics;
pub mod mutate;
pub mod news;
pub mod otlp;
pub mod process;
pub mod prometheus;
pub mod raw;
pub mod redis;
pub mod schema;
pub mod screen;
pub mod server;
mod setup;
pub mod strict;
pub mod tap;
pub mod tls;
pub mod turn;

pub use client::{Client, Reply};
pub use cluster::{Cluster, binary};
pub use engine::Engine;
pub use setup::{Backend, Setup, model, repository};

use std::time::{Duration, Instant};

/// Longer than a busy machine takes for any single step.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again, every few milliseconds, until there is an answer.
///
/// # Panics
/// When there is none after `limit`.
pub async fn eventually<T>(limit: Duration, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A number of the environment, for tests whose length can be chosen.
pub fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}
