//! Mistakes before anything runs: each with its message and its exit code.

use std::time::Duration;

use longshore_tests::command::{Done, interrupted, run};
use longshore_tests::server::Recorder;
use longshore_tests::{Backend, Setup, each};

/// Longest time in which `up` gives up.
const SOON: Duration = Duration::from_secs(20);

async fn up(setup: &Setup, backend: &str, environment: &[(&str, &str)]) -> Done {
    let config = setup.write();
    let config = config.to_str().expect("a plain path");
    run(SOON, &["up", "--backend", backend, "-c", config], environment).await
}

async fn a_mistake_in_the_file_is_shown_where_it_is_and_ends_with_2() {
    for (text, line, said) in [
        ("[services.calc]\nimage = \"x\"\nsice = 2", "sice = 2", "did you mean `size`?"),
        ("[services.calc]\nimage = \"x\"\nsize = \"two\"", "size = \"two\"", "no expression"),
        ("[services.calc]\nimage = \"x\"\ntimeout = 30", "timeout = 30", "duration"),
        ("[services.calc]\nimage = 3", "image = 3", "string"),
        (
            "[services.a]\nimage = \"x\"\nhosts = [\"same\"]\n[services.b]\nimage = \"x\"\nhosts = [\"same\"]",
            "hosts = [\"same\"]",
            "both have the host \"same\"",
        ),
        ("[services.calc]\nimage = ", "image = ", "expected"),
    ] {
        let setup = Setup::new(Backend::Process).service(text);
        let config = setup.write();
        let config = config.to_str().expect("a plain path");
        for done in [run(SOON, &["check", "-c", config], &[]).await, up(&setup, "process", &[]).await] {
            assert_eq!(done.code, 2, "{text}: {}", done.stderr);
            for part in [line, said, "cluster.toml:", "^"] {
                assert!(done.stderr.contains(part), "{part:?} is not in: {}", done.stderr);
            }
        }
    }
    let missing = run(SOON, &["up", "-c", "/nowhere/cluster.toml"], &[]).await;
    assert_eq!(missing.code, 2);
    assert!(missing.stderr.contains("/nowhere/cluster.toml"), "{}", missing.stderr);
}

async fn a_right_file_is_called_right() {
    let config = longshore_tests::repository().join("cluster.toml");
    let done = run(SOON, &["check", "-c", config.to_str().expect("a plain path")], &[]).await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stdout.contains("calc") && done.stdout.contains("echo"), "{}", done.stdout);
}

async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("it is bound").to_string();
    for setup in [
        Setup::new(Backend::Process).proxy(&format!("listen = [\"{address}\"]")),
        Setup::new(Backend::Process).admin(&format!("listen = \"{address}\"")),
    ] {
        let done = up(&setup.model("calc", "calculator", ""), "process", &[]).await;
        assert_eq!(done.code, 1, "{}", done.stderr);
        assert!(done.stderr.contains(&address) && done.stderr.contains("in use"), "{}", done.stderr);
    }
}

/// That it stands there once, and nothing of how it was asked.
fn said_once(done: &Done, text: &str) {
    assert_eq!(done.stderr.matches(text).count(), 1, "{}", done.stderr);
    assert!(!done.stderr.contains("hyper") && !done.stderr.contains("(Connect)"), "{}", done.stderr);
}

async fn no_engine_where_docker_is_demanded_ends_with_1() {
    let setup = Setup::new(Backend::Docker).model("calc", "calculator", "");
    let nowhere = [("DOCKER_HOST", "unix:///nowhere/docker.sock")];
    let done = up(&setup, "docker", &nowhere).await;
    assert_eq!(done.code, 1, "{}", done.stderr);
    for part in ["unix:///nowhere/docker.sock", "--backend process"] {
        assert!(done.stderr.contains(part), "{part:?} is not in: {}", done.stderr);
    }
    said_once(&done, "no Docker engine answers");
}

