//! One client of the load: sends a request, reads the whole answer, judges it, sends the next.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::digest;
use super::latency::Latency;
use crate::gateway::keys::X_API_KEY;
use crate::http_client::{Server, cause};
use crate::problem::Problem;

/// Wait before the next connection when one was refused.
const PAUSE: Duration = Duration::from_millis(100);

/// Most bytes kept of a problem document.
const PROBLEM: usize = 16 << 10;

/// What became of all requests.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: u64,
    /// Complete answers of instances.
    pub(super) answered: u64,
    /// The same by status.
    pub(super) statuses: BTreeMap<u16, u64>,
    /// What the proxy would not take or answer, by the kind of its error, with the first of each.
    pub(super) refusals: BTreeMap<String, (u64, Refusal)>,
    /// Everything else, by what happened.
    pub(super) losses: BTreeMap<String, u64>,
    /// From the first byte sent to the last byte received.
    pub(super) latency: Latency,
    /// Longest wait for a slot, as the proxy's `Server-Timing` tells it.
    pub(super) longest_wait: Duration,
}

impl Tally {
    pub(super) fn lost(&self) -> u64 {
        self.losses.values().sum()
    }

    pub(super) fn refused(&self) -> u64 {
        self.refusals.values().map(|(count, _)| count).sum()
    }

    /// Requests without an outcome yet.
    pub(super) fn open(&self) -> u64 {
        self.sent.saturating_sub(self.answered + self.refused() + self.lost())
    }

    /// Counts what is still open as lost.
    pub(super) fn give_up(&mut self, after: Duration) {
        let open = self.open();
        if open > 0 {
            let what = format!("no answer within {} of the end", crate::cli::output::duration(after));
            self.losses.insert(what, open);
        }
    }

    fn record(&mut self, outcome: Outcome, latency: Duration) {
        match outcome {
            Outcome::Answered { status, wait } => {
                self.answered += 1;
                *self.statuses.entry(status.as_u16()).or_default() += 1;
                self.latency.record(latency);
                self.longest_wait = self.longest_wait.max(wait);
            }
            Outcome::Refused(refusal) => {
                self.refusals.entry(refusal.kind.clone()).or_insert((0, refusal)).0 += 1;
            }
            Outcome::Lost(what) => *self.losses.entry(what).or_default() += 1,
        }
    }
}

/// What became of one request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An instance's answer came, all of it.
    Answered { status: StatusCode, wait: Duration },
    /// The proxy said that it does not answer it.
    Refused(Refusal),
    /// It did not, for this reason.
    Lost(String),
}

/// An error of the proxy itself that is no loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The last part of its URN.
    pub(super) kind: String,
    detail: String,
    /// Whether it passes, by what the proxy says: it has a `Retry-After`.
    pub(super) passes: bool,
}

#[cfg(test)]
impl Refusal {
    /// One that passes.
    pub(super) fn told(kind: &str, detail: &str) -> Self {
        Self { kind: kind.to_owned(), detail: detail.to_owned(), passes: true }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, detail, .. } = self;
        let advice = match kind.as_str() {
            "unauthorized" => "; give a key of `proxy.api_keys_file` with --key or LONGSHORE_KEY",
            "body-too-large" => "; ask for a smaller one with --body",
            "queue-full" | "client-limit" | "overloaded" => {
                "; ask for less at once with --clients, or raise the limit"
            }
            _ => "",
        };
        write!(f, "{kind}: {}{advice}", detail.trim_end())
    }
}

/// What the first request showed.
pub(super) struct First {
    pub(super) outcome: Outcome,
    /// The name that it was given.
    pub(super) request_id: Option<String>,
}

/// What is sent, and where.
pub(super) struct Load {
    proxy: Server,
    /// The admin API of the proxy that is meant.
    pub(super) admin: String,
    service: String,
    path: String,
    body: usize,
    key: Option<HeaderValue>,
}

impl Load {
    pub(super) fn new(proxy: Server, admin: &Server, service: &str, path: &str, body: usize) -> Self {
        let (path, admin, service) = (proxy.path(path), admin.url(), service.to_owned());
        Self { path, proxy, admin, service, body, key: None }
    }

    /// The same with the api key that the proxy demands.
    pub(super) fn with_key(self, key: Option<HeaderValue>) -> Self {
        Self { key, ..self }
    }

    /// Sends one request, which is not counted.
    pub(super) async fn first(&self, seed: u64) -> First {
        let sent = match self.request(&mut fastrand::Rng::with_seed(seed)) {
            Ok(request) => self.exchange(&mut None, request).await,
            Err(error) => (Outcome::Lost(error.to_string()), None),
        };
        First { outcome: sent.0, request_id: sent.1 }
    }

