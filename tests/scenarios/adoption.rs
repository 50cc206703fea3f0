//! What a proxy that was killed leaves behind, and what the next one makes of it.

use std::time::{Duration, Instant};

use longshore_tests::command::Running;
use longshore_tests::{Backend, Cluster, PATIENCE, Setup, each, eventually, model, process};
use nix::sys::signal::Signal;

async fn three() -> Cluster {
    Setup::new(Backend::Docker).model("calc", "calculator", "size = 3").start().await
}

/// The ids of its containers, in order.
fn containers(cluster: &Cluster) -> Vec<String> {
    let mut ids = cluster.docker().containers(cluster.name());
    ids.sort();
    ids
}

async fn running_containers_are_adopted_and_none_is_doubled() {
    let mut cluster = three().await;
    let before = containers(&cluster);
    assert_eq!(before.len(), 3);
    let begun = Instant::now();
    tokio::time::sleep(Duration::from_secs(3)).await;
    cluster.kill().await;
    assert_eq!(containers(&cluster), before, "containers go on without the proxy");
    cluster.again().await;
    cluster.settled().await;
    assert_eq!(containers(&cluster), before);
    assert_eq!(cluster.client().get("/add/3/4").await.text(), "7");
    let adopted = cluster.log().iter().filter(|line| line.contains("adopting a running instance")).count();
    assert_eq!(adopted, 3);
    let service = cluster.admin().service("calc").await;
    let ages =
        service["instances"].as_array().expect("they are there").iter().map(|one| one["age_s"].as_f64());
    for age in ages {
        // The engine counts whole seconds.
        assert!(age.is_some_and(|age| age >= begun.elapsed().as_secs_f64() - 1.0), "{service}");
    }
    // They are ours like any other: killed ones are replaced, and all of them end with the proxy.
    let victim = cluster.admin().has("calc", 3).await.remove(0);
    cluster.kill_instance(&victim).await;
    eventually(PATIENCE, "it is replaced", async || {
        let ready = cluster.admin().ready("calc").await;
        (ready.len() == 3 && ready.iter().all(|one| one.id != victim.id)).then_some(())
    })
    .await;
    cluster.stop().await;
}

async fn containers_of_another_configuration_are_replaced() {
    let mut cluster = three().await;
    let before = containers(&cluster);
    cluster.kill().await;
    cluster.setup_mut().replace_services(&model(
        "calc",
        "calculator",
        "size = 3\nenv = { COLOUR = \"blue\" }",
    ));
    cluster.again().await;
    cluster.settled().await;
    let now = eventually(PATIENCE, "there are three containers, and three only", async || {
        Some(containers(&cluster)).filter(|now| now.len() == 3)
    })
    .await;
    assert!(now.iter().all(|id| !before.contains(id)), "{now:?} and {before:?}");
    cluster.stop().await;
}

async fn of_too_many_containers_only_those_wanted_stay() {
    let mut cluster = three().await;
    let before = containers(&cluster);
    cluster.kill().await;
    cluster.setup_mut().replace_services(&model("calc", "calculator", "size = 1"));
    cluster.again().await;
    cluster.settled().await;
    eventually(PATIENCE, "two are gone", async || (containers(&cluster).len() == 1).then_some(())).await;
    assert!(before.contains(&containers(&cluster)[0]));
    cluster.stop().await;
}

async fn containers_of_a_service_that_is_no_more_are_removed() {
    let mut cluster = three().await;
    let before = containers(&cluster);
    cluster.kill().await;
    cluster.setup_mut().replace_services(&model("other", "echo", ""));
    cluster.again().await;
    cluster.settled().await;
    let now = eventually(PATIENCE, "there is one", async || {
        Some(containers(&cluster)).filter(|now| now.len() == 1)
    })
    .await;
    assert!(!before.contains(&now[0]), "{now:?}");
    cluster.stop().await;
}

async fn dead_and_paused_containers_are_not_adopted() {
    let mut cluster = three().await;
    let before = cluster.admin().has("calc", 3).await;
    cluster.kill().await;
    cluster.kill_instance(&before[0]).await;
    cluster.freeze_instance(&before[1]).await;
    cluster.again().await;
    // One cannot tell from outside whether it is soon thawed: three failed probes end it.
    let now = eventually(PATIENCE, "three are ready that answer", async || {
        let ready = cluster.admin().ready("calc").await;
        let healthy = ready.iter().all(|one| one.id != before[0].id && one.id != before[1].id);
        (ready.len() == 3 && healthy && containers(&cluster).len() == 3).then_some(ready)
    })
    .await;
    assert!(now.iter().any(|one| one.id == before[2].id), "the healthy one stays");
    cluster.stop().await;
}