async fn without_an_engine_auto_takes_processes_and_says_so() {
    let setup = Setup::new(Backend::Process).model("calc", "calculator", "");
    let config = setup.write();
    let arguments = ["up", "--backend", "auto", "-c", config.to_str().expect("a plain path")];
    let nowhere = [("DOCKER_HOST", "unix:///nowhere/docker.sock")];
    let done = interrupted(SOON, &arguments, &nowhere, "calc is ready").await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    said_once(&done, "no Docker engine answers: instances run as child processes");
    said_once(&done, "no Docker engine answers");
}

async fn an_engine_is_asked_for_only_where_something_is_to_be_started() {
    let server = Recorder::start().await.address;
    let listed = format!("[services.listed]\naddresses = [\"{server}\"]\nhealth.path = \"/healthz\"\n");
    let nowhere = [("DOCKER_HOST", "unix:///nowhere/docker.sock")];
    let path = |setup: &Setup| setup.write().to_str().expect("a plain path").to_owned();

    let all_listed = Setup::new(Backend::Process).service(&listed);
    let config = path(&all_listed);
    let done = interrupted(SOON, &["up", "-c", &config], &nowhere, "listed is ready").await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(!done.stderr.contains("Docker") && !done.stderr.contains("WARN"), "{}", done.stderr);

    let one_started = Setup::new(Backend::Process).service(&listed).model("calc", "calculator", "");
    let config = path(&one_started);
    let done = interrupted(SOON, &["up", "-c", &config], &nowhere, "calc is ready").await;
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("no Docker engine answers"), "{}", done.stderr);

    let docker_demanded =
        Setup::new(Backend::Docker).service(&listed).service("[backend]\nkind = \"docker\"");
    let config = path(&docker_demanded);
    let done = run(SOON, &["up", "-c", &config], &nowhere).await;
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("no Docker engine answers"), "{}", done.stderr);
}

async fn an_open_admin_api_without_a_token_is_refused() {
    let setup = Setup::new(Backend::Process).admin("listen = \"0.0.0.0:0\"").model("calc", "calculator", "");
    let config = setup.write();
    let checked = run(SOON, &["check", "-c", config.to_str().expect("a plain path")], &[]).await;
    for done in [checked, up(&setup, "process", &[]).await] {
        assert_eq!(done.code, 2, "{}", done.stderr);
        assert!(done.stderr.contains("token_file"), "{}", done.stderr);
    }
}

async fn an_image_that_is_nowhere_ends_up_when_it_is_all_there_is() {
    let text = "[services.calc]\nimage = \"127.0.0.1:1/longshore/nowhere\"";
    let setup = Setup::new(Backend::Docker).service(text);
    let done = up(&setup, "docker", &[]).await;
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("127.0.0.1:1/longshore/nowhere"), "{}", done.stderr);
}

async fn a_program_that_is_nowhere_ends_up_when_it_is_all_there_is() {
    let text = "[services.calc]\nimage = \"x\"\ncommand = [\"no-such-program\"]";
    let done = up(&Setup::new(Backend::Process).service(text), "process", &[]).await;
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains("no-such-program"), "{}", done.stderr);
    assert!(!done.stderr.contains("service calc: "), "{}", done.stderr);
}

each!(light 120: a_mistake_in_the_file_is_shown_where_it_is_and_ends_with_2);
each!(light 60: a_right_file_is_called_right, a_port_in_use_is_named, no_engine_where_docker_is_demanded_ends_with_1);
each!(light 60: without_an_engine_auto_takes_processes_and_says_so, an_open_admin_api_without_a_token_is_refused);
each!(light 60: an_engine_is_asked_for_only_where_something_is_to_be_started);
each!(light 60: an_image_that_is_nowhere_ends_up_when_it_is_all_there_is);
each!(light 60: a_program_that_is_nowhere_ends_up_when_it_is_all_there_is);
