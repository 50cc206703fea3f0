//! `longshore up --takeover`: another process serves, and nobody notices.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use longshore_tests::load::{Payload, Tally};
use longshore_tests::loyal::{self, Speech};
use longshore_tests::raw::Raw;
use longshore_tests::tls::Authority;
use longshore_tests::{Backend, Client, Cluster, PATIENCE, Setup, both, each, eventually, model};
use nix::sys::signal::Signal;
use tokio::task::{JoinHandle, JoinSet};

fn calc(keys: &str) -> String {
    model("calc", "calculator --fault-latency 20ms", &format!("concurrency = 1\n{keys}"))
}

/// Requests for so long, each on a connection of its own, which is accepted or refused.
fn load(cluster: &Cluster, seconds: u64) -> JoinHandle<Tally> {
    let address = cluster.address();
    tokio::spawn(async move {
        let payload = Payload::post(8 << 10);
        let (mut tally, mut open) = (Tally::default(), JoinSet::new());
        let mut tick = tokio::time::interval(Duration::from_millis(25));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(seconds) {
            tick.tick().await;
            let (payload, number) = (payload.clone(), tally.sent);
            tally.sent += 1;
            open.spawn(async move {
                let begun = Instant::now();
                (payload.send(&Client::new(address), number).await, begun.elapsed())
            });
        }
        while let Some(ended) = open.join_next().await {
            let (result, took) = ended.expect("no panic");
            tally.slowest = tally.slowest.max(took);
            match result {
                Ok(_) => tally.answered += 1,
                Err(error) => *tally.wrong.entry(error).or_default() += 1,
            }
        }
        tally
    })
}

/// The ids of its containers, in order.
fn containers(cluster: &Cluster) -> Vec<String> {
    let mut ids = cluster.docker().containers(cluster.name());
    ids.sort();
    ids
}

async fn three_in_a_row_under_load_refuse_no_connection(backend: Backend) {
    let mut cluster = Setup::new(backend).service(&calc("size = 2")).start().await;
    let before = if backend == Backend::Docker { containers(&cluster) } else { Vec::new() };
    let running = load(&cluster, 12);
    let address = cluster.address();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let old = cluster.take_over().await;
        assert_eq!(cluster.address(), address, "it has the same sockets");
        let status = old.ended(Duration::from_secs(45)).await;
        assert!(status.success(), "{status}");
    }
    let tally = running.await.expect("no panic");
    eprintln!("{} requests, the slowest took {:?}", tally.sent, tally.slowest);
    tally.lost_nothing();
    cluster.settled().await;
    if backend == Backend::Docker {
        assert_eq!(containers(&cluster), before, "they were adopted, none is doubled or replaced");
        let deaths = cluster.admin().metrics().await.sum("longshore_instance_deaths_total", &[]);
        assert!(deaths.abs() < 0.5, "{deaths} deaths");
    }
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

const TAKEOVERS: u64 = 3;

