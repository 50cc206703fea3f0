use super::*;

fn callbacks(hosts: &str) -> Callbacks {
    let text = format!("jobs.callbacks = [{hosts}]\n[services.a]\nimage = \"a\"\n");
    let config = config::Config::parse(&text, "cluster.toml", &|_| None).unwrap();
    Callbacks::new(config.jobs.callbacks)
}

fn job(url: &str) -> Job {
    let new = longshore_jobs::NewJob {
        service: "calc".to_owned(),
        request: longshore_jobs::Head {
            method: "POST".to_owned(),
            target: "/".to_owned(),
            headers: longshore_jobs::Fields::default(),
            peer: None,
            tls: false,
            key: None,
        },
        input: None,
        ttl: longshore_jobs::Ttl { input: 1000, result: 1000 },
        key: None,
        identity: None,
        callback: Some(url.to_owned()),
    };
    Job::new(new, Millis(1)).cancelled(Millis(2)).unwrap()
}

#[test]
fn one_host_cannot_take_the_turns_of_all() {
    let callbacks = callbacks("\"a\", \"b\"");
    let turns: Vec<_> = (0..10).map(|_| callbacks.turn(&job("http://a/x"), Millis(10))).collect();
    assert_eq!(turns.iter().filter(|(_, turn)| turn.is_some()).count(), AT_ONCE.1);
    let (waiting, _) = &turns[9];
    let callback = waiting.callback.as_ref().unwrap();
    assert_eq!(callback.attempts, 0, "what waits for its turn is no attempt");
    assert!(callback.next.unwrap() > Millis(10));
    let (begun, turn) = callbacks.turn(&job("http://b/x"), Millis(10));
    assert!(turn.is_some());
    let callback = begun.callback.as_ref().unwrap();
    assert_eq!(callback.attempts, 1);
    assert_eq!(callback.next, Some(Millis(10).after(callbacks.config.timeout + MARGIN)));
    drop((turns, turn));
    assert!(callbacks.under.lock().is_empty());
}

#[test]
fn delays_double_up_to_the_longest_and_end() {
    let callbacks = callbacks("\"a\"");
    for (attempts, longest) in [(1, 1.0), (2, 2.0), (5, 16.0), (11, 600.0), (1000, 600.0)] {
        let delay = callbacks.delay(attempts).as_secs_f64();
        assert!(delay <= longest && delay >= longest * 0.75, "{attempts}: {delay}");
    }
    let mut job = job("http://a/x");
    let failure = Failure::from("no".to_owned());
    assert!(callbacks.next(&job, &failure).is_some());
    let asked = Failure { after: Some(Duration::from_secs(100)), ..failure.clone() };
    assert!(callbacks.next(&job, &asked).unwrap() > Millis::now().after(Duration::from_secs(90)));
    assert_eq!(callbacks.next(&job, &Failure { is_final: true, ..failure.clone() }), None);
    job.callback.as_mut().unwrap().attempts = callbacks.config.attempts;
    assert_eq!(callbacks.next(&job, &failure), None);
}

#[test]
fn a_callback_to_somebody_else_is_refused_when_it_is_asked_for() {
    let callbacks = callbacks("\"a\"");
    let wanted = |url: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert(LONGSHORE_CALLBACK, HeaderValue::from_static(url));
        callbacks.wanted(&headers)
    };
    assert_eq!(wanted("http://a/x"), Ok(Some("http://a/x".to_owned())));
    let Err(Problem::Invalid(why)) = wanted("http://b/x") else { panic!("it is refused") };
    assert!(why.contains("b:80") && why.contains("jobs.callbacks"), "{why}");
    assert_eq!(callbacks.wanted(&HeaderMap::new()), Ok(None));
}

#[test]
fn a_message_keeps_its_name_at_each_attempt() {
    let job = job("http://a/x");
    let first = name(&job.calling_back(Millis(5)));
    assert_eq!(first, format!("{}.cancelled.2", job.id));
    assert_eq!(name(&job.calling_back(Millis(9)).calling_back(Millis(20))), first);
}

#[test]
fn a_result_is_posted_to_one_place() {
    let callbacks = callbacks("\"a\"");
    let mut headers = HeaderMap::new();
    for url in ["http://a/x", "http://a/y"] {
        headers.append(LONGSHORE_CALLBACK, HeaderValue::from_static(url));
    }
    let refused = callbacks.wanted(&headers).unwrap_err();
    assert!(refused.detail().contains("one place"), "{}", refused.detail());
    headers.remove(LONGSHORE_CALLBACK);
    headers.insert(LONGSHORE_CALLBACK, HeaderValue::from_static("http://a/x"));
    assert_eq!(callbacks.wanted(&headers), Ok(Some("http://a/x".to_owned())));
}
