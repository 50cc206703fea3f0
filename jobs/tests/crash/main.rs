//! A process that keeps jobs in a file store is killed again and again, at random moments. What it had acknowledged is
//! there, with its bodies; nothing else needs repair.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test, though without the harness")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use longshore_jobs::{
    Answer, Change, Fields, FileStore, Filter, Head, Job, JobId, Limits, Millis, NewJob, Outcome, Reader,
    Status, Store, Ttl,
};

/// Set in the child: the store's folder.
const FOLDER: &str = "LONGSHORE_CRASH_FOLDER";

const ROUNDS: usize = 20;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match std::env::var(FOLDER) {
        Ok(folder) => runtime.block_on(child(Path::new(&folder))),
        Err(_) => runtime.block_on(parent()),
    }
    ExitCode::SUCCESS
}

/// Makes jobs and finishes some, and says what is acknowledged, for ever.
async fn child(folder: &Path) {
    let store: Arc<dyn Store> = Arc::new(open(folder));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            loop {
                work(&store).await;
            }
        });
    }
    tasks.join_all().await;
}

async fn work(store: &Arc<dyn Store>) {
    let length = if fastrand::bool() { fastrand::usize(1..3000) } else { fastrand::usize(65_000..900_000) };
    let staged = body(store, length).await;
    let new = NewJob {
        service: "calc".to_owned(),
        request: Head {
            method: "POST".to_owned(),
            target: "/".to_owned(),
            headers: Fields::default(),
            peer: None,
            tls: false,
            key: None,
        },
        input: staged.as_ref().map(|staged| staged.body),
        ttl: Ttl { input: 3_600_000, result: 3_600_000 },
        key: None,
        identity: None,
        callback: None,
    };
    let job = Job::new(new, Millis::now());
    made(store, Change::create(job.clone(), staged)).await;
    say(&format!("taken {}", job.id));
    if fastrand::u8(..) < 100 {
        return;
    }
    let held = job.held("child", Millis::now().after(Duration::from_secs(60))).unwrap();
    made(store, Change::note(job, held.clone())).await;
    let running = held.started(Millis::now()).unwrap();
    made(store, Change::note(held, running.clone())).await;
    let result = body(store, length / 2 + 1).await;
    let output = result.as_ref().map(|staged| staged.body);
    let answer =
        Answer { status: 200, headers: Fields::default(), body: output, trailers: Fields::default() };
    let done = running.finished(answer, 1, Millis::now()).unwrap();
    made(store, Change::update(running, done.clone()).with(result)).await;
    say(&format!("done {}", done.id));
    if fastrand::u8(..) < 60 {
        say(&format!("forgetting {}", done.id));
        made(store, Change::forget(done.clone())).await;
        say(&format!("forgotten {}", done.id));
    }
}

async fn body(store: &Arc<dyn Store>, length: usize) -> Option<longshore_jobs::Staged> {
    let mut writer = store.write().unwrap();
    writer.write(&pattern(length)).await.unwrap();
    writer.finish().await.unwrap()
}

/// Bytes that tell their length: a torn or mixed-up body is seen.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(length) >> 3) as u8).collect()
}

async fn made(store: &Arc<dyn Store>, change: Change) {
    assert_eq!(store.swap(vec![change]).await.unwrap(), [Outcome::Made]);
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

fn open(folder: &Path) -> FileStore {
    FileStore::open(folder, Limits { max_bytes: 8 << 30 }).unwrap()
}

async fn parent() {
    let folder = tempfile::tempdir().unwrap();
    let mut said: Vec<String> = Vec::new();
    for round in 0..ROUNDS {
        said.extend(killed(folder.path()));
        let store: Arc<dyn Store> = Arc::new(open(folder.path()));
        check(&store, &said, folder.path()).await;
        println!("round {round}: {} lines acknowledged", said.len());
    }
    assert!(
        said.iter().filter(|line| line.starts_with("done")).count() > 20,
        "too little happened to prove anything"
    );
}

/// Runs a child for a random while and kills it; what it said.
fn killed(folder: &Path) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The clock runs from its first sign of life, so that each round does something.
    let mut said: Vec<String> = lines.by_ref().take(1).map(Result::unwrap).collect();
    let pid = child.id();
    let after = Duration::from_millis(fastrand::u64(5..400));
    let killer = std::thread::spawn(move || {
        std::thread::park_timeout(after);
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    });
    said.extend(lines.map(Result::unwrap));
    killer.join().unwrap();
    assert!(!child.wait().unwrap().success(), "it was killed");
    said
}

async fn check(store: &Arc<dyn Store>, said: &[String], folder: &Path) {
    let ids = |word: &str| -> Vec<JobId> {
        said.iter().filter_map(|line| line.strip_prefix(word)?.trim().parse().ok()).collect()
    };
    let (forgetting, forgotten) = (ids("forgetting"), ids("forgotten"));
    for id in ids("taken ") {
        let Some(job) = store.get(id).await.unwrap() else {
            assert!(forgetting.contains(&id), "{id} was taken and is lost");
            continue;
        };
        assert!(!forgotten.contains(&id), "{id} was forgotten and is back");
        assert!(job.status() == Status::Queued || job.status() == Status::Done, "{:?}", job.state);
        for body in job.bodies() {
            let mut whole = Vec::new();
            let mut reader = Reader::new(store.clone(), body);
            while let Some(piece) = reader.next().await.unwrap() {
                whole.extend_from_slice(&piece);
            }
            assert!(whole == pattern(usize::try_from(body.length).unwrap()), "a body of {id} is torn");
        }
    }
    for id in ids("done ") {
        let job = store.get(id).await.unwrap();
        let status = job.as_ref().map(Job::status);
        assert!(status == Some(Status::Done) || forgetting.contains(&id), "{id} was done and is {status:?}");
    }
    let mut files = std::fs::read_dir(folder.join("bodies")).unwrap().count();
    let mut filter = Filter::default();
    loop {
        let page = store.page(&filter, 500).await.unwrap();
        let Some(last) = page.last() else { break };
        filter.after = Some(last.id);
        files -= page.iter().flat_map(Job::bodies).filter(|body| body.length > 64 * 1024).count();
    }
    assert_eq!(files, 0, "files of bodies that no job names");
}
