//! Instances that live: started, listed, read, adopted, frozen, stopped.

use std::time::{Duration, Instant};

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::CreateContainerOptionsBuilder;
use futures_util::StreamExt as _;
use longshore_backend::docker::DockerBackend;
use longshore_backend::{Backend as _, Cause, Found, Reach, Spec, StartError};

use crate::support::{Cluster, PATIENCE, get, key, next, try_get};

const GRACE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn an_instance_answers_is_listed_and_stops_without_a_trace() {
    let cluster = Cluster::new().await;
    let spec = cluster.spec();
    let begun = Instant::now();
    let address = cluster.backend.start(&key(0), &spec).await.unwrap();
    println!("start() took {:?}", begun.elapsed());
    assert!(address.ip().is_loopback());
    assert_eq!(get(address).await, "hello");
    println!("first answer after {:?}", begun.elapsed());

    let listed = cluster.backend.list().await.unwrap();
    let made = listed[0].begun;
    // The engine counts whole seconds.
    let age = made.and_then(|made| made.elapsed().ok()).expect("it says when it was made");
    assert!(age < begun.elapsed() + Duration::from_millis(1_100), "{age:?}");
    let (at, digest) = (Some(address), spec.digest());
    assert_eq!(listed, [Found { key: key(0), address: at, paused: false, digest, begun: made }]);
    let inspected = cluster.docker.inspect_container(&cluster.container(&key(0)), None).await.unwrap();
    let volume = inspected.mounts.unwrap().remove(0).name.unwrap();

    let begun = Instant::now();
    cluster.backend.stop(&key(0), GRACE).await.unwrap();
    assert!(begun.elapsed() < GRACE, "a server without a SIGTERM handler ends all the same");
    assert_eq!(cluster.backend.list().await.unwrap(), []);
    assert!(cluster.docker.inspect_volume(&volume).await.is_err(), "its anonymous volume is removed");
    assert!(try_get(address).await.is_err());
    cluster.backend.stop(&key(0), GRACE).await.unwrap();
    cluster.backend.kill(&key(0)).await.unwrap();
    assert!(!cluster.backend.frozen(&key(0)).await);
}

