//! Jobs outlive whoever keeps them: a proxy that is killed again and again, one of two proxies, a Redis.
//!
//! `LONGSHORE_JOBS`, `LONGSHORE_KILLS` and `LONGSHORE_SEED` set how many jobs there are, how often something is killed
//! under them, and when; the seed is printed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use http::Request;
use longshore_tests::jobs::{Jobs, Places};
use longshore_tests::redis::Redis;
use longshore_tests::server::Recorder;
use longshore_tests::{Backend, Client, Cluster, Setup, each, from_environment};

/// Slow enough that there is always one at work when something dies.
const MODEL: &str = "echo --fault-latency 20ms";

const KEYS: &str = "size = 4\nconcurrency = 2\n";

fn setup() -> Setup {
    Setup::new(Backend::Process)
}

fn number(name: &str, default: u64) -> usize {
    usize::try_from(from_environment(name, default)).expect("a small number")
}

/// The seed of this run, printed so that it can be run again.
fn seed() -> u64 {
    let seed = from_environment("LONGSHORE_SEED", fastrand::u64(..1_000_000));
    eprintln!("LONGSHORE_SEED={seed}");
    seed
}

/// Kills the proxy at moments that chance picks, under load each time, and starts it again.
async fn a_proxy_killed_again_and_again_forgets_no_job(store: &str) {
    let (count, kills, seed) = (number("LONGSHORE_JOBS", 2000), number("LONGSHORE_KILLS", 20), seed());
    let mut cluster = setup().service(store).model("echo", MODEL, KEYS).start().await;
    let places = Places::new(&[cluster.address()]);
    let jobs = Jobs::new(&places, seed, count);
    let mut rng = Rng::with_seed(seed ^ 1);
    let disturb = async {
        for round in 1..=kills {
            let (before, until) = (count * (round - 1) / kills, count * round / kills);
            jobs.allow(until);
            jobs.taken(before + rng.usize(1..=until - before)).await;
            tokio::time::sleep(Duration::from_micros(rng.u64(..100_000))).await;
            cluster.kill().await;
            cluster.again().await;
            places.set(&[cluster.address()]);
        }
    };
    let seen = jobs.run(disturb).await;
    let again = seen.iter().filter(|seen| seen.attempts > 1).count();
    assert!(again > 0, "no kill met a job at work: this has shown nothing");
    eprintln!("{count} jobs, {kills} kills; {again} jobs were begun more than once");
    cluster.stop().await;
}

async fn in_files() {
    a_proxy_killed_again_and_again_forgets_no_job("").await;
}

async fn in_redis() {
    let redis = Redis::start().await;
    a_proxy_killed_again_and_again_forgets_no_job(&redis.jobs("2s")).await;
}

/// Jobs at work at once, in each proxy.
const AT_WORK: usize = 4;

const LEASE: Duration = Duration::from_secs(2);

/// Two proxies of one cluster, which share their jobs and the server that works on them.
async fn two_proxies(name: &str, redis: &Redis, worker: &Recorder) -> [Cluster; 2] {
    let service = format!(
        "[services.work]\naddresses = [\"{}\"]\nconcurrency = {AT_WORK}\nhealth.path = \"/healthz\"\n{}",
        worker.address,
        redis.jobs("2s")
    );
    let proxy = || setup().named(name).service(&service).start();
    [proxy().await, proxy().await]
}

async fn submit(client: &Client, path: &str) -> String {
    let request = Request::post(path).header("prefer", "respond-async");
    let reply = client.send(request, Bytes::new()).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    reply.json()["id"].as_str().expect("its id").to_owned()
}

async fn ends(client: &Client, id: &str, path: &str) {
    let result = client.get(&format!("/_jobs/{id}/result?wait=60s")).await;
    assert_eq!((result.status, result.text().as_str()), (200, path), "{id}");
}

