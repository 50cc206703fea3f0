//! Requests at a rate, whatever becomes of the earlier ones, each answer verified by its digest on both ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use tokio::task::JoinSet;

use crate::client::{Client, Reply};
use crate::digest;

/// What is sent, again and again, to a calculator that is the default service.
#[derive(Clone, Debug)]
pub enum Payload {
    /// `GET /add/A/B`.
    Get,
    /// `POST /` with this body.
    Post(Arc<Post>),
}

/// A body with its digests.
#[derive(Debug)]
pub struct Post {
    body: Bytes,
    field: String,
    hex: String,
}

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests sent.
    pub sent: u64,
    /// Answers that were right.
    pub answered: u64,
    /// Answers that took more than one attempt.
    pub replayed: u64,
    /// The rest, by what was wrong.
    pub wrong: BTreeMap<String, u64>,
    /// The longest wait for an answer.
    pub slowest: Duration,
}

impl Payload {
    /// `POST` of so many bytes.
    pub fn post(size: usize) -> Self {
        let body = digest::body(size as u64, size);
        Self::Post(Arc::new(Post { field: digest::field(&body), hex: digest::hex(&body), body: body.into() }))
    }

    /// Sends it once and looks closely at the answer.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn send(&self, client: &Client, number: u64) -> Result<Reply, String> {
        let (request, body) = match self {
            Self::Get => (Request::get(format!("/add/{number}/1")), Bytes::new()),
            Self::Post(post) => (Request::post("/").header("content-digest", &post.field), post.body.clone()),
        };
        let reply = client.try_send(request, body).await?;
        if reply.status != 200 {
            return Err(format!("{} {}", reply.status, reply.text().trim()));
        }
        if !reply.is_intact() {
            return Err(format!("the answer is not the one that was given: {}", reply.text()));
        }
        let right = match self {
            Self::Get => reply.text() == (number + 1).to_string(),
            Self::Post(post) => reply.json()["sha256"] == post.hex.as_str(),
        };
        if right { Ok(reply) } else { Err(format!("a wrong answer: {}", reply.text())) }
    }
}

/// Sends `rate` requests a second for so long, and waits for the last answers.
pub async fn at_rate(client: Client, payload: Payload, rate: f64, duration: Duration) -> Tally {
    let mut tally = Tally::default();
    let mut open = JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    let begun = Instant::now();
    while begun.elapsed() < duration {
        tick.tick().await;
        let (client, payload, number) = (client.clone(), payload.clone(), tally.sent);
        tally.sent += 1;
        open.spawn(async move {
            let begun = Instant::now();
            (payload.send(&client, number).await, begun.elapsed())
        });
        while let Some(ended) = open.try_join_next() {
            tally.count(ended.expect("no panic"));
        }
    }
    while let Some(ended) = open.join_next().await {
        tally.count(ended.expect("no panic"));
    }
    tally
}

/// How many requests a second get answered by so many clients that each wait for their answer.
pub async fn capacity(client: &Client, payload: &Payload, clients: u32, duration: Duration) -> f64 {
    let begun = Instant::now();
    let mut all = JoinSet::new();
    for _ in 0..clients {
        let (client, payload) = (client.clone(), payload.clone());
        all.spawn(async move {
            let mut answered = 0_u32;
            while begun.elapsed() < duration {
                payload.send(&client, 1).await.expect("a right answer");
                answered += 1;
            }
            answered
        });
    }
    let answered: u32 = all.join_all().await.into_iter().sum();
    f64::from(answered) / begun.elapsed().as_secs_f64()
}

impl Tally {
    fn count(&mut self, (result, took): (Result<Reply, String>, Duration)) {
        self.slowest = self.slowest.max(took);
        match result {
            Ok(reply) => {
                self.answered += 1;
                self.replayed += u64::from(reply.header("longshore-attempts") != "1");
            }
            Err(error) => *self.wrong.entry(error).or_default() += 1,
        }
    }

    /// Everything was answered, and rightly.
    ///
    /// # Panics
    /// When that is not so.
    pub fn lost_nothing(&self) {
        assert!(self.sent > 0, "nothing was sent");
        assert!(
            self.wrong.is_empty(),
            "{} of {} went wrong: {:#?}",
            self.sent - self.answered,
            self.sent,
            self.wrong
        );
        assert_eq!(self.sent, self.answered);
    }
}
