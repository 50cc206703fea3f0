//! `jobs.export`: all jobs are written to a folder, or to a command's stdin, every so often and when somebody asks.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use longshore_jobs::{Store, StoreError, export};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::Jobs;
use crate::config::{ExportTo, ScheduledExport};
use crate::metrics::JobExports;

/// How the names of our files begin and end; between them is the time, so that they sort by it.
const NAME: (&str, &str) = ("jobs-", ".ndjson");

/// A file that is being written.
const PART: &str = ".part";

/// A command may take as long as there is until the next export, and this at least.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(60);

/// Of what a command says about its failure, so many bytes at the end.
const SAID: usize = 500;

/// What an export has done.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Exported {
    /// The file, or the command.
    to: String,
    bytes: u64,
}

/// Whoever asks for an export waits for the one that is under way.
#[derive(Default)]
pub(super) struct Exports {
    turn: tokio::sync::Mutex<()>,
    pub(super) metrics: std::sync::OnceLock<JobExports>,
}

/// Exports until the process ends.
pub(super) async fn run(jobs: Arc<Jobs>, store: Arc<dyn Store>) {
    let Some(plan) = &jobs.config.export else { return };
    let mut wait = until_first(plan);
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = jobs.closed() => return,
        }
        wait = plan.every;
        // What went wrong has been logged.
        let _ = now(&jobs, &store, plan).await;
    }
}

/// Exports now.
pub(super) async fn now(
    jobs: &Jobs,
    store: &Arc<dyn Store>,
    plan: &ScheduledExport,
) -> Result<Exported, String> {
    let _turn = jobs.exports.turn.lock().await;
    let done = match &plan.to {
        ExportTo::Folder { folder, keep } => to_folder(store, folder, *keep).await,
        ExportTo::Command(words) => {
            let patience = plan.every.max(SHORTEST_PATIENCE);
            let running = to_command(store, words, &jobs.cluster);
            let late = || Err(format!("it is not done after {}", humantime::format_duration(patience)));
            tokio::time::timeout(patience, running).await.unwrap_or_else(|_| late())
        }
    };
    if let Some(metrics) = jobs.exports.metrics.get() {
        metrics.ended(done.is_ok());
    }
    match &done {
        Ok(exported) => tracing::info!(to = exported.to, bytes = exported.bytes, "all jobs were exported"),
        Err(error) => tracing::error!(error, "the export of all jobs has failed"),
    }
    done
}

/// At once where nothing is known of an earlier one; else when that is old enough.
fn until_first(plan: &ScheduledExport) -> Duration {
    let ExportTo::Folder { folder, .. } = &plan.to else { return Duration::ZERO };
    let newest = names(folder).ok().and_then(|names| names.into_iter().next_back());
    let written = newest.and_then(|name| folder.join(name).metadata().ok()?.modified().ok());
    let age = written.and_then(|written| SystemTime::now().duration_since(written).ok());
    age.map_or(Duration::ZERO, |age| plan.every.saturating_sub(age))
}

fn lines(store: &Arc<dyn Store>) -> mpsc::Receiver<Result<Bytes, StoreError>> {
    let (out, lines) = mpsc::channel(4);
    tokio::spawn(export(store.clone(), None, None, out));
    lines
}

/// A file is there when it is whole, and before older ones go.
async fn to_folder(store: &Arc<dyn Store>, folder: &Path, keep: usize) -> Result<Exported, String> {
    let (mut lines, folder) = (lines(store), folder.to_owned());
    let written = tokio::task::spawn_blocking(move || {
        let name = format!("{}{}{}", NAME.0, jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ"), NAME.1);
        let failed = |error: std::io::Error| format!("{}: {error}", folder.join(&name).display());
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let (part, whole) = (folder.join(format!("{name}{PART}")), folder.join(&name));
        let kept = fill(&part, &mut lines).and_then(|bytes| {
            std::fs::rename(&part, &whole).and_then(|()| File::open(&folder)?.sync_all()).map_err(failed)?;
            Ok(bytes)
        });
        let bytes = kept.inspect_err(|_| {
            // It may not even have been made.
            let _ = std::fs::remove_file(&part);
        })?;
        remove_old(&folder, keep).map_err(failed)?;
        Ok(Exported { to: whole.display().to_string(), bytes })
    });
    written.await.map_err(|error| error.to_string())?
}

/// What is in it is nobody else's to read.
fn fill(path: &Path, lines: &mut mpsc::Receiver<Result<Bytes, StoreError>>) -> Result<u64, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).map_err(failed)?;
    let mut bytes = 0;
    while let Some(line) = lines.blocking_recv() {
        let line = line.map_err(|error| error.to_string())?;
        file.write_all(&line).map_err(failed)?;
        bytes += line.len() as u64;
    }
    file.sync_all().map_err(failed)?;
    Ok(bytes)
}

