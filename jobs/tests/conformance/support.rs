//! Jobs to try things with.

use std::sync::Arc;

use longshore_jobs::{
    Answer, Body, Change, Fields, Head, Job, Limits, Millis, NewJob, Outcome, Reader, Staged, Store, Ttl,
};

pub const NOW: Millis = Millis(1_700_000_000_000);

pub const fn limits(max_bytes: u64) -> Limits {
    Limits { max_bytes }
}

pub fn job(service: &str) -> Job {
    job_at(service, NOW)
}

pub fn job_at(service: &str, now: Millis) -> Job {
    let mut headers = Fields::default();
    headers.push("content-type", b"application/json");
    headers.push("x-odd", &[0xff, b'a', 0x80]);
    let new = NewJob {
        service: service.to_owned(),
        request: Head {
            method: "POST".to_owned(),
            target: "/factorize?x=1".to_owned(),
            headers,
            peer: None,
            tls: false,
            key: None,
        },
        input: None,
        ttl: Ttl { input: 60_000, result: 60_000 },
        key: None,
        identity: None,
        callback: None,
    };
    Job::new(new, now)
}

pub fn answer(status: u16, body: Option<Body>) -> Answer {
    Answer { status, headers: Fields::default(), body, trailers: Fields::default() }
}

pub async fn put(store: &Arc<dyn Store>, job: &Job) {
    assert_eq!(one(store, Change::create(job.clone(), None)).await, Outcome::Made);
}

pub async fn one(store: &Arc<dyn Store>, change: Change) -> Outcome {
    store.swap(vec![change]).await.unwrap()[0]
}

pub async fn update(store: &Arc<dyn Store>, from: &Job, to: &Job) {
    assert_eq!(one(store, Change::update(from.clone(), to.clone())).await, Outcome::Made);
}

pub async fn staged(store: &Arc<dyn Store>, body: &[u8]) -> Option<Staged> {
    let mut writer = store.write().unwrap();
    for piece in body.chunks(100_000) {
        writer.write(piece).await.unwrap();
    }
    writer.finish().await.unwrap()
}

pub async fn with_body(store: &Arc<dyn Store>, service: &str, body: &[u8]) -> Job {
    let staged = staged(store, body).await;
    let job = Job { input: staged.as_ref().map(|staged| staged.body), ..job(service) };
    assert_eq!(one(store, Change::create(job.clone(), staged)).await, Outcome::Made);
    job
}

pub async fn whole(store: &Arc<dyn Store>, body: Body) -> Vec<u8> {
    let mut reader = Reader::new(store.clone(), body);
    let mut whole = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        whole.extend_from_slice(&piece);
    }
    whole
}

pub fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at * 31 + at / 251) % 256).unwrap()).collect()
}
