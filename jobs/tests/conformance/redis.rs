//! A Redis of a test's own, and what only a store in Redis has to stand.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use longshore_jobs::{Change, Job, Outcome, RedisStore, Store, StoreError};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use crate::Fixture;
use crate::support::{NOW, bytes, job, limits, one, put, staged, update, whole, with_body};

/// A `redis-server` on a socket in a folder of its own, which keeps every write.
pub struct Server {
    folder: TempDir,
    child: Child,
}

impl Server {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = spawn(folder.path());
        let server = Self { folder, child };
        server.answers().await;
        server
    }

    pub fn url(&self) -> String {
        format!("unix://{}/socket", self.folder.path().display())
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub async fn revive(&mut self) {
        self.child = spawn(self.folder.path());
        self.answers().await;
    }

    async fn answers(&self) {
        let until = Instant::now() + Duration::from_secs(20);
        let client = redis::Client::open(self.url()).unwrap();
        while client.get_multiplexed_async_connection().await.is_err() {
            assert!(Instant::now() < until, "redis-server (apt-get install redis-server) does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(folder: &Path) -> Child {
    Command::new("redis-server")
        .current_dir(folder)
        .args(["--port", "0", "--unixsocket", "socket", "--appendonly", "yes", "--appendfsync", "always"])
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server starts (apt-get install redis-server)")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_and_restarted_has_kept_every_job() {
    let mut fixture = Fixture::redis(1 << 30).await;
    let store = fixture.store.clone();
    let before = with_body(&store, "calc", &bytes(500_000)).await;
    let server = fixture.server.as_mut().unwrap();
    server.kill();
    let meanwhile = tokio::spawn({
        let store = store.clone();
        async move { with_body(&store, "calc", &bytes(1000)).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.revive().await;
    let meanwhile = meanwhile.await.unwrap();
    assert_eq!(store.get(before.id).await.unwrap().as_ref(), Some(&before));
    assert!(whole(&store, before.input.unwrap()).await == bytes(500_000));
    assert_eq!(store.heads("calc", 10).await.unwrap(), [before, meanwhile]);
    let mut news = store.news();
    let told = async {
        loop {
            put(&store, &job("calc")).await;
            if tokio::time::timeout(Duration::from_millis(200), news.recv()).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("changes are told again");
}

/// Stands before a Redis: the answer to the next script is lost, along with the connection, once `on` says so.
struct Lossy {
    armed: AtomicBool,
    lost: Notify,
    on: Notify,
}

impl Lossy {
    fn before(server: &Server) -> (Arc<Self>, String) {
        let (from, to) = (server.folder.path().join("lossy"), server.folder.path().join("socket"));
        let listener = UnixListener::bind(&from).unwrap();
        let lossy = Arc::new(Self { armed: AtomicBool::new(false), lost: Notify::new(), on: Notify::new() });
        let relay = lossy.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (relay, to) = (relay.clone(), to.clone());
                tokio::spawn(
                    async move { relay.carry(client, UnixStream::connect(to).await.unwrap()).await },
                );
            }
        });
        (lossy, format!("unix://{}", from.display()))
    }

    async fn carry(&self, mut client: UnixStream, mut server: UnixStream) {
        let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
        loop {
            tokio::select! {
                read = client.read(&mut asked) => {
                    let Ok(read @ 1..) = read else { return };
                    server.write_all(&asked[..read]).await.unwrap();
                    let script = asked[..read].windows(7).any(|word| word == b"EVALSHA");
                    if script && self.armed.swap(false, Ordering::Relaxed) {
                        assert!(server.read(&mut answered).await.unwrap() > 0, "it answers");
                        self.lost.notify_one();
                        return self.on.notified().await;
                    }
                }
                read = server.read(&mut answered) => {
                    let Ok(read @ 1..) = read else { return };
                    client.write_all(&answered[..read]).await.unwrap();
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_making_was_not_heard_of_is_known_whatever_became_of_it() {
    let fixture = Fixture::redis(1 << 30).await;
    let (lossy, url) = Lossy::before(fixture.server.as_ref().unwrap());
    let store: Arc<dyn Store> = Arc::new(RedisStore::open(&url, "test", limits(1 << 30)).await.unwrap());
    // So that the script is known there.
    put(&store, &job("calc")).await;
    let body = bytes(1_000);
    let staged = staged(&store, &body).await;
    let new = Job { input: staged.as_ref().map(|staged| staged.body), ..job("calc") };
    lossy.armed.store(true, Ordering::Relaxed);
    let making = tokio::spawn({
        let (store, change) = (store.clone(), Change::create(new.clone(), staged));
        async move { one(&store, change).await }
    });
    lossy.lost.notified().await;
    let held = new.held("another proxy", NOW).unwrap();
    update(&fixture.store, &new, &held).await;
    lossy.on.notify_one();
    assert_eq!(making.await.unwrap(), Outcome::Made);
    assert_eq!(store.get(new.id).await.unwrap(), Some(held));
    assert!(whole(&store, new.input.unwrap()).await == body);
    assert_eq!(one(&store, Change::create(new, None)).await, Outcome::Stale, "that is another one's");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_reach_for_one_job_one_gets_it() {
    let fixture = Fixture::redis(1 << 30).await;
    let url = fixture.server.as_ref().unwrap().url();
    let other: Arc<dyn Store> = Arc::new(RedisStore::open(&url, "test", limits(1 << 30)).await.unwrap());
    for _ in 0..50 {
        let waiting = job("calc");
        put(&fixture.store, &waiting).await;
        let seen = other.get(waiting.id).await.unwrap().unwrap();
        let mine = one(&fixture.store, Change::update(waiting.clone(), waiting.held("me", NOW).unwrap()));
        let yours = one(&other, Change::update(seen.clone(), seen.held("you", NOW).unwrap()));
        let (mine, yours) = tokio::join!(mine, yours);
        let made = [mine, yours].into_iter().filter(|outcome| *outcome == Outcome::Made).count();
        assert_eq!(made, 1, "{mine:?} {yours:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_of_different_names_have_different_jobs() {
    let fixture = Fixture::redis(1 << 30).await;
    let url = fixture.server.as_ref().unwrap().url();
    let other: Arc<dyn Store> = Arc::new(RedisStore::open(&url, "another", limits(1 << 30)).await.unwrap());
    let waiting = job("calc");
    put(&fixture.store, &waiting).await;
    assert_eq!(other.get(waiting.id).await.unwrap(), None);
    assert!(other.heads("calc", 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_not_there_or_has_another_format_is_named() {
    let error = RedisStore::open("redis://:secret@127.0.0.1:1/0", "test", limits(1)).await.err().unwrap();
    let StoreError::Unavailable(text) = error else { panic!("{error}") };
    assert!(text.contains("127.0.0.1:1") && !text.contains("secret"), "{text}");
    let fixture = Fixture::redis(1 << 30).await;
    let url = fixture.server.as_ref().unwrap().url();
    let client = redis::Client::open(&*url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let () = redis::cmd("SET").arg("longshore:new:format").arg(9).query_async(&mut connection).await.unwrap();
    let error = RedisStore::open(&url, "new", limits(1)).await.err().unwrap();
    assert!(matches!(&error, StoreError::Corrupt(text) if text.contains("format 9")), "{error}");
}