    /// Sends one request after the other until told to stop.
    pub(super) async fn run(
        self: Arc<Self>,
        seed: u64,
        tally: Arc<Mutex<Tally>>,
        stop: watch::Receiver<bool>,
    ) {
        let mut chance = fastrand::Rng::with_seed(seed);
        let mut connection = None;
        while !*stop.borrow() {
            let request = match self.request(&mut chance) {
                Ok(request) => request,
                Err(error) => {
                    let mut tally = tally.lock();
                    tally.sent += 1;
                    return tally.record(Outcome::Lost(error.to_string()), Duration::ZERO);
                }
            };
            tally.lock().sent += 1;
            let began = Instant::now();
            let (outcome, _) = self.exchange(&mut connection, request).await;
            // Who is refused at once and asks again at once is told nothing new.
            let failed = match &outcome {
                Outcome::Answered { .. } => false,
                Outcome::Refused(_) => true,
                Outcome::Lost(_) => connection.is_none(),
            };
            tally.lock().record(outcome, began.elapsed());
            if failed {
                sleep(PAUSE).await;
            }
        }
    }

    fn request(&self, chance: &mut fastrand::Rng) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::builder()
            .uri(&self.path)
            .header(header::HOST, self.proxy.authority())
            .header("longshore-service", &self.service);
        if let Some(key) = &self.key {
            request = request.header(X_API_KEY, key);
        }
        if self.body == 0 {
            return request.method(Method::GET).body(Full::default());
        }
        let mut body = vec![0; self.body];
        chance.fill(&mut body);
        request = request.method(Method::POST).header(header::CONTENT_TYPE, "application/octet-stream");
        request.header(digest::FIELD, digest::of(&body)).body(Full::new(body.into()))
    }

    /// Sends over the connection that is open, or a new one, which stays open if it can be used again.
    async fn exchange(
        &self,
        connection: &mut Option<SendRequest<Full<Bytes>>>,
        request: Request<Full<Bytes>>,
    ) -> (Outcome, Option<String>) {
        let lost = |why: String| (Outcome::Lost(why), None);
        let open = match connection.take() {
            Some(mut open) => open.ready().await.is_ok().then_some(open),
            None => None,
        };
        let reused = open.is_some();
        let mut sender = match open {
            Some(open) => open,
            None => match self.proxy.connect().await {
                Ok(new) => new,
                Err(why) => return lost(format!("no connection: {why}")),
            },
        };
        let result = match sender.try_send_request(request).await {
            Ok(response) => Ok(response),
            Err(mut error) => match error.take_message() {
                // The proxy has closed an idle connection, and not a byte was sent.
                Some(request) if reused => match self.proxy.connect().await {
                    Ok(new) => {
                        sender = new;
                        sender.send_request(request).await
                    }
                    Err(why) => return lost(format!("no connection: {why}")),
                },
                Some(_) | None => Err(error.into_error()),
            },
        };
        match result {
            Ok(response) => {
                let id = response.headers().get("x-request-id").and_then(|id| id.to_str().ok());
                let id = id.map(str::to_owned);
                let outcome = judge(response).await;
                *connection = Some(sender);
                (outcome, id)
            }
            Err(error) => lost(cause(&error)),
        }
    }
}

/// Reads an answer to its end and says what it is.
async fn judge(response: Response<Incoming>) -> Outcome {
    let (head, mut body) = response.into_parts();
    let mut hash = Sha256::new();
    let mut kept = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => {
                hash.update(&data);
                kept.extend_from_slice(&data[..data.len().min(PROBLEM - kept.len())]);
            }
            // Trailers.
            Ok(Err(_)) => {}
            Err(error) => return Outcome::Lost(format!("answer cut: {}", cause(&error))),
        }
    }
    if let Some(problem) = longshore_problem(&head.headers, &kept) {
        return problem;
    }
    let field = head.headers.get(digest::FIELD).and_then(|field| field.to_str().ok());
    if field.and_then(|field| digest::agrees(field, &digest::value(hash))) == Some(false) {
        return Outcome::Lost("answer differs from its Content-Digest".into());
    }
    Outcome::Answered { status: head.status, wait: queue_wait(&head.headers) }
}

/// What an error means that the proxy itself, not an instance, answers with.
fn longshore_problem(headers: &HeaderMap, body: &[u8]) -> Option<Outcome> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    if !kind.starts_with("application/problem+json") {
        return None;
    }
    let problem: serde_json::Value = serde_json::from_slice(body).ok()?;
    let kind = problem.get("type")?.as_str()?.strip_prefix("urn:longshore:")?.to_owned();
    if kind == Problem::AttemptsExhausted(String::new()).kind() {
        return Some(Outcome::Lost(kind));
    }
    let detail = problem.get("detail").and_then(|detail| detail.as_str()).unwrap_or_default().to_owned();
    Some(Outcome::Refused(Refusal { kind, detail, passes: headers.contains_key(header::RETRY_AFTER) }))
}