async fn keep_leaves_the_containers_for_the_next_up() {
    let setup = Setup::new(Backend::Docker).argument("--keep").model("calc", "calculator", "size = 2");
    let mut cluster = setup.start().await;
    let before = containers(&cluster);
    cluster.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(cluster.ended(Duration::from_secs(20)).await.success());
    assert_eq!(containers(&cluster), before);
    cluster.setup_mut().drop_arguments();
    cluster.again().await;
    cluster.settled().await;
    assert_eq!(containers(&cluster), before);
    cluster.stop().await;
}

async fn an_adopted_instance_serves_while_a_new_one_still_starts() {
    let mut cluster = Setup::new(Backend::Docker).model("calc", "calculator", "").start().await;
    cluster.kill().await;
    let begun = std::time::Instant::now();
    cluster.again().await;
    assert_eq!(cluster.client().get("/add/3/4").await.text(), "7");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    cluster.stop().await;
}

async fn child_processes_end_with_a_proxy_that_is_killed() {
    let mut cluster = Setup::new(Backend::Process).model("calc", "calculator", "size = 3").start().await;
    let instances = cluster.admin().has("calc", 3).await;
    let pids: Vec<u32> =
        instances.iter().map(|instance| cluster.instance_pid(instance).expect("it is a child")).collect();
    assert!(pids.iter().all(|&pid| process::lives(pid)));
    cluster.kill().await;
    eventually(Duration::from_secs(5), "no child is left", async || {
        pids.iter().all(|&pid| !process::lives(pid)).then_some(())
    })
    .await;
    cluster.again().await;
    cluster.settled().await;
    cluster.stop().await;
}

async fn a_cluster_leaves_the_containers_of_others_alone() {
    let one = Setup::new(Backend::Docker).model("calc", "calculator", "").start().await;
    let mut other = Setup::new(Backend::Docker).model("calc", "calculator", "").start().await;
    let before = containers(&one);
    other.kill().await;
    other.again().await;
    other.settled().await;
    assert_eq!(containers(&other).len(), 1);
    other.stop().await;
    assert_eq!(containers(&one), before);
    assert_eq!(one.client().get("/add/3/4").await.text(), "7");
    one.stop().await;
}

each!(light 90: running_containers_are_adopted_and_none_is_doubled, containers_of_another_configuration_are_replaced);
each!(light 90: of_too_many_containers_only_those_wanted_stay, containers_of_a_service_that_is_no_more_are_removed);
each!(light 90: dead_and_paused_containers_are_not_adopted, keep_leaves_the_containers_for_the_next_up);
each!(light 90: an_adopted_instance_serves_while_a_new_one_still_starts, child_processes_end_with_a_proxy_that_is_killed);
async fn a_second_up_of_the_same_name_is_refused_before_it_touches_a_container() {
    let cluster = three().await;
    let before = containers(&cluster);
    let file = cluster.folder().join("cluster.toml");
    let other = cluster.folder().join("other.toml");
    let text = std::fs::read_to_string(&file).expect("it was written");
    std::fs::write(&other, text.replace("\"calculator\"", "\"echo\"")).expect("a file");
    for config in [&file, &other] {
        let refused = cluster.up_beside(config, &[]).await;
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        for word in [cluster.name(), &cluster.pid().to_string(), "--takeover", "another `name`"] {
            assert!(refused.stderr.contains(word), "{word:?} is not in {}", refused.stderr);
        }
    }
    assert_eq!(containers(&cluster), before);
    assert_eq!(cluster.client().get("/add/3/4").await.text(), "7");
    let deaths = cluster.admin().metrics().await.sum("longshore_instance_deaths_total", &[]);
    assert!(deaths.abs() < 0.5, "{deaths} deaths");
    cluster.stop().await;
}

async fn who_comes_while_another_one_ends_waits_for_it() {
    let cluster = Setup::new(Backend::Docker).model("calc", "sleep", "").start().await;
    let client = cluster.client();
    let asked = tokio::spawn(async move { client.get("/sleep/2s").await });
    cluster.admin().works_on("calc", 1).await;
    cluster.signal(Signal::SIGTERM);
    let file = cluster.folder().join("cluster.toml");
    let file = file.to_str().expect("a plain path");
    eventually(PATIENCE, "it is ending", async || {
        cluster.log().iter().any(|line| line.contains("shutting down")).then_some(())
    })
    .await;
    let mut next = Running::start(&["up", "--backend", "docker", "-c", file]);
    next.says("waiting for the `longshore up` of this name").await;
    assert_eq!(asked.await.expect("no panic").status, 200, "what was accepted is answered");
    next.says("serving requests on").await;
    next.end().await;
}

each!(light 90: a_cluster_leaves_the_containers_of_others_alone);
each!(light 90: a_second_up_of_the_same_name_is_refused_before_it_touches_a_container);
each!(light 90: who_comes_while_another_one_ends_waits_for_it);
