//! Finding jobs.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_jobs::{Change, Filter, Job, JobId, Millis, Outcome, Status};

use crate::Fixture;
use crate::support::{NOW, answer, job, job_at, one, put, update};

fn ids(jobs: &[Job]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

pub async fn jobs_wait_in_their_order(fixture: &Fixture) {
    let store = &fixture.store;
    let late = job_at("calc", NOW.after(Duration::from_secs(1)));
    let jobs = [job("calc"), job("calc"), job("calc")];
    put(store, &late).await;
    for job in jobs.iter().rev() {
        put(store, job).await;
    }
    put(store, &job("else")).await;
    let order = [jobs[0].id, jobs[1].id, jobs[2].id, late.id];
    assert_eq!(ids(&store.heads("calc", 10).await.unwrap()), order);
    assert_eq!(ids(&store.heads("calc", 2).await.unwrap()), order[..2]);
    assert_eq!(store.heads("nobody", 2).await.unwrap(), []);
    for (job, ahead) in jobs.iter().chain([&late]).zip(0..) {
        assert_eq!(store.ahead(job).await.unwrap(), ahead);
    }
}

pub async fn who_is_taken_waits_no_more_and_comes_back_to_the_same_place(fixture: &Fixture) {
    let store = &fixture.store;
    let (first, second) = (job("calc"), job("calc"));
    put(store, &first).await;
    put(store, &second).await;
    let held = first.held("me", NOW).unwrap();
    update(store, &first, &held).await;
    assert_eq!(ids(&store.heads("calc", 10).await.unwrap()), [second.id]);
    let running = held.started(NOW).unwrap();
    update(store, &held, &running).await;
    let again = running.released().unwrap();
    update(store, &running, &again).await;
    assert_eq!(ids(&store.heads("calc", 10).await.unwrap()), [first.id, second.id]);
}

pub async fn what_is_due_is_found_when_it_is_due(fixture: &Fixture) {
    let store = &fixture.store;
    let (early, late) = (job("calc"), job_at("calc", NOW.after(Duration::from_secs(10))));
    put(store, &late).await;
    put(store, &early).await;
    let minute = NOW.after(Duration::from_secs(60));
    assert!(store.due(Millis(minute.0 - 1), 10).await.unwrap().is_empty());
    assert_eq!(ids(&store.due(minute, 10).await.unwrap()), [early.id]);
    let held = early.held("me", NOW.after(Duration::from_secs(300))).unwrap();
    update(store, &early, &held).await;
    assert!(store.due(minute, 10).await.unwrap().is_empty());
    let hour = NOW.after(Duration::from_secs(3600));
    assert_eq!(ids(&store.due(hour, 10).await.unwrap()), [late.id, early.id]);
    assert_eq!(ids(&store.due(hour, 1).await.unwrap()), [late.id]);
}

pub async fn pages_stay_whole_while_jobs_come_and_go(fixture: &Fixture) {
    let store = &fixture.store;
    let jobs: Vec<Job> = (0..10).map(|_| job("calc")).collect();
    for job in &jobs {
        put(store, job).await;
    }
    let page = |after| Filter { after, ..Filter::default() };
    let first = store.page(&page(None), 4).await.unwrap();
    assert_eq!(ids(&first), [9, 8, 7, 6].map(|at: usize| jobs[at].id));
    // The last of the page goes, one of the next goes, new ones come.
    for at in [6, 4] {
        assert_eq!(one(store, Change::forget(jobs[at].clone())).await, Outcome::Made);
    }
    put(store, &job("calc")).await;
    let second = store.page(&page(Some(jobs[6].id)), 4).await.unwrap();
    assert_eq!(ids(&second), [5, 3, 2, 1].map(|at: usize| jobs[at].id));
    let third = store.page(&page(Some(jobs[1].id)), 4).await.unwrap();
    assert_eq!(ids(&third), [jobs[0].id]);
}

pub async fn jobs_are_found_by_service_and_state(fixture: &Fixture) {
    let store = &fixture.store;
    let (one, two, three) = (job("calc"), job("calc"), job("else"));
    for job in [&one, &two, &three] {
        put(store, job).await;
    }
    update(store, &two, &two.cancelled(NOW).unwrap()).await;
    update(store, &three, &three.cancelled(NOW).unwrap()).await;
    for (service, status, expected) in [
        (None, None, vec![three.id, two.id, one.id]),
        (Some("calc"), None, vec![two.id, one.id]),
        (None, Some(Status::Cancelled), vec![three.id, two.id]),
        (Some("calc"), Some(Status::Cancelled), vec![two.id]),
        (Some("calc"), Some(Status::Done), vec![]),
    ] {
        let filter = Filter { service: service.map(str::to_owned), status, ..Filter::default() };
        assert_eq!(ids(&store.page(&filter, 10).await.unwrap()), expected, "{filter:?}");
    }
}

pub async fn the_holder_of_a_key_finds_those_that_came_with_it(fixture: &Fixture) {
    let store = &fixture.store;
    let of = |owner: &str, service: &str| {
        let mut job = job(service);
        job.request.key = Some(owner.to_owned());
        job
    };
    let (one_of_ann, bobs, nobodys) = (of("ann", "calc"), of("ann:calc", "calc"), job("calc"));
    let (two_of_ann, three_of_ann) = (of("ann", "calc"), of("ann", "else"));
    for job in [&one_of_ann, &bobs, &nobodys, &two_of_ann, &three_of_ann] {
        put(store, job).await;
    }
    let called_off = two_of_ann.cancelled(NOW).unwrap();
    update(store, &two_of_ann, &called_off).await;
    let all = [three_of_ann.id, two_of_ann.id, one_of_ann.id];
    for (owner, service, status, after, expected) in [
        ("ann", None, None, None, &all[..]),
        ("ann", Some("calc"), None, None, &all[1..]),
        ("ann", None, Some(Status::Cancelled), None, &all[1..2]),
        ("ann", Some("calc"), Some(Status::Queued), None, &all[2..]),
        ("ann", None, None, Some(all[1]), &all[2..]),
        ("ann:calc", None, None, None, &[bobs.id]),
        ("an", None, None, None, &[]),
    ] {
        let (owner, service) = (Some(owner.to_owned()), service.map(str::to_owned));
        let filter = Filter { owner, service, status, after };
        assert_eq!(ids(&store.page(&filter, 10).await.unwrap()), expected, "{filter:?}");
        assert_eq!(ids(&store.page(&filter, 1).await.unwrap()), expected[..expected.len().min(1)]);
    }
    assert_eq!(store.page(&Filter::default(), 10).await.unwrap().len(), 5);
    assert_eq!(one(store, Change::forget(called_off)).await, Outcome::Made);
    let filter = Filter { owner: Some("ann".to_owned()), ..Filter::default() };
    assert_eq!(ids(&store.page(&filter, 10).await.unwrap()), [all[0], all[2]]);
}

pub async fn jobs_are_counted(fixture: &Fixture) {
    let store = &fixture.store;
    let jobs = [job("calc"), job("calc"), job("calc"), job("else")];
    for job in &jobs {
        put(store, job).await;
    }
    let held = jobs[0].held("me", NOW).unwrap();
    update(store, &jobs[0], &held).await;
    let failed = held.finished(answer(500, None), 0, NOW).unwrap();
    update(store, &held, &failed).await;
    let expected = BTreeMap::from([
        (("calc".to_owned(), Status::Failed), 1),
        (("calc".to_owned(), Status::Queued), 2),
        (("else".to_owned(), Status::Queued), 1),
    ]);
    assert_eq!(store.counts().await.unwrap(), expected);
    for (service, queued) in [("calc", 2), ("else", 1), ("nobody", 0)] {
        assert_eq!(store.queued(service).await.unwrap(), queued, "{service}");
    }
}
