//! Another cluster.toml while the cluster runs: what is different is put in force, and nothing else is disturbed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use longshore_tests::load::{Payload, Tally, at_rate};
use longshore_tests::raw::Raw;
use longshore_tests::server::Recorder;
use longshore_tests::{
    Backend, Client, Cluster, PATIENCE, Reply, Setup, both, each, eventually, model, process,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::task::JoinHandle;

/// Other services, and `POST /reload`.
async fn reload(cluster: &mut Cluster, services: &str) -> Reply {
    cluster.setup_mut().replace_services(services);
    cluster.setup_mut().write();
    cluster.admin().post("/reload").await
}

/// The same, which must be taken.
async fn reloaded(cluster: &mut Cluster, services: &str) -> Value {
    let reply = reload(cluster, services).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

fn calc(keys: &str) -> String {
    model("calc", "calculator --fault-latency 20ms", &format!("concurrency = 1\ndefault = true\n{keys}"))
}

/// Load for so long.
fn load(cluster: &Cluster, seconds: u64) -> JoinHandle<Tally> {
    let payload = Payload::post(32 << 10);
    tokio::spawn(at_rate(cluster.client(), payload, 30.0, Duration::from_secs(seconds)))
}

async fn ids(cluster: &Cluster, service: &str) -> BTreeSet<String> {
    cluster.admin().ready(service).await.into_iter().map(|instance| instance.id).collect()
}

/// A stream and an upgraded connection to a service, which must go on whatever happens to the others.
struct Open {
    stream: JoinHandle<usize>,
    upgraded: Raw,
}

const CHUNKS: usize = 60;

impl Open {
    async fn to(cluster: &Cluster, service: &str) -> Self {
        let path = format!("/stream?chunks={CHUNKS}&interval_ms=100&size=8");
        let request = Request::get(path).header("longshore-service", service);
        let body = Empty::<Bytes>::new().map_err(|never| match never {});
        let (response, connection) = cluster.client().open(request, body).await.expect("it begins");
        let stream = tokio::spawn(async move {
            let whole = response.into_body().collect().await.expect("the stream is whole").to_bytes();
            drop(connection);
            whole.len()
        });
        let mut upgraded = Raw::connect(cluster.address()).await;
        upgraded
            .send(format!(
                "GET /upgrade HTTP/1.1\r\nHost: {service}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
            ))
            .await;
        upgraded.until("\r\n\r\n").await;
        Self { stream, upgraded }
    }

    async fn echoes(&mut self, word: &str) {
        self.upgraded.send(word).await;
        self.upgraded.until(word).await;
    }

    async fn was_whole(mut self) {
        self.echoes("to the end").await;
        self.upgraded.finish().await;
        self.upgraded.rest().await;
        let size = self.stream.await.expect("no panic");
        assert!(size >= CHUNKS * 8, "{size} bytes of the stream came");
    }
}

async fn every_kind_of_change_loses_nothing_and_leaves_others_alone(backend: Backend) {
    let far = Recorder::start().await.address;
    let quiet = model("quiet", "echo", "concurrency = 0");
    let with = |keys: &str, more: &str| format!("{}{quiet}{more}", calc(keys));
    let setup = Setup::new(backend).service(&with("size = 2", ""));
    let mut cluster = setup.start().await;
    let before = ids(&cluster, "quiet").await;
    let mut open = Open::to(&cluster, "quiet").await;
    let running = load(&cluster, 8);

    // Nothing.
    let view = reloaded(&mut cluster, &with("size = 2", "")).await;
    assert_eq!((&view["changed"], &view["summary"]), (&false.into(), &"nothing has changed".into()));
    // Limits and policies: the instances stay.
    let old = ids(&cluster, "calc").await;
    let keys = "size = 2\ntimeout = \"30s\"\nqueue.limit = 77\nqueue.order = \"fair\"\nbalance.policy = \"round-robin\"\n\
                replay.attempts = 5\nhealth.interval = \"1s\"\nstop_grace = \"3s\"\nhosts = [\"calc\", \"sums\"]\npaths = [\"/add\"]";
    let view = reloaded(&mut cluster, &with(keys, "")).await;
    assert_eq!(view["services_changed"][0]["rolls"], false, "{view}");
    assert_eq!(ids(&cluster, "calc").await, old);
    let service = cluster.admin().service("calc").await;
    assert_eq!(
        (&service["queue"]["limit"], &service["config"]["replay"]["attempts"]),
        (&77.into(), &5.into())
    );
    assert_eq!(
        cluster.client().send(Request::get("/add/1/1").header("host", "sums"), Bytes::new()).await.text(),
        "2"
    );
    open.echoes("after limits").await;
    // The size.
    reloaded(&mut cluster, &with("size = 3", "")).await;
    cluster.admin().has("calc", 3).await;
    // What instances are made from: each is replaced.
    let old = ids(&cluster, "calc").await;
    let view = reloaded(&mut cluster, &with("size = 2\nenv = { COLOUR = \"blue\" }", "")).await;
    assert_eq!(view["services_changed"][0]["rolls"], true, "{view}");
    eventually(PATIENCE, "all are new", async || {
        let now = ids(&cluster, "calc").await;
        (now.len() == 2 && now.is_disjoint(&old)).then_some(())
    })
    .await;
    open.echoes("after a roll").await;
    // Services come.
    let more = format!(
        "{}[services.far]\naddresses = [\"{far}\"]\nhealth.path = \"/healthz\"\n",
        model("new", "echo", "")
    );
    let keys = "size = 2\nenv = { COLOUR = \"blue\" }";
    let view = reloaded(&mut cluster, &with(keys, &more)).await;
    assert_eq!(view["services_added"], serde_json::json!(["new", "far"]), "{view}");
    for name in ["new", "far"] {
        assert_eq!(cluster.client().get_from(name, "/healthz").await.status, 200, "{name}");
    }
    // And go.
    let view = reloaded(&mut cluster, &with(keys, "")).await;
    assert_eq!(view["services_removed"], serde_json::json!(["new", "far"]), "{view}");
    assert_eq!(cluster.client().get_from("new", "/").await.problem(), "no-service");
    open.echoes("after services came and went").await;

    let tally = running.await.expect("no panic");
    tally.lost_nothing();
    assert_eq!(tally.replayed, 0, "nothing was taken from an instance at work");
    for name in ["calc", "quiet"] {
        cluster.admin().lost_nothing(name).await;
    }
    open.was_whole().await;
    assert_eq!(ids(&cluster, "quiet").await, before, "nobody has touched it");
    let metrics = cluster.admin().metrics().await;
    let reloads = |result| metrics.sum("longshore_config_reloads_total", &[("result", result)]) as u64;
    assert_eq!((reloads("applied"), reloads("refused")), (5, 0));
    assert!(reloads("unchanged") >= 1);
    assert!(metrics.sum("longshore_config_last_reload_success_timestamp_seconds", &[]) > 1.7e9);
    cluster.stop().await;
}

async fn what_was_accepted_for_a_removed_service_is_answered(backend: Backend) {
    let setup = Setup::new(backend).service(&calc("")).model("slow", "calculator", "concurrency = 1");
    let mut cluster = setup.start().await;
    let slow = cluster.admin().has("slow", 1).await.remove(0);
    let process = cluster.instance_pid(&slow);
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let client = cluster.client();
        waiting.push(tokio::spawn(async move {
            let request =
                Request::get("/add/3/4").header("longshore-service", "slow").header("fault", "latency=700ms");
            client.send(request, Bytes::new()).await.text()
        }));
    }
    cluster.admin().works_on("slow", 1).await;
    cluster.admin().queues("slow", 2).await;
    reloaded(&mut cluster, &calc("")).await;
    assert_eq!(cluster.client().get_from("slow", "/add/1/1").await.status, 404);
    for one in waiting {
        assert_eq!(one.await.expect("no panic"), "7");
    }
    match backend {
        Backend::Docker => {
            eventually(PATIENCE, "its container is gone", async || {
                (cluster.docker().containers(cluster.name()).len() == 1).then_some(())
            })
            .await;
        }
        Backend::Process => {
            let process = process.expect("it is a child");
            eventually(PATIENCE, "its process is gone", async || (!process::lives(process)).then_some(()))
                .await;
        }
    }
    let gauges = cluster.admin().metrics().await.sum("longshore_instances", &[("service", "slow")]);
    assert!(gauges.abs() < 0.5, "its state is shown still");
    // It may come back.
    reloaded(&mut cluster, &format!("{}{}", calc(""), model("slow", "calculator", ""))).await;
    assert_eq!(cluster.client().get_from("slow", "/add/3/4").await.text(), "7");
    cluster.stop().await;
}

async fn a_broken_file_is_refused_with_its_mistakes_and_nothing_changes() {
    let mut cluster = Setup::new(Backend::Process).service(&calc("")).start().await;
    cluster.expect_error("the new configuration is refused");
    let before = ids(&cluster, "calc").await;
    let reply = reload(&mut cluster, &calc("sice = 3")).await;
    assert_eq!((reply.status, reply.header("content-type")), (400, "application/problem+json"));
    let (body, detail) = (reply.json(), reply.detail());
    assert!(
        detail.contains("sice = 3") && detail.contains("did you mean `size`?") && detail.contains('^'),
        "{detail}"
    );
    assert_eq!(body["errors"][0]["pointer"], "/services/calc/sice", "{body}");
    assert!(body["errors"][0]["line"].as_u64().is_some_and(|line| line > 5), "{body}");
    // What is right, and cannot be put in force.
    let path = cluster.folder().join("cluster.toml");
    let text = std::fs::read_to_string(&path).expect("it was written").replace("sice", "size");
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let listed = format!("listen = [\"127.0.0.1:0\", \"{}\"]", taken.local_addr().expect("it is bound"));
    for (text, pointer, said) in [
        (text.replacen("name = \"", "name = \"other-", 1), "/name", "cannot become"),
        (
            text.replacen("listen = [\"127.0.0.1:0\"]", &listed, 1),
            "/proxy/listen/1",
            "another program has that port",
        ),
    ] {
        std::fs::write(&path, text).expect("a file");
        let reply = cluster.admin().post("/reload").await;
        assert_eq!(reply.status, 400, "{}", reply.text());
        let (body, detail) = (reply.json(), reply.detail());
        assert!(detail.contains(said) && detail.contains('^'), "{detail}");
        assert_eq!(body["errors"][0]["pointer"], pointer, "{body}");
        assert!(body["errors"][0]["line"].is_u64() && body["errors"][0]["column"].is_u64(), "{body}");
    }
    // What cannot be changed, and what cannot be had.
    for (text, said) in [
        (format!("[backend]\nkind = \"docker\"\n{}", calc("")), None),
        (
            format!("{}[services.other]\nimage = \"x\"\ncommand = [\"no-such-program\"]\n", calc("")),
            Some("no-such-program"),
        ),
    ] {
        let reply = reload(&mut cluster, &text).await;
        match said {
            Some(said) => {
                assert_eq!(reply.status, 400, "{}", reply.text());
                assert!(reply.detail().contains(said), "{}", reply.text());
            }
            // The command line demands another one, whatever the file says.
            None => assert_eq!(reply.status, 200, "{}", reply.text()),
        }
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("it is bound").to_string();
    let text = cluster.setup_mut().write();
    let right = std::fs::read_to_string(&text).expect("it is there");
    let broken = right.replace("listen = [\"127.0.0.1:0\"]", &format!("listen = [\"{taken}\"]"));
    std::fs::write(&text, broken.replace("no-such-program", "model-server")).expect("it can be written");
    let _held = std::net::TcpListener::bind(&taken).ok();
    let reply = cluster.admin().post("/reload").await;
    assert!(reply.status == 400 && reply.detail().contains(&taken), "{}", reply.text());
    assert_eq!(ids(&cluster, "calc").await, before);
    assert_eq!(cluster.client().get("/add/3/4").await.text(), "7");
    let refused =
        cluster.admin().metrics().await.sum("longshore_config_reloads_total", &[("result", "refused")]);
    assert!(refused > 2.5, "{refused}");
    cluster.stop().await;
}

async fn a_file_that_an_editor_replaces_is_read_and_so_it_is_at_sighup() {
    let mut cluster = Setup::new(Backend::Process).service(&calc("size = 1")).start().await;
    let path = cluster.setup_mut().write();
    let with = |size: u32| {
        std::fs::read_to_string(&path).expect("it is there").replace("size = 1", &format!("size = {size}"))
    };
    // Another file under its name.
    let (second, third) = (with(2), with(3));
    let beside = cluster.folder().join("cluster.toml.swp");
    std::fs::write(&beside, second).expect("it can be written");
    std::fs::rename(&beside, &path).expect("it can be renamed");
    cluster.admin().has("calc", 2).await;
    // A broken one is said once, and the right one after it is taken.
    cluster.expect_error("the new configuration is refused");
    std::fs::write(&path, "[services.calc]\nimage = ").expect("it can be written");
    eventually(PATIENCE, "the mistake is in the log", async || {
        cluster.log().iter().any(|line| line.contains("the new configuration is refused")).then_some(())
    })
    .await;
    // In place, and told by a signal before anybody looks.
    std::fs::write(&path, third).expect("it can be written");
    cluster.signal(Signal::SIGHUP);
    cluster.admin().has("calc", 3).await;
    let said = cluster.log().iter().filter(|line| line.contains("the new configuration is refused")).count();
    assert_eq!(said, 1);
    cluster.stop().await;
}

async fn listeners_open_and_close_and_connections_elsewhere_stay() {
    let free =
        || std::net::TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a port");
    let (first, second, admin) = (free(), free(), free());
    let listen = |addresses: &[std::net::SocketAddr]| {
        let list: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
        format!("listen = [{}]", list.join(", "))
    };
    let setup = Setup::new(Backend::Process)
        .proxy(&listen(&[first]))
        .service(&calc("").replace("concurrency = 1", "concurrency = 0"));
    let mut cluster = setup.start().await;
    let path = cluster.setup_mut().write();
    let right = std::fs::read_to_string(&path).expect("it is there");
    let mut open = Raw::connect(first).await;
    open.send("GET /upgrade HTTP/1.1\r\nHost: calc\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n").await;
    open.until("\r\n\r\n").await;
    cluster.admin().works_on("calc", 1).await;

    std::fs::write(&path, right.replace(&listen(&[first]), &listen(&[first, second])))
        .expect("it can be written");
    let view = cluster.admin().post("/reload").await;
    assert_eq!(view.json()["listeners_opened"], serde_json::json!([second.to_string()]), "{}", view.text());
    let mut idle = Raw::connect(first).await;
    let ask = "GET /add/3/4 HTTP/1.1\r\nHost: calc\r\n\r\n";
    idle.send(ask).await;
    idle.until("\r\n\r\n7").await;
    open.send("one").await;
    open.until("one").await;
    std::fs::write(&path, right.replace(&listen(&[first]), &listen(&[second]))).expect("it can be written");
    let view = cluster.admin().post("/reload").await;
    assert_eq!(view.json()["listeners_closed"], serde_json::json!([first.to_string()]), "{}", view.text());
    eventually(PATIENCE, "nobody listens there", async || {
        std::net::TcpStream::connect_timeout(&first, Duration::from_millis(200)).is_err().then_some(())
    })
    .await;
    // Who keeps a connection there is answered once more, and told.
    assert!(idle.is_silent_for(Duration::from_millis(500)).await, "it is closed while its client may ask");
    idle.send(ask).await;
    let answers = idle.rest().await;
    assert!(answers.ends_with('7') && answers.contains("connection: close"), "{answers}");
    open.send("two").await;
    open.until("two").await;
    open.finish().await;
    open.rest().await;
    assert_eq!(Client::new(second).get("/add/3/4").await.text(), "7");
    // The admin API moves; the answer still comes on the old way.
    let moved = right
        .replace(&listen(&[first]), &listen(&[second]))
        .replace("listen = \"127.0.0.1:0\"", &format!("listen = \"{admin}\""));
    std::fs::write(&path, moved).expect("it can be written");
    assert_eq!(cluster.admin().post("/reload").await.status, 200);
    assert_eq!(Client::new(admin).get("/healthz").await.status, 200);
    cluster.stop().await;
}

async fn a_size_that_was_set_stays_unless_the_files_changes() {
    let mut cluster = Setup::new(Backend::Process).service(&calc("size = 1")).start().await;
    assert_eq!(cluster.admin().set_size("calc", 3).await.status, 200);
    cluster.admin().has("calc", 3).await;
    reloaded(&mut cluster, &calc("size = 1\nqueue.limit = 5")).await;
    let size = cluster.admin().service("calc").await["size"].clone();
    assert_eq!((&size["wanted"], &size["overridden"]), (&3.into(), &true.into()));
    reloaded(&mut cluster, &calc("size = 2\nqueue.limit = 5")).await;
    cluster.admin().has("calc", 2).await;
    assert_eq!(cluster.admin().service("calc").await["size"]["overridden"], false);
    cluster.stop().await;
}

async fn addresses_change_and_those_that_stay_are_not_disturbed() {
    let servers =
        [Recorder::start().await.address, Recorder::start().await.address, Recorder::start().await.address];
    let listed = |list: &[usize]| {
        let list: Vec<String> = list.iter().map(|&one| format!("\"{}\"", servers[one])).collect();
        format!("[services.far]\naddresses = [{}]\nhealth.path = \"/healthz\"\n", list.join(", "))
    };
    let mut cluster = Setup::new(Backend::Process).service(&listed(&[0, 1])).start().await;
    let before = cluster.admin().has("far", 2).await;
    reloaded(&mut cluster, &listed(&[0, 2, 1])).await;
    let now = cluster.admin().has("far", 3).await;
    assert_eq!(now[0].id, before[0].id, "the first is where it was");
    let addresses: Vec<_> = now.iter().filter_map(|one| one.address).collect();
    assert_eq!(addresses, [servers[0], servers[2], servers[1]]);
    reloaded(&mut cluster, &listed(&[2])).await;
    eventually(PATIENCE, "only the third is left", async || {
        let now = cluster.admin().ready("far").await;
        (now.len() == 1 && now[0].address == Some(servers[2])).then_some(())
    })
    .await;
    cluster.stop().await;
}

async fn an_instance_that_dies_in_the_middle_of_a_roll_takes_nothing_with_it(backend: Backend) {
    let mut cluster = Setup::new(backend).service(&calc("size = 2")).start().await;
    let running = load(&cluster, 6);
    let begun = Instant::now();
    let mut version = 0;
    while begun.elapsed() < Duration::from_secs(5) {
        version += 1;
        reloaded(&mut cluster, &calc(&format!("size = 2\nenv = {{ VERSION = \"{version}\" }}"))).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        if let Some(one) = cluster.admin().ready("calc").await.first() {
            cluster.kill_instance(one).await;
        }
        tokio::time::sleep(Duration::from_millis(800)).await;
    }
    running.await.expect("no panic").lost_nothing();
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

both!(heavy 120: every_kind_of_change_loses_nothing_and_leaves_others_alone);
both!(light 90: what_was_accepted_for_a_removed_service_is_answered);
both!(heavy 120: an_instance_that_dies_in_the_middle_of_a_roll_takes_nothing_with_it);
each!(light 60: a_broken_file_is_refused_with_its_mistakes_and_nothing_changes);
each!(light 60: a_file_that_an_editor_replaces_is_read_and_so_it_is_at_sighup);
each!(light 60: listeners_open_and_close_and_connections_elsewhere_stay);
each!(light 60: a_size_that_was_set_stays_unless_the_files_changes);
each!(light 60: addresses_change_and_those_that_stay_are_not_disturbed);
