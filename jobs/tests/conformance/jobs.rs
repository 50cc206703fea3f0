//! Records, and who is faster.

use std::time::Duration;

use longshore_jobs::{Change, IdempotencyKey, Job, JobId, Millis, Outcome, Status};

use crate::Fixture;
use crate::support::{NOW, answer, job, one, put, update};

pub async fn a_job_is_kept_as_it_was_given(fixture: &Fixture) {
    let job = job("calc");
    put(&fixture.store, &job).await;
    assert_eq!(fixture.store.get(job.id).await.unwrap(), Some(job));
    assert_eq!(fixture.store.get(JobId::new()).await.unwrap(), None);
}

pub async fn the_slower_of_two_changes_is_told_so(fixture: &Fixture) {
    let (store, job) = (&fixture.store, job("calc"));
    put(store, &job).await;
    let (mine, yours) = (job.held("me", NOW).unwrap(), job.held("you", NOW).unwrap());
    assert_eq!(one(store, Change::update(job.clone(), mine.clone())).await, Outcome::Made);
    assert_eq!(one(store, Change::update(job.clone(), yours)).await, Outcome::Stale);
    assert_eq!(one(store, Change::forget(job.clone())).await, Outcome::Stale);
    assert_eq!(store.get(job.id).await.unwrap(), Some(mine));
}

pub async fn a_job_that_is_there_is_not_made_again(fixture: &Fixture) {
    let (store, job) = (&fixture.store, job("calc"));
    put(store, &job).await;
    let other = job.cancelled(NOW).unwrap();
    assert_eq!(one(store, Change::create(other, None)).await, Outcome::Stale);
}

fn named(identity: &str) -> Job {
    Job { identity: Some(identity.to_owned()), ..job("calc") }
}

pub async fn no_two_jobs_have_one_name(fixture: &Fixture) {
    let store = &fixture.store;
    let first = named("same");
    put(store, &first).await;
    assert_eq!(one(store, Change::create(named("same"), None)).await, Outcome::Taken(first.id));
    put(store, &named("other")).await;
    put(store, &Job { service: "else".to_owned(), ..named("same") }).await;
    let key = IdempotencyKey { key: "k".to_owned(), scope: String::new(), fingerprint: "1".to_owned() };
    let keyed = || Job { key: Some(key.clone()), ..job("calc") };
    let second = keyed();
    put(store, &second).await;
    assert_eq!(one(store, Change::create(keyed(), None)).await, Outcome::Taken(second.id));
}

pub async fn a_name_is_free_again_when_its_job_gives_it_up(fixture: &Fixture) {
    let store = &fixture.store;
    let first = named("same");
    put(store, &first).await;
    update(store, &first, &first.cancelled(NOW).unwrap()).await;
    let second = named("same");
    put(store, &second).await;
    assert_eq!(one(store, Change::forget(second)).await, Outcome::Made);
    put(store, &named("same")).await;
}

pub async fn a_forgotten_job_is_gone_with_all_that_names_it(fixture: &Fixture) {
    let (store, job) = (&fixture.store, named("same"));
    put(store, &job).await;
    assert_eq!(one(store, Change::forget(job.clone())).await, Outcome::Made);
    assert_eq!(store.get(job.id).await.unwrap(), None);
    assert!(store.heads("calc", 10).await.unwrap().is_empty());
    assert!(store.due(Millis(u64::MAX / 2), 10).await.unwrap().is_empty());
    assert!(store.page(&longshore_jobs::Filter::default(), 10).await.unwrap().is_empty());
    assert!(store.counts().await.unwrap().is_empty());
}

pub async fn many_at_once_each_get_their_own(fixture: &Fixture) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let store = fixture.store.clone();
        tasks.spawn(async move {
            let waiting = job("calc");
            put(&store, &waiting).await;
            let held = waiting.held("me", NOW).unwrap();
            update(&store, &waiting, &held).await;
            let running = held.started(NOW).unwrap();
            let note = Change::note(held, running.clone());
            assert_eq!(one(&store, note).await, Outcome::Made);
            let done = running.finished(answer(200, None), 1, NOW).unwrap();
            update(&store, &running, &done).await;
            done
        });
    }
    let all = tasks.join_all().await;
    for job in all {
        assert_eq!(fixture.store.get(job.id).await.unwrap(), Some(job));
    }
    let counts = fixture.store.counts().await.unwrap();
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [(("calc".to_owned(), Status::Done), 200)]);
}

pub async fn changes_are_told(fixture: &Fixture) {
    let mut news = fixture.store.news();
    // A store that hears of changes from outside may not be listening yet.
    let job = job("calc");
    put(&fixture.store, &job).await;
    let mut last = job.clone();
    let told = async {
        loop {
            let next = last.released().or_else(|_| last.held("me", NOW)).unwrap();
            update(&fixture.store, &last, &next).await;
            last = next;
            if let Ok(Ok(told)) = tokio::time::timeout(Duration::from_millis(100), news.recv()).await {
                return told;
            }
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(10), told).await.unwrap();
    assert_eq!((told.id, &*told.service, told.status), (job.id, "calc", Some(Status::Queued)));
}
