//! Export and import.

use std::sync::Arc;

use longshore_jobs::{
    Change, Filter, Import, ImportError, Imported, Job, Limits, MemoryStore, Outcome, Status, Store,
    StoreError, export,
};
use tokio::sync::mpsc;

use crate::Fixture;
use crate::support::{NOW, answer, bytes, one, put, staged, update, whole, with_body};

async fn exported(store: &Arc<dyn Store>, job: Option<Job>) -> Vec<u8> {
    let (out, mut lines) = mpsc::channel(4);
    let exporting = tokio::spawn(export(store.clone(), job, None, out));
    let mut file = Vec::new();
    while let Some(line) = lines.recv().await {
        file.extend_from_slice(&line.unwrap());
    }
    exporting.await.unwrap();
    file
}

async fn imported(store: &Arc<dyn Store>, file: &[u8], overwrite: bool) -> Result<Imported, ImportError> {
    let mut import = Import::new()?;
    for piece in file.chunks(10_000) {
        import.write(piece)?;
    }
    import.finish(store, overwrite, None).await
}

fn elsewhere() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(Limits { max_bytes: 1 << 30 }))
}

/// One that is done, one that runs and one that waits.
async fn three(store: &Arc<dyn Store>) -> [Job; 3] {
    let waiting = with_body(store, "calc", &bytes(700_000)).await;
    let running = with_body(store, "calc", &bytes(10)).await;
    let held = running.held("me", NOW).unwrap();
    update(store, &running, &held).await;
    let runs = held.started(NOW).unwrap();
    update(store, &held, &runs).await;
    let done = with_body(store, "calc", &bytes(10)).await;
    let held = done.held("me", NOW).unwrap();
    update(store, &done, &held).await;
    let result = staged(store, &bytes(600_000)).await;
    let output = result.as_ref().unwrap().body;
    let done = held.finished(answer(200, Some(output)), 1, NOW).unwrap();
    assert_eq!(one(store, Change::update(held, done.clone()).with(result)).await, Outcome::Made);
    [waiting, runs, done]
}

pub async fn what_is_exported_can_be_imported_elsewhere(fixture: &Fixture) {
    let [waiting, running, done] = three(&fixture.store).await;
    let file = exported(&fixture.store, None).await;
    for store in [elsewhere(), fixture.store.clone()] {
        let result = imported(&store, &file, true).await.unwrap();
        assert_eq!(result, Imported { imported: 3, kept: 0 });
        let get = async |job: &Job| store.get(job.id).await.unwrap().unwrap();
        assert_eq!(get(&waiting).await.state, waiting.state);
        assert!(whole(&store, get(&waiting).await.input.unwrap()).await == bytes(700_000));
        assert_eq!(get(&running).await.status(), Status::Queued, "whoever ran it does not run it here");
        let answer = get(&done).await.answer().unwrap().clone();
        assert!(whole(&store, answer.body.unwrap()).await == bytes(600_000));
        assert_eq!(store.heads("calc", 10).await.unwrap().len(), 2);
    }
}

pub async fn a_job_that_changes_while_it_is_exported_is_in_the_file_as_it_is_then(fixture: &Fixture) {
    let store = &fixture.store;
    let other = with_body(store, "calc", &bytes(10)).await;
    for forgotten in [false, true] {
        let long = with_body(store, "calc", &bytes(6_000_000)).await;
        let (out, mut lines) = mpsc::channel(1);
        let exporting = tokio::spawn(export(store.clone(), None, None, out));
        let mut file = Vec::new();
        while let Some(line) = lines.recv().await {
            file.extend_from_slice(&line.unwrap());
            // In the middle of its body: the newest job is the first.
            if file.iter().filter(|byte| **byte == b'\n').count() == 2 {
                let cancelled = long.cancelled(NOW).unwrap();
                match forgotten {
                    false => update(store, &long, &cancelled).await,
                    true => assert_eq!(one(store, Change::forget(long.clone())).await, Outcome::Made),
                }
            }
        }
        exporting.await.unwrap();
        let there = elsewhere();
        let done = imported(&there, &file, false).await.unwrap();
        assert_eq!(done, Imported { imported: 2, kept: 0 }, "{forgotten}");
        let status = there.get(long.id).await.unwrap().map(|job| job.status());
        assert_eq!(status, (!forgotten).then_some(Status::Cancelled));
        assert!(whole(&there, there.get(other.id).await.unwrap().unwrap().input.unwrap()).await == bytes(10));
    }
}

