//! Callbacks: the result of a job is posted to whoever wanted that and is listed, signed, until it is taken; and nothing
//! else can be reached by way of one.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use longshore_tests::hook::Hook;
use longshore_tests::tls::Authority;
use longshore_tests::{Backend, Client, PATIENCE, Reply, Setup, digest, each, eventually};
use serde_json::Value;

const SECRET: &str = "a secret of the test's own";

fn setup() -> Setup {
    let setup = Setup::new(Backend::Process);
    setup.file("callback.secret", &format!("# the one that is used\n{SECRET}\n"));
    setup
}

/// `[jobs]` with callbacks to these hosts, tried often.
fn to(hosts: &str, more: &str) -> String {
    format!(
        "[jobs.callbacks]\nhosts = [{hosts}]\nsecret_file = \"callback.secret\"\n\
         backoff = {{ initial = \"100ms\", max = \"400ms\" }}\n{more}\n"
    )
}

async fn submit(client: &Client, path: &str, body: &[u8], url: &str, fields: &[(&str, &str)]) -> Reply {
    let mut request = Request::post(path).header("prefer", "respond-async").header("longshore-callback", url);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    client.send(request, Bytes::copy_from_slice(body)).await
}

/// The path of a job that was taken.
async fn taken(client: &Client, path: &str, body: &[u8], url: &str) -> String {
    let ticket = submit(client, path, body, url, &[]).await;
    assert_eq!(ticket.status, 202, "{}", ticket.text());
    ticket.header("location").to_owned()
}

async fn callback_is(client: &Client, job: &str, status: &str) -> Value {
    eventually(PATIENCE, &format!("the callback of {job} is {status}"), async || {
        let view = client.get(job).await.json();
        (view["callback"]["status"] == status).then_some(view)
    })
    .await
}

async fn a_result_is_posted_as_it_was_and_signed() {
    let hook = Hook::start().await;
    let jobs = to(&format!("\"{}\"", hook.address), "");
    let cluster = setup().service(&jobs).model("echo", "echo", "").start().await;
    let client = cluster.client();
    let job = taken(&client, "/x", b"hello", &format!("http://{}/done?for=me", hook.address)).await;
    let message = hook.has(1).await.remove(0);
    assert_eq!(
        (message.head.method.as_str(), message.head.uri.to_string().as_str()),
        ("POST", "/done?for=me")
    );
    let result = client.get(&format!("{job}/result")).await;
    assert_eq!(message.body, result.body);
    assert_eq!(message.field("content-type"), result.header("content-type"));
    let id = job.rsplit('/').next().expect("its id");
    assert_eq!((message.field("longshore-job"), message.field("longshore-service")), (id, "echo"));
    assert_eq!(message.field("longshore-job-status"), "done");
    assert_eq!(message.field("longshore-response-status"), "200");
    assert!(message.is_signed_with(SECRET.as_bytes()), "{:?}", message.head.headers);
    assert!(!message.is_signed_with(b"another secret of anybody's"));
    assert!(!result.text().contains("longshore-callback"), "the instance is not told: {}", result.text());
    let view = callback_is(&client, &job, "delivered").await;
    assert_eq!(view["callback"]["attempts"], 1, "{view}");
    assert!(view["callback"]["delivered_at"].is_string(), "{view}");
    // What failed and what was called off is told too.
    let url = format!("http://{}/", hook.address);
    let failed = submit(&client, "/x", b"", &url, &[("fault", "busy; status=500")]).await;
    assert_eq!(failed.status, 202);
    let messages = hook.has(2).await;
    assert_eq!(messages[1].field("longshore-job-status"), "failed");
    assert_eq!(messages[1].field("longshore-response-status"), "500");
    cluster.admin().counts("longshore_job_callbacks_total", &[("result", "delivered")], 2.0).await;
    cluster.stop().await;
}

async fn a_large_result_is_posted_whole() {
    let hook = Hook::start().await;
    let jobs = to(&format!("\"{}\"", hook.address), "");
    let cluster = setup().service(&jobs).model("echo", "echo", "").start().await;
    let client = cluster.client();
    let job = taken(&client, "/bytes/5000000", b"", &format!("http://{}/", hook.address)).await;
    let message = hook.has(1).await.remove(0);
    let result = client.get(&format!("{job}/result")).await;
    assert_eq!(message.body.len(), 5_000_000);
    assert_eq!(digest::hex(&message.body), digest::hex(&result.body));
    assert!(message.is_signed_with(SECRET.as_bytes()));
    cluster.stop().await;
}