async fn clients_that_keep_their_connections_and_ask_nothing_twice_lose_no_answer(backend: Backend) {
    let authority = Arc::new(Authority::new());
    let setup = Setup::new(backend)
        .proxy("drain = \"4s\"")
        .proxy("tls = { listen = [\"127.0.0.1:0\"], cert = \"cert.pem\", key = \"key.pem\" }");
    let pair = authority.issue();
    setup.file("cert.pem", &pair.certificate_pem());
    setup.file("key.pem", &pair.key_pem());
    let keys = "concurrency = 4\nsize = 2\nhealth.failures = 10";
    let mut cluster = setup.service(&model("calc", "calculator --fault-latency 5ms", keys)).start().await;
    let time = Duration::from_secs(14);
    let (plain, secure) = (cluster.address(), cluster.secure_address());
    let running = [(plain, Speech::Http1, 8), (plain, Speech::Http2, 2), (secure, Speech::Tls(authority), 4)]
        .map(|(address, speech, clients)| tokio::spawn(loyal::ask(address, speech, clients, time)));
    // One that asks for nothing keeps its connection to the end of the drain, and may still ask until then.
    let mut silent = Raw::connect(plain).await;
    let ask = "GET /add/3/4 HTTP/1.1\r\nHost: calc\r\n\r\n";
    silent.send(ask).await;
    silent.until("\r\n\r\n7").await;
    let mut silent = Some(silent);
    for _ in 0..TAKEOVERS {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let old = cluster.take_over().await;
        if let Some(mut silent) = silent.take() {
            assert!(
                silent.is_silent_for(Duration::from_secs(1)).await,
                "it is closed while its client may ask"
            );
            silent.send(ask).await;
            let answers = silent.rest().await;
            assert!(answers.ends_with('7') && answers.contains("connection: close"), "{answers}");
        }
        assert!(old.ended(Duration::from_secs(45)).await.success());
    }
    let mut farewells = 0;
    for one in running {
        let one = one.await.expect("no panic");
        eprintln!(
            "{} answers on {} connections, {} farewells",
            one.tally.answered, one.connections, one.farewells
        );
        one.tally.lost_nothing();
        farewells += one.farewells;
    }
    assert!(farewells >= TAKEOVERS * 12, "each client of HTTP/1.1 is told by each process: {farewells}");
    cluster.stop().await;
}

async fn one_that_still_waits_for_idle_clients_makes_way_for_a_third(backend: Backend) {
    let mut cluster = Setup::new(backend).service(&calc("size = 1")).start().await;
    let running = tokio::spawn(loyal::ask(cluster.address(), Speech::Http1, 4, Duration::from_secs(8)));
    let (mut idle, mut old) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let client = cluster.client();
        assert_eq!(client.get("/add/3/4").await.text(), "7");
        idle.push(client);
        // Each keeps a connection to one that the next does not wait for.
        old.push(cluster.take_over().await);
    }
    let last = old.pop().expect("three");
    for one in old {
        assert!(one.ended(Duration::from_secs(5)).await.success(), "it was in no hurry");
    }
    running.await.expect("no panic").tally.lost_nothing();
    drop(idle);
    assert!(last.ended(Duration::from_secs(5)).await.success());
    cluster.settled().await;
    cluster.stop().await;
}

async fn jobs_are_taken_again_soon_though_a_client_keeps_its_connection() {
    let mut cluster = Setup::new(Backend::Process).service(&calc("size = 1")).start().await;
    let job = async |client: &Client| {
        client.send(Request::get("/add/3/4").header("prefer", "respond-async"), Bytes::new()).await.status
    };
    let kept = cluster.client();
    assert_eq!(job(&kept).await, 202);
    let begun = Instant::now();
    let old = cluster.take_over().await;
    // Until the old one has let go of the folder.
    cluster.expect_error("the job store fails");
    eventually(PATIENCE, "jobs are taken", async || (job(&cluster.client()).await == 202).then_some(()))
        .await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(old.ended(Duration::from_secs(45)).await.success());
    drop(kept);
    cluster.stop().await;
}

async fn where_nothing_is_open_the_old_process_goes_at_once(backend: Backend) {
    let mut cluster = Setup::new(backend).service(&calc("size = 1")).start().await;
    for _ in 0..5 {
        let old = cluster.take_over().await;
        assert!(old.ended(Duration::from_secs(45)).await.success());
        assert_eq!(cluster.client().get("/add/3/4").await.text(), "7");
    }
    cluster.stop().await;
}

