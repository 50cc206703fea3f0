//! Seeded random histories over all events and faults, with every invariant checked after every step.
//!
//! | file | owns |
//! | --- | --- |
//! | `profile` | what a seed draws: configuration, policy, how bad the world is |
//! | `world`, `faults` | clients, engine, gateway, operator, and the virtual clock |
//! | `model`, `checks`, `orders`, `balance`, `restarts` | what the pool must be doing, kept independently, and the comparison |
//! | `history` | the hash, the trace, what was covered |
//!
//! `LONGSHORE_SIM_EVENTS` sets how many events are simulated; `LONGSHORE_SIM_SEED` runs one seed, with its trace if it
//! fails.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

mod balance;
mod checks;
mod faults;
mod history;
mod model;
mod orders;
mod profile;
mod restarts;
mod world;

use world::World;

/// How one history ended.
struct Report {
    seed: u64,
    events: u64,
    hash: u64,
    seen: BTreeMap<&'static str, u64>,
    failure: Option<String>,
}

/// One history.
fn run(seed: u64, traced: bool) -> Report {
    let mut world = World::new(seed, traced);
    let ended = catch_unwind(AssertUnwindSafe(|| world.live()));
    let failure = match ended {
        Ok(Ok(())) => None,
        Ok(Err(broken)) => Some(broken),
        Err(panic) => Some(match panic.downcast::<String>() {
            Ok(words) => format!("panic: {words}"),
            Err(_) => "panic".to_owned(),
        }),
    };
    Report {
        seed,
        events: world.events,
        hash: world.history.hash(),
        seen: world.history.seen().clone(),
        failure: failure.map(|words| format!("{}\n{words}", world.history.tail(200))),
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.replace('_', "").parse().expect("a number"))
}

/// Runs seeds from 0 on all cores until so many events were simulated, or one seed fails.
fn run_many(events: u64) -> (u64, BTreeMap<&'static str, u64>, Option<u64>) {
    let (next, done) = (AtomicU64::new(0), AtomicU64::new(0));
    let failed = AtomicU64::new(u64::MAX);
    let work = || {
        let mut seen: BTreeMap<&'static str, u64> = BTreeMap::new();
        while done.load(Ordering::Relaxed) < events && failed.load(Ordering::Relaxed) == u64::MAX {
            let report = run(next.fetch_add(1, Ordering::Relaxed), false);
            done.fetch_add(report.events, Ordering::Relaxed);
            report.seen.iter().for_each(|(what, count)| *seen.entry(*what).or_default() += count);
            if report.failure.is_some() {
                failed.fetch_min(report.seed, Ordering::Relaxed);
            }
        }
        seen
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let seen = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut all: BTreeMap<&'static str, u64> = BTreeMap::new();
        for thread in threads {
            let seen = thread.join().expect("a run catches its own panics");
            seen.into_iter().for_each(|(what, count)| *all.entry(what).or_default() += count);
        }
        all
    });
    let failed = failed.into_inner();
    (done.into_inner(), seen, (failed != u64::MAX).then_some(failed))
}

fn fail(seed: u64) -> ! {
    let report = run(seed, true);
    let words =
        report.failure.unwrap_or_else(|| "it does not fail again: the pool is not deterministic".into());
    panic!(
        "{words}\n\nseed {seed} fails after {} events; replay it with\n  \
         LONGSHORE_SIM_SEED={seed} cargo test --release -p longshore-pool --test simulation no_history",
        report.events
    );
}

#[test]
fn no_history_breaks_an_invariant() {
    if let Some(seed) = setting("LONGSHORE_SIM_SEED") {
        if run(seed, false).failure.is_some() {
            fail(seed);
        }
        return;
    }
    let usual = if cfg!(debug_assertions) { 500_000 } else { 10_000_000 };
    let (events, seen, failed) = run_many(setting("LONGSHORE_SIM_EVENTS").unwrap_or(usual));
    if let Some(seed) = failed {
        fail(seed);
    }
    println!("{events} events: {seen:?}");
    if events >= 100_000 {
        for what in faults::MUST_SEE {
            assert!(seen.get(what).is_some_and(|count| *count > 0), "no history met: {what}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_history_byte_for_byte() {
    for seed in 0..50 {
        let (once, again) = (run(seed, false), run(seed, false));
        assert_eq!((once.events, once.hash), (again.events, again.hash), "seed {seed}");
    }
    assert_ne!(run(0, false).hash, run(1, false).hash);
}
