//! 100,000 jobs that wait in a file store: what they take of the memory of the process that took them and of the one that
//! opens the store after a crash, and how much work that is. Memory and CPU time are what is bounded, since neither grows
//! on a busy machine; `./bench backlog` has the seconds.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test, though without the harness")]

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use longshore_jobs::{
    Change, Fields, FileStore, Head, Job, Limits, Millis, NewJob, Outcome, Status, Store, Ttl,
};

/// Set in a child: what it does, and the store's folder.
const PART: &str = "LONGSHORE_BACKLOG_PART";
const FOLDER: &str = "LONGSHORE_BACKLOG_FOLDER";

const JOBS: u64 = 100_000;

/// Made together.
const TOGETHER: u64 = 500;

/// The cache of the database and what is known of each job by heart, twice over.
const MEMORY: u64 = 128 << 20;

/// Without optimisations it is ten times the work.
const WORK: Duration = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 5 });

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match (std::env::var(PART).ok().as_deref(), std::env::var(FOLDER)) {
        (Some("fill"), Ok(folder)) => runtime.block_on(fill(Path::new(&folder))),
        (Some("open"), Ok(folder)) => runtime.block_on(open_again(Path::new(&folder))),
        (_, _) => parent(),
    }
    ExitCode::SUCCESS
}

fn parent() {
    let folder = tempfile::tempdir().unwrap();
    for (part, ends_well) in [("fill", false), ("open", true)] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let status = child.env(PART, part).env(FOLDER, folder.path()).status().unwrap();
        assert_eq!(status.code(), ends_well.then_some(0), "{part}: {status}");
    }
}

fn open(folder: &Path) -> FileStore {
    FileStore::open(folder, Limits { max_bytes: 8 << 30 }).unwrap()
}

/// Takes all of them, begins some, and is killed.
async fn fill(folder: &Path) {
    let store = open(folder);
    for _ in 0..JOBS / TOGETHER {
        let jobs: Vec<Job> = (0..TOGETHER).map(|_| job()).collect();
        let changes = jobs.iter().map(|job| Change::create(job.clone(), None)).collect();
        assert!(store.swap(changes).await.unwrap().iter().all(|outcome| *outcome == Outcome::Made));
        let held = jobs[0].held("me", Millis::now()).unwrap();
        store.swap(vec![Change::update(jobs[0].clone(), held)]).await.unwrap();
    }
    assert_eq!(store.queued("calc").await.unwrap(), JOBS);
    bounded("with all of them");
    nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL).unwrap();
}

async fn open_again(folder: &Path) {
    let before = cpu();
    let store = open(folder);
    let took = cpu() - before;
    bounded("after the crash");
    println!("opening it again took {took:?} of CPU time");
    assert!(took < WORK, "{took:?}");
    assert_eq!(store.queued("calc").await.unwrap(), JOBS);
    let heads = store.heads("calc", 600).await.unwrap();
    assert_eq!(heads.len(), 600, "nobody has any of them");
    assert!(heads.iter().all(|job| job.status() == Status::Queued));
}

fn job() -> Job {
    let mut headers = Fields::default();
    headers.push("content-type", b"application/json");
    headers.push("x-request-id", b"01a1fe6659ff7460805af6bc0c634df5");
    let request = Head {
        method: "POST".to_owned(),
        target: "/factorize".to_owned(),
        headers,
        peer: Some("127.0.0.1:50000".to_owned()),
        tls: false,
        key: None,
    };
    let ttl = Ttl { input: 3_600_000, result: 3_600_000 };
    let new = NewJob {
        service: "calc".to_owned(),
        request,
        input: None,
        ttl,
        key: None,
        identity: None,
        callback: None,
    };
    Job::new(new, Millis::now())
}

fn bounded(when: &str) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak = peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024;
    println!("{when}: {} MiB at the most", peak >> 20);
    assert!(peak < MEMORY, "{when}: {peak} bytes");
}

/// What this thread, which opens the store, has used.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}
