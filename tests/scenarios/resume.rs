//! `replay.resume`: streams whose instance dies in their middle.

use bytes::Bytes;
use http::request::Builder;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use longshore_tests::admin::Instance;
use longshore_tests::{
    Backend, Client, Cluster, PATIENCE, Setup, both, client, digest, each, eventually, process,
};

/// Server-sent events, two seconds of them.
// Slow: while containers come and go, packets of others get lost, and TCP may wait three seconds to send them again.
const EVENTS: &str = "/stream?sse=1&chunks=40&interval_ms=150";

/// The same of plain chunks.
const CHUNKS: &str = "/stream?chunks=40&interval_ms=50&size=1000";

async fn cluster(backend: Backend, keys: &str) -> Cluster {
    let keys = format!("concurrency = 1\nreplay.resume = true\n{keys}");
    Setup::new(backend).model("calc", "calculator", &keys).start().await
}

fn events(count: usize) -> Vec<u8> {
    (0..count).flat_map(|number| format!("id: {number}\ndata: {number}\n\n").into_bytes()).collect()
}

/// An answer under way, read by the test.
struct Download {
    /// Who began it.
    instance: String,
    body: Incoming,
    received: Vec<u8>,
    _connection: Box<dyn std::any::Any>,
}

impl Download {
    async fn of(client: &Client, request: Builder) -> Self {
        let nothing = Empty::new().map_err(|never| match never {});
        let (response, connection) = client.open(request, nothing).await.expect("an answer begins");
        assert_eq!(response.status(), 200);
        Self::from(response, connection)
    }

    fn from(response: Response<Incoming>, connection: impl std::any::Any) -> Self {
        let name = response.headers()["longshore-instance"].to_str().expect("it is text").to_owned();
        let body = response.into_body();
        Self { instance: name, body, received: Vec::new(), _connection: Box::new(connection) }
    }

    /// Reads on; whether there was more.
    async fn read(&mut self) -> Result<bool, String> {
        let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("it is not silent");
        let Some(frame) = frame else { return Ok(false) };
        let data = frame.map_err(|error| format!("{error:?}"))?.into_data();
        self.received.extend_from_slice(&data.unwrap_or_default());
        Ok(true)
    }

    /// Reads until so many bytes have come.
    async fn until(&mut self, bytes: usize) {
        while self.received.len() < bytes {
            assert!(self.read().await.expect("it goes on"), "it ends after {} bytes", self.received.len());
        }
    }

    /// Reads to the end.
    async fn rest(mut self) -> Vec<u8> {
        while self.read().await.expect("it is whole") {}
        self.received
    }

    /// Reads until it breaks off, and returns what came.
    async fn broken(mut self) -> Vec<u8> {
        loop {
            match self.read().await {
                Ok(more) => assert!(more, "it ended as if it were whole"),
                Err(_) => return self.received,
            }
        }
    }
}

/// The instance of this name.
async fn instance(cluster: &Cluster, name: &str) -> Instance {
    let instances = cluster.admin().instances("calc").await;
    instances.into_iter().find(|one| one.id == name).unwrap_or_else(|| panic!("there is no {name}"))
}

/// The instance that works on the only request, once it is not `other`.
async fn worker(cluster: &Cluster, other: &str) -> Instance {
    eventually(PATIENCE, "another instance works on it", async || {
        let instances = cluster.admin().instances("calc").await;
        instances.into_iter().find(|one| one.id != other && one.json["in_flight"] == 1)
    })
    .await
}

async fn has_logged(cluster: &Cluster, text: &str) -> String {
    eventually(PATIENCE, &format!("the log says {text:?}"), async || {
        cluster.log().into_iter().find(|line| line.contains(text))
    })
    .await
}

async fn a_stream_goes_on_where_its_instance_was_killed(backend: Backend) {
    let cluster = cluster(backend, "size = 2").await;
    for (path, expected) in [(EVENTS, events(40)), (CHUNKS, whole(&cluster, CHUNKS).await)] {
        cluster.admin().has("calc", 2).await;
        let mut download = Download::of(&cluster.client(), Request::get(path)).await;
        download.until(expected.len() / 2).await;
        cluster.kill_instance(&instance(&cluster, &download.instance).await).await;
        assert_eq!(download.rest().await, expected, "{path}");
        cluster.admin().works_on("calc", 0).await;
    }
    has_logged(&cluster, "an answer goes on where it broke off").await;
    cluster.admin().lost_nothing("calc").await;
    cluster.admin().counts("longshore_queue_bytes", &[("service", "calc")], 0.0).await;
    cluster.stop().await;
}

