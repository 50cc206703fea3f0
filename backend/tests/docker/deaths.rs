//! Instances that die: that each death is told, with its cause, and that nothing is left of them.

use std::time::{Duration, Instant};

use bollard::query_parameters::RemoveContainerOptionsBuilder;
use futures_util::StreamExt as _;
use longshore_backend::{Backend as _, Cause, Spec};

use crate::support::{Cluster, get, key, next, next_of_any_kind};

#[tokio::test]
async fn a_killed_instance_is_told_within_a_second() {
    let cluster = Cluster::new().await;
    let mut exits = cluster.backend.watch();
    let address = cluster.backend.start(&key(0), &cluster.spec()).await.unwrap();
    get(address).await;
    let begun = Instant::now();
    cluster.backend.kill(&key(0)).await.unwrap();
    println!("kill() took {:?}", begun.elapsed());
    let exit = next(&mut exits).await;
    println!("told {:?} after the kill began", begun.elapsed());
    assert_eq!((exit.key, exit.cause), (key(0), Cause::Killed { signal: 9 }));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    cluster.is_empty_soon().await;
}

/// The engine cleans up before it tells. (Where the tests run, its containers' processes can be seen.)
#[tokio::test]
async fn the_end_of_an_instance_is_told_before_its_cause_is_known() {
    let cluster = Cluster::new().await;
    let mut exits = cluster.backend.watch();
    let address = cluster.backend.start(&key(0), &cluster.spec()).await.unwrap();
    get(address).await;
    cluster.backend.kill(&key(0)).await.unwrap();
    let first = next_of_any_kind(&mut exits).await;
    let begun = Instant::now();
    let second = next_of_any_kind(&mut exits).await;
    println!("the cause came {:?} later", begun.elapsed());
    assert_eq!((first.key, first.cause), (key(0), Cause::Unexplained));
    assert_eq!((second.key, second.cause), (key(0), Cause::Killed { signal: 9 }));
    cluster.is_empty_soon().await;
}

#[tokio::test]
async fn an_exit_code_is_told_with_the_last_lines() {
    let cluster = Cluster::new().await;
    let mut exits = cluster.backend.watch();
    // It may be over before its address can be seen; then the start says why, and so does the exit.
    let started = cluster.backend.start(&key(0), &cluster.running(&["fail", "3"])).await;
    if let Err(error) = started {
        assert!(error.to_string().contains("code 3") && error.to_string().contains("no weights"), "{error}");
    }
    let exit = next(&mut exits).await;
    let Cause::Exited { code: 3, log } = exit.cause else { panic!("{exit:?}") };
    assert_eq!(log.lines().count(), 20, "{log}");
    assert!(log.contains("line 30") && log.contains("no weights") && !log.contains("line 5\n"), "{log}");
    cluster.is_empty_soon().await;
}

#[tokio::test]
async fn a_program_that_the_image_lacks_is_named() {
    let cluster = Cluster::new().await;
    let mut exits = cluster.backend.watch();
    let spec = Spec { command: Some(vec!["/no-such-server".to_owned()]), ..cluster.spec() };
    let started = cluster.backend.start(&key(0), &spec).await;
    // Engines without an init program refuse it at once.
    let told = match started {
        Err(error) if !error.to_string().contains("exited at once") => error.to_string(),
        Ok(_) | Err(_) => format!("{:?}", next(&mut exits).await.cause),
    };
    assert!(told.contains("no-such-server"), "{told}");
}

#[tokio::test]
async fn want_of_memory_is_told_as_such() {
    let cluster = Cluster::new().await;
    let mut exits = cluster.backend.watch();
    let spec = Spec { memory: Some(16 << 20), ..cluster.running(&["eat"]) };
    let _ = cluster.backend.start(&key(0), &spec).await;
    let exit = next(&mut exits).await;
    assert!(matches!(&exit.cause, Cause::OutOfMemory { log } if log.contains("eating")), "{exit:?}");
}

#[tokio::test]
async fn a_crash_is_told_with_its_log() {
    let cluster = Cluster::new().await;
    let mut exits = cluster.backend.watch();
    let _ = cluster.backend.start(&key(0), &cluster.running(&["abort"])).await;
    let exit = next(&mut exits).await;
    assert!(matches!(exit.cause, Cause::Exited { code: 134, .. }), "{exit:?}");
}

#[tokio::test]
async fn an_instance_removed_from_outside_is_told() {
    let cluster = Cluster::new().await;
    let mut exits = cluster.backend.watch();
    cluster.backend.start(&key(0), &cluster.spec()).await.unwrap();
    let force = RemoveContainerOptionsBuilder::new().force(true).build();
    cluster.docker.remove_container(&cluster.container(&key(0)), Some(force)).await.unwrap();
    let exit = next(&mut exits).await;
    assert_eq!(exit.key, key(0));
    // The engine tells how it died before it tells that it is gone.
    assert!(matches!(exit.cause, Cause::Killed { signal: 9 } | Cause::Vanished), "{exit:?}");
}

#[tokio::test]
async fn a_stopped_instance_is_told_once() {
    let cluster = Cluster::new().await;
    let mut exits = cluster.backend.watch();
    cluster.backend.start(&key(0), &cluster.spec()).await.unwrap();
    cluster.backend.stop(&key(0), Duration::from_secs(20)).await.unwrap();
    let exit = next(&mut exits).await;
    assert_eq!((exit.key, exit.cause), (key(0), Cause::Killed { signal: 15 }));
    // Longer than until the next listing.
    let more = tokio::time::timeout(Duration::from_secs(6), exits.next()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn a_crowd_that_dies_at_once_is_told_of_one_by_one() {
    let cluster = Cluster::new().await;
    let mut exits = cluster.backend.watch();
    let (spec, keys) = (cluster.spec(), (0..6).map(key).collect::<Vec<_>>());
    for started in
        futures_util::future::join_all(keys.iter().map(|key| cluster.backend.start(key, &spec))).await
    {
        started.unwrap();
    }
    futures_util::future::join_all(keys.iter().map(|key| cluster.backend.kill(key))).await;
    let mut told = Vec::new();
    for _ in &keys {
        told.push(next(&mut exits).await.key);
    }
    told.sort();
    assert_eq!(told, keys);
    cluster.is_empty_soon().await;
}
