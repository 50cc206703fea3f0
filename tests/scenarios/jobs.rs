//! Asynchronous jobs: taken once they are durable, run through the same queue as everything else, and read later.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use longshore_tests::admin::Admin;
use longshore_tests::{Backend, Client, PATIENCE, Reply, Setup, command, each, eventually};
use serde_json::Value;

const ASYNC: (&str, &str) = ("prefer", "respond-async");

/// Sends a request that is to become a job.
async fn submit(client: &Client, path: &str, body: &[u8], fields: &[(&str, &str)]) -> Reply {
    let mut request = Request::builder().method("POST").uri(path).header(ASYNC.0, ASYNC.1);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    client.send(request, Bytes::copy_from_slice(body)).await
}

async fn ask(client: &Client, method: &str, path: &str, fields: &[(&str, &str)]) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    client.send(request, Bytes::new()).await
}

async fn becomes(client: &Client, job: &str, status: &str) -> Value {
    eventually(PATIENCE, &format!("{job} is {status}"), async || {
        let reply = client.get(job).await;
        let view = reply.json();
        (view["status"] == status).then_some(view)
    })
    .await
}

fn setup() -> Setup {
    Setup::new(Backend::Process)
}

async fn a_request_becomes_a_job_and_its_answer_is_read_later() {
    let cluster = setup().model("echo", "echo", "concurrency = 1").start().await;
    let client = cluster.client();
    let ticket = submit(&client, "/some/path?x=1", b"hello", &[("x-mine", "kept")]).await;
    assert_eq!(ticket.status, 202, "{}", ticket.text());
    assert_eq!(ticket.header("preference-applied"), "respond-async");
    assert!(ticket.header("retry-after").parse::<u64>().is_ok());
    let job = ticket.header("location").to_owned();
    let id = ticket.json()["id"].as_str().expect("it is there").to_owned();
    assert_eq!(job, format!("/_jobs/{id}"));
    assert_eq!((&ticket.json()["service"], &ticket.json()["done"]), (&"echo".into(), &false.into()));
    let result = client.get(&format!("{job}/result?wait=10s")).await;
    assert_eq!(result.status, 200);
    assert!(result.is_intact());
    let seen = result.json();
    assert_eq!((&seen["method"], &seen["path"]), (&"POST".into(), &"/some/path".into()), "{seen}");
    assert_eq!(seen["query"], "x=1");
    assert!(seen.to_string().contains("\"kept\""), "{seen}");
    assert!(
        !seen.to_string().contains("respond-async"),
        "an instance is not asked to be asynchronous: {seen}"
    );
    let view = becomes(&client, &job, "done").await;
    assert_eq!((&view["attempts"], &view["response_status"]), (&1.into(), &200.into()));
    for key in ["submitted_at", "started_at", "finished_at"] {
        assert!(view[key].as_str().is_some_and(|at| at.ends_with('Z')), "{view}");
    }
    let head = ask(&client, "HEAD", &format!("{job}/result"), &[]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let length = result.body.len();
    assert_eq!(head.header("content-length"), length.to_string());
    let part = ask(&client, "GET", &format!("{job}/result"), &[("range", "bytes=2-6")]).await;
    assert_eq!((part.status, &part.body[..]), (206, &result.body[2..7]));
    assert_eq!(part.header("content-range"), format!("bytes 2-6/{length}"));
    let whole = [("range", "bytes=2-6"), ("if-range", "\"another\"")];
    assert_eq!(ask(&client, "GET", &format!("{job}/result"), &whole).await.status, 200);
    assert_eq!(ask(&client, "HEAD", &format!("{job}/result"), &whole[..1]).await.status, 200);
    let beyond = ask(&client, "GET", &format!("{job}/result"), &[("range", "bytes=999999-")]).await;
    assert_eq!(beyond.status, 416);
    let page = ask(&client, "GET", &job, &[("accept", "text/html")]).await;
    assert!(page.text().contains("<b>done</b>") && page.text().contains("/result"), "{}", page.text());
    let events = client.get(&format!("{job}/events")).await;
    assert_eq!(events.header("content-type"), "text/event-stream");
    assert!(events.text().contains("event: status\ndata: {\"id\""), "{}", events.text());
    cluster.stop().await;
}

async fn each_end_of_a_job_has_its_own_answer() {
    let keys = "concurrency = 1\nsize = 1\njobs = { input_ttl = \"2s\", result_ttl = \"2s\" }";
    // A lease is renewed seldom: it is not by that that an end is heard of.
    let cluster = setup().service("[jobs]\nlease = \"180s\"\n").model("sleep", "sleep", keys).start().await;
    let client = cluster.client();
    let unknown = client.get("/_jobs/00000000000070008000000000000000/result").await;
    assert_eq!((unknown.status, unknown.problem().as_str()), (404, "not-found"));
    let running = submit(&client, "/sleep/60s", b"", &[]).await.header("location").to_owned();
    becomes(&client, &running, "running").await;
    let waiting = submit(&client, "/sleep/0s", b"", &[]).await.header("location").to_owned();
    let pending = client.get(&format!("{waiting}/result")).await;
    assert_eq!((pending.status, &pending.json()["status"]), (202, &"queued".into()));
    let cancelled = submit(&client, "/sleep/0s", b"", &[]).await.header("location").to_owned();
    assert_eq!(ask(&client, "DELETE", &cancelled, &[]).await.json()["status"], "cancelled");
    let gone = client.get(&format!("{cancelled}/result")).await;
    assert_eq!((gone.status, gone.problem().as_str()), (410, "gone"));
    assert!(gone.detail().contains("was cancelled"), "{}", gone.detail());
    becomes(&client, &waiting, "expired").await;
    let expired = client.get(&format!("{waiting}/result")).await;
    assert!(expired.status == 410 && expired.detail().contains("input_ttl"), "{}", expired.text());
    // What runs is called off at once: the instance is free again.
    let begun = Instant::now();
    assert_eq!(ask(&client, "POST", &format!("{running}/cancel"), &[]).await.json()["status"], "cancelled");
    let next = submit(&client, "/sleep/0s", b"", &[("prefer", "wait=15")]).await;
    assert_eq!(next.status, 200, "{}", next.text());
    assert!(begun.elapsed() < Duration::from_secs(12), "the instance was held for {:?}", begun.elapsed());
    let done = format!("/_jobs/{}", next.header("longshore-job"));
    assert_eq!(ask(&client, "POST", &format!("{done}/cancel"), &[]).await.status, 409);
    becomes(&client, &done, "expired").await;
    let late = client.get(&format!("{done}/result")).await;
    assert!(late.status == 410 && late.detail().contains("result_ttl"), "{}", late.text());
    eventually(PATIENCE, "what expired is forgotten", async || {
        (client.get(&done).await.status == 404).then_some(())
    })
    .await;
    cluster.stop().await;
}

async fn a_failure_is_kept_and_may_be_tried_again() {
    let cluster = setup().model("echo", "echo", "").start().await;
    let client = cluster.client();
    let failed = submit(&client, "/x", b"in", &[("fault", "busy; status=500"), ("prefer", "wait=10")]).await;
    assert_eq!(failed.status, 500, "{}", failed.text());
    let job = format!("/_jobs/{}", failed.header("longshore-job"));
    let view = becomes(&client, &job, "failed").await;
    assert_eq!(view["response_status"], 500);
    let again = ask(&client, "POST", &format!("{job}/retry"), &[]).await;
    assert_eq!(again.status, 202, "{}", again.text());
    let result = client.get(&format!("{job}/result?wait=10")).await;
    assert_eq!(result.status, 500);
    assert_eq!(becomes(&client, &job, "failed").await["attempts"], 2);
    let done = submit(&client, "/x", b"in", &[("prefer", "wait=10")]).await;
    let retried = ask(&client, "POST", &format!("/_jobs/{}/retry", done.header("longshore-job")), &[]).await;
    assert_eq!((retried.status, retried.problem().as_str()), (409, "conflict"));
    cluster.stop().await;
}

async fn the_same_key_is_the_same_job_and_never_another_request() {
    let cluster = setup().model("echo", "echo", "").start().await;
    let client = cluster.client();
    let key = [("idempotency-key", "\"order-1\"")];
    let first = submit(&client, "/x", b"one", &key).await.json()["id"].clone();
    let again = submit(&client, "/x", b"one", &key).await;
    let id = |reply: &Reply| match reply.header("longshore-job") {
        "" => reply.json()["id"].clone(),
        id => id.into(),
    };
    assert_eq!(id(&again), first);
    for (path, body) in [("/x", b"two"), ("/y", b"one")] {
        let other = submit(&client, path, body, &key).await;
        assert_eq!((other.status, other.problem().as_str()), (422, "idempotency-key-reused"));
    }
    let empty = submit(&client, "/x", b"one", &[("idempotency-key", "\"\"")]).await;
    assert_eq!((empty.status, empty.problem().as_str()), (400, "invalid"));
    let stranger = [key[0], ("authorization", "Bearer somebody-else")];
    assert_eq!(submit(&client, "/x", b"two", &stranger).await.status, 202);
    cluster.stop().await;
}

async fn the_mode_of_a_service_decides_what_becomes_a_job() {
    let jobs = |mode: &str| format!("jobs.mode = \"{mode}\"");
    let cluster = setup()
        .model("off", "echo", &jobs("off"))
        .model("always", "echo", &jobs("always"))
        .model("prefer", "echo", &jobs("prefer"))
        .start()
        .await;
    let client = cluster.client();
    for (service, plain, asked) in [("off", 200, 200), ("prefer", 200, 202), ("always", 202, 202)] {
        assert_eq!(client.get_from(service, "/x").await.status, plain, "{service}");
        let path = format!("/{service}");
        assert_eq!(submit(&client, &path, b"", &[("host", service)]).await.status, asked, "{service}");
    }
    let ticket = client.get_from("always", "/y").await;
    assert_eq!(ticket.header("preference-applied"), "respond-async");
    assert!(!ticket.header("retry-after").is_empty() && !ticket.header("location").is_empty());
    let list = client.get("/_jobs?service=always").await.json();
    assert_eq!(list["jobs"].as_array().map(Vec::len), Some(3), "{list}");
    let deleted = ask(&client, "DELETE", "/_jobs?service=always", &[]).await.json();
    let count = deleted["cancelled"].as_u64().expect("it is there")
        + deleted["forgotten"].as_u64().expect("it is there");
    assert_eq!(count, 3, "{deleted}");
    cluster.stop().await;
}

async fn run(admin: &Admin, arguments: &[&str]) -> command::Done {
    let url = admin.url();
    let arguments = [&["jobs"], arguments, &["--admin", &url]].concat();
    command::run(Duration::from_secs(60), &arguments, &[]).await
}

async fn the_command_lists_shows_moves_and_removes_jobs() {
    let cluster = setup().model("echo", "echo", "").start().await;
    let (client, admin) = (cluster.client(), cluster.admin());
    let mut ids = Vec::new();
    for body in [b"one", b"two"] {
        let done = submit(&client, "/x", body, &[("prefer", "wait=10")]).await;
        ids.push(done.header("longshore-job").to_owned());
    }
    let wrong = run(&admin, &["ls", "--status", "lost"]).await;
    assert!(wrong.code == 2 && wrong.stderr.contains("cancelled"), "{wrong:?}");
    let list = run(&admin, &["ls", "--status", "done"]).await;
    assert!(list.code == 0 && ids.iter().all(|id| list.stdout.contains(id)), "{list:?}");
    let result = run(&admin, &["result", &ids[0], "--wait", "1s"]).await;
    assert!(result.code == 0 && result.stdout.contains("\"method\":\"POST\""), "{result:?}");
    let shown = run(&admin, &["show", &ids[0]]).await;
    assert!(shown.stdout.contains("\"status\": \"done\""), "{shown:?}");
    let file = cluster.folder().join("jobs.ndjson");
    let file = file.to_str().expect("it is there");
    assert_eq!(run(&admin, &["export", "-o", file]).await.code, 0);
    let removed = run(&admin, &["rm", "--all"]).await;
    assert_eq!(removed.stdout, "0 cancelled, 2 forgotten\n");
    let whole = std::fs::read_to_string(file).expect("it is there");
    let broken = cluster.folder().join("broken.ndjson");
    std::fs::write(&broken, &whole[..whole.len() - 20]).expect("it is there");
    let refused = run(&admin, &["import", broken.to_str().expect("it is there")]).await;
    assert!(refused.code == 1 && refused.stderr.contains("nothing was imported: line "), "{refused:?}");
    assert_eq!(client.get("/_jobs").await.json()["jobs"], serde_json::json!([]));
    let imported = run(&admin, &["import", file]).await;
    assert_eq!(imported.stdout, "2 imported, 0 kept as they were\n", "{imported:?}");
    let result = run(&admin, &["result", &ids[1]]).await;
    assert!(result.code == 0, "{result:?}");
    assert_eq!(run(&admin, &["rm", &ids[0]]).await.code, 0);
    let gone = run(&admin, &["show", &ids[0]]).await;
    assert!(gone.code == 1 && gone.stderr.contains("there is no job"), "{gone:?}");
    cluster.stop().await;
}

each!(light 60: a_request_becomes_a_job_and_its_answer_is_read_later, each_end_of_a_job_has_its_own_answer);
each!(light 60: a_failure_is_kept_and_may_be_tried_again, the_same_key_is_the_same_job_and_never_another_request);
each!(light 60: the_mode_of_a_service_decides_what_becomes_a_job);
each!(light 60: the_command_lists_shows_moves_and_removes_jobs);