async fn what_is_open_goes_on_in_the_old_process(backend: Backend) {
    let keys = "size = 1";
    let mut cluster = Setup::new(backend).service(&calc(keys)).start().await;
    let mut open = Raw::connect(cluster.address()).await;
    open.send("GET /upgrade HTTP/1.1\r\nHost: calc\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n").await;
    open.until("\r\n\r\n").await;
    // It has the only slot; what waits in the old one is before what comes to the new one.
    let ask = |client: Client| tokio::spawn(async move { client.get("/add/3/4").await.text() });
    let waiting = ask(cluster.client());
    cluster.admin().queues("calc", 1).await;
    let old = cluster.take_over().await;
    let later = ask(cluster.client());
    for word in ["one", "two"] {
        open.send(word).await;
        open.until(word).await;
    }
    if backend == Backend::Docker {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!later.is_finished(), "an instance has one slot, whoever fills it");
    }
    open.finish().await;
    open.rest().await;
    assert_eq!(waiting.await.expect("no panic"), "7");
    assert_eq!(later.await.expect("no panic"), "7");
    assert!(old.ended(Duration::from_secs(45)).await.success());
    cluster.settled().await;
    cluster.stop().await;
}

async fn another_configuration_rolls_and_loses_nothing(backend: Backend) {
    let mut cluster = Setup::new(backend)
        .service(&calc("default = true\nsize = 2"))
        .model("gone", "echo", "")
        .start()
        .await;
    let before = if backend == Backend::Docker { containers(&cluster) } else { Vec::new() };
    assert_eq!(cluster.admin().set_size("calc", 3).await.status, 200);
    cluster.admin().has("calc", 3).await;
    let running = load(&cluster, 6);
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.setup_mut().replace_services(&format!(
        "{}{}",
        calc("default = true\nsize = 2\nenv = { COLOUR = \"blue\" }"),
        model("new", "echo", "")
    ));
    let old = cluster.take_over().await;
    assert_eq!(cluster.client().get_from("new", "/").await.status, 200);
    running.await.expect("no panic").lost_nothing();
    assert!(old.ended(Duration::from_secs(45)).await.success());
    cluster.admin().has("calc", 3).await;
    if backend == Backend::Docker {
        eventually(PATIENCE, "the old ones are gone", async || {
            let now = containers(&cluster);
            (now.len() == 4 && now.iter().all(|id| !before.contains(id))).then_some(())
        })
        .await;
    }
    cluster.stop().await;
}

async fn one_that_cannot_start_leaves_the_old_one_as_it_was(backend: Backend) {
    let cluster = Setup::new(backend).service(&calc("size = 2")).start().await;
    let before = cluster.admin().has("calc", 2).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().map(|address| (taken, address)).expect("it is bound");
    let text = std::fs::read_to_string(cluster.folder().join("cluster.toml")).expect("it is there");
    let listen = format!("listen = [\"127.0.0.1:0\", \"{}\"]", taken.1);
    let other = cluster.folder().join("other.toml");
    for (broken, said) in [
        (text.replace("listen = [\"127.0.0.1:0\"]", &listen), "in use"),
        (text.replace("\"calculator\"", "\"no-such-model\""), ""),
    ] {
        if said.is_empty() && backend == Backend::Docker {
            // There its instances are replaced one by one, which goes on only as far as the new ones get.
            continue;
        }
        std::fs::write(&other, broken).expect("it can be written");
        let done = cluster.up_beside(&other, &["--takeover"]).await;
        assert_eq!(done.code, 1, "{}", done.stderr);
        assert!(done.stderr.contains(said), "{}", done.stderr);
        assert_eq!(cluster.client().get("/add/3/4").await.text(), "7");
    }
    // It is in charge as before.
    cluster.kill_instance(&before[0]).await;
    eventually(PATIENCE, "the dead one is replaced", async || {
        let ready = cluster.admin().ready("calc").await;
        (ready.len() == 2 && ready.iter().all(|one| one.id != before[0].id)).then_some(())
    })
    .await;
    cluster.stop().await;
}

