//! Requests with mistakes in them, made up from numbers: whatever an instance gets of them is what RFC 9112 reads in
//! the bytes, and nothing else.
//!
//! A failure names its seed: `MUTATIONS_SEED=N` replays it alone. `MUTATIONS_SECONDS` is how long it goes on, and
//! `MUTATIONS_FROM` where: every run begins with the same ones, so that one that fails fails again.

use std::time::{Duration, Instant};

use fastrand::Rng;
use longshore_tests::mutate::mutate;
use longshore_tests::raw::Raw;
use longshore_tests::strict::{self, Message, Reader};
use longshore_tests::tap::Tap;
use longshore_tests::{Backend, Cluster, Setup, each, from_environment};
use tokio::time::timeout;

/// Longest wait for the end of a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is changed: each is valid.
const BASES: &[&str] = &[
    "GET /a HTTP/1.1\r\nHost: tap\r\nX-One: 1\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: 3\r\n\r\nabc",
    "POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n5\r\nabcde\r\n0\r\nx: y\r\n\r\n",
    "GET /a HTTP/1.0\r\nHost: tap\r\nConnection: keep-alive\r\n\r\n",
    "GET http://tap/a?b HTTP/1.1\r\nHost: tap\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: 44\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: tap\r\nX: y\r\n\r\nz",
    "PUT /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: chunked\r\n\r\n2c\r\nGET /smuggled HTTP/1.1\r\nHost: tap\r\nX: y\r\n\r\nz\r\n0\r\n\r\n",
];

/// Comes last on each connection.
const AFTER: &str = "GET /after HTTP/1.1\r\nHost: tap\r\nConnection: close\r\n\r\n";

/// The bytes that a seed stands for.
fn bytes_of(seed: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(seed);
    let mut bytes: Vec<u8> =
        (0..rng.usize(1..=2)).flat_map(|_| BASES[rng.usize(..BASES.len())].bytes()).collect();
    mutate(&mut bytes, &mut rng);
    bytes.extend_from_slice(AFTER.as_bytes());
    bytes
}

/// Method, target as an instance gets it, and body.
type Read = (String, String, Vec<u8>);

fn read(message: &Message) -> Read {
    // No target has a fragment; what looks like one is dropped.
    let target = message.target.split('#').next().unwrap_or_default();
    let target = match target.split_once("://") {
        Some((_, rest)) if !target.starts_with('/') => rest.find(['/', '?']).map_or("", |at| &rest[at..]),
        Some(_) | None => target,
    };
    // What was typed as no target may have it may be encoded on its way.
    let typed = [("\"", "%22"), ("<", "%3C"), (">", "%3E"), ("`", "%60")];
    let target = typed.iter().fold(target.to_owned(), |target, (letter, code)| target.replace(letter, code));
    let slash = if target.starts_with(['/', '*']) { "" } else { "/" };
    (message.method.clone(), format!("{slash}{target}"), message.body.clone())
}

/// What came of one seed.
struct Outcome {
    /// What RFC 9112 reads in the bytes.
    valid: Vec<Read>,
    /// What the instance got.
    seen: Vec<Read>,
    /// The statuses of the answers.
    statuses: Vec<String>,
}

impl Outcome {
    /// What is wrong with it.
    fn wrong(&self) -> Option<&'static str> {
        let Self { valid, seen, statuses } = self;
        if !valid.starts_with(seen) {
            return Some("the instance got something else than what was sent");
        }
        if statuses.iter().filter(|status| *status == "200").count() != seen.len() {
            return Some("not every request that reached the instance was answered, or one that did not");
        }
        // Refused: told so, and the end. Nothing but an end is told where something had been answered for.
        let refused = statuses.iter().position(|status| status != "200");
        match refused {
            Some(at) if at + 1 < statuses.len() => Some("something was answered after a refusal"),
            Some(_) | None => None,
        }
    }
}

async fn outcome(cluster: &Cluster, tap: &Tap, bytes: &[u8]) -> Result<Outcome, &'static str> {
    let (valid, _) = strict::all(bytes, Reader::Proxy);
    let mut raw = Raw::connect(cluster.address()).await;
    raw.send(bytes).await;
    raw.finish().await;
    let answers = timeout(PATIENCE, raw.rest()).await.map_err(|_| "the connection stays open")?;
    let parts = answers.split("HTTP/1.").skip(1).filter_map(|part| part.get(2..5));
    let is_status = |part: &&str| !part.starts_with('1') && part.bytes().all(|byte| byte.is_ascii_digit());
    let statuses = parts.filter(is_status).map(str::to_owned).collect();
    let seen = tap.take().iter().map(read).collect();
    Ok(Outcome { valid: valid.iter().map(read).collect(), seen, statuses })
}

async fn whatever_is_sent_an_instance_gets_what_the_standard_reads_in_it() {
    let from = from_environment("MUTATIONS_FROM", 1);
    let only = from_environment("MUTATIONS_SEED", 0);
    let seconds = from_environment("MUTATIONS_SECONDS", 10);
    let tap = Tap::start().await;
    // Who has sent everything waits for all answers.
    let setup = Setup::new(Backend::Process).proxy("half_close = true");
    let cluster = setup.service(&tap.service("tap", "default = true")).start().await;
    let (begun, mut tried, mut passed) = (Instant::now(), 0_u64, 0_u64);
    while begun.elapsed() < Duration::from_secs(seconds) {
        let seed = if only == 0 { from.wrapping_add(tried) } else { only };
        let bytes = bytes_of(seed);
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let again = format!("MUTATIONS_SEED={seed} replays it: {shown:?}");
        let outcome = outcome(&cluster, &tap, &bytes).await.unwrap_or_else(|why| panic!("{why}; {again}"));
        if let Some(why) = outcome.wrong() {
            let Outcome { valid, seen, statuses } = outcome;
            panic!("{why}; {again}\nvalid: {valid:?}\nseen: {seen:?}\nanswers: {statuses:?}");
        }
        (tried, passed) = (tried + 1, passed + u64::from(!outcome.seen.is_empty()));
        if only != 0 {
            break;
        }
    }
    eprintln!("{tried} requests with mistakes, of which {passed} had something for the instance");
    assert!(only != 0 || (tried > 50 && passed > tried / 20), "{tried} tried, {passed} passed");
    cluster.admin().works_on("tap", 0).await;
    cluster.admin().lost_nothing("tap").await;
    cluster.stop().await;
}

each!(heavy 90: whatever_is_sent_an_instance_gets_what_the_standard_reads_in_it);