#[tokio::test]
async fn a_log_is_read_from_its_tail_and_followed_to_its_end() {
    let cluster = Cluster::new().await;
    let address = cluster.backend.start(&key(0), &cluster.spec()).await.unwrap();
    get(address).await;
    let all = cluster.backend.logs(&key(0), 100, false).await.unwrap();
    let all: Vec<u8> = all.map(|chunk| chunk.unwrap().to_vec()).concat().await;
    assert!(String::from_utf8(all).unwrap().starts_with("listening on 8080\nanswering\n"));

    let mut followed = cluster.backend.logs(&key(0), 0, true).await.unwrap();
    let mut line = std::pin::pin!(tokio::time::timeout(PATIENCE, followed.next()));
    let line = loop {
        tokio::select! {
            line = &mut line => break line.unwrap().unwrap().unwrap(),
            _ = get(address) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    assert_eq!(line, "answering\n");
    cluster.backend.kill(&key(0)).await.unwrap();
    let rest = tokio::time::timeout(PATIENCE, followed.count()).await;
    assert!(rest.is_ok(), "the log ends with its container");
    assert!(cluster.backend.logs(&key(9), 1, false).await.is_err());
}

#[tokio::test]
async fn a_paused_instance_is_frozen_and_can_be_stopped() {
    let cluster = Cluster::new().await;
    cluster.backend.start(&key(0), &cluster.spec()).await.unwrap();
    assert!(!cluster.backend.frozen(&key(0)).await);
    cluster.docker.pause_container(&cluster.container(&key(0))).await.unwrap();
    assert!(cluster.backend.frozen(&key(0)).await);
    cluster.backend.stop(&key(0), Duration::ZERO).await.unwrap();
    assert_eq!(cluster.backend.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_paused_instance_says_nothing_until_it_is_resumed_and_its_death_is_told() {
    let cluster = Cluster::new().await;
    let mut exits = cluster.backend.watch();
    let address = cluster.backend.start(&key(0), &cluster.spec()).await.unwrap();
    assert_eq!(get(address).await, "hello");
    for _ in 0..3 {
        let begun = Instant::now();
        cluster.backend.pause(&key(0)).await.unwrap();
        println!("paused in {:?}", begun.elapsed());
        cluster.backend.pause(&key(0)).await.unwrap();
        assert!(cluster.backend.frozen(&key(0)).await);
        assert!(cluster.backend.list().await.unwrap()[0].paused);
        let silent = tokio::time::timeout(Duration::from_millis(200), try_get(address)).await;
        assert!(silent.is_err(), "{silent:?}");
        let begun = Instant::now();
        cluster.backend.resume(&key(0)).await.unwrap();
        println!("resumed in {:?}", begun.elapsed());
        assert_eq!(get(address).await, "hello");
        println!("first answer {:?} after the call to resume it", begun.elapsed());
        cluster.backend.resume(&key(0)).await.unwrap();
    }
    cluster.backend.pause(&key(0)).await.unwrap();
    cluster.backend.kill(&key(0)).await.unwrap();
    let exit = next(&mut exits).await;
    let exit = if exit.cause == Cause::Unexplained { next(&mut exits).await } else { exit };
    assert_eq!(exit.cause, Cause::Killed { signal: 9 });
    assert!(cluster.backend.pause(&key(0)).await.is_err());
    assert!(cluster.backend.resume(&key(0)).await.is_err());
}

#[tokio::test]
async fn a_paused_instance_is_asked_to_end_before_it_is_killed() {
    let cluster = Cluster::new().await;
    cluster.backend.start(&key(0), &cluster.spec()).await.unwrap();
    cluster.backend.pause(&key(0)).await.unwrap();
    let begun = Instant::now();
    cluster.backend.stop(&key(0), GRACE).await.unwrap();
    assert!(begun.elapsed() < GRACE, "it heard nothing while it was paused: {:?}", begun.elapsed());
    assert_eq!(cluster.backend.list().await.unwrap(), []);
}

#[tokio::test]
async fn a_later_process_finds_what_runs_and_what_is_stale_and_hears_of_deaths() {
    let cluster = Cluster::new().await;
    let old = Spec { env: [("GREETING".to_owned(), "old".to_owned())].into(), ..cluster.spec() };
    let address = cluster.backend.start(&key(0), &cluster.spec()).await.unwrap();
    cluster.backend.start(&key(1), &old).await.unwrap();
    get(address).await;

    let later = DockerBackend::connect(&cluster.name, None).await.unwrap();
    let found = later.list().await.unwrap();
    assert_eq!(
        found[0],
        Found {
            key: key(0),
            address: Some(address),
            paused: false,
            digest: cluster.spec().digest(),
            begun: found[0].begun
        }
    );
    assert_eq!(found[1].digest, old.digest());
    assert_ne!(found[1].digest, cluster.spec().digest());
    let other = DockerBackend::connect("test-other", None).await.unwrap();
    assert!(other.list().await.unwrap().iter().all(|found| found.key != key(0)), "clusters do not mix");

    let mut exits = later.watch();
    cluster.backend.kill(&key(0)).await.unwrap();
    let exit = next(&mut exits).await;
    assert_eq!((exit.key, exit.cause), (key(0), Cause::Killed { signal: 9 }));
}

#[tokio::test]
async fn a_name_that_an_earlier_process_left_taken_is_freed_and_a_foreign_one_is_not() {
    let cluster = Cluster::new().await;
    let take = async |slot: u32, owner: &str| {
        let name = cluster.container(&key(slot));
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let labels =
            [("longshore.cluster".to_owned(), owner.to_owned()), ("test".to_owned(), cluster.name.clone())];
        let body = ContainerCreateBody {
            image: Some(cluster.image.clone()),
            labels: Some(labels.into()),
            ..ContainerCreateBody::default()
        };
        cluster.docker.create_container(Some(options), body).await.unwrap().id
    };
    take(0, &cluster.name).await;
    let address = cluster.backend.start(&key(0), &cluster.spec()).await.unwrap();
    assert_eq!(get(address).await, "hello");

    let foreign = take(1, "somebody-else").await;
    let error = cluster.backend.start(&key(1), &cluster.spec()).await.unwrap_err();
    assert!(matches!(&error, StartError::Failed(text) if text.contains("not of this cluster")), "{error:?}");
    cluster.docker.remove_container(&foreign, None).await.unwrap();
}

#[tokio::test]
async fn an_instance_can_be_reached_on_the_hosts_network_or_at_its_own_address() {
    let cluster = Cluster::new().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let spec = Spec { port, address: Reach::Host, ..cluster.spec() };
    let address = cluster.backend.start(&key(0), &spec).await.unwrap();
    assert_eq!((address.ip().is_loopback(), address.port()), (true, port));
    assert_eq!(get(address).await, "hello");

    let spec = Spec { address: Reach::Container, ..cluster.spec() };
    let address = cluster.backend.start(&key(1), &spec).await.unwrap();
    assert!(!address.ip().is_loopback());
    assert_eq!(address.port(), 8080);
    assert_eq!(cluster.backend.list().await.unwrap()[1].address, Some(address));
}

#[tokio::test]
async fn limits_user_and_volumes_reach_the_engine() {
    let cluster = Cluster::new().await;
    let folder = tempfile::tempdir().unwrap();
    let volume = format!("{}:/models:ro", folder.path().display());
    let spec = Spec {
        memory: Some(64 << 20),
        cpus: Some(0.5),
        user: Some("65534".to_owned()),
        volumes: vec![volume.clone()],
        ..cluster.spec()
    };
    let address = cluster.backend.start(&key(0), &spec).await.unwrap();
    assert_eq!(get(address).await, "hello");
    let inspected = cluster.docker.inspect_container(&cluster.container(&key(0)), None).await.unwrap();
    let host = inspected.host_config.unwrap();
    assert_eq!(
        (host.memory, host.nano_cpus, host.binds),
        (Some(64 << 20), Some(500_000_000), Some(vec![volume]))
    );
    assert_eq!(inspected.config.unwrap().user.as_deref(), Some("65534"));
}

#[tokio::test]
async fn many_instances_start_at_once() {
    let cluster = Cluster::new().await;
    let spec = cluster.spec();
    let begun = Instant::now();
    let keys: Vec<_> = (0..12).map(key).collect();
    let starts = keys.iter().map(|key| cluster.backend.start(key, &spec));
    let addresses = futures_util::future::join_all(starts).await;
    println!("12 starts took {:?}", begun.elapsed());
    for address in addresses {
        assert_eq!(get(address.unwrap()).await, "hello");
    }
    let stops = keys.iter().map(|key| cluster.backend.stop(key, GRACE));
    for stopped in futures_util::future::join_all(stops).await {
        stopped.unwrap();
    }
    assert_eq!(cluster.backend.list().await.unwrap(), []);
}
