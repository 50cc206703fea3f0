//! Images that are missing: why, and what brings them.

use longshore_tests::docker::{Docker, MODEL_SERVER};
use longshore_tests::{Backend, Cluster, PATIENCE, Setup, each, eventually};

/// A reference of this test's own, which leads to nothing when the test is over.
struct Image(String);

impl Image {
    fn new(name: &str) -> Self {
        Self(format!("longshore-e2e-{}-{name}", std::process::id()))
    }

    fn appear(&self) {
        Docker::default().run(&["tag", MODEL_SERVER, &self.0]);
    }

    fn disappear(&self) {
        Docker::default().output(&["rmi", "-f", &self.0]);
    }

    /// A service that runs it; `keys` are lines of its table.
    fn service(&self, name: &str, keys: &str) -> String {
        format!(
            "[services.{name}]\nimage = \"{}\"\ncommand = [\"model-server\", \"calculator\"]\n\
             health.path = \"/healthz\"\nrestart.backoff = {{ initial = \"100ms\", max = \"500ms\" }}\n{keys}\n",
            self.0
        )
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.disappear();
    }
}

/// What clients and `ps` are told of a service that cannot start.
async fn told(cluster: &Cluster, service: &str, words: &[&str]) {
    for _ in 0..2 {
        let reply = cluster.client().get_from(service, "/add/3/4").await;
        assert_eq!((reply.status, reply.problem().as_str()), (503, "cannot-start"), "{}", reply.text());
        let detail = reply.detail();
        assert!(words.iter().all(|word| detail.contains(word)), "{words:?} are not in {detail:?}");
        assert!(!detail.contains("any more"), "it was never there: {detail}");
        // Until a start has missed it once more.
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    }
    let ps = cluster.command(&["ps"]).await.stdout;
    assert!(words.iter().all(|word| ps.contains(word)), "{words:?} are not in {ps}");
}

async fn why_an_image_is_missing_is_told_until_somebody_brings_it() {
    let (built, bare, forbidden) = (Image::new("built"), Image::new("bare"), Image::new("forbidden"));
    let setup = Setup::new(Backend::Docker).model("calc", "calculator", "default = true");
    let folder = setup.file("Dockerfile", "FROM scratch\nCOPY weights.bin /\n");
    let folder = folder.parent().expect("a folder").to_owned();
    let empty = folder.join("empty");
    std::fs::create_dir(&empty).expect("a folder");
    let cluster = setup
        .service(&built.service("built", &format!("build = {folder:?}")))
        .service(&bare.service("bare", &format!("build = {empty:?}")))
        .service(&forbidden.service("forbidden", "pull = \"never\""))
        .serve()
        .await;
    cluster.expect_error("the service cannot start");
    told(&cluster, "built", &["weights.bin", "COPY"]).await;
    told(&cluster, "bare", &["has no Dockerfile"]).await;
    told(&cluster, "forbidden", &["`pull = \"never\"` forbids"]).await;
    assert_eq!(cluster.client().get("/add/3/4").await.text(), "7", "others are not held up");
    built.appear();
    forbidden.appear();
    // What the folder lacked: the next try to build it does well.
    std::fs::write(empty.join("Dockerfile"), format!("FROM {MODEL_SERVER}\n")).expect("a file");
    for service in ["built", "forbidden", "bare"] {
        eventually(PATIENCE, "what has come is run", async || {
            (cluster.client().get_from(service, "/add/3/4").await.status == 200).then_some(())
        })
        .await;
        assert!(cluster.admin().service(service).await["cannot_start"].is_null());
    }
    cluster.stop().await;
}

async fn an_image_that_is_gone_is_built_again() {
    let image = Image::new("gone");
    let setup = Setup::new(Backend::Docker);
    let file = setup.file("Dockerfile", &format!("FROM {MODEL_SERVER}\n"));
    let keys = format!("build = {:?}", file.parent().expect("a folder"));
    let cluster = setup.service(&image.service("calc", &keys)).start().await;
    let victim = cluster.admin().has("calc", 1).await.remove(0);
    image.disappear();
    cluster.kill_instance(&victim).await;
    assert_eq!(cluster.client().get("/add/3/4").await.text(), "7", "the request waits for the build");
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

each!(light 120: why_an_image_is_missing_is_told_until_somebody_brings_it, an_image_that_is_gone_is_built_again);
