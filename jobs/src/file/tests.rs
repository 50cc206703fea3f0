use std::time::Duration;

use super::*;
use crate::body::SMALL;
use crate::job::{Fields, Head, NewJob, Status, Ttl};

const LIMITS: Limits = Limits { max_bytes: 1 << 30 };

fn job() -> Job {
    let request = Head {
        method: "GET".to_owned(),
        target: "/".to_owned(),
        headers: Fields::default(),
        peer: None,
        tls: false,
        key: None,
    };
    let ttl = Ttl { input: 60_000, result: 60_000 };
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

async fn with_body(store: &FileStore, length: u64) -> Job {
    let mut writer = store.write().unwrap();
    writer.write(&vec![7; usize::try_from(length).unwrap()]).await.unwrap();
    let staged = writer.finish().await.unwrap();
    let job = Job { input: staged.as_ref().map(|staged| staged.body), ..job() };
    assert_eq!(store.swap(vec![Change::create(job.clone(), staged)]).await.unwrap(), [Outcome::Made]);
    job
}

fn open(folder: &Path) -> Result<FileStore, StoreError> {
    FileStore::open(folder, LIMITS)
}

fn refused(folder: &Path) -> String {
    match open(folder) {
        Err(StoreError::Corrupt(text)) => text,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a damaged store was opened"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_is_there_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let (small, large) = (with_body(&store, 100).await, with_body(&store, SMALL + 1).await);
    let running = small.held("me", Millis(0)).unwrap();
    store.swap(vec![Change::note(small.clone(), running.clone())]).await.unwrap();
    drop(store);
    let store = open(folder.path()).unwrap();
    let back = store.get(small.id).await.unwrap().unwrap();
    assert_eq!((back.status(), back.facets().queued), (Status::Queued, small.facets().queued));
    assert_eq!(store.heads("calc", 9).await.unwrap().len(), 2, "nobody has them any more");
    for job in [small, large] {
        assert_eq!(
            store.read(job.input.unwrap(), 0).await.unwrap()[..],
            vec![7; job.input.unwrap().length as usize]
        );
    }
}

/// What a process would find that opens the store after this one was killed: the file as it is now.
async fn after_a_crash(folder: &Path, id: JobId) -> Option<Job> {
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(folder.join("jobs.redb"), copy.path().join("jobs.redb")).unwrap();
    // It may have been copied in the middle of a write.
    open(copy.path()).ok()?.get(id).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_has_lasted_soon() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let job = with_body(&store, 100).await;
    let held = job.held("me", Millis::now().after(Duration::from_secs(60))).unwrap();
    store.swap(vec![Change::note(job.clone(), held.clone())]).await.unwrap();
    let running = held.started(Millis::now()).unwrap();
    store.swap(vec![Change::note(held, running)]).await.unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(10);
    while after_a_crash(folder.path(), job.id).await.is_none_or(|job| job.attempts == 0) {
        assert!(std::time::Instant::now() < until, "an attempt is not counted after a crash");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path()).unwrap();
    let second = FileStore::open(folder.path(), LIMITS);
    assert!(matches!(second, Err(StoreError::Locked(text)) if text.contains("redis://")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    for _ in 0..50 {
        with_body(&store, 5000).await;
    }
    drop(store);
    let path = folder.path().join("jobs.redb");
    let whole = std::fs::read(&path).unwrap();
    let half = whole.len() / 2;
    let mut scrambled = whole.clone();
    scrambled[4096..].iter_mut().step_by(97).for_each(|byte| *byte ^= 0x55);
    let damages: [(&str, Vec<u8>); 5] = [
        ("emptied", Vec::new()),
        ("cut in half", whole[..half].to_vec()),
        ("cut to its header", whole[..200].to_vec()),
        ("overwritten", vec![b'x'; whole.len()]),
        ("scrambled", scrambled),
    ];
    for (what, damage) in damages {
        std::fs::write(&path, &damage).unwrap();
        let text = refused(folder.path());
        assert!(text.contains("damaged") && text.contains("move the folder away"), "{what}: {text}");
        if what != "scrambled" {
            assert!(std::fs::read(&path).unwrap() == damage, "{what}: it was touched");
        }
    }
    std::fs::remove_file(&path).unwrap();
    with_file_body(folder.path());
    assert!(refused(folder.path()).contains("missing"), "bodies without records are no empty store");
}

fn with_file_body(folder: &Path) {
    std::fs::write(folder.join("bodies").join(BodyId::new().to_string()), "x").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_flipped_bit_in_a_record_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let job = with_body(&store, 10).await;
    drop(store);
    let path = folder.path().join("jobs.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    let needle = br#""method":"GET""#;
    let places: Vec<usize> =
        (0..bytes.len() - needle.len()).filter(|at| bytes[*at..].starts_with(needle)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + 11] ^= 1;
    }
    std::fs::write(&path, &bytes).unwrap();
    assert!(
        refused(folder.path()).contains(&job.id.to_string()) || refused(folder.path()).contains("damaged")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_format_is_refused_by_its_number() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    table::tests::set_format(&folder.path().join("jobs.redb"), 99);
    assert!(refused(folder.path()).contains("format 99"));
    table::tests::set_format(&folder.path().join("jobs.redb"), 0);
    assert!(refused(folder.path()).contains("no format number"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_has_left_of_a_body_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let kept = with_body(&store, SMALL + 1).await;
    drop(store);
    with_file_body(folder.path());
    std::fs::write(folder.path().join("bodies").join("a file of somebody's"), "x").unwrap();
    let store = open(folder.path()).unwrap();
    let left: Vec<_> = std::fs::read_dir(folder.path().join("bodies")).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(!store.read(kept.input.unwrap(), 0).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_what_was_written_is_refused_piece_by_piece() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let body = with_body(&store, 3 * CHUNK as u64 + 5).await.input.unwrap();
    let path = folder.path().join("bodies").join(body.id.to_string());
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[CHUNK + 77] ^= 1;
    std::fs::write(&path, &flipped).unwrap();
    for at in [0, 2 * CHUNK as u64 + 9, 3 * CHUNK as u64] {
        assert!(store.read(body, at).await.unwrap().iter().all(|byte| *byte == 7), "{at}: others are whole");
    }
    let expect = async |at: u64, what: &str| match store.read(body, at).await {
        Err(StoreError::Corrupt(text)) => assert!(text.contains(what), "{text}"),
        other => panic!("{at}: {other:?}"),
    };
    for at in [CHUNK as u64, CHUNK as u64 + 78] {
        expect(at, "not what was written").await;
    }
    std::fs::write(&path, &whole[..2 * CHUNK]).unwrap();
    expect(2 * CHUNK as u64, "cut off").await;
    std::fs::remove_file(&path).unwrap();
    expect(0, "gone").await;
}
