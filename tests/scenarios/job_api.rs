//! The job API as its document describes it, as browsers see it, and as the holders of keys see it; what is exported, and
//! what waiting jobs mean for a service's size.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use longshore_tests::redis::Redis;
use longshore_tests::{Backend, Client, PATIENCE, Reply, Setup, command, digest, each, eventually, schema};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

const ASYNC: (&str, &str) = ("prefer", "respond-async");

fn setup() -> Setup {
    Setup::new(Backend::Process)
}

async fn ask(client: &Client, method: &str, path: &str, body: &[u8], fields: &[(&str, &str)]) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    client.send(request, Bytes::copy_from_slice(body)).await
}

/// The path of a job that was taken.
async fn submit(client: &Client, path: &str, fields: &[(&str, &str)]) -> String {
    let fields = [&[ASYNC], fields].concat();
    let ticket = ask(client, "POST", path, b"in", &fields).await;
    assert_eq!(ticket.status, 202, "{}", ticket.text());
    ticket.header("location").to_owned()
}

async fn becomes(client: &Client, job: &str, status: &str) -> Value {
    eventually(PATIENCE, &format!("{job} is {status}"), async || {
        let view = client.get(job).await.json();
        (view["status"] == status).then_some(view)
    })
    .await
}

/// Asks, and holds the answer against the document.
async fn described(client: &Client, document: &Value, method: &str, path: &str, body: &[u8]) -> Reply {
    let reply = ask(client, method, path, body, &[]).await;
    if let Err(wrong) = schema::check(document, method, path, &reply) {
        panic!("{method} {path}: {} is not as described: {wrong}\n{}", reply.status, reply.text());
    }
    reply
}

async fn the_api_answers_as_its_document_says() {
    let jobs = "[jobs]\nexport = { every = \"1h\", to = \"backups\" }\n";
    let cluster = setup().service(jobs).model("sleep", "sleep", "size = 1\nconcurrency = 1").start().await;
    let client = cluster.client();
    let document = client.get("/_jobs/openapi.json").await;
    assert_eq!((document.status, document.header("content-type")), (200, "application/json"));
    assert!(!document.header("x-request-id").is_empty());
    let document = document.json();
    assert_eq!(document["openapi"], "3.1.0");
    let unknown = client.get("/_jobs/none").await;
    assert_eq!(unknown.json()["request_id"], unknown.header("x-request-id"));
    let running = submit(&client, "/sleep/60s", &[]).await;
    becomes(&client, &running, "running").await;
    let queued = submit(&client, "/sleep/0s", &[]).await;
    let ask = async |method: &str, path: &str| described(&client, &document, method, path, b"").await;
    for (method, path, status) in [
        ("GET", "/_jobs".to_owned(), 200),
        ("GET", "/_jobs?limit=1".to_owned(), 200),
        ("GET", "/_jobs?limit=0".to_owned(), 400),
        ("GET", "/_jobs?status=lost".to_owned(), 400),
        ("GET", "/_jobs?after=x".to_owned(), 400),
        ("GET", running.clone(), 200),
        ("GET", queued.clone(), 200),
        ("GET", format!("{queued}/result"), 202),
        ("GET", format!("{queued}/result?wait=soon"), 400),
        ("GET", format!("{queued}/export"), 200),
        ("POST", format!("{queued}/retry"), 409),
        ("POST", format!("{running}/cancel"), 200),
        ("POST", format!("{running}/cancel"), 409),
        ("GET", format!("{running}/result"), 410),
        ("GET", format!("{queued}/result?wait=20s"), 200),
        ("GET", queued.clone(), 200),
        ("GET", format!("{queued}/events"), 200),
        ("GET", "/_jobs/export".to_owned(), 200),
        ("POST", "/_jobs/export".to_owned(), 200),
        ("POST", "/_jobs/import".to_owned(), 400),
        ("DELETE", queued.clone(), 204),
        ("GET", queued.clone(), 404),
        ("GET", format!("{queued}/result"), 404),
        ("DELETE", "/_jobs?export=true".to_owned(), 200),
        ("GET", "/_jobs/00000000000070008000000000000000".to_owned(), 404),
    ] {
        let reply = ask(method, &path).await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text());
    }
    // Every path and method of the document is there, and what it does not have is refused.
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let path = path.replace("{id}", "00000000000070008000000000000000");
        let has = |method: &str| {
            let method = if method == "HEAD" { "get" } else { &method.to_ascii_lowercase() };
            methods.get(method).is_some()
        };
        let all = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        let known: Vec<&str> = all.into_iter().filter(|method| has(method)).collect();
        for method in all {
            let reply = ask_plainly(&client, method, &path).await;
            assert_eq!(reply.status != 405, has(method), "{method} {path}: {}", reply.status);
            if reply.status == 405 {
                assert_eq!(reply.header("allow"), known.join(", "), "{method} {path}");
            }
        }
    }
    let admin = cluster.admin();
    assert_eq!(admin.client().get("/_jobs/openapi.json").await.json(), document);
    cluster.stop().await;
    let moved = setup().service("[jobs]\npath = \"/later\"\n").model("echo", "echo", "").start().await;
    let document = moved.client().get("/later/openapi.json").await.json();
    assert!(document["paths"]["/later/{id}/result"].is_object(), "{document}");
    moved.stop().await;
}

