//! Bodies: of every size, from every place, and gone when nobody needs them.

use longshore_jobs::{CHUNK, Change, Job, Outcome, Reader, StoreError};

use crate::Fixture;
use crate::support::{NOW, answer, bytes, job, one, staged, update, whole, with_body};

const SIZES: [usize; 8] = [1, 1000, 65_536, 65_537, CHUNK - 1, CHUNK, CHUNK + 1, 3_000_000];

pub async fn a_body_comes_back_as_it_was_written(fixture: &Fixture) {
    for size in SIZES {
        let body = bytes(size);
        let job = with_body(&fixture.store, "calc", &body).await;
        assert!(whole(&fixture.store, job.input.unwrap()).await == body, "{size}");
    }
    assert!(staged(&fixture.store, b"").await.is_none());
}

pub async fn a_body_is_read_from_any_place(fixture: &Fixture) {
    for size in [1000, 1_000_000] {
        let body = bytes(size);
        let job = with_body(&fixture.store, "calc", &body).await;
        for (from, to) in [(0, 1), (10, 900), (size - 1, size), (size / 2, size)] {
            let (at, end) = (from as u64, to as u64);
            let mut reader = Reader::range(fixture.store.clone(), job.input.unwrap(), at, end);
            assert_eq!(reader.remaining(), end - at);
            let mut read = Vec::new();
            while let Some(piece) = reader.next().await.unwrap() {
                read.extend_from_slice(&piece);
            }
            assert!(read == body[from..to], "{size}: {from} to {to}");
        }
    }
}

pub async fn a_body_goes_with_the_last_record_that_names_it(fixture: &Fixture) {
    let store = &fixture.store;
    for size in [1000, 1_000_000] {
        let waiting = with_body(store, "calc", &bytes(size)).await;
        let input = waiting.input.unwrap();
        let held = waiting.held("me", NOW).unwrap();
        update(store, &waiting, &held).await;
        let result = staged(store, &bytes(size + 1)).await;
        let output = result.as_ref().unwrap().body;
        let done = held.finished(answer(200, Some(output)), 1, NOW).unwrap();
        assert_eq!(one(store, Change::update(held, done.clone()).with(result)).await, Outcome::Made);
        assert!(is_gone(fixture, input).await, "what is done needs its input no more");
        assert!(whole(store, output).await == bytes(size + 1));
        assert_eq!(one(store, Change::forget(done)).await, Outcome::Made);
        assert!(is_gone(fixture, output).await);
    }
}

async fn is_gone(fixture: &Fixture, body: longshore_jobs::Body) -> bool {
    match fixture.store.read(body, 0).await {
        Ok(piece) => piece.is_empty(),
        Err(_) => true,
    }
}

pub async fn a_body_without_a_record_takes_no_room(fixture: &Fixture) {
    let store = &fixture.store;
    for size in [1000, 1_000_000] {
        let abandoned = staged(store, &bytes(size)).await.unwrap();
        let body = abandoned.body;
        drop(abandoned);
        let gone = async {
            while !is_gone(fixture, body).await {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), gone).await.unwrap();
    }
}

/// The store may keep 300,000 bytes.
pub async fn a_full_store_says_so(fixture: &Fixture) {
    let store = &fixture.store;
    let full = |error| matches!(error, StoreError::Full(text) if text.contains("jobs.max_bytes"));
    let first = with_body(store, "calc", &bytes(200_000)).await;
    let mut writer = store.write().unwrap();
    let written = async {
        writer.write(&bytes(200_000)).await?;
        let staged = writer.finish().await?;
        let job = Job { input: staged.as_ref().map(|staged| staged.body), ..job("calc") };
        store.swap(vec![Change::create(job, staged)]).await
    };
    assert!(full(written.await.unwrap_err()), "{}", store.name());
    // An answer takes room, too; one that says that there is none does not.
    let held = first.held("me", NOW).unwrap();
    update(store, &first, &held).await;
    let answered = async |length, status| {
        let mut writer = store.write()?;
        writer.write(&bytes(length)).await?;
        let staged = writer.finish().await?;
        let done = held.finished(answer(status, staged.as_ref().map(|staged| staged.body)), 1, NOW).unwrap();
        store.swap(vec![Change::update(held.clone(), done).with(staged)]).await
    };
    assert!(full(answered(150_000, 500).await.unwrap_err()), "{}", store.name());
    assert_eq!(answered(0, 507).await.unwrap(), [Outcome::Made]);
    let first = store.get(first.id).await.unwrap().unwrap();
    let mut last = None;
    for _ in 0..1000 {
        last = store.swap(vec![Change::create(job("calc"), None)]).await.err();
        if last.is_some() {
            break;
        }
    }
    assert!(full(last.unwrap()), "{}", store.name());
    assert_eq!(one(store, Change::forget(first)).await, Outcome::Made);
    with_body(store, "calc", &bytes(100_000)).await;
}