/// The names of our whole files, the oldest first.
fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        if name.starts_with(NAME.0) && name.ends_with(NAME.1) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn remove_old(folder: &Path, keep: usize) -> std::io::Result<()> {
    let names = names(folder)?;
    let old = if keep == 0 { 0 } else { names.len().saturating_sub(keep) };
    names.iter().take(old).try_for_each(|name| std::fs::remove_file(folder.join(name)))
}

/// The command is killed where the export breaks off, so that it does not take half of it for all.
async fn to_command(store: &Arc<dyn Store>, words: &[String], cluster: &str) -> Result<Exported, String> {
    let Some((program, arguments)) = words.split_first() else {
        return Err("there is no command".to_owned());
    };
    let failed = |what: &str| format!("{program}: {what}");
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env("LONGSHORE_CLUSTER", cluster)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(&error.to_string()))?;
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let said = tokio::spawn(async move {
        let mut said = Vec::new();
        let mut piece = [0; 4096];
        let Some(mut stderr) = stderr else { return said };
        while let Ok(count @ 1..) = stderr.read(&mut piece).await {
            said.extend_from_slice(&piece[..count]);
            said.drain(..said.len().saturating_sub(SAID));
        }
        said
    });
    let mut bytes = 0;
    if let Some(mut stdin) = stdin {
        let mut lines = lines(store);
        while let Some(line) = lines.recv().await {
            let line = line.map_err(|error| error.to_string())?;
            bytes += line.len() as u64;
            if stdin.write_all(&line).await.is_err() {
                // It takes no more: its end says why.
                break;
            }
        }
    }
    let status = child.wait().await.map_err(|error| failed(&error.to_string()))?;
    if status.success() {
        return Ok(Exported { to: words.join(" "), bytes });
    }
    let said = said.await.unwrap_or_default();
    Err(failed(&format!("{status}: {}", String::from_utf8_lossy(&said).trim())))
}

#[cfg(test)]
mod tests {
    use longshore_jobs::{Limits, MemoryStore};

    use super::*;

    fn store() -> Arc<dyn Store> {
        Arc::new(MemoryStore::new(Limits { max_bytes: 1 << 20 }))
    }

    #[tokio::test]
    async fn the_newest_files_stay_in_the_folder_and_nothing_else_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("mine.ndjson"), "x").unwrap();
        std::fs::write(deep.join("jobs-19700101T000000000Z.ndjson"), "old").unwrap();
        for _ in 0..3 {
            let exported = to_folder(&store(), &deep, 2).await.unwrap();
            assert_eq!(std::fs::read(&exported.to).unwrap().len() as u64, exported.bytes);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let names = names(&deep).unwrap();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(deep.join("mine.ndjson").exists());
        let text = std::fs::read_to_string(deep.join(&names[0])).unwrap();
        assert!(text.starts_with("{\"longshore\"") && text.contains("{\"end\""), "{text}");
    }

    #[tokio::test]
    async fn a_command_gets_all_on_its_stdin_and_its_failure_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out");
        let script = |text: &str| vec!["sh".to_owned(), "-c".to_owned(), text.to_owned()];
        let line = format!("cat > {} && echo $LONGSHORE_CLUSTER >> {0}", file.display());
        let exported = to_command(&store(), &script(&line), "mine").await.unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.ends_with("mine\n") && exported.bytes == text.len() as u64 - 5, "{text}");
        let failed =
            to_command(&store(), &script("cat > /dev/null; echo no bucket >&2; exit 3"), "mine").await;
        let why = failed.unwrap_err();
        assert!(why.contains("no bucket") && why.contains('3'), "{why}");
        let none = to_command(&store(), &["/none/such".to_owned()], "mine").await.unwrap_err();
        assert!(none.contains("/none/such"), "{none}");
    }

    #[test]
    fn the_first_export_is_due_when_the_last_one_is_old_enough() {
        let folder = tempfile::tempdir().unwrap();
        let every = Duration::from_secs(3600);
        let to = ExportTo::Folder { folder: folder.path().to_owned(), keep: 0 };
        let plan = ScheduledExport { every, to };
        assert_eq!(until_first(&plan), Duration::ZERO);
        std::fs::write(folder.path().join("jobs-20260101T000000000Z.ndjson"), "x").unwrap();
        let left = until_first(&plan);
        assert!(left > every - Duration::from_secs(60) && left <= every, "{left:?}");
    }
}
