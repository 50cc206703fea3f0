//! Many jobs that are submitted and read by several clients at once, while whatever keeps them dies and comes back: what
//! was acknowledged must be answered, with the right bytes, and must never be seen to end a second time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use http::Request;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::{Client, Reply, digest};

/// Clients that submit, and as many that read.
const LANES: usize = 8;

/// Longer than any single job may be away.
const LIMIT: Duration = Duration::from_secs(120);

/// Between two tries of one client.
const PAUSE: Duration = Duration::from_millis(30);

/// Smallest and largest body, in bytes.
const SIZES: (f64, f64) = (1_000.0, 5_000_000.0);

/// Where proxies serve just now.
#[derive(Clone, Debug)]
pub struct Places(Arc<Mutex<Vec<SocketAddr>>>);

impl Places {
    /// Of these proxies, any.
    pub fn new(all: &[SocketAddr]) -> Self {
        Self(Arc::new(Mutex::new(all.to_vec())))
    }

    /// From now on these.
    pub fn set(&self, all: &[SocketAddr]) {
        *self.0.lock() = all.to_vec();
    }

    /// A client of one of them.
    pub fn client(&self) -> Client {
        let all = self.0.lock();
        Client::new(all[fastrand::usize(..all.len())])
    }
}

/// One job of many.
#[derive(Clone, Copy, Debug)]
struct Planned {
    number: usize,
    size: usize,
    /// Whether its result is its body; else it is a few lines about it.
    reflected: bool,
}

/// What a client has of a job that was taken.
#[derive(Clone, Debug)]
struct Ticket {
    planned: Planned,
    id: String,
    /// A digest of its body.
    digest: String,
}

/// What a client has seen of a job that had ended: it must never see anything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The job.
    pub id: String,
    /// When it had ended.
    pub finished_at: String,
    /// How many instances worked on it.
    pub attempts: u64,
    /// The instance that answered.
    instance: String,
    /// A digest of the answer's body.
    digest: String,
}

/// Jobs under way.
#[derive(Debug)]
pub struct Jobs {
    places: Places,
    plan: Vec<Planned>,
    next: AtomicUsize,
    allowed: watch::Sender<usize>,
    taken: watch::Sender<usize>,
}

impl Jobs {
    /// `count` jobs that `seed` decides, of which none is submitted yet.
    pub fn new(places: &Places, seed: u64, count: usize) -> Arc<Self> {
        let mut rng = Rng::with_seed(seed);
        let plan = (0..count).map(|number| planned(number, &mut rng)).collect();
        Arc::new(Self {
            places: places.clone(),
            plan,
            next: AtomicUsize::new(0),
            allowed: watch::Sender::new(0),
            taken: watch::Sender::new(0),
        })
    }

    /// The first `count` of them may be submitted.
    pub fn allow(&self, count: usize) {
        self.allowed.send_replace(count);
    }

    /// Waits until so many were answered 202.
    ///
    /// # Panics
    /// When nobody submits any more.
    pub async fn taken(&self, count: usize) {
        self.taken.subscribe().wait_for(|taken| *taken >= count).await.expect("it is there");
    }

    /// Submits and reads all of them while `disturb` runs, then reads each again. What was seen, by the jobs' numbers.
    ///
    /// # Panics
    /// When one is lost, wrong, there twice, or seen to end twice.
    pub async fn run(self: &Arc<Self>, disturb: impl Future<Output = ()>) -> Vec<Seen> {
        let (tickets, waiting) = mpsc::unbounded_channel();
        let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
        let mut lanes = JoinSet::new();
        for _ in 0..LANES {
            lanes.spawn(self.clone().submit_all(tickets.clone()));
            lanes.spawn(self.clone().read_all(waiting.clone()));
        }
        drop(tickets);
        let ended = async {
            let mut ended = Vec::new();
            while let Some(lane) = lanes.join_next().await {
                ended.extend(lane.expect("every job is taken and answered"));
            }
            ended
        };
        let (mut ended, ()) = tokio::join!(ended, disturb);
        ended.sort_by_key(|(ticket, _)| ticket.planned.number);
        for (ticket, seen) in &ended {
            self.is_unchanged(ticket, seen).await;
        }
        assert_eq!(ended.len(), self.plan.len());
        self.nothing_is_there_twice(&ended).await;
        ended.into_iter().map(|(_, seen)| seen).collect()
    }

