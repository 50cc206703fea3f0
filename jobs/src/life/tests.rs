use std::time::Duration;

use super::*;
use crate::job::{Fields, Head, Ttl};

const NOW: Millis = Millis(1_000_000);

fn job() -> Job {
    let request = Head {
        method: "POST".to_owned(),
        target: "/".to_owned(),
        headers: Fields::default(),
        peer: None,
        tls: false,
        key: None,
    };
    let ttl = Ttl { input: 1000, result: 5000 };
    let callback = Some("http://there/".to_owned());
    let new = NewJob {
        service: "calc".to_owned(),
        request,
        input: None,
        ttl,
        key: None,
        identity: Some("abc".to_owned()),
        callback,
    };
    Job::new(new, NOW)
}

fn answer(status: u16) -> Answer {
    Answer { status, headers: Fields::default(), body: None, trailers: Fields::default() }
}

fn running() -> Job {
    job().held("me", NOW.after(Duration::from_secs(30))).unwrap().started(NOW).unwrap()
}

#[test]
fn a_job_is_taken_started_and_finished() {
    let done = running().finished(answer(200), 1, Millis(1_000_500)).unwrap();
    assert_eq!((done.status(), done.attempts), (Status::Done, 1));
    assert_eq!(done.lapse(Millis(1_000_500)), Lapse::CallBack);
    assert_eq!(done.answer().unwrap().status, 200);
}

#[test]
fn an_error_of_the_server_is_a_failure_and_one_of_the_client_is_an_answer() {
    for (status, state) in
        [(200, Status::Done), (404, Status::Done), (500, Status::Failed), (502, Status::Failed)]
    {
        assert_eq!(running().finished(answer(status), 1, NOW).unwrap().status(), state, "{status}");
    }
}

#[test]
fn no_end_is_followed_by_another() {
    let done = running().finished(answer(200), 1, NOW).unwrap();
    let failed = running().finished(answer(500), 1, NOW).unwrap();
    let cancelled = job().cancelled(NOW).unwrap();
    let expired = job().expired(NOW);
    for job in [done, failed, cancelled, expired] {
        assert!(job.cancelled(NOW).is_err(), "{:?}", job.state);
        assert!(job.held("you", NOW).is_err(), "{:?}", job.state);
        assert!(job.started(NOW).is_err(), "{:?}", job.state);
        assert!(job.finished(answer(200), 1, NOW).is_err(), "{:?}", job.state);
        assert!(job.released().is_err(), "{:?}", job.state);
        assert!(job.renewed(NOW).is_err(), "{:?}", job.state);
        assert_eq!(job.retried(NOW).is_ok(), job.status() == Status::Failed, "{:?}", job.state);
    }
}

#[test]
fn a_job_whose_proxy_is_dead_waits_again_at_its_old_place() {
    let until = NOW.after(Duration::from_secs(30));
    let lapsed = running().lapse(until);
    let Lapse::Becomes(again) = lapsed else { panic!("{lapsed:?}") };
    assert_eq!(again.state, State::Queued { order: NOW, hold: None });
    assert_eq!(again.attempts, 1);
    assert_eq!(running().lapse(Millis(until.0 - 1)), Lapse::Nothing);
}

#[test]
fn what_nobody_starts_expires_and_is_forgotten_later() {
    let job = job();
    assert_eq!(job.lapse(Millis(NOW.0 + 999)), Lapse::Nothing);
    let Lapse::Becomes(expired) = job.lapse(Millis(NOW.0 + 1000)) else { panic!("it has expired") };
    assert_eq!((expired.status(), &expired.identity), (Status::Expired, &None));
    assert_eq!(expired.lapse(Millis(NOW.0 + 1000)), Lapse::CallBack, "whoever waits is told");
    assert_eq!(expired.lapse(Millis(NOW.0 + 6000)), Lapse::Forget);
}

#[test]
fn a_result_goes_after_its_time_and_the_job_is_still_known() {
    let done = running().finished(answer(200), 1, NOW).unwrap();
    let Lapse::Becomes(expired) = done.lapse(Millis(NOW.0 + 5000)) else { panic!("its result is gone") };
    assert_eq!(expired.answer(), None);
    assert_eq!(expired.state, State::Expired { at: Millis(NOW.0 + 5000), finished_at: Some(NOW) });
}

#[test]
fn a_callback_is_tried_until_it_is_taken_or_given_up() {
    let done = running().finished(answer(200), 1, NOW).unwrap();
    let trying = done.calling_back(Millis(NOW.0 + 60));
    assert_eq!(trying.lapse(NOW), Lapse::Nothing);
    assert_eq!(trying.due(), Millis(NOW.0 + 60));
    let again = trying.called_back(Err(("refused".to_owned(), Some(Millis(NOW.0 + 100)))));
    assert_eq!(again.lapse(Millis(NOW.0 + 100)), Lapse::CallBack);
    let told = again.calling_back(Millis(NOW.0 + 200)).called_back(Ok(Millis(NOW.0 + 101)));
    assert_eq!(told.callback.as_ref().map(|callback| callback.attempts), Some(2));
    assert_eq!(told.lapse(Millis(NOW.0 + 300)), Lapse::Nothing);
    let given_up = done.called_back(Err(("refused".to_owned(), None)));
    assert_eq!(given_up.lapse(Millis(NOW.0 + 300)), Lapse::Nothing);
}

#[test]
fn what_failed_before_an_instance_had_it_counts_no_attempt() {
    let held = job().held("me", NOW).unwrap();
    assert_eq!(held.finished(answer(503), 0, NOW).unwrap().attempts, 0);
    assert_eq!(running().finished(answer(200), 3, NOW).unwrap().attempts, 3);
}

#[test]
fn every_value_of_a_field_survives_its_record() {
    let mut headers = Fields::default();
    let bytes: Vec<u8> = (0..=255).collect();
    headers.push("x", &bytes);
    let text = serde_json::to_string(&headers).unwrap();
    let back: Fields = serde_json::from_str(&text).unwrap();
    assert_eq!(back.iter().collect::<Vec<_>>(), [("x", bytes)]);
}

#[test]
fn what_comes_from_a_file_is_kept_as_long_as_if_it_had_come_now() {
    let late = NOW.after(Duration::from_secs(3600));
    let done = running().finished(answer(200), 1, NOW).unwrap();
    for job in [job(), running(), done, job().cancelled(NOW).unwrap()] {
        let before = job.clone();
        let job = Job { callback: None, ..job.imported(late) };
        assert_eq!(job.lapse(late), Lapse::Nothing, "{before:?}");
        assert_eq!((job.submitted_at, job.ended_at()), (before.submitted_at, before.ended_at()));
        assert_ne!(job.lapse(late.after(Duration::from_secs(5))), Lapse::Nothing, "{before:?}");
    }
    let waiting = job().imported(late);
    assert!(!waiting.is_overdue(late) && waiting.is_overdue(late.after(Duration::from_secs(1))));
}