async fn a_callback_is_tried_until_it_is_taken_or_given_up() {
    let hook = Hook::start().await;
    let jobs = to(&format!("\"{}\"", hook.address), "attempts = 4\ntimeout = \"1s\"");
    let cluster = setup().service(&jobs).model("echo", "echo", "").start().await;
    let client = cluster.client();
    let url = format!("http://{}/", hook.address);
    // Refused, sent elsewhere, then taken.
    hook.answers(500, &[]);
    let elsewhere = Hook::start().await;
    hook.answers(307, &[("location", &format!("http://{}/", elsewhere.address))]);
    let job = taken(&client, "/x", b"one", &url).await;
    let messages = hook.has(3).await;
    let view = callback_is(&client, &job, "delivered").await;
    assert_eq!(
        (&view["callback"]["attempts"], &view["callback"]["error"]),
        (&3.into(), &Value::Null),
        "{view}"
    );
    let names: Vec<&str> = messages.iter().map(|message| message.field("webhook-id")).collect();
    assert!(names[0] == names[1] && names[1] == names[2], "one message, one name: {names:?}");
    assert!(elsewhere.taken().is_empty(), "a redirect is not followed");
    // Never taken.
    for _ in 0..4 {
        hook.answers(503, &[]);
    }
    let job = taken(&client, "/x", b"two", &url).await;
    let view = callback_is(&client, &job, "failed").await;
    assert_eq!(
        (&view["callback"]["attempts"], &view["callback"]["error"]),
        (&4.into(), &"it answered 503".into())
    );
    assert_eq!((&view["status"], hook.taken().len()), (&"done".into(), 7), "the job itself is done");
    // Wanted by nobody any more: not tried again.
    hook.answers(410, &[]);
    let job = taken(&client, "/x", b"three", &url).await;
    assert_eq!(callback_is(&client, &job, "failed").await["callback"]["attempts"], 1);
    // One that does not answer is left after its time.
    hook.pauses(Duration::from_secs(30));
    let job = taken(&client, "/x", b"four", &url).await;
    let view = eventually(PATIENCE, "an attempt is over", async || {
        let view = client.get(&job).await.json();
        view["callback"]["error"].is_string().then_some(view)
    })
    .await;
    assert_eq!(view["callback"]["error"], "no answer within 1s", "{view}");
    let metrics = cluster.admin().metrics().await;
    let count =
        |result| metrics.sum("longshore_job_callbacks_total", &[("service", "echo"), ("result", result)]);
    assert!(count("failed") >= 6.0 && count("given_up") == 2.0 && count("delivered") == 1.0, "{metrics:?}");
    let log = cluster.log().join("\n");
    assert!(log.contains("a callback is given up"), "{log}");
    hook.pauses(Duration::ZERO);
    cluster.stop().await;
}

async fn nothing_but_what_is_listed_can_be_reached() {
    let hook = Hook::start().await;
    let port = hook.address.port();
    let cluster =
        setup().service(&to("\"hooks.example.com\", \"127.0.0.1:1\"", "")).model("echo", "echo", "").start();
    let cluster = cluster.await;
    let client = cluster.client();
    for url in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("http://0x7f000001:{port}/"),
        format!("http://hooks.example.com@127.0.0.1:{port}/"),
        "file:///etc/passwd".to_owned(),
        "http://hooks.example.com.evil.org/".to_owned(),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "not a url".to_owned(),
    ] {
        let refused = submit(&client, "/x", b"", &url, &[]).await;
        assert_eq!(
            (refused.status, refused.problem().as_str()),
            (400, "invalid"),
            "{url}: {}",
            refused.text()
        );
        assert!(refused.detail().starts_with("Longshore-Callback: "), "{}", refused.detail());
    }
    assert!(hook.taken().is_empty());
    assert_eq!(client.get("/_jobs").await.json()["jobs"], serde_json::json!([]), "no job was taken");
    cluster.stop().await;
    // Without a list there are none at all.
    let cluster = setup().model("echo", "echo", "").start().await;
    let refused = submit(&cluster.client(), "/x", b"", &format!("http://127.0.0.1:{port}/"), &[]).await;
    assert_eq!(refused.status, 400);
    cluster.stop().await;
}

async fn tls_is_spoken_with_whom_the_system_believes() {
    let authority = Authority::new();
    let hook = Hook::secure(&authority.issue()).await;
    let stranger = Hook::secure(&Authority::new().issue()).await;
    let setup = setup();
    let roots = setup.file("roots.pem", &authority.pem());
    let setup = setup.environment("SSL_CERT_FILE", roots.to_str().expect("a plain path"));
    let cluster = setup.service(&to("\"localhost\"", "attempts = 2")).model("echo", "echo", "").start().await;
    let client = cluster.client();
    let job = taken(&client, "/x", b"", &format!("https://localhost:{}/", hook.address.port())).await;
    assert!(hook.has(1).await[0].is_signed_with(SECRET.as_bytes()));
    callback_is(&client, &job, "delivered").await;
    let job = taken(&client, "/x", b"", &format!("https://localhost:{}/", stranger.address.port())).await;
    let view = callback_is(&client, &job, "failed").await;
    assert!(
        view["callback"]["error"].as_str().is_some_and(|why| why.contains("invalid peer certificate")),
        "{view}"
    );
    assert!(stranger.taken().is_empty());
    cluster.stop().await;
}

