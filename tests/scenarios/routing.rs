//! Which service a request is for, where neither header, host nor path says so; and where it belongs among instances.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use longshore_tests::raw::Raw;
use longshore_tests::{Backend, Cluster, Reply, Setup, both, client, digest, each};

/// Two services with models, and one that gets the rest.
async fn cluster(backend: Backend) -> Cluster {
    Setup::new(backend)
        .proxy("memory_per_body = \"64KiB\"\nmodel_head = \"8MiB\"")
        .model(
            "small",
            "echo",
            "models = [\"tiny\", \"org/tiny:8b\"]\npaths = [\"/small\"]\nstrip_prefix = true",
        )
        .model("large", "echo", "models = [\"größe\"]")
        .model("rest", "echo", "default = true")
        .start()
        .await
}

async fn post(cluster: &Cluster, kind: &str, body: impl Into<Bytes>) -> Reply {
    let body = body.into();
    let request = Request::post("/v1/chat/completions")
        .header("content-type", kind)
        .header("content-digest", digest::field(&body));
    cluster.client().send(request, body).await
}

fn service(reply: &Reply) -> &str {
    reply.header("longshore-instance").split('-').next().unwrap_or_default()
}

async fn a_body_chooses_its_service_by_the_model_that_it_names(backend: Backend) {
    let cluster = cluster(backend).await;
    let json = "application/json";
    let deep = "[".repeat(50_000) + &"]".repeat(50_000);
    let image = "x".repeat(3 << 20);
    for (kind, body, chosen) in [
        (json, r#"{"model":"tiny","messages":[]}"#.to_owned(), "small"),
        (json, r#"{"messages":[{"model":"tiny"}],"model":"gr\u00f6\u00dfe"}"#.to_owned(), "large"),
        ("application/json; charset=utf-8", r#"{"model":"größe"}"#.to_owned(), "large"),
        (json, r#"{"messages":[{"model":"tiny"}]}"#.to_owned(), "rest"),
        (json, r#"{"model":"unknown"}"#.to_owned(), "rest"),
        (json, r#"{"model":7}"#.to_owned(), "rest"),
        (json, "nonsense".to_owned(), "rest"),
        (json, String::new(), "rest"),
        ("application/x-www-form-urlencoded", r#"{"model":"org/tiny:8b"}"#.to_owned(), "small"),
        ("multipart/form-data; boundary=x", r#"{"model":"tiny"}"#.to_owned(), "rest"),
        (json, format!(r#"{{"deep":{deep},"model":"tiny"}}"#), "small"),
        (json, format!(r#"{{"image":"{image}","model":"tiny"}}"#), "small"),
        (json, format!(r#"{{"model":"tiny","image":"{}"}}"#, "x".repeat(20 << 20)), "small"),
        // Beyond model_head nobody looks.
        (json, format!(r#"{{"image":"{}","model":"tiny"}}"#, "x".repeat(9 << 20)), "rest"),
    ] {
        let reply = post(&cluster, kind, body.clone()).await;
        let shown = &body[..body.len().min(80)];
        assert_eq!((reply.status, service(&reply)), (200, chosen), "{shown}: {}", reply.text());
        assert_eq!(reply.json()["body"]["sha256"], digest::hex(body.as_bytes()), "{shown}");
    }
    for name in ["small", "large", "rest"] {
        cluster.admin().works_on(name, 0).await;
        let kept = cluster.admin().metrics().await.sum("longshore_queue_bytes", &[("service", name)]);
        assert_eq!(kept, 0.0, "{name} keeps bytes of bodies that are gone");
    }
    cluster.stop().await;
}

async fn other_rules_come_before_the_model() {
    let cluster = cluster(Backend::Process).await;
    let ask = async |path: &str, field: &str, value: &str| {
        let request = Request::post(path).header("content-type", "application/json").header(field, value);
        cluster.client().send(request, Bytes::from_static(b"{\"model\":\"tiny\"}")).await
    };
    assert_eq!(service(&ask("/x", "x-nothing", "x").await), "small");
    assert_eq!(service(&ask("/x", "longshore-service", "rest").await), "rest");
    assert_eq!(service(&ask("/x", "host", "large.localhost").await), "large");
    let stripped = ask("/small/x?y=1", "x-nothing", "x").await;
    assert_eq!((service(&stripped), &stripped.json()["path"]), ("small", &"/x".into()));
    assert!(
        stripped.text().contains("x-forwarded-prefix") && stripped.text().contains("\"/small\""),
        "{}",
        stripped.text()
    );
    let whole = ask("/x", "longshore-service", "small").await;
    assert!(!whole.text().contains("x-forwarded-prefix"), "{}", whole.text());
    // Of the header, the host and the path, the first that matches.
    assert_eq!(service(&ask("/small/x", "host", "rest").await), "rest");
    cluster.stop().await;
}

async fn a_name_that_comes_late_and_in_pieces_is_waited_for() {
    let cluster = cluster(Backend::Process).await;
    let mut raw = Raw::connect(cluster.address()).await;
    raw.send(
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\
         Connection: close\r\n\r\n",
    )
    .await;
    for piece in ["{\"a\":\"\\", "\"\",\"mod", "el\"", ":\"ti", "ny\"", ",\"z\":1}"] {
        raw.send(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    raw.send("0\r\n\r\n").await;
    let answer = raw.rest().await;
    assert!(answer.contains(" 200 ") && answer.contains("longshore-instance: small-"), "{answer}");
    // As soon as the name is there, the instance sees the request: it may answer before the body ends.
    let (sender, body) = client::channel();
    let request = Request::post("/reflect").header("content-type", "application/json");
    sender.send(Bytes::from_static(b"{\"model\":\"tiny\",")).await.expect("it is taken");
    let (response, _connection) = cluster.client().open(request, body).await.expect("an answer begins");
    assert!(response.headers()["longshore-instance"].to_str().expect("text").starts_with("small-"));
    drop(sender);
    cluster.stop().await;
}

async fn a_request_that_was_chosen_by_its_model_is_replayed_when_its_instance_dies(backend: Backend) {
    let cluster = cluster(backend).await;
    for size in [10, 300_000] {
        let body = format!("{{\"x\":\"{}\",\"model\":\"tiny\"}}", "x".repeat(size));
        let stats = cluster.client().get_from("small", "/stats").await.json();
        let only = stats["instance"].as_str().expect("its name").to_owned();
        let request = Request::post("/x")
            .header("content-type", "application/json")
            .header("fault", format!("crash; after=body; only={only}"));
        let reply = cluster.client().send(request, body.clone().into()).await;
        assert_eq!((reply.status, reply.header("longshore-attempts")), (200, "2"), "{}", reply.text());
        assert_eq!(reply.json()["body"]["sha256"], digest::hex(body.as_bytes()));
        cluster.settled().await;
    }
    cluster.admin().lost_nothing("small").await;
    cluster.stop().await;
}

async fn models_are_listed_over_all_services() {
    let cluster = cluster(Backend::Process).await;
    let list = cluster.client().get("/v1/models").await;
    assert_eq!((list.status, list.header("content-type")), (200, "application/json"));
    assert!(!list.header("x-request-id").is_empty());
    assert_eq!(list.json()["object"], "list");
    let models: BTreeMap<String, String> = list.json()["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|model| {
            assert_eq!(model["object"], "model");
            assert!(model["created"].is_u64());
            let text = |key: &str| model[key].as_str().expect("a text").to_owned();
            (text("id"), text("owned_by"))
        })
        .collect();
    let expected = [("größe", "large"), ("org/tiny:8b", "small"), ("tiny", "small")];
    assert_eq!(models, expected.map(|(id, owner)| (id.to_owned(), owner.to_owned())).into());
    let one = cluster.client().get("/v1/models/org%2Ftiny:8b").await;
    assert_eq!((&one.json()["id"], &one.json()["owned_by"]), (&"org/tiny:8b".into(), &"small".into()));
    // Asked of one service, its instances answer; and the default one gets what is no model's name.
    assert_eq!(cluster.client().get_from("small", "/v1/models").await.json()["path"], "/v1/models");
    assert_eq!(service(&cluster.client().get("/v1/models/none").await), "rest");
    cluster.stop().await;
}

async fn without_models_nothing_of_this_happens() {
    let setup = Setup::new(Backend::Process).model("a", "echo", "default = true").model("b", "echo", "");
    let cluster = setup.start().await;
    assert_eq!(service(&cluster.client().get("/v1/models").await), "a");
    assert_eq!(service(&post(&cluster, "application/json", "{\"model\":\"b\"}").await), "a");
    cluster.stop().await;
}

async fn services_are_listed_for_whom_none_answers() {
    let setup = Setup::new(Backend::Process).model("calc", "calculator", "default = true");
    let cluster = setup.model("echo", "echo", "").start().await;
    let json = cluster.client().get("/_services").await;
    assert_eq!((json.status, json.header("content-type")), (404, "application/problem+json"));
    assert_eq!(json.problem(), "no-service");
    assert!(json.detail().contains("calc, echo"), "{}", json.detail());
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let page =
        cluster.client().send(Request::get("/_services").header("accept", browser), Bytes::new()).await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.text().contains("<li>calc</li><li>echo</li>"), "{}", page.text());
    let own = Request::get("http://echo/_services").header("host", "echo");
    assert_eq!(cluster.client().send(own, Bytes::new()).await.json()["path"], "/_services");
    cluster.stop().await;
}

/// Which instance answers a key, asked several times in a mixed order.
async fn homes(cluster: &Cluster, request: impl Fn(u32) -> http::request::Builder) -> BTreeMap<u32, String> {
    let mut homes: BTreeMap<u32, String> = BTreeMap::new();
    for turn in 0..4 {
        for key in 0..16 {
            let key = if turn % 2 == 0 { key } else { 15 - key };
            let reply = cluster.client().send(request(key), Bytes::new()).await;
            let instance = reply.header("longshore-instance").to_owned();
            let home = homes.entry(key).or_insert_with(|| instance.clone());
            assert_eq!(*home, instance, "key {key} moved");
        }
    }
    homes
}

async fn a_key_stays_with_its_instance_until_that_leaves(backend: Backend) {
    for (key, request) in [
        ("header:X-Session", (|key| Request::get("/x").header("x-session", key)) as fn(u32) -> _),
        ("cookie:id", |key| Request::get("/x").header("cookie", format!("theme=id; id={key}; x=id=9"))),
        ("path", |key| Request::get(format!("/{key}?x={key}"))),
        ("ip", |key| Request::get("/x").header("x-forwarded-for", format!("203.0.113.{key}"))),
    ] {
        let keys =
            format!("size = 3\nconcurrency = 4\nbalance = {{ policy = \"hash\", hash_key = {key:?} }}");
        let cluster = Setup::new(backend).model("echo", "echo", &keys).start().await;
        let before = homes(&cluster, request).await;
        let used: std::collections::BTreeSet<&String> = before.values().collect();
        assert!(used.len() > 1, "{key}: all at one instance: {before:?}");
        cluster.admin().set_size("echo", 2).await;
        cluster.settled().await;
        let after = homes(&cluster, request).await;
        let left: std::collections::BTreeSet<&String> = after.values().collect();
        assert!(left.len() == 2, "{key}: {after:?}");
        for (key, home) in &before {
            assert!(!left.contains(home) || after[key] == *home, "key {key} moved although {home} is there");
        }
        cluster.stop().await;
    }
}

both!(light 90: a_body_chooses_its_service_by_the_model_that_it_names);
both!(light 90: a_request_that_was_chosen_by_its_model_is_replayed_when_its_instance_dies);
both!(light 120: a_key_stays_with_its_instance_until_that_leaves);
each!(light 60: other_rules_come_before_the_model, a_name_that_comes_late_and_in_pieces_is_waited_for);
each!(light 60: models_are_listed_over_all_services, without_models_nothing_of_this_happens);
each!(light 60: services_are_listed_for_whom_none_answers);