async fn each_job_runs_once_while_all_proxies_live() {
    let redis = Redis::start().await;
    let worker = Recorder::slow(Duration::from_millis(20)).await;
    let proxies = two_proxies("living", &redis, &worker).await;
    let mut jobs = Vec::new();
    for number in 0..300 {
        let path = format!("/job/{number}");
        jobs.push((submit(&proxies[number % 2].client(), &path).await, path));
    }
    for (number, (id, path)) in jobs.iter().enumerate() {
        // Through the one that did not take it.
        ends(&proxies[(number + 1) % 2].client(), id, path).await;
    }
    let arrivals = worker.arrivals();
    assert_eq!(arrivals.len(), 300);
    let twice: Vec<_> = arrivals.iter().filter(|(_, times)| times.len() != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let mut shares = Vec::new();
    for proxy in &proxies {
        shares.push(proxy.admin().metrics().await.sum("longshore_job_seconds_count", &[("service", "work")]));
    }
    assert!(shares.iter().all(|share| *share > 30.0), "both work on them: {shares:?}");
    for proxy in proxies {
        proxy.stop().await;
    }
}

async fn the_jobs_of_a_proxy_that_dies_are_taken_over() {
    let redis = Redis::start().await;
    let worker = Recorder::slow(Duration::from_millis(500)).await;
    let [mut first, second] = two_proxies("dying", &redis, &worker).await;
    let mut jobs = Vec::new();
    for number in 0..100 {
        let path = format!("/job/{number}");
        let taken_by = if number % 2 == 0 { &first } else { &second };
        jobs.push((submit(&taken_by.client(), &path).await, path));
    }
    assert!(worker.seen().len() < 90, "there was no load when it died");
    first.kill().await;
    let died = Instant::now();
    for (id, path) in &jobs {
        ends(&second.client(), id, path).await;
    }
    let arrivals = worker.arrivals();
    assert_eq!(arrivals.len(), jobs.len());
    let again: Vec<_> = arrivals.iter().filter(|(_, times)| times.len() > 1).collect();
    assert!((1..=AT_WORK).contains(&again.len()), "what it was working on, and nothing else: {again:?}");
    for (path, times) in again {
        let after = times[1].saturating_duration_since(died);
        // It had been renewed a third of the lease before it died, at the earliest.
        assert!(times.len() == 2 && after > LEASE / 2, "{path} was taken from one that may live: {after:?}");
    }
    second.stop().await;
}

async fn a_redis_that_dies_under_load_is_waited_for() {
    let mut redis = Redis::start().await;
    let store = redis.jobs("5s");
    let proxy = || setup().named("shared").service(&store).model("echo", MODEL, KEYS).start();
    let proxies = [proxy().await, proxy().await];
    let places = Places::new(&[proxies[0].address(), proxies[1].address()]);
    let jobs = Jobs::new(&places, seed(), 400);
    let disturb = async {
        for round in 0..4 {
            jobs.allow(100 * (round + 1));
            jobs.taken(100 * round + 50).await;
            redis.restart().await;
        }
    };
    jobs.run(disturb).await;
    for proxy in proxies {
        proxy.stop().await;
    }
}

/// A cluster whose only job waits, with a body in a file of its own; and the job.
async fn one_that_waits() -> (Cluster, String) {
    let cluster = setup().model("echo", "echo", "size = { min = 0, max = 1 }").start().await;
    assert_eq!(cluster.admin().set_size("echo", 0).await.status, 200);
    cluster.admin().has("echo", 0).await;
    let request = Request::post("/x").header("prefer", "respond-async");
    let ticket = cluster.client().send(request, Bytes::from(vec![7; 300_000])).await;
    assert_eq!(ticket.status, 202, "{}", ticket.text());
    (cluster, ticket.header("location").to_owned())
}

async fn a_torn_store_is_refused_at_the_start_and_left_as_it_is() {
    let (mut cluster, job) = one_that_waits().await;
    cluster.kill().await;
    let config = cluster.folder().join("cluster.toml");
    let path = cluster.folder().join("longshore-data/jobs.redb");
    let whole = std::fs::read(&path).expect("it is there");
    let mut flipped = whole.clone();
    flipped[4096..].iter_mut().step_by(501).for_each(|byte| *byte ^= 0x40);
    for damage in [whole[..whole.len() / 3].to_vec(), Vec::new(), flipped] {
        std::fs::write(&path, &damage).expect("it is written");
        let refused = cluster.up_beside(&config, &[]).await;
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        let advice =
            ["is damaged", "left as it is", "put a copy of its folder back", "longshore jobs import"];
        assert!(advice.iter().all(|part| refused.stderr.contains(part)), "{}", refused.stderr);
        assert_eq!(std::fs::metadata(&path).expect("it is there").len(), damage.len() as u64);
    }
    // The copy of the folder.
    std::fs::write(&path, &whole).expect("it is written");
    cluster.again().await;
    assert_eq!(cluster.client().get(&format!("{job}/result?wait=30s")).await.status, 200);
    cluster.stop().await;
}

async fn a_job_whose_body_is_damaged_fails_and_says_so() {
    let (mut cluster, job) = one_that_waits().await;
    cluster.kill().await;
    cluster.expect_error("failed to read the body of a job");
    let bodies = std::fs::read_dir(cluster.folder().join("longshore-data/bodies")).expect("it is there");
    let body = bodies.map(|entry| entry.expect("it is there").path()).next().expect("there is one");
    let mut bytes = std::fs::read(&body).expect("it is there");
    bytes[200_000] ^= 1;
    std::fs::write(&body, bytes).expect("it is written");
    cluster.again().await;
    let result = cluster.client().get(&format!("{job}/result?wait=30s")).await;
    assert_eq!((result.status, result.problem().as_str()), (500, "job-damaged"));
    assert!(result.detail().contains("not what was written"), "{}", result.detail());
    cluster.stop().await;
}

each!(heavy 300: in_files, in_redis, a_redis_that_dies_under_load_is_waited_for);
each!(light 120: each_job_runs_once_while_all_proxies_live, the_jobs_of_a_proxy_that_dies_are_taken_over);
each!(light 120: a_torn_store_is_refused_at_the_start_and_left_as_it_is, a_job_whose_body_is_damaged_fails_and_says_so);