async fn a_callback_outlives_the_proxy() {
    let hook = Hook::start().await;
    let jobs = to(&format!("\"{}\"", hook.address), "attempts = 100");
    let mut cluster = setup().service(&jobs).model("echo", "echo", "").start().await;
    for _ in 0..3 {
        hook.answers(500, &[]);
    }
    hook.pauses(Duration::from_millis(300));
    let job = taken(&cluster.client(), "/x", b"hello", &format!("http://{}/", hook.address)).await;
    hook.has(1).await;
    cluster.kill().await;
    cluster.again().await;
    let view = callback_is(&cluster.client(), &job, "delivered").await;
    let messages = hook.taken();
    assert!(messages.len() >= 4, "{view}");
    assert!(messages.iter().all(|message| message.body == messages[0].body), "the same message each time");
    cluster.stop().await;
}

async fn a_callback_that_would_never_come_is_refused() {
    let hook = Hook::start().await;
    let jobs = to(&format!("\"{}\"", hook.address), "");
    let cluster = setup()
        .service(&jobs)
        .model("echo", "echo", "")
        .model("off", "echo", "jobs.mode = \"off\"")
        .model("poll", "sleep", "jobs.mode = \"poll\"\nconcurrency = 1\nsize = 1")
        .start()
        .await;
    let client = cluster.client();
    let (here, there) = (format!("http://{}/here", hook.address), format!("http://{}/there", hook.address));
    // What is no job has no result that could be posted.
    let plain = async |service: &str, fields: &[(&str, &str)]| {
        let mut request = Request::post("/x").header("host", service).header("longshore-callback", &here);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        client.send(request, Bytes::new()).await
    };
    for fields in [&[][..], &[("prefer", "wait=5")], &[("prefer", "respond-async"), ("upgrade", "websocket")]]
    {
        let refused = plain("echo", fields).await;
        assert_eq!((refused.status, refused.problem().as_str()), (400, "invalid"), "{}", refused.text());
        assert!(refused.detail().contains("Prefer: respond-async"), "{}", refused.detail());
    }
    let passed = plain("off", &[]).await;
    assert!(passed.status == 200 && passed.text().contains("/here"), "where no jobs are: {}", passed.text());
    // The same key is the same job, but not with another place for its result.
    let key = [("idempotency-key", "order-1"), ("host", "echo")];
    let job = submit(&client, "/x", b"one", &here, &key).await.json()["id"].clone();
    let again = submit(&client, "/x", b"one", &here, &key).await;
    assert!([200, 202].contains(&again.status), "{}", again.text());
    let elsewhere = submit(&client, "/x", b"one", &there, &key).await;
    assert_eq!((elsewhere.status, elsewhere.problem().as_str()), (422, "idempotency-key-reused"));
    assert!(elsewhere.detail().contains(&here), "{}", elsewhere.detail());
    let request = Request::post("/x").header("prefer", "respond-async").header(key[0].0, key[0].1);
    let without = client.send(request.header("host", "echo"), Bytes::from_static(b"one")).await;
    assert!([200, 202].contains(&without.status), "{}", without.text());
    hook.has(1).await;
    let id = job.as_str().expect("its id");
    callback_is(&client, &format!("/_jobs/{id}"), "delivered").await;
    // Neither is identical input, where that is one job.
    let poll = [("host", "poll")];
    assert_eq!(submit(&client, "/sleep/20s", b"", &here, &poll).await.status, 202);
    assert_eq!(submit(&client, "/sleep/20s", b"", &here, &poll).await.status, 202);
    let elsewhere = submit(&client, "/sleep/20s", b"", &there, &poll).await;
    assert_eq!((elsewhere.status, elsewhere.problem().as_str()), (409, "conflict"));
    let posted: Vec<String> = hook.taken().iter().map(|message| message.head.uri.to_string()).collect();
    assert_eq!(posted, ["/here"]);
    let delete = Request::delete("/_jobs");
    client.send(delete, Bytes::new()).await;
    cluster.stop().await;
}

each!(light 60: a_callback_that_would_never_come_is_refused);
each!(light 60: a_result_is_posted_as_it_was_and_signed, a_large_result_is_posted_whole);
each!(light 90: a_callback_is_tried_until_it_is_taken_or_given_up, nothing_but_what_is_listed_can_be_reached);
each!(light 60: tls_is_spoken_with_whom_the_system_believes, a_callback_outlives_the_proxy);
