//! Api keys: who has none is refused, who has one is known by its name, and the file may change.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use longshore_tests::{Backend, Cluster, PATIENCE, Reply, Setup, command, digest, each, eventually};

fn line(name: &str, secret: &str, limits: &str) -> String {
    format!("{name}:{}{limits}\n", digest::hex(secret.as_bytes()))
}

async fn cluster(keys: &str, more: &str) -> Cluster {
    let setup = Setup::new(Backend::Process).proxy("api_keys_file = \"keys.txt\"").proxy(more);
    setup.file("keys.txt", keys);
    setup.model("echo", "echo", "concurrency = 0").start().await
}

async fn ask(cluster: &Cluster, fields: &[(&str, &str)]) -> Reply {
    let request =
        fields.iter().fold(Request::get("/x"), |request, (name, value)| request.header(*name, *value));
    cluster.client().send(request, Bytes::new()).await
}

async fn a_key_is_demanded_and_never_passed_on() {
    let cluster = cluster(&format!("# ours\n{}", line("ann", "s3cret-of-ann", "")), "").await;
    let bearer = ("authorization", "Bearer s3cret-of-ann");
    for (fields, status) in [
        (&[][..], 401),
        (&[bearer], 200),
        (&[("x-api-key", "s3cret-of-ann")], 200),
        (&[("authorization", "Bearer wrong-key")], 401),
        (&[("authorization", "Basic s3cret-of-ann")], 401),
        (&[("x-api-key", "wrong-key"), bearer], 401),
        (&[("longshore-service", "none")], 401),
    ] {
        let reply = ask(&cluster, fields).await;
        assert_eq!(reply.status, status, "{fields:?}: {}", reply.text());
        if status == 401 {
            assert_eq!(reply.problem(), "unauthorized");
            assert!(reply.header("www-authenticate").starts_with("Bearer"), "{:?}", reply.headers);
            assert!(!reply.text().contains("s3cret") && !reply.text().contains("echo"), "{}", reply.text());
        } else {
            assert!(!reply.text().contains("s3cret"), "an instance has seen the key: {}", reply.text());
        }
    }
    let with_own = ask(&cluster, &[("x-api-key", "s3cret-of-ann"), ("authorization", "Basic eDp5")]).await;
    assert!(
        with_own.text().contains("Basic eDp5"),
        "what is the instance's is passed on: {}",
        with_own.text()
    );
    let log = cluster.log().join("\n");
    assert!(!log.contains("s3cret") && !log.contains("wrong-key"), "a key is in the log:\n{log}");
    cluster.stop().await;
}

async fn an_instance_sees_the_key_where_it_is_told_to_be_passed_on() {
    let cluster = cluster(&line("ann", "s3cret-of-ann", ""), "forward_api_key = true").await;
    let reply = ask(&cluster, &[("authorization", "Bearer s3cret-of-ann")]).await;
    assert!(reply.text().contains("Bearer s3cret-of-ann"), "{}", reply.text());
    cluster.stop().await;
}

async fn a_key_has_limits_of_its_own() {
    let keys = line("ann", "a", " rate=2/m") + &line("bob", "b", "");
    let cluster = cluster(&keys, "").await;
    let statuses = async |key: &'static str| {
        let mut statuses = Vec::new();
        for _ in 0..3 {
            statuses.push(ask(&cluster, &[("x-api-key", key)]).await.status);
        }
        statuses
    };
    assert_eq!(statuses("a").await, [200, 200, 429]);
    assert_eq!(statuses("b").await, [200, 200, 200]);
    let refused = ask(&cluster, &[("x-api-key", "a")]).await;
    assert_eq!(refused.problem(), "client-limit");
    assert!(
        refused.header("retry-after").parse::<u64>().is_ok_and(|after| after > 20),
        "{:?}",
        refused.headers
    );
    cluster.stop().await;
}

async fn a_changed_file_is_read_again_and_a_wrong_one_changes_nothing() {
    let cluster = cluster(&line("ann", "old", ""), "").await;
    let file = cluster.folder().join("keys.txt");
    let path = file.to_str().expect("a text");
    let made = command::run(PATIENCE, &["key", "bob", "--file", path, "--concurrent", "2"], &[]).await;
    assert_eq!(made.code, 0, "{}", made.stderr);
    let secret = made.stdout.trim();
    assert!(secret.len() > 40 && !secret.contains(' '), "nothing but the key: {secret}");
    let allowed = async |key: &str| ask(&cluster, &[("x-api-key", key)]).await.status == 200;
    eventually(PATIENCE, "the new key is known", async || allowed(secret).await.then_some(())).await;
    assert!(allowed("old").await);
    cluster.expect_error("the api keys stay as they were");
    std::fs::write(&file, "nonsense\n").expect("it can be written");
    eventually(PATIENCE, "the mistake is told with its line", async || {
        cluster.log().iter().any(|line| line.contains("keys.txt:1:")).then_some(())
    })
    .await;
    assert!(allowed(secret).await && allowed("old").await);
    std::fs::write(&file, line("ann", "new", "")).expect("it can be written");
    eventually(PATIENCE, "the old key is gone", async || (!allowed("old").await).then_some(())).await;
    assert!(allowed("new").await && !allowed(secret).await);
    cluster.stop().await;
}

async fn a_file_with_a_mistake_is_refused_with_its_line() {
    let setup = Setup::new(Backend::Process).proxy("api_keys_file = \"keys.txt\"");
    setup.file("keys.txt", "# ours\nann:abc\n");
    let setup = setup.model("echo", "echo", "");
    let config = setup.write();
    for command in ["check", "up"] {
        let config = config.to_str().expect("a text");
        let done = command::run(Duration::from_secs(30), &[command, "-c", config], &[]).await;
        assert_eq!(done.code, 2, "{command}: {}", done.stderr);
        assert!(
            done.stderr.contains("keys.txt:2:5") || done.stderr.contains("keys.txt:2:1"),
            "{}",
            done.stderr
        );
        assert!(done.stderr.contains("64 hexadecimal digits"), "{}", done.stderr);
    }
}

each!(light 60: a_key_is_demanded_and_never_passed_on, a_key_has_limits_of_its_own);
each!(light 60: an_instance_sees_the_key_where_it_is_told_to_be_passed_on);
each!(light 60: a_changed_file_is_read_again_and_a_wrong_one_changes_nothing);
each!(light 60: a_file_with_a_mistake_is_refused_with_its_line);