pub async fn an_import_that_fills_the_store_says_what_it_has_done(fixture: &Fixture) {
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.push(with_body(&fixture.store, "calc", &bytes(100_000)).await);
    }
    let file = exported(&fixture.store, None).await;
    let small: Arc<dyn Store> = Arc::new(MemoryStore::new(Limits { max_bytes: 250_000 }));
    put(&small, &crate::support::job("mine")).await;
    let error = imported(&small, &file, false).await.unwrap_err();
    let text = error.to_string();
    let ImportError::Store { why: StoreError::Full(_), done } = error else { panic!("{text}") };
    assert_eq!(done, Imported { imported: 2, kept: 0 }, "{text}");
    assert!(text.contains("2 jobs of the file were imported before that and 0 stayed"), "{text}");
    assert_eq!(small.page(&Filter::default(), 10).await.unwrap().len(), 3);
    // With more room the same file brings the others.
    let large = elsewhere();
    let first = with_body(&large, "calc", &bytes(10)).await;
    imported(&large, &file, false).await.unwrap();
    let again = imported(&large, &file, false).await.unwrap();
    assert_eq!(again, Imported { imported: 0, kept: 5 });
    assert!(large.get(first.id).await.unwrap().is_some());
}

pub async fn one_job_is_exported_alone(fixture: &Fixture) {
    let [waiting, ..] = three(&fixture.store).await;
    let file = exported(&fixture.store, Some(waiting.clone())).await;
    let store = elsewhere();
    assert_eq!(imported(&store, &file, false).await.unwrap().imported, 1);
    let all = store.page(&Filter::default(), 10).await.unwrap();
    assert_eq!(all.iter().map(|job| job.id).collect::<Vec<_>>(), [waiting.id]);
}

pub async fn jobs_that_are_there_stay_or_are_replaced(fixture: &Fixture) {
    let [waiting, ..] = three(&fixture.store).await;
    let file = exported(&fixture.store, None).await;
    update(&fixture.store, &waiting, &waiting.cancelled(NOW).unwrap()).await;
    let kept = imported(&fixture.store, &file, false).await.unwrap();
    assert_eq!(kept, Imported { imported: 0, kept: 3 });
    let status = async || fixture.store.get(waiting.id).await.unwrap().unwrap().status();
    assert_eq!(status().await, Status::Cancelled);
    assert_eq!(imported(&fixture.store, &file, true).await.unwrap().imported, 3);
    assert_eq!(status().await, Status::Queued);
}

pub async fn a_broken_file_names_its_line_and_changes_nothing(fixture: &Fixture) {
    three(&fixture.store).await;
    let file = exported(&fixture.store, None).await;
    let lines: Vec<&[u8]> = file.split_inclusive(|byte| *byte == b'\n').collect();
    let last = lines.len() as u64;
    let without = |gone: usize| -> Vec<u8> {
        lines.iter().enumerate().filter(|(at, _)| *at != gone).flat_map(|(_, line)| line.to_vec()).collect()
    };
    let store = elsewhere();
    put(&store, &crate::support::job("mine")).await;
    let nonsense = [lines[0], b"{\"job\":{\"id\":\"no\"}}\n", lines[1]].concat();
    for (what, broken, wrong) in [
        ("not ours", b"{}\n".to_vec(), 1),
        ("nothing", Vec::new(), 1),
        ("a record that is none", nonsense, 2),
        ("cut in the middle of a line", file[..file.len() - 3].to_vec(), last),
        ("without its last line", without(lines.len() - 1), last),
        ("without a piece of a body", without(1), last.min(4)),
        ("with something behind its end", [&*file, b"{}\n"].concat(), last + 1),
    ] {
        let error = imported(&store, &broken, true).await.unwrap_err();
        let ImportError::Line { line, .. } = &error else { panic!("{what}: {error}") };
        assert!(*line <= wrong && *line > 0, "{what}: {error}");
        let all = store.page(&Filter::default(), 10).await.unwrap();
        assert_eq!(all.len(), 1, "{what}");
    }
}