async fn whole(cluster: &Cluster, path: &str) -> Vec<u8> {
    cluster.client().get(path).await.body.to_vec()
}

async fn a_stream_outlives_several_instances(backend: Backend) {
    let cluster = cluster(backend, "size = 2\nreplay.attempts = 4").await;
    let long = "/stream?sse=1&chunks=200&interval_ms=50";
    let mut download = Download::of(&cluster.client(), Request::get(long)).await;
    let mut worker_name = download.instance.clone();
    for part in [5, 60, 115] {
        download.until(events(part).len()).await;
        cluster.kill_instance(&instance(&cluster, &worker_name).await).await;
        worker_name = worker(&cluster, &worker_name).await.id;
    }
    assert_eq!(download.rest().await, events(200));
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

async fn a_stream_that_kills_whatever_takes_it_is_cut_after_its_attempts(backend: Backend) {
    let cluster = cluster(backend, "size = 3").await;
    let request = Request::get(CHUNKS).header("fault", "crash; bytes=20000");
    let download = Download::of(&cluster.client(), request).await;
    assert_eq!(download.broken().await.len(), 20_000);
    let line = has_logged(&cluster, "cannot go on").await;
    assert!(line.contains("lost on 3 instances") && line.matches("calc-").count() >= 3, "{line}");
    cluster.admin().counts("longshore_requests_lost_total", &[("service", "calc")], 1.0).await;
    assert_eq!(cluster.client().get("/add/3/4").await.text(), "7");
    cluster.stop().await;
}

async fn a_run_that_differs_is_cut_and_the_log_says_where(backend: Backend) {
    let cluster = cluster(backend, "size = 2").await;
    let mut names = Vec::new();
    for one in cluster.admin().has("calc", 2).await {
        let stats = Client::new(one.address.expect("it listens")).get("/stats").await.json();
        names.push(stats["instance"].as_str().expect("a name").to_owned());
    }
    let mut download = Download::of(&cluster.client(), Request::get(format!("{EVENTS}&vary=10"))).await;
    download.until(events(20).len()).await;
    cluster.kill_instance(&instance(&cluster, &download.instance).await).await;
    let received = download.broken().await;
    assert!(received.len() < events(40).len(), "another run was passed on: {}", received.len());
    let same = names[0].bytes().zip(names[1].bytes()).take_while(|(one, other)| one == other).count();
    let place = events(10).len() + "id: 10\ndata: 10 ".len() + same;
    has_logged(&cluster, &format!("it differs at byte {place}")).await;
    cluster.admin().counts("longshore_requests_lost_total", &[("service", "calc")], 1.0).await;
    cluster.stop().await;
}

async fn a_run_with_another_head_is_cut(backend: Backend) {
    let cluster = cluster(backend, "size = 2").await;
    let stats = cluster.client().get("/stats").await.json();
    let name = stats["instance"].as_str().expect("a name");
    // Meant for one of the two: the other begins.
    let fault = format!("busy; status=500; only={name}");
    let mut download = None;
    while download.is_none() {
        let nothing = Empty::new().map_err(|never| match never {});
        let request = Request::get(EVENTS).header("fault", &fault);
        let (response, connection) = cluster.client().open(request, nothing).await.expect("an answer begins");
        download = (response.status() == 200).then(|| Download::from(response, connection));
    }
    let mut download = download.expect("it has begun");
    download.until(50).await;
    cluster.kill_instance(&instance(&cluster, &download.instance).await).await;
    download.broken().await;
    has_logged(&cluster, "its status (500, it was 200) is another one").await;
    cluster.stop().await;
}

async fn an_answer_too_large_to_be_held_goes_on(backend: Backend) {
    let cluster = cluster(backend, "size = 2\nreplay.hold = \"64KiB\"").await;
    let stats = cluster.client().get("/stats").await.json();
    let name = stats["instance"].as_str().expect("a name").to_owned();
    for kind in ["crash", "reset", "truncate"] {
        let fault = format!("{kind}; bytes=1000000; only={name}");
        let mut met = false;
        for _ in 0..4 {
            let before = replays(&cluster).await;
            let reply = cluster.client().get_with_fault("/bytes/5000000", &fault).await;
            assert!(reply.is_intact() && reply.body.len() == 5_000_000, "{kind}: {}", reply.body.len());
            met = met || replays(&cluster).await > before;
        }
        assert!(met || kind != "crash", "the fault was not met");
        cluster.admin().has("calc", 2).await;
    }
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

async fn replays(cluster: &Cluster) -> f64 {
    cluster.admin().metrics().await.sum("longshore_replays_total", &[("service", "calc")])
}

async fn the_request_is_kept_to_its_end_and_sent_again_while_it_still_arrives(backend: Backend) {
    let cluster = cluster(backend, "size = 2").await;
    let parts: Vec<Bytes> = (0..20).map(|n| digest::body(n, 50_000).into()).collect();
    let (sender, body) = client::channel();
    let request = Request::post("/reflect");
    let (response, connection) = cluster.client().open(request, body).await.expect("an answer begins");
    let mut download = Download::from(response, connection);
    for (number, part) in parts.iter().enumerate() {
        sender.send(part.clone()).await.expect("it is taken");
        download.until((number + 1) * 50_000).await;
        if number == 10 {
            cluster.kill_instance(&instance(&cluster, &download.instance).await).await;
        }
    }
    drop(sender);
    assert!(download.rest().await == parts.concat(), "what came back is something else");
    cluster.admin().lost_nothing("calc").await;
    cluster.admin().works_on("calc", 0).await;
    cluster.admin().counts("longshore_queue_bytes", &[("service", "calc")], 0.0).await;
    cluster.stop().await;
}

/// Of a stream that is long for what the proxy may take.
const LONG: usize = 200 << 20;

async fn a_long_stream_takes_no_memory_to_go_on() {
    let cluster = cluster(Backend::Process, "size = 2\nreplay.resume_keep = \"8MiB\"").await;
    let path = format!("/stream?chunks={}&interval_ms=0&size=65536", LONG >> 16);
    let mut download = Download::of(&cluster.client(), Request::get(path)).await;
    let mut length = 0;
    let pattern: Vec<u8> = (0..65_536).map(|index| ((index * 31 + index / 251) % 256) as u8).collect();
    let mut killed = false;
    while download.read().await.expect("it goes on") {
        let received = std::mem::take(&mut download.received);
        let mut rest = &received[..];
        while !rest.is_empty() {
            let wanted = &pattern[length % pattern.len()..];
            let size = wanted.len().min(rest.len());
            assert!(rest[..size] == wanted[..size], "other bytes after {length}");
            rest = &rest[size..];
            length += size;
        }
        if !killed && length > LONG / 2 {
            killed = true;
            cluster.kill_instance(&instance(&cluster, &download.instance).await).await;
        }
    }
    assert_eq!(length, LONG);
    let memory = process::peak_memory(cluster.pid());
    eprintln!("the proxy had {} MiB at the most", memory >> 20);
    assert!(memory < 64 << 20, "the proxy had {} MiB", memory >> 20);
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

async fn a_client_that_leaves_while_another_instance_is_asked_is_no_loss(backend: Backend) {
    let keys = "concurrency = 1\nreplay.resume = true\nsize = 1";
    // Slow to start: the stream waits for the next instance.
    let arguments = "calculator --fault-start-delay 2s";
    let cluster = Setup::new(backend).model("calc", arguments, keys).start().await;
    let mut download = Download::of(&cluster.client(), Request::get(EVENTS)).await;
    download.until(50).await;
    cluster.kill_instance(&instance(&cluster, &download.instance).await).await;
    cluster.admin().queues("calc", 1).await;
    drop(download);
    cluster.admin().works_on("calc", 0).await;
    cluster.admin().queues("calc", 0).await;
    cluster.admin().lost_nothing("calc").await;
    cluster.admin().counts("longshore_client_gone_total", &[("service", "calc")], 1.0).await;
    assert_eq!(cluster.client().get("/add/3/4").await.text(), "7");
    cluster.stop().await;
}

both!(light 90: a_stream_goes_on_where_its_instance_was_killed, a_stream_outlives_several_instances);
both!(light 60: a_run_that_differs_is_cut_and_the_log_says_where, an_answer_too_large_to_be_held_goes_on);
both!(light 60: a_stream_that_kills_whatever_takes_it_is_cut_after_its_attempts);
both!(light 60: a_run_with_another_head_is_cut);
both!(light 60: the_request_is_kept_to_its_end_and_sent_again_while_it_still_arrives);
both!(light 60: a_client_that_leaves_while_another_instance_is_asked_is_no_loss);
each!(heavy 120: a_long_stream_takes_no_memory_to_go_on);