async fn ask_plainly(client: &Client, method: &str, path: &str) -> Reply {
    ask(client, method, path, b"", &[]).await
}

async fn positions_count_every_job_that_comes_before() {
    let cluster = setup().model("sleep", "sleep", "size = 1\nconcurrency = 1").start().await;
    let client = cluster.client();
    let running = submit(&client, "/sleep/60s", &[]).await;
    becomes(&client, &running, "running").await;
    let mut jobs = Vec::new();
    for _ in 0..30 {
        jobs.push(submit(&client, "/sleep/0s", &[]).await);
    }
    for (place, job) in jobs.iter().enumerate() {
        let view = client.get(job).await.json();
        assert_eq!((&view["position"], &view["load"]), (&place.into(), &30.into()), "{view}");
    }
    assert_eq!(client.get(&running).await.json()["position"], Value::Null);
    ask(&client, "DELETE", &jobs[0], b"", &[]).await;
    let view = client.get(&jobs[5]).await.json();
    assert_eq!((&view["position"], &view["load"]), (&4.into(), &29.into()), "{view}");
    ask(&client, "DELETE", &running, b"", &[]).await;
    becomes(&client, &jobs[29], "done").await;
    cluster.stop().await;
}

async fn a_page_goes_on_where_the_last_one_ended_while_jobs_come_and_go() {
    let cluster = setup().model("echo", "echo", "size = 1").start().await;
    let client = cluster.client();
    let mut jobs = Vec::new();
    for _ in 0..25 {
        jobs.push(submit(&client, "/x", &[]).await);
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/_jobs?limit=4{after}")).await.json();
        let ids = page["jobs"].as_array().expect("jobs").iter();
        seen.extend(ids.map(|job| format!("/_jobs/{}", job["id"].as_str().expect("its id"))));
        // One comes, and every other time the last one that was seen goes.
        submit(&client, "/x", &[]).await;
        becomes(&client, &seen[seen.len() - 1], "done").await;
        if seen.len() % 8 == 4 {
            ask(&client, "DELETE", &seen[seen.len() - 1], b"", &[]).await;
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    jobs.reverse();
    assert_eq!(seen, jobs, "each that was there is seen once, the newest first");
    cluster.stop().await;
}

async fn a_key_sees_the_jobs_that_came_with_it() {
    let setup = setup().proxy("api_keys_file = \"keys.txt\"");
    let line = |name: &str| format!("{name}:{}\n", digest::hex(format!("key of {name}").as_bytes()));
    setup.file("keys.txt", &(line("ann") + &line("bob")));
    let cluster = setup.model("echo", "echo", "").start().await;
    let client = cluster.client();
    let (ann, bob) = (("x-api-key", "key of ann"), ("x-api-key", "key of bob"));
    let job = submit(&client, "/x", &[ann]).await;
    let other = submit(&client, "/x", &[bob]).await;
    let of = async |key, method: &str, path: &str| ask(&client, method, path, b"", &[key]).await;
    assert_eq!(of(ann, "GET", &format!("{job}/result?wait=10s")).await.status, 200);
    for path in [job.clone(), format!("{job}/result"), format!("{job}/events"), format!("{job}/export")] {
        assert_eq!(of(bob, "GET", &path).await.status, 404, "{path}");
    }
    assert_eq!(of(bob, "DELETE", &job).await.status, 404);
    assert_eq!(of(bob, "POST", &format!("{job}/cancel")).await.status, 404);
    for (key, own) in [(ann, &job), (bob, &other)] {
        let list = of(key, "GET", "/_jobs").await.json();
        let ids: Vec<String> = list["jobs"]
            .as_array()
            .expect("jobs")
            .iter()
            .map(|job| format!("/_jobs/{}", job["id"].as_str().expect("its id")))
            .collect();
        assert_eq!(ids, std::slice::from_ref(own));
    }
    let file = of(ann, "GET", "/_jobs/export").await;
    assert!(file.text().contains(&job[7..]) && !file.text().contains(&other[7..]), "{}", file.text());
    assert!(!file.text().contains("key of ann"), "{}", file.text());
    // What one brings becomes theirs, and replaces nothing of others.
    let kept = ask(&client, "POST", "/_jobs/import?overwrite=true", &file.body, &[bob]).await;
    assert_eq!(kept.json(), json!({"imported": 0, "kept": 1}));
    let deleted = of(bob, "DELETE", "/_jobs").await.json();
    assert_eq!(deleted["forgotten"].as_u64().unwrap_or(0) + deleted["cancelled"].as_u64().unwrap_or(0), 1);
    assert_eq!(of(bob, "POST", "/_jobs/export").await.status, 403);
    assert_eq!(ask(&client, "GET", "/_jobs", b"", &[]).await.status, 401);
    // An operator sees all.
    let all = cluster.admin().client().get("/_jobs").await.json();
    assert!(all.to_string().contains(&job[7..]), "{all}");
    cluster.stop().await;
}

async fn credentials_are_kept_as_long_as_an_instance_may_need_them() {
    let keys = "size = 1\nconcurrency = 1\n";
    let cluster = setup()
        .model("echo", "echo", keys)
        .model("never", "echo", "size = 0\n")
        .model("dropped", "echo", "jobs.credentials = \"drop\"\n")
        .serve()
        .await;
    let client = cluster.client();
    let secret = ("authorization", "Bearer sesame-opens-it");
    let job = submit(&client, "/x", &[("host", "echo"), secret]).await;
    let seen = client.get(&format!("{job}/result?wait=20s")).await;
    assert!(seen.text().contains("sesame-opens-it"), "the instance sees it: {}", seen.text());
    let job = submit(&client, "/x", &[("host", "dropped"), secret]).await;
    let seen = client.get(&format!("{job}/result?wait=20s")).await;
    assert!(seen.status == 200 && !seen.text().contains("sesame"), "{}", seen.text());
    ask(&client, "DELETE", "/_jobs", b"", &[]).await;
    let job = submit(&client, "/x", &[("host", "never"), secret]).await;
    let export = async || client.get(&format!("{job}/export")).await.text();
    assert!(export().await.contains("sesame-opens-it"));
    ask(&client, "POST", &format!("{job}/cancel"), b"", &[]).await;
    assert!(!export().await.contains("sesame"), "what has ended keeps none");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(cluster.folder().join("longshore-data")).expect("the folder").permissions(),
    );
    assert_eq!(mode & 0o077, 0, "nobody else may look into the folder: {mode:o}");
    cluster.stop().await;
}

async fn sizes_are_decided_for_all_jobs_that_wait() {
    let keys = "size = { policy = \"expression\", expression = \"if queue >= 100 { 2 } else { 1 }\", min = 1, max = 2, \
                interval = \"200ms\" }\nconcurrency = 1\n";
    let cluster = setup().model("sleep", "sleep", keys).start().await;
    let client = cluster.client();
    for _ in 0..130 {
        submit(&client, "/sleep/30s", &[]).await;
    }
    eventually(PATIENCE, "more than the queue holds is seen", async || {
        let services = cluster.admin().services().await;
        (services[0]["size"]["wanted"] == 2).then_some(())
    })
    .await;
    let services = cluster.admin().services().await;
    assert!(services[0]["queue"].as_u64().is_none_or(|queue| queue < 100), "{}", services[0]);
    ask(&client, "DELETE", "/_jobs", b"", &[]).await;
    cluster.stop().await;
}

async fn who_waits_for_a_job_is_sent_on_when_the_proxy_ends() {
    let mut cluster =
        setup().proxy("drain = \"30s\"").model("sleep", "sleep", "size = 1\nconcurrency = 1").start().await;
    let client = cluster.client();
    let running = submit(&client, "/sleep/2s", &[]).await;
    becomes(&client, &running, "running").await;
    let queued = submit(&client, "/sleep/0s", &[]).await;
    let (polling, listening) = (cluster.client(), cluster.client());
    let (path, events) = (format!("{queued}/result?wait=60s"), format!("{queued}/events"));
    let poll = tokio::spawn(async move { polling.get(&path).await });
    let listen = tokio::spawn(async move { listening.get(&events).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = std::time::Instant::now();
    cluster.signal(Signal::SIGTERM);
    let poll = poll.await.expect("it is answered");
    assert_eq!((poll.status, &poll.json()["status"]), (202, &"queued".into()));
    let events = listen.await.expect("it ends").text();
    assert!(events.starts_with("retry: ") && events.contains("\nid: "), "{events}");
    assert!(cluster.ended(PATIENCE).await.success());
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "nobody who waits holds the end up: {:?}",
        begun.elapsed()
    );
    cluster.again().await;
    let client = cluster.client();
    assert_eq!(client.get(&format!("{queued}/result?wait=20s")).await.status, 200);
    assert_eq!(client.get(&format!("{running}/result?wait=20s")).await.status, 200);
    // Who was cut off is told what it missed, and who has seen the end that nothing follows.
    let missed = ask(&client, "GET", &format!("{queued}/events"), b"", &[("last-event-id", "1")]).await;
    let id =
        missed.text().lines().find_map(|line| line.strip_prefix("id: ").map(str::to_owned)).expect("an id");
    assert!(missed.text().contains("\"status\":\"done\""), "{}", missed.text());
    let over = ask(&client, "GET", &format!("{queued}/events"), b"", &[("last-event-id", &id)]).await;
    assert_eq!(over.status, 204);
    cluster.stop().await;
}

async fn a_store_that_is_full_says_so_before_it_is() {
    let cluster =
        setup().service("[jobs]\nmax_bytes = \"200KiB\"\n").model("sleep", "sleep", "size = 1").start().await;
    let client = cluster.client();
    let body = vec![7; 50_000];
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(ask(&client, "POST", "/sleep/60s", &body, &[ASYNC]).await);
    }
    let taken = statuses.iter().filter(|reply| reply.status == 202).count();
    assert!((2..=4).contains(&taken), "{statuses:?}");
    let full = statuses.iter().find(|reply| reply.status == 507).expect("it is full");
    assert_eq!(full.problem(), "storage");
    assert!(full.detail().contains("jobs.max_bytes"), "{}", full.detail());
    assert!(statuses.iter().all(|reply| reply.status == 202 || reply.status == 507), "{statuses:?}");
    ask(&client, "DELETE", "/_jobs", b"", &[]).await;
    ask(&client, "DELETE", "/_jobs", b"", &[]).await;
    assert_eq!(ask(&client, "POST", "/sleep/0s", &body, &[ASYNC]).await.status, 202, "room was made");
    cluster.stop().await;
}

async fn an_answer_that_does_not_fit_is_a_failure_and_not_asked_for_again() {
    let redis = Redis::start().await;
    for store in ["[jobs]\n", &redis.jobs("20s")] {
        not_asked_for_again(store).await;
    }
}

async fn not_asked_for_again(store: &str) {
    let jobs = format!("{store}max_bytes = \"200KiB\"\n");
    let cluster = setup().service(&jobs).model("echo", "echo", "size = 1").start().await;
    let client = cluster.client();
    let first = submit(&client, "/bytes/150000", &[]).await;
    assert_eq!(client.get(&format!("{first}/result?wait=20s")).await.status, 200);
    let job = submit(&client, "/bytes/100000", &[]).await;
    let view = becomes(&client, &job, "failed").await;
    assert_eq!((&view["attempts"], &view["response_status"]), (&1.into(), &507.into()), "{view}");
    let result = client.get(&format!("{job}/result")).await;
    assert_eq!((result.status, result.problem().as_str()), (507, "storage"));
    let detail = result.detail();
    assert!(detail.contains("jobs.max_bytes") && detail.contains("retry"), "{detail}");
    // Others go on, and so does this one when there is room.
    let other = submit(&client, "/bytes/5000", &[]).await;
    assert_eq!(client.get(&format!("{other}/result?wait=20s")).await.status, 200);
    assert_eq!(ask(&client, "POST", &format!("{job}/retry"), b"", &[]).await.status, 202);
    assert_eq!(becomes(&client, &job, "failed").await["attempts"], 2);
    ask(&client, "DELETE", &first, b"", &[]).await;
    assert_eq!(ask(&client, "POST", &format!("{job}/retry"), b"", &[]).await.status, 202);
    assert_eq!(client.get(&format!("{job}/result?wait=20s")).await.body.len(), 100_000);
    cluster.stop().await;
}

async fn jobs_are_exported_by_the_clock_and_when_somebody_asks() {
    let jobs = "[jobs]\nexport = { every = \"1s\", to = \"backups\", keep = 2 }\n";
    let cluster = setup().service(jobs).model("echo", "echo", "").start().await;
    let client = cluster.client();
    let job = submit(&client, "/x", &[]).await;
    becomes(&client, &job, "done").await;
    let folder = cluster.folder().join("backups");
    let files = || {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.path()).collect();
        names.sort();
        names
    };
    let newest = eventually(PATIENCE, "two exports have the job", async || {
        let files = files();
        let has = |file: &std::path::PathBuf| {
            std::fs::read_to_string(file)
                .is_ok_and(|text| text.contains(&job[7..]) && text.contains("{\"end\""))
        };
        (files.len() == 2 && files.iter().all(has)).then(|| files[1].clone())
    })
    .await;
    let file = std::fs::read(&newest).expect("it is there");
    // Deleted, and that exported: as the server of a model that keeps its results elsewhere does it.
    let deleted = ask(&client, "DELETE", &format!("{job}?export=true"), b"", &[]).await;
    assert_eq!(deleted.status, 204);
    let last = files().pop().expect("a file");
    assert!(!std::fs::read_to_string(last).expect("it is there").contains(&job[7..]));
    let back = ask(&client, "POST", "/_jobs/import?overwrite=true", &file, &[]).await;
    assert_eq!(back.json(), json!({"imported": 1, "kept": 0}), "{}", back.text());
    assert_eq!(client.get(&format!("{job}/result")).await.status, 200);
    let admin = cluster.admin().url();
    let now = command::run(PATIENCE, &["jobs", "export", "--now", "--admin", &admin], &[]).await;
    assert!(now.code == 0 && now.stdout.contains("backups"), "{now:?}");
    let done = cluster.admin().metrics().await.sum("longshore_job_exports_total", &[("result", "done")]);
    assert!(done >= 4.0, "{done}");
    cluster.stop().await;
}