async fn an_instance_that_dies_in_the_middle_is_replaced_by_the_new_process(backend: Backend) {
    let mut cluster = Setup::new(backend).service(&calc("size = 1")).start().await;
    // At work in the old process, and waiting there.
    let slow = |client: Client| {
        tokio::spawn(async move {
            let request = Request::get("/add/3/4").header("fault", "latency=1500ms");
            client.send(request, Bytes::new()).await.text()
        })
    };
    let open = [slow(cluster.client()), slow(cluster.client())];
    cluster.admin().queues("calc", 1).await;
    let victim = cluster.admin().has("calc", 1).await.remove(0);
    let old = cluster.take_over().await;
    let running = load(&cluster, 5);
    if backend == Backend::Docker {
        cluster.kill_instance(&victim).await;
    } else {
        for one in cluster.admin().ready("calc").await {
            cluster.kill_instance(&one).await;
        }
    }
    for one in open {
        assert_eq!(one.await.expect("no panic"), "7");
    }
    running.await.expect("no panic").lost_nothing();
    assert!(old.ended(Duration::from_secs(45)).await.success());
    cluster.settled().await;
    cluster.stop().await;
}

async fn without_a_running_one_it_starts_as_usual() {
    let mut cluster =
        Setup::new(Backend::Docker).argument("--takeover").service(&calc("size = 2")).start().await;
    let before = containers(&cluster);
    // One that was killed has left its place behind, and its containers.
    cluster.kill().await;
    cluster.again().await;
    cluster.settled().await;
    assert_eq!(containers(&cluster), before);
    assert_eq!(cluster.client().get("/add/3/4").await.text(), "7");
    cluster.signal(Signal::SIGTERM);
    assert!(cluster.ended(Duration::from_secs(20)).await.success());
    cluster.nothing_is_left();
}

/// In a network of its own, since `run` has fixed ports.
async fn a_single_image_is_taken_over_by_another_tag() {
    const SCRIPT: &str = r#"
        set -eu
        ip link set lo up
        ask() { curl -sS --retry 100 --retry-delay 1 --retry-connrefused --max-time 30 "$@"; }
        "$BIN" run calc:1 --backend process -- "$MODEL" calculator 2>one.log & one=$!
        ask http://127.0.0.1:5000/add/3/4; echo
        "$BIN" run calc:2 --backend process --size 2 --takeover -- "$MODEL" calculator 2>two.log & two=$!
        wait $one; echo "the first has ended with $?"
        ask http://127.0.0.1:5000/add/5/6; echo
        ask http://127.0.0.1:5001/services/calc | grep -o '"image":"[^"]*"' | head -1
        kill -TERM $two; wait $two; echo "the second has ended with $?"
    "#;
    let folder = tempfile::tempdir().expect("a folder");
    let model = longshore_tests::repository().join("images/model-server/bin/model-server");
    let mut script = tokio::process::Command::new("unshare");
    script.args(["--net", "--map-root-user", "sh", "-c", SCRIPT]).current_dir(folder.path());
    script.env("BIN", longshore_tests::binary()).env("MODEL", model).env("XDG_RUNTIME_DIR", folder.path());
    let done = script.kill_on_drop(true).output().await.expect("util-linux is installed");
    let (said, wrong) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    let log = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    let expected = "7\nthe first has ended with 0\n11\n\"image\":\"calc:2\"\nthe second has ended with 0\n";
    assert_eq!(said, expected, "{wrong}\n{}\n{}", log("one.log"), log("two.log"));
}

both!(heavy 150: three_in_a_row_under_load_refuse_no_connection);
both!(heavy 120: clients_that_keep_their_connections_and_ask_nothing_twice_lose_no_answer);
both!(light 120: one_that_still_waits_for_idle_clients_makes_way_for_a_third);
each!(light 60: jobs_are_taken_again_soon_though_a_client_keeps_its_connection);
both!(light 120: where_nothing_is_open_the_old_process_goes_at_once);
both!(light 120: what_is_open_goes_on_in_the_old_process, another_configuration_rolls_and_loses_nothing);
both!(light 90: one_that_cannot_start_leaves_the_old_one_as_it_was);
both!(light 90: an_instance_that_dies_in_the_middle_is_replaced_by_the_new_process);
each!(light 90: without_a_running_one_it_starts_as_usual, a_single_image_is_taken_over_by_another_tag);
