//! How an image comes to be there, and what is said when it does not.

use longshore_backend::{Backend as _, Gpus, Pull, Spec, StartError};

use crate::support::{Cluster, Recorder, Silent, key};

#[tokio::test]
async fn a_missing_image_is_built_once_however_many_ask_for_it() {
    let cluster = Cluster::without_image(None).await;
    let (spec, progress) = (cluster.spec(), Recorder::default());
    let ask = || cluster.backend.prepare(&spec, true, &progress);
    let (one, two, three) = tokio::join!(ask(), ask(), ask());
    assert!(one.is_ok() && two.is_ok() && three.is_ok(), "{one:?} {two:?} {three:?}");
    let steps =
        |progress: &Recorder| progress.0.lock().iter().filter(|line| line.contains("Step 1/")).count();
    assert_eq!(steps(&progress), 1, "{:?}", progress.0.lock());

    cluster.backend.prepare(&spec, false, &progress).await.unwrap();
    assert_eq!(steps(&progress), 1, "what is there is not built again");
    cluster.backend.prepare(&spec, true, &progress).await.unwrap();
    assert_eq!(steps(&progress), 2, "unless it is asked for");
}

#[tokio::test]
async fn a_build_that_fails_is_told_with_its_last_lines() {
    let cluster = Cluster::without_image(None).await;
    let folder = tempfile::tempdir().unwrap();
    let spec = Spec { build: Some(folder.path().to_owned()), ..cluster.spec() };
    let error = cluster.backend.prepare(&spec, false, &Silent).await.unwrap_err();
    assert!(matches!(&error, StartError::Futile(text) if text.contains("has no Dockerfile")), "{error}");

    std::fs::write(folder.path().join("Dockerfile"), "FROM scratch\nCOPY weights.bin /\n").unwrap();
    let error = cluster.backend.prepare(&spec, false, &Silent).await.unwrap_err();
    let StartError::Futile(text) = &error else { panic!("{error:?}") };
    assert!(
        text.contains(&cluster.image) && text.contains("weights.bin") && text.contains("Step 2/2"),
        "{text}"
    );
}

#[tokio::test]
async fn an_image_that_is_nowhere_is_told_with_what_to_do() {
    let cluster = Cluster::without_image(None).await;
    // Port 9 of this machine is no registry.
    let image = format!("127.0.0.1:9/{}", cluster.image);
    let spec = Spec { image: image.clone(), build: None, pull: Pull::Missing, ..cluster.spec() };
    let error = cluster.backend.prepare(&spec, false, &Silent).await.unwrap_err();
    let StartError::Futile(text) = &error else { panic!("{error:?}") };
    for part in [image.as_str(), "is not on this engine and cannot be pulled", "docker build", "build = "] {
        assert!(text.contains(part), "{text}");
    }
    let never = Spec { pull: Pull::Never, ..spec.clone() };
    let error = cluster.backend.prepare(&never, false, &Silent).await.unwrap_err();
    assert!(matches!(&error, StartError::Futile(text) if text.contains("never")), "{error}");
    let error = cluster.backend.start(&key(0), &spec).await.unwrap_err();
    assert!(matches!(&error, StartError::NoImage(text) if text.contains(&image)), "{error}");
    let error = cluster.backend.restore(&spec).await.unwrap_err();
    assert!(matches!(&error, StartError::Futile(text) if text.contains("cannot be pulled")), "{error}");
    let nonsense = Spec { image: "No Such:Image".to_owned(), ..spec };
    assert!(matches!(cluster.backend.prepare(&nonsense, false, &Silent).await, Err(StartError::Futile(_))));
}

async fn remove_image(cluster: &Cluster) {
    let options = None::<bollard::query_parameters::RemoveImageOptions>;
    cluster.docker.remove_image(&cluster.image, options, None).await.expect("it is there");
}

#[tokio::test]
async fn an_image_that_is_gone_is_made_again_and_a_failure_is_remembered() {
    let cluster = Cluster::without_image(None).await;
    let folder = tempfile::tempdir().unwrap();
    let broken = Spec { build: Some(folder.path().to_owned()), ..cluster.spec() };
    let first = cluster.backend.prepare(&broken, false, &Silent).await.unwrap_err();
    let begun = std::time::Instant::now();
    let again = cluster.backend.restore(&cluster.spec()).await.unwrap_err();
    assert_eq!(again.to_string(), first.to_string(), "not tried again so soon: {:?}", begun.elapsed());

    cluster.backend.prepare(&cluster.spec(), false, &Silent).await.unwrap();
    remove_image(&cluster).await;
    assert!(matches!(cluster.backend.start(&key(0), &cluster.spec()).await, Err(StartError::NoImage(_))));
    cluster.backend.restore(&cluster.spec()).await.unwrap();
    cluster.backend.start(&key(0), &cluster.spec()).await.unwrap();
}

#[tokio::test]
async fn options_that_the_engine_refuses_are_futile_and_leave_nothing_behind() {
    let cluster = Cluster::new().await;
    let refused = [
        (Spec { network: Some("no-such-network".to_owned()), ..cluster.spec() }, "no-such-network"),
        (Spec { volumes: vec!["a:b:c:d".to_owned()], ..cluster.spec() }, "a:b:c:d"),
        (Spec { gpus: Some(Gpus::Count(1)), ..cluster.spec() }, "gpus"),
    ];
    for (slot, (spec, part)) in refused.into_iter().enumerate() {
        let error = cluster.backend.start(&key(u32::try_from(slot).unwrap()), &spec).await.unwrap_err();
        assert!(matches!(&error, StartError::Futile(text) if text.contains(part)), "{error:?}");
    }
    cluster.is_empty_soon().await;
}
