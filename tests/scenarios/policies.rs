//! Orders of the queue, balancers and restart policies, from the file to the instance.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::Request;
use longshore_tests::server::Recorder;
use longshore_tests::{Backend, Cluster, PATIENCE, Setup, both, each, eventually};
use tokio::task::JoinSet;

use crate::queue::unready;

/// Sends requests, one after the other, to a service whose only server is not there yet; then it comes. The paths in
/// the order in which it saw them.
async fn served(queue: &str, requests: &[(&str, &'static str, &'static str)]) -> Vec<String> {
    let (address, service) = unready().await;
    let cluster = Setup::new(Backend::Process).service(&format!("{service}\nqueue = {queue}")).serve().await;
    let mut open = JoinSet::new();
    for (count, (path, field, value)) in (1..).zip(requests) {
        let (client, request) = (cluster.client(), Request::get(*path).header(*field, *value));
        open.spawn(async move { client.send(request, Bytes::new()).await.status });
        cluster.admin().queues("calc", count).await;
    }
    let listener = tokio::net::TcpListener::bind(address).await.expect("the port is still free");
    let recorder = Recorder::on(listener);
    let statuses = open.join_all().await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    cluster.stop().await;
    recorder.seen()
}

async fn a_request_of_higher_priority_is_served_first() {
    let field = "longshore-priority";
    let requests = [
        ("/a", field, "0"),
        ("/b", "x-other", "9"),
        ("/c", field, "9"),
        ("/d", field, "5"),
        ("/e", field, "9"),
    ];
    assert_eq!(served("{ order = \"priority\" }", &requests).await, ["/c", "/e", "/b", "/d", "/a"]);
}

async fn a_client_with_few_requests_need_not_wait_for_one_with_many() {
    let paths: Vec<String> = (0..24).map(|number| format!("/{number}")).collect();
    let user = |number: usize| if number < 20 { "many" } else { "few" };
    let requests: Vec<_> =
        paths.iter().enumerate().map(|(n, path)| (path.as_str(), "x-user", user(n))).collect();
    let seen = served("{ order = \"fair\", fair_key = \"header:X-User\" }", &requests).await;
    assert_eq!(seen[..9], ["/0", "/20", "/1", "/21", "/2", "/22", "/3", "/23", "/4"]);
}

async fn a_session_stays_with_its_instance() {
    let keys = "size = 3\nbalance = { policy = \"hash\", hash_key = \"cookie:session\" }";
    let cluster = Setup::new(Backend::Process).model("calc", "calculator", keys).start().await;
    cluster.admin().has("calc", 3).await;
    let mut homes: BTreeMap<u32, String> = BTreeMap::new();
    for turn in 0..5 {
        for session in 0..12 {
            let request = Request::get("/add/3/4").header("cookie", format!("a=b; session={session}"));
            let reply = cluster.client().send(request, Bytes::new()).await;
            let home = reply.header("longshore-instance").to_owned();
            assert_eq!(
                *homes.entry(session).or_insert(home.clone()),
                home,
                "turn {turn} of session {session}"
            );
        }
    }
    assert!(homes.values().collect::<BTreeSet<_>>().len() > 1, "{homes:?}");
    cluster.stop().await;
}

/// Kills one instance; what a client is told once nothing is left.
async fn told_after_a_kill(cluster: &Cluster, kind: &str) {
    let admin = cluster.admin();
    let victim = admin.ready("calc").await.remove(0);
    admin.post(&format!("/services/calc/instances/{}/kill", victim.id)).await;
    let reply = eventually(PATIENCE, "the service has no instance left", async || {
        let reply = cluster.client().get_from("calc", "/add/3/4").await;
        (reply.status == 503).then_some(reply)
    })
    .await;
    assert_eq!(reply.problem(), kind, "{}", reply.text());
    assert!(reply.detail().contains("signal 9"), "{}", reply.detail());
    let cause = admin.service("calc").await["cannot_start"].to_string();
    assert!(cause.contains("signal 9"), "{cause}");
}

async fn an_instance_that_is_never_replaced_stays_dead_until_a_size_is_set(backend: Backend) {
    let keys = "restart.policy = \"never\"";
    let cluster = Setup::new(backend).model("calc", "calculator", keys).start().await;
    told_after_a_kill(&cluster, "stopped").await;
    assert_eq!(cluster.client().get("/add/3/4").await.headers.get("retry-after"), None, "it will not change");
    let shown = cluster.command(&["ps"]).await;
    assert!(shown.stdout.contains("calc is stopped: killed by signal 9"), "{}", shown.stdout);
    let states: Vec<String> =
        cluster.admin().instances("calc").await.into_iter().map(|instance| instance.state).collect();
    assert_eq!(states, ["exited"]);
    cluster.admin().set_size("calc", 1).await;
    assert_eq!(cluster.client().get("/add/3/4").await.text(), "7");
    cluster.stop().await;
}

async fn one_dead_instance_stops_its_service_until_a_size_is_set(backend: Backend) {
    let keys = "size = 3\nrestart.policy = \"stop-service\"";
    let cluster = Setup::new(backend)
        .model("calc", "calculator", keys)
        .model("other", "calculator", "default = true")
        .start()
        .await;
    cluster.admin().has("calc", 3).await;
    told_after_a_kill(&cluster, "stopped").await;
    let admin = cluster.admin();
    admin.has("calc", 0).await;
    assert_eq!(cluster.client().get("/add/3/4").await.text(), "7", "others go on");
    admin.set_size("calc", 2).await;
    assert_eq!(cluster.client().get_from("calc", "/add/3/4").await.text(), "7");
    cluster.stop().await;
}

each!(light 60: a_request_of_higher_priority_is_served_first);
each!(light 60: a_client_with_few_requests_need_not_wait_for_one_with_many, a_session_stays_with_its_instance);
both!(light 90: an_instance_that_is_never_replaced_stays_dead_until_a_size_is_set);
both!(light 90: one_dead_instance_stops_its_service_until_a_size_is_set);
