//! The first things that anybody tries: one request, and the ways to name a service.

use http::Request;
use longshore_tests::{Backend, Setup, both, raw};

async fn a_sum_is_answered_whichever_way_its_service_is_named(backend: Backend) {
    let cluster = Setup::new(backend)
        .model("calc", "calculator", "size = 2\ndefault = true")
        .model("echo", "echo", "hosts = [\"echo\", \"mirror.example\"]\npaths = [\"/mirror\"]")
        .start()
        .await;
    let client = cluster.client();
    let reply = client.get("/add/3/4").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "7"));
    assert!(reply.is_intact());
    assert!(reply.header("longshore-instance").starts_with("calc-"), "{:?}", reply.headers);
    assert_eq!(reply.header("longshore-attempts"), "1");
    assert!(!reply.header("x-request-id").is_empty());
    let timing = reply.header("server-timing");
    assert!(timing.contains("queue;dur=") && timing.contains("instance;dur="), "{timing}");

    // The absolute form is what a client sends that takes the proxy for its http_proxy.
    for (line, host, answered) in [
        ("GET http://calc/add/3/4 HTTP/1.1", "calc", "calc"),
        ("GET http://echo/x HTTP/1.1", "echo", "echo"),
        ("GET http://ECHO:80/x HTTP/1.1", "elsewhere", "echo"),
        ("GET /add/1/1 HTTP/1.1", "calc.localhost", "calc"),
        ("GET /x HTTP/1.1", "mirror.example:5000", "echo"),
        ("GET /mirror/x HTTP/1.1", "nobody", "echo"),
        ("GET /add/1/1 HTTP/1.1", "nobody", "calc"),
        ("GET /add/1/1 HTTP/1.0", "nobody", "calc"),
    ] {
        let request = format!("{line}\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = raw::exchange(cluster.address(), request).await;
        let (status, instance) = (" 200 ", format!("longshore-instance: {answered}-"));
        assert!(answer.contains(status) && answer.to_lowercase().contains(&instance), "{line}: {answer}");
    }
    let named = client.get_from("echo", "/add/3/4?x=1").await;
    assert_eq!((&named.json()["path"], &named.json()["query"]), (&"/add/3/4".into(), &"x=1".into()));
    cluster.stop().await;
}

async fn a_request_for_no_service_is_told_their_names(backend: Backend) {
    let cluster = Setup::new(backend).model("calc", "calculator", "").model("echo", "echo", "").start().await;
    let client = cluster.client();
    for reply in [client.get("/add/3/4").await, client.get_from("clac", "/add/3/4").await] {
        assert_eq!((reply.status, reply.problem().as_str()), (404, "no-service"));
        let detail = reply.detail();
        assert!(detail.contains("calc") && detail.contains("echo"), "{detail}");
        assert_eq!(reply.json()["request_id"], reply.header("x-request-id"));
    }
    let page = client.send(Request::get("/").header("accept", "text/html,*/*"), bytes::Bytes::new()).await;
    assert_eq!((page.status, page.header("content-type")), (404, "text/html; charset=utf-8"));
    cluster.stop().await;
}

async fn an_instance_sees_the_request_as_the_client_sent_it(backend: Backend) {
    let cluster = Setup::new(backend).model("echo", "echo", "").start().await;
    let body = longshore_tests::digest::body(1, 3_000);
    let request = Request::builder()
        .method("PATCH")
        .uri("/a%20b//c/?q=%2F&q=2")
        .header("X-Twice", "one")
        .header("X-Twice", "two")
        .header("x-request-id", "mine-1")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .header("connection", "x-hop")
        .header("x-hop", "only as far as the proxy")
        .header("content-digest", longshore_tests::digest::field(&body));
    let reply = cluster.client().send(request, body.clone().into()).await;
    let seen = reply.json();
    assert_eq!((&seen["method"], &seen["path"]), (&"PATCH".into(), &"/a%20b//c/".into()));
    assert_eq!(seen["query"], "q=%2F&q=2");
    assert_eq!(seen["body"]["sha256"], longshore_tests::digest::hex(&body));
    let fields: Vec<(&str, &str)> = seen["headers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|pair| (pair[0].as_str().unwrap_or_default(), pair[1].as_str().unwrap_or_default()))
        .collect();
    let values = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(field, _)| *field == name).map(|(_, value)| *value).collect()
    };
    assert_eq!(values("x-twice"), ["one", "two"]);
    assert_eq!(values("x-request-id"), ["mine-1"]);
    assert_eq!(reply.header("x-request-id"), "mine-1");
    assert_eq!(values("traceparent"), ["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]);
    assert!(values("x-hop").is_empty(), "a hop-by-hop field passed: {fields:?}");
    assert_eq!(values("host"), [cluster.address().to_string()]);
    assert_eq!(values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(values("x-forwarded-proto"), ["http"]);
    cluster.stop().await;
}

both!(light 90: a_sum_is_answered_whichever_way_its_service_is_named);
both!(light 90: a_request_for_no_service_is_told_their_names, an_instance_sees_the_request_as_the_client_sent_it);