async fn a_command_that_fails_to_take_an_export_is_reported() {
    let jobs = "[jobs]\nstore = \"memory:\"\n\
                export = { every = \"1h\", to = [\"sh\", \"-c\", \"cat > /dev/null; echo no bucket >&2; exit 4\"] }\n";
    let mut cluster = setup().service(jobs).model("echo", "echo", "").start().await;
    cluster.expect_error("the export of all jobs has failed");
    let refused = ask(&cluster.client(), "POST", "/_jobs/export", b"", &[]).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "jobs-unavailable"));
    assert!(refused.detail().contains("no bucket"), "{}", refused.detail());
    cluster.signal(Signal::SIGTERM);
    assert!(cluster.ended(PATIENCE).await.success());
}

async fn a_browser_gets_pages() {
    let cluster =
        setup().model("sleep", "sleep", "size = 1\nconcurrency = 1\njobs.mode = \"always\"").start().await;
    let client = cluster.client();
    let browser = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    // As a form sends it: the page that comes back goes on to the job's own.
    let form = [browser, ("content-type", "application/x-www-form-urlencoded")];
    let page = ask(&client, "POST", "/sleep/2s", b"model=a", &form).await;
    assert_eq!((page.status, page.header("content-type")), (202, "text/html; charset=utf-8"));
    let job = page.header("location").to_owned();
    assert!(
        page.text().contains(&format!("url={job}'")) && page.text().contains("/cancel'"),
        "{}",
        page.text()
    );
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    assert_eq!(client.get(&job).await.header("content-type"), "application/json", "nobody else gets pages");
    becomes(&client, &job, "done").await;
    let page = ask(&client, "GET", &job, b"", &[browser]).await;
    assert!(
        page.text().contains("<b>done</b>") && page.text().contains(&format!("href='{job}/result'")),
        "{}",
        page.text()
    );
    assert!(!page.text().contains("http-equiv=refresh"));
    let unknown = ask(&client, "GET", "/_jobs/00000000000070008000000000000000", b"", &[browser]).await;
    assert!(unknown.status == 404 && unknown.text().contains("there is no job"), "{}", unknown.text());
    cluster.stop().await;
}

