//! `longshore verify NAME`: shows a user that nothing is lost. Sends a closed loop of requests through the proxy, kills
//! instances meanwhile, and counts.
//!
//! | module | owns |
//! | --- | --- |
//! | this one | the arguments and the course of the run |
//! | `load` | one client: its connection, its requests, what became of each |
//! | `door` | which proxy, and whether it is the one of the admin API |
//! | `digest` | `Content-Digest` (RFC 9530) |
//! | `faults` | the kills |
//! | `latency` | a histogram of fixed size |
//! | `counters` | the proxy's own counters, before and after |
//! | `report` | what is printed |

mod counters;
mod digest;
mod door;
mod faults;
mod latency;
mod load;
mod report;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use http::HeaderValue;
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::client::Client;
use super::{CliError, output};
use crate::config::{parse_bytes, parse_duration};
use crate::http_client::Server;
use counters::Counters;
use door::Door;
use load::{Load, Tally};
use report::Report;

/// How long requests that were sent before the end are waited for: longer than a restart takes.
const LAST_ANSWERS: Duration = Duration::from_secs(60);

/// Largest body: it is kept in memory by every client.
const LARGEST_BODY: u64 = 1 << 30;

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The service.
    name: String,
    /// How long requests are sent.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    duration: Duration,
    /// Time between two kills of a random ready instance; 0s kills none.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_duration)]
    kill_every: Duration,
    /// How many requests are under way at once.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    clients: u32,
    /// Size of each body, random and sent with its digest; 0 sends GET requests.
    #[arg(long, value_name = "SIZE", default_value = "256KiB", value_parser = body_size)]
    body: usize,
    /// Path and query of the requests.
    #[arg(long, default_value = "/", value_parser = path)]
    path: String,
    /// Where the proxy takes requests [default: where its admin API says].
    #[arg(long, value_name = "URL", value_parser = Server::parse)]
    proxy: Option<Server>,
    /// The api key that the proxy demands, if it does.
    #[arg(long, env = "LONGSHORE_KEY", hide_env_values = true, value_parser = key)]
    key: Option<HeaderValue>,
    /// Another number gives other bodies and kills.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

fn body_size(text: &str) -> Result<usize, String> {
    let size = parse_bytes(text)?;
    match usize::try_from(size) {
        Ok(bytes) if size <= LARGEST_BODY => Ok(bytes),
        Ok(_) | Err(_) => Err("a body is 1GiB at the most".into()),
    }
}

fn path(text: &str) -> Result<String, String> {
    let right = text.starts_with('/') && text.parse::<http::Uri>().is_ok();
    if right { Ok(text.to_owned()) } else { Err("a path begins with `/`".into()) }
}

fn key(text: &str) -> Result<HeaderValue, String> {
    let mut key = HeaderValue::from_str(text.trim()).map_err(|_| "a key is a word of visible characters")?;
    key.set_sensitive(true);
    Ok(key)
}

pub(super) async fn verify(args: VerifyArgs, client: Client) -> Result<(), CliError> {
    let before = Counters::read(&client, &args.name).await?;
    let service = client.service(&args.name).await?;
    let door = Door::find(args.proxy.clone(), &client).await?;
    let load = Load::new(door.server.clone(), client.server(), &args.name, &args.path, args.body);
    let load = Arc::new(load.with_key(args.key.clone()));
    door.knock(&load, args.seed, args.duration + LAST_ANSWERS).await?;
    let kill_every = match service.image.as_str() {
        "addresses" => {
            output::note("these servers are not Longshore's own: none is killed");
            Duration::ZERO
        }
        _ => args.kill_every,
    };
    let course = Course::begin(&args, load, kill_every, &client);
    course.wait(args.duration).await;
    let report = course.end(&client, &args.name, &before).await;
    output::write(report.text().as_bytes())?;
    if report.passed() { Ok(()) } else { Err(CliError::Shown) }
}

/// A run that is under way.
struct Course {
    began: Instant,
    tally: Arc<Mutex<Tally>>,
    kills: Arc<Mutex<faults::Kills>>,
    /// Told to stop sending.
    stop: watch::Sender<bool>,
    clients: JoinSet<()>,
    killer: tokio::task::JoinHandle<()>,
    interrupt: Interrupt,
}

impl Course {
    fn begin(args: &VerifyArgs, load: Arc<Load>, kill_every: Duration, client: &Client) -> Self {
        let (stop, stopped) = watch::channel(false);
        let tally: Arc<Mutex<Tally>> = Arc::default();
        let kills: Arc<Mutex<faults::Kills>> = Arc::default();
        let mut clients = JoinSet::new();
        for index in 0..args.clients {
            let seed = args.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(u64::from(index));
            clients.spawn(load.clone().run(seed, tally.clone(), stopped.clone()));
        }
        let killing =
            faults::run(client.clone(), args.name.clone(), kill_every, args.seed, kills.clone(), stopped);
        let killer = tokio::spawn(killing);
        Self { began: Instant::now(), tally, kills, stop, clients, killer, interrupt: Interrupt::listen() }
    }

    /// Waits until the time is over or the user has seen enough, and shows how far it is.
    async fn wait(&self, duration: Duration) {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        bar.set_style(style);
        let end = self.began + duration;
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        while Instant::now() < end && !self.interrupt.came() {
            tokio::select! {
                () = sleep_until(end) => {}
                () = self.interrupt.wait() => {}
                _ = tick.tick() => {
                    bar.set_message(self.progress(duration));
                    bar.tick();
                }
            }
        }
        bar.finish_and_clear();
    }

    fn progress(&self, duration: Duration) -> String {
        let tally = self.tally.lock();
        let (elapsed, duration) = (output::duration(self.began.elapsed()), output::duration(duration));
        let (answered, lost, kills) = (tally.answered, tally.lost(), self.kills.lock().done);
        let refused = match tally.refused() {
            0 => String::new(),
            refused => format!("{refused} refused, "),
        };
        format!("{elapsed} of {duration}: {answered} answered, {refused}{lost} lost, {kills} kills")
    }

    /// Lets the last requests be answered, unless the user is in a hurry.
    async fn end(mut self, client: &Client, name: &str, before: &Counters) -> Report {
        let sending = self.began.elapsed();
        // Nobody listens any more only when every client is done.
        let _ = self.stop.send(true);
        if !self.interrupt.came() {
            let clients = &mut self.clients;
            let all = async { while clients.join_next().await.is_some() {} };
            tokio::select! {
                _ = timeout(LAST_ANSWERS, all) => {}
                () = self.interrupt.wait() => {}
            }
        }
        let interrupted = self.interrupt.came();
        self.killer.abort();
        self.clients.shutdown().await;
        let after = Counters::read(client, name).await;
        let mut tally = std::mem::take(&mut *self.tally.lock());
        if !interrupted {
            tally.give_up(LAST_ANSWERS);
        }
        let kills = std::mem::take(&mut *self.kills.lock());
        Report {
            name: name.to_owned(),
            sending,
            tally,
            kills,
            counted: after.map(|after| after.since(before)),
        }
    }
}

/// Whether the user has pressed Ctrl-C.
struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    fn listen() -> Self {
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                // Nobody is told when the command is ending anyway.
                let _ = sender.send(true);
            }
            // Kept until the process ends, so that a waiter never takes its end for the signal.
            sender.closed().await;
        });
        Self(receiver)
    }

    fn came(&self) -> bool {
        *self.0.borrow()
    }

    async fn wait(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|came| *came).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