    async fn submit_all(self: Arc<Self>, tickets: mpsc::UnboundedSender<Ticket>) -> Vec<(Ticket, Seen)> {
        let mut allowed = self.allowed.subscribe();
        while let Some(planned) = self.plan.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            allowed.wait_for(|allowed| *allowed > planned.number).await.expect("it is there");
            let ticket = self.submit(*planned).await;
            self.taken.send_modify(|taken| *taken += 1);
            tickets.send(ticket).expect("somebody reads");
        }
        Vec::new()
    }

    /// Submits a job until it is acknowledged, whoever dies meanwhile.
    async fn submit(&self, planned: Planned) -> Ticket {
        let body = Bytes::from(planned.body());
        let ticket = |id: &str| Ticket { planned, id: id.to_owned(), digest: digest::hex(&body) };
        let until = Instant::now() + LIMIT;
        loop {
            let request = Request::post(planned.path())
                .header("prefer", "respond-async")
                .header("content-digest", digest::field(&body))
                .header("idempotency-key", format!("key-{}", planned.number));
            let why = match self.places.client().try_send(request, body.clone()).await {
                Ok(reply) if reply.status == 202 => {
                    return ticket(reply.json()["id"].as_str().expect("its id"));
                }
                // It had been taken by one that died before it could say so, and has ended since.
                Ok(reply) if reply.status == 200 => return ticket(reply.header("longshore-job")),
                Ok(reply) => may_come_back(&reply, planned.number),
                Err(why) => why,
            };
            assert!(Instant::now() < until, "job number {} is not taken: {why}", planned.number);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn read_all(
        self: Arc<Self>,
        tickets: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Ticket>>>,
    ) -> Vec<(Ticket, Seen)> {
        let mut ended: Vec<(Ticket, Seen)> = Vec::new();
        loop {
            let ticket = tickets.lock().await.recv().await;
            let Some(ticket) = ticket else { return ended };
            let seen = self.read(&ticket).await;
            // One that had ended before is as it was, whoever has died since.
            if let Some((earlier, was)) = fastrand::choice(&ended) {
                self.is_unchanged(earlier, was).await;
            }
            ended.push((ticket, seen));
        }
    }

    async fn is_unchanged(&self, ticket: &Ticket, was: &Seen) {
        let is = self.read(ticket).await;
        assert_eq!(&is, was, "job number {} ended twice", ticket.planned.number);
    }

    /// Waits for the job's end, and verifies its answer.
    async fn read(&self, ticket: &Ticket) -> Seen {
        let Ticket { planned, id, digest: body } = ticket;
        let result = self.ask(*planned, &format!("/_jobs/{id}/result?wait=5s")).await;
        if planned.reflected {
            assert_eq!(&digest::hex(&result.body), body, "the result of job {id} is not its body");
        } else {
            assert_eq!(result.json()["body"]["sha256"], body.as_str(), "{id}: {}", result.text());
            assert!(result.is_intact(), "the result of job {id} is damaged");
        }
        let view = self.ask(*planned, &format!("/_jobs/{id}")).await.json();
        assert_eq!(view["status"], "done", "its result was there: {view}");
        Seen {
            id: id.to_owned(),
            finished_at: view["finished_at"].as_str().expect("it has ended").to_owned(),
            attempts: view["attempts"].as_u64().expect("it was worked on"),
            instance: result.header("model-instance").to_owned(),
            digest: digest::hex(&result.body),
        }
    }

    /// Asks until the answer is 200.
    async fn ask(&self, planned: Planned, path: &str) -> Reply {
        let until = Instant::now() + LIMIT;
        loop {
            let why = match self.places.client().try_send(Request::get(path), Bytes::new()).await {
                Ok(reply) if reply.status == 200 => return reply,
                Ok(reply) => may_come_back(&reply, planned.number),
                Err(why) => why,
            };
            assert!(Instant::now() < until, "{path} is not answered: {why}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Every job there is one that a client has the ticket of.
    async fn nothing_is_there_twice(&self, ended: &[(Ticket, Seen)]) {
        let mut known: Vec<&str> = ended.iter().map(|(_, seen)| seen.id.as_str()).collect();
        known.sort_unstable();
        known.dedup();
        assert_eq!(known.len(), ended.len(), "two requests have one job");
        let (client, mut after, mut count) = (self.places.client(), String::new(), 0);
        loop {
            let page = client.get(&format!("/_jobs?limit=1000{after}")).await.json();
            for job in page["jobs"].as_array().expect("a list") {
                let id = job["id"].as_str().expect("its id");
                assert!(known.binary_search(&id).is_ok(), "nobody has the ticket of job {job}");
                count += 1;
            }
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(count, known.len());
    }
}

/// An answer that only means that whoever was asked, or what it asks, is away.
fn may_come_back(reply: &Reply, number: usize) -> String {
    assert!([202, 503].contains(&reply.status), "job number {number}: {} {}", reply.status, reply.text());
    format!("{} {}", reply.status, reply.text())
}

/// Most are small, a few as large as they may be.
fn planned(number: usize, rng: &mut Rng) -> Planned {
    let (least, most) = SIZES;
    let exponent = match number {
        0 => 0.0,
        1 => 1.0,
        _ => rng.f64().powi(4),
    };
    let size = least * (most / least).powf(exponent);
    Planned { number, size: size as usize, reflected: rng.u8(..4) == 0 }
}

impl Planned {
    fn body(self) -> Vec<u8> {
        digest::body(self.number as u64, self.size)
    }

    const fn path(self) -> &'static str {
        if self.reflected { "/reflect" } else { "/echo" }
    }
}
