//! The size of a service, changed while it runs.

use longshore_tests::{Backend, Setup, both, load};
use std::time::Duration;

async fn the_size_follows_the_admin_api(backend: Backend) {
    let cluster = Setup::new(backend).model("calc", "calculator", "size = 2").start().await;
    let admin = cluster.admin();
    // As `curl -X PUT -d '{"size":4}'` sends it, which claims that JSON is a form.
    let form =
        http::Request::put("/services/calc/size").header("content-type", "application/x-www-form-urlencoded");
    let reply = admin.client().send(form, "{\"size\":4}".into()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!((&reply.json()["name"], &reply.json()["size"]["wanted"]), (&"calc".into(), &4.into()));
    admin.has("calc", 4).await;
    assert_eq!(admin.service("calc").await["size"]["overridden"], true);
    assert_eq!(admin.set_size("calc", 1).await.status, 200);
    admin.has("calc", 1).await;
    assert_eq!(admin.set_size("calc", 0).await.status, 200);
    admin.has("calc", 0).await;
    let reply = cluster.client().get("/add/3/4").await;
    assert_eq!((reply.status, reply.problem().as_str()), (503, "stopped"));
    assert_eq!(admin.put_size("calc", r#"{"size": {"policy": "fixed", "size": 3}}"#).await.status, 200);
    admin.has("calc", 3).await;
    let reset = admin.client().send(http::Request::delete("/services/calc/size"), bytes::Bytes::new()).await;
    assert_eq!((reset.status, &reset.json()["size"]["wanted"]), (200, &2.into()));
    admin.has("calc", 2).await;
    assert_eq!(admin.service("calc").await["size"]["overridden"], false);
    cluster.stop().await;
}

async fn a_wrong_size_changes_nothing_and_is_explained(backend: Backend) {
    let cluster = Setup::new(backend).model("calc", "calculator", "").start().await;
    let admin = cluster.admin();
    for (body, said) in [
        ("{\"size\": -1}", "from 0 to 1000, got -1"),
        ("{\"size\": 1e9}", "from 0 to 1000, got 1000000000"),
        ("{\"size\": \"x\"}", "got \"x\""),
        ("{\"size\": 2.5}", "got 2.5"),
        ("{\"size\": null}", "got null"),
        ("{}", "it has no"),
        ("{\"size\": 1, \"force\": true}", "force"),
        ("{\"size\": {\"policy\": \"magic\"}}", "got \"magic\""),
        ("size=3", "the body must be JSON"),
        ("", "the body must be JSON"),
    ] {
        let reply = admin.put_size("calc", body).await;
        assert_eq!((reply.status, reply.problem().as_str()), (400, "invalid"), "{body}: {}", reply.text());
        assert!(reply.detail().contains(said), "{body}: {}", reply.detail());
    }
    let reply = admin.set_size("clac", 3).await;
    assert_eq!((reply.status, reply.problem().as_str()), (404, "no-service"));
    assert!(reply.detail().contains("\"clac\"") && reply.detail().contains("calc"), "{}", reply.detail());
    assert_eq!(admin.service("calc").await["size"]["wanted"], 1);
    cluster.stop().await;
}

async fn scaling_up_and_down_under_load_loses_nothing(backend: Backend) {
    let keys = "size = 3\nconcurrency = 1";
    let cluster =
        Setup::new(backend).model("calc", "calculator --exclusive --fault-latency 20ms", keys).start().await;
    let admin = cluster.admin();
    let time = Duration::from_secs(6);
    let load = tokio::spawn(load::at_rate(cluster.client(), load::Payload::Get, 60.0, time));
    for size in [1, 5, 2, 4, 2] {
        assert_eq!(admin.set_size("calc", size).await.status, 200);
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    let tally = load.await.expect("no panic");
    tally.lost_nothing();
    assert_eq!(tally.replayed, 0, "a drained instance finishes its work");
    admin.lost_nothing("calc").await;
    admin.has("calc", 2).await;
    cluster.stop().await;
}

both!(light 90: the_size_follows_the_admin_api, a_wrong_size_changes_nothing_and_is_explained);
both!(heavy 90: scaling_up_and_down_under_load_loses_nothing);