async fn who_polls_with_credentials_gets_an_answer_of_their_own() {
    let cluster = setup().model("echo", "echo", "jobs.mode = \"poll\"").start().await;
    let client = cluster.client();
    let answer = async |field: &'static str, who: &'static str| {
        eventually(PATIENCE, "it is answered", async || {
            let reply = ask(&client, "POST", "/x", b"same", &[(field, who)]).await;
            (reply.status == 200).then(|| reply.text())
        })
        .await
    };
    for (field, who) in [
        ("authorization", "Bearer ann"),
        ("authorization", "Bearer bob"),
        ("cookie", "session=ann"),
        ("cookie", "session=bob"),
    ] {
        let told = answer(field, who).await;
        assert!(told.contains(who), "{field}: {who}: {told}");
    }
    cluster.stop().await;
}

each!(light 90: the_api_answers_as_its_document_says, positions_count_every_job_that_comes_before);
each!(light 90: a_page_goes_on_where_the_last_one_ended_while_jobs_come_and_go);
each!(light 60: a_key_sees_the_jobs_that_came_with_it, credentials_are_kept_as_long_as_an_instance_may_need_them);
each!(light 60: sizes_are_decided_for_all_jobs_that_wait, who_waits_for_a_job_is_sent_on_when_the_proxy_ends);
each!(light 60: a_store_that_is_full_says_so_before_it_is, jobs_are_exported_by_the_clock_and_when_somebody_asks);
each!(light 60: a_command_that_fails_to_take_an_export_is_reported, a_browser_gets_pages);
each!(light 60: an_answer_that_does_not_fit_is_a_failure_and_not_asked_for_again);
each!(light 60: who_polls_with_credentials_gets_an_answer_of_their_own);