/// `queue;dur=MILLISECONDS` of `Server-Timing`.
fn queue_wait(headers: &HeaderMap) -> Duration {
    let metrics = headers.get_all("server-timing").iter().filter_map(|field| field.to_str().ok());
    let queue = metrics.flat_map(|field| field.split(',')).find_map(|metric| {
        let mut parts = metric.split(';').map(str::trim);
        if parts.next() != Some("queue") {
            return None;
        }
        parts.find_map(|part| part.strip_prefix("dur="))?.parse::<f64>().ok()
    });
    let seconds = queue.unwrap_or(0.0).max(0.0) / 1_000.0;
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// What a client says of a server that answers its first request with these bytes and closes.
    async fn answered_with(answer: &'static str, body: usize) -> (Outcome, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Server::parse(&listener.local_addr().unwrap().to_string()).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let mut content = vec![0; body];
            stream.read_exact(&mut content).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            let head = String::from_utf8(head).unwrap();
            assert_eq!(head.contains(&digest::of(&content)), body > 0, "the digest is that of what arrives");
            head
        });
        let admin = Server::parse("http://127.0.0.1:1").unwrap();
        let load =
            Load::new(proxy, &admin, "calc", "/x?y", body).with_key(Some(HeaderValue::from_static("k")));
        let request = load.request(&mut fastrand::Rng::with_seed(1)).unwrap();
        let (outcome, _) = load.exchange(&mut None, request).await;
        (outcome, server.await.unwrap())
    }

    #[tokio::test]
    async fn a_complete_answer_counts_whatever_its_status() {
        let answer = "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\
                      server-timing: cache;dur=9, queue;dur=12.5, instance;dur=3\r\n\r\nno";
        let (outcome, head) = answered_with(answer, 70_000).await;
        let wait = Duration::from_micros(12_500);
        assert_eq!(outcome, Outcome::Answered { status: StatusCode::NOT_FOUND, wait });
        assert!(
            head.starts_with("POST /x?y HTTP/1.1\r\n") && head.contains("\r\nlongshore-service: calc\r\n"),
            "{head}"
        );
        assert!(head.contains("\r\nx-api-key: k\r\n"), "{head}");
    }

    #[tokio::test]
    async fn without_a_body_the_request_is_a_get() {
        let (outcome, head) = answered_with("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 0).await;
        assert_eq!(outcome, Outcome::Answered { status: StatusCode::OK, wait: Duration::ZERO });
        assert!(head.starts_with("GET /x?y HTTP/1.1\r\n"), "{head}");
    }

    #[tokio::test]
    async fn an_error_of_the_proxy_is_a_loss_or_a_refusal_and_one_of_an_instance_is_neither() {
        let lost = "HTTP/1.1 502 X\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\r\n\
                    {\"type\":\"urn:longshore:attempts-exhausted\"}";
        assert_eq!(answered_with(lost, 1).await.0, Outcome::Lost("attempts-exhausted".into()));
        let full = "HTTP/1.1 503 X\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\
                    retry-after: 1\r\n\r\n{\"type\":\"urn:longshore:queue-full\",\"detail\":\"it is full\"}";
        let (Outcome::Refused(refusal), _) = answered_with(full, 1).await else { panic!("refused") };
        assert!(refusal.passes && refusal.to_string().starts_with("queue-full: it is full; "), "{refusal}");
        let key = "HTTP/1.1 401 X\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\r\n\
                   {\"type\":\"urn:longshore:unauthorized\",\"detail\":\"a key\"}";
        let (Outcome::Refused(refusal), _) = answered_with(key, 1).await else { panic!("refused") };
        assert!(!refusal.passes && refusal.to_string().contains("--key"), "{refusal}");
        let theirs = "HTTP/1.1 503 X\r\ncontent-type: application/problem+json\r\nconnection: close\r\n\r\n\
                      {\"type\":\"about:blank\"}";
        assert!(matches!(answered_with(theirs, 1).await.0, Outcome::Answered { .. }));
    }

    #[tokio::test]
    async fn half_an_answer_and_a_wrong_one_are_losses() {
        for (answer, why) in [
            ("", "connection closed before the answer was complete"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "answer cut: "),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n", "answer cut: "),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-digest: sha-256=:AAAA:\r\n\r\nx",
                "answer differs from its Content-Digest",
            ),
        ] {
            let (outcome, _) = answered_with(answer, 1).await;
            assert!(
                matches!(&outcome, Outcome::Lost(what) if what.starts_with(why)),
                "{answer}: {outcome:?}"
            );
        }
    }

    #[test]
    fn what_has_no_outcome_is_open_until_it_is_given_up() {
        let mut tally = Tally { sent: 5, ..Tally::default() };
        tally.record(Outcome::Answered { status: StatusCode::OK, wait: Duration::ZERO }, Duration::ZERO);
        tally.record(Outcome::Lost("x".into()), Duration::ZERO);
        assert_eq!((tally.open(), tally.lost()), (3, 1));
        tally.give_up(Duration::from_secs(60));
        assert_eq!((tally.open(), tally.lost()), (0, 4));
    }

    #[test]
    fn the_same_seed_gives_the_same_bodies() {
        let load = Load::new(Server::parse("a").unwrap(), &Server::parse("b").unwrap(), "calc", "/", 100);
        let digest = |seed| {
            let request = load.request(&mut fastrand::Rng::with_seed(seed)).unwrap();
            request.headers()[digest::FIELD].clone()
        };
        assert_eq!(digest(1), digest(1));
        assert_ne!(digest(1), digest(2));
    }
}
