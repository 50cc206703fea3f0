//! Who gets which answer, step by step.

use bytes::Bytes;
use http::{Method, Response};

use super::*;
use crate::clock::Clock;
use crate::gateway::body::ResponseBody;

const ID: Id = [7; 32];

fn cache() -> Arc<Cache> {
    let config = config::Cache { ttl: Duration::from_secs(60), max_bytes: 10_000, max_entry: 1_000 };
    Cache::new(&config).unwrap()
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn find(cache: &Arc<Cache>, fields: &[(&'static str, &'static str)]) -> Found {
    let headers = headers(fields);
    let Asked::Shared(terms) = Asked::of(&Method::GET, &headers) else { panic!("{fields:?}") };
    cache.find(ID, &terms, &headers, Time::ZERO)
}

fn lead(cache: &Arc<Cache>, fields: &[(&'static str, &'static str)]) -> Box<Keeping> {
    match find(cache, fields) {
        Found::Miss(keeping, _) => keeping,
        Found::Hit(_) | Found::Running(_) | Found::Nothing => panic!("it is not the first"),
    }
}

fn follow(cache: &Arc<Cache>, fields: &[(&'static str, &'static str)]) -> Arc<Run> {
    match find(cache, fields) {
        Found::Running(run) => run,
        Found::Hit(_) | Found::Miss(..) | Found::Nothing => panic!("nobody asks for it"),
    }
}

fn answer(body: &'static [u8], fields: &[(&'static str, &'static str)]) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(Bytes::from_static(body)));
    *response.headers_mut() = headers(fields);
    response
}

fn now(run: &Run) -> Option<End> {
    run.0.borrow().clone()
}

#[test]
fn the_first_asks_the_others_wait_and_the_next_find_it_there() {
    let cache = cache();
    let first = lead(&cache, &[]);
    let second = follow(&cache, &[]);
    assert!(now(&second).is_none());
    first.carry(answer(b"7", &[("x-request-id", "1"), ("etag", "\"7\"")]), Clock::start());
    let Some(End::Shared(stored)) = now(&second) else { panic!("it is shared") };
    assert_eq!(&stored.body[..], b"7");
    assert!(!stored.headers.contains_key("x-request-id") && stored.headers.contains_key("date"));
    assert!(matches!(find(&cache, &[]), Found::Hit(hit) if Arc::ptr_eq(&hit, &stored)));
    assert!(cache.bytes() > 0);
    cache.forget(ID);
    assert_eq!(cache.bytes(), 0);
    drop(lead(&cache, &[]));
}

#[test]
fn when_the_first_leaves_the_next_one_is_the_first() {
    let cache = cache();
    let first = lead(&cache, &[]);
    let (second, third) = (follow(&cache, &[]), follow(&cache, &[]));
    drop(first);
    assert!(matches!(now(&second), Some(End::Gone)) && matches!(now(&third), Some(End::Gone)));
    let again = lead(&cache, &[]);
    let waits = follow(&cache, &[]);
    again.carry(answer(b"7", &[]), Clock::start());
    assert!(matches!(now(&waits), Some(End::Shared(_))));
}

#[test]
fn what_is_for_one_only_is_asked_for_by_each() {
    let cache = cache();
    let first = lead(&cache, &[]);
    let second = follow(&cache, &[]);
    first.carry(answer(b"7", &[("cache-control", "private")]), Clock::start());
    assert!(matches!(now(&second), Some(End::Alone)));
    // It is known from then on: nobody waits for nothing.
    let (_one, _two) = (lead(&cache, &[]), lead(&cache, &[]));
    // A failure is no reason to think so.
    cache.forget(ID);
    let first = lead(&cache, &[]);
    let mut failed = answer(b"", &[]);
    *failed.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
    first.carry(failed, Clock::start());
    let _first = lead(&cache, &[]);
    follow(&cache, &[]);
}

#[test]
fn an_answer_that_is_too_large_is_not_kept() {
    let cache = cache();
    let first = lead(&cache, &[]);
    let second = follow(&cache, &[]);
    first.carry(answer(&[0; 1_001], &[]), Clock::start());
    assert!(matches!(now(&second), Some(End::Alone)));
    assert!(matches!(find(&cache, &[]), Found::Miss(..)));
}

#[test]
fn an_error_that_would_be_everybody_s_is() {
    let cache = cache();
    for (problem, shared) in [
        (Problem::QueueFull("full".into(), Duration::ZERO), true),
        (Problem::AttemptsExhausted("dead".into()), true),
        (Problem::Timeout("its own".into()), false),
    ] {
        let first = lead(&cache, &[]);
        let second = follow(&cache, &[]);
        first.failed(&problem);
        match now(&second) {
            Some(End::Failed(told)) => assert!(shared && told == problem),
            Some(End::Gone) => assert!(!shared, "{problem:?}"),
            Some(End::Alone | End::Shared(_)) | None => panic!("{problem:?}"),
        }
    }
}

#[test]
fn requests_that_differ_in_what_answers_vary_by_are_told_apart() {
    let cache = cache();
    let english = &[("accept-language", "en")];
    let german = &[("accept-language", "de")];
    let first = lead(&cache, english);
    let other = follow(&cache, german);
    first.carry(answer(b"seven", &[("vary", "Accept-Language")]), Clock::start());
    let Some(End::Shared(stored)) = now(&other) else { panic!("it was waited for") };
    // Not theirs, which they see by its id: they ask, and are first among their kind.
    let second = lead(&cache, german);
    let same = follow(&cache, german);
    second.carry(answer(b"sieben", &[("vary", "Accept-Language")]), Clock::start());
    let Some(End::Shared(own)) = now(&same) else { panic!("it is shared") };
    assert_ne!(own.id, stored.id);
    assert!(matches!(find(&cache, english), Found::Hit(hit) if &hit.body[..] == b"seven"));
    assert!(matches!(find(&cache, german), Found::Hit(hit) if &hit.body[..] == b"sieben"));
}

#[test]
fn whoever_says_who_asks_shares_nothing_unless_the_answer_says_so() {
    let cache = cache();
    let mine = &[("authorization", "Bearer x")];
    let first = lead(&cache, mine);
    let second = lead(&cache, &[]);
    first.carry(answer(b"mine", &[]), Clock::start());
    assert!(matches!(find(&cache, &[]), Found::Running(_)), "it is not there for others");
    drop(second);
    lead(&cache, mine).carry(answer(b"all", &[("cache-control", "public")]), Clock::start());
    assert!(matches!(find(&cache, &[]), Found::Hit(_)));
    assert!(matches!(find(&cache, mine), Found::Hit(_)));
}

#[test]
fn who_says_who_asks_gets_no_answer_of_nobody_in_particular_unless_it_is_for_everybody() {
    for (fields, theirs) in [
        (&[][..], false),
        (&[("cache-control", "max-age=60")], false),
        (&[("cache-control", "public")], true),
        (&[("cache-control", "s-maxage=60")], true),
        (&[("cache-control", "must-revalidate")], true),
    ] {
        let cache = cache();
        lead(&cache, &[]).carry(answer(b"nobody's", fields), Clock::start());
        for mine in [("authorization", "Bearer x"), ("x-api-key", "x")] {
            let found = find(&cache, &[mine]);
            assert_eq!(matches!(found, Found::Hit(_)), theirs, "{fields:?}");
            assert_eq!(matches!(found, Found::Miss(_, Way::Reload)), !theirs, "{fields:?}");
            if let Found::Miss(own, _) = found {
                own.carry(answer(b"mine", &[]), Clock::start());
            }
            assert!(matches!(find(&cache, &[]), Found::Hit(hit) if &hit.body[..] == b"nobody's"));
        }
    }
}

#[test]
fn a_client_may_want_a_new_answer_or_none() {
    let cache = cache();
    assert!(matches!(find(&cache, &[("cache-control", "only-if-cached")]), Found::Nothing));
    lead(&cache, &[]).carry(answer(b"old", &[]), Clock::start());
    assert!(matches!(find(&cache, &[("cache-control", "only-if-cached")]), Found::Hit(_)));
    let Found::Miss(again, way) = find(&cache, &[("cache-control", "no-cache")]) else {
        panic!("it is asked for")
    };
    assert_eq!(way, Way::Reload);
    again.carry(answer(b"new", &[]), Clock::start());
    assert!(matches!(find(&cache, &[]), Found::Hit(hit) if &hit.body[..] == b"new"));
}
