//! README.md: every command in it does what it says, and its cluster.toml is right.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use longshore_tests::command::{Done, run, shell};
use longshore_tests::document::{Line, blocks, lines};
use longshore_tests::{Backend, Cluster, PATIENCE, Setup, binary, each, eventually, repository};

/// Longest time for one command; `verify` sends load for half a minute.
const LIMIT: Duration = Duration::from_secs(100);

/// Commands that are not typed here, and what stands for them.
const ELSEWHERE: [(&str, &str); 2] = [
    ("./run", "it builds, and then runs `longshore up` here: so does `cluster_of_the_repository`"),
    ("./test", "it runs this test"),
];

/// Parts of the commands of which more is looked at than the exit code and the number in the comment.
const RESIZE: &str = "/services/calc/size";
const PS: &str = "longshore ps";
const KILL: &str = "docker kill";
const VERIFY: &str = "longshore verify";

fn readme() -> String {
    std::fs::read_to_string(repository().join("README.md")).expect("the repository has a README.md")
}

/// Paths in a file of the repository, from wherever a copy of it is.
fn at_home(text: &str) -> String {
    text.replace("\"images/", &format!("\"{}/images/", repository().display()))
}

/// The ports that README.md names if nobody has them, else any.
fn ports() -> [SocketAddr; 2] {
    let both = [5000, 5001].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    if both.iter().all(|address| TcpListener::bind(address).is_ok()) {
        return both;
    }
    both.map(|address| SocketAddr::new(address.ip(), 0))
}

/// cluster.toml as `./run` serves it, but under a name of its own.
async fn cluster_of_the_repository() -> Cluster {
    let text = std::fs::read_to_string(repository().join("cluster.toml")).expect("it is there");
    let name = "name = \"default\"\n";
    assert!(text.contains(name), "cluster.toml has no {name}");
    let [proxy, admin] = ports();
    Setup::new(Backend::Docker)
        .proxy(&format!("listen = [\"{proxy}\"]"))
        .admin(&format!("listen = \"{admin}\""))
        .service(&at_home(&text.replace(name, "")))
        .start()
        .await
}

/// The command for this binary, these ports, and the containers of this cluster only.
fn fitted(command: &str, cluster: &Cluster) -> String {
    let proxy = cluster.address().to_string();
    let mut fitted = command
        .replace("target/release/longshore", &binary().display().to_string())
        .replace("localhost:5000", &proxy)
        .replace("localhost:5001", cluster.admin().url().trim_start_matches("http://"))
        .replace(
            "label=longshore.service=",
            &format!("label=longshore.cluster={} --filter label=longshore.service=", cluster.name()),
        );
    if command.contains(VERIFY) && cluster.address().port() != 5000 {
        fitted.push_str(&format!(" --proxy http://{proxy}"));
    }
    fitted
}

async fn every_command_of_the_readme_does_what_it_says() {
    let lines = lines(&readme());
    for (command, _) in ELSEWHERE {
        assert!(lines.iter().any(|line| line.command == command), "README.md has no {command}");
    }
    for part in [RESIZE, PS, KILL, VERIFY] {
        let count = lines.iter().filter(|line| line.command.contains(part)).count();
        assert_eq!(count, 1, "README.md has so many commands with {part:?}");
    }
    assert!(lines.iter().any(|line| line.output().is_some()), "README.md shows no output");
    let cluster = cluster_of_the_repository().await;
    for line in lines.iter().filter(|line| ELSEWHERE.iter().all(|(command, _)| line.command != *command)) {
        type_in(line, &cluster).await;
    }
    cluster.admin().lost_nothing("calc").await;
    cluster.stop().await;
}

async fn type_in(line: &Line, cluster: &Cluster) {
    let before = cluster.admin().ready("calc").await;
    let command = fitted(&line.command, cluster);
    let admin = cluster.admin().url();
    let done = shell(LIMIT, &command, &[("LONGSHORE_ADMIN", &admin)]).await;
    assert_eq!(done.code, 0, "{command}: {}{}", done.stdout, done.stderr);
    if let Some(output) = line.output() {
        assert_eq!(done.stdout.trim(), output, "{command}");
    }
    let is = |part: &str| line.command.contains(part);
    if is(RESIZE) {
        let status: serde_json::Value = serde_json::from_str(&done.stdout).expect("the service, as JSON");
        assert_eq!(status["size"]["wanted"], 4, "{}", done.stdout);
        cluster.admin().has("calc", 4).await;
    } else if is(PS) {
        for instance in before {
            assert!(done.stdout.contains(&instance.id), "{}", done.stdout);
        }
    } else if is(KILL) {
        eventually(PATIENCE, "one is dead, and replaced", async || {
            let now = cluster.admin().ready("calc").await;
            let kept = before.iter().filter(|old| now.iter().any(|one| one.id == old.id)).count();
            (now.len() == before.len() && kept == before.len() - 1).then_some(())
        })
        .await;
    } else if is(VERIFY) {
        verified(&done);
    }
}

/// "`verify` sends load for 30 seconds while it kills an instance every three, and prints sent, answered and lost."
fn verified(done: &Done) {
    let number = |name: &str| -> u64 {
        let cell = done.row(name).into_iter().next().unwrap_or_default();
        cell.parse().unwrap_or_else(|_| panic!("{name} is {cell:?}: {}", done.stdout))
    };
    assert_eq!(done.row("sent ")[1..], ["in", "30s"], "{}", done.stdout);
    assert!(number("sent ") > 0, "{}", done.stdout);
    assert_eq!(number("sent "), number("answered "), "{}", done.stdout);
    assert_eq!((number("lost "), number("lost, by the proxy's count ")), (0, 0), "{}", done.stdout);
    assert!((8..=10).contains(&number("kills ")), "{}", done.stdout);
}

async fn the_cluster_of_the_readme_is_right() {
    let blocks = blocks(&readme(), "toml");
    assert!(!blocks.is_empty(), "README.md shows no cluster.toml");
    let folder = Setup::new(Backend::Process);
    for block in blocks {
        let file = folder.file("cluster.toml", &at_home(&block));
        let done = run(LIMIT, &["check", "-c", file.to_str().expect("a plain path")], &[]).await;
        assert_eq!(done.code, 0, "{block}\n{}", done.stderr);
    }
}

each!(heavy 240: every_command_of_the_readme_does_what_it_says);
each!(light 60: the_cluster_of_the_readme_is_right);
