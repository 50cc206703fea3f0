//! `{ policy = "webhook", url = "https://…" }`: somebody else decides. This side asks; what came of it is handed to the
//! pool, which acts on it with its next decision and keeps the last good advice while asking fails.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use longshore_pool::{Advice, Load};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::time::timeout;

use super::wall::Zone;
use crate::http_client::{Server, Unreachable};

/// A longer answer is none.
const LONGEST_ANSWER: usize = 64 * 1024;
/// A longer reason is cut.
const LONGEST_REASON: usize = 300;

/// Who is asked, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    url: String,
    server: Server,
    timeout: Duration,
}

/// `{"size": n, "reason": "…"}`.
#[derive(Debug, Deserialize)]
struct Answer {
    size: u32,
    #[serde(default)]
    reason: String,
}

impl Webhook {
    /// How long the answer may take unless something else is said.
    pub const TIMEOUT: Duration = Duration::from_secs(1);

    /// The same with another patience.
    #[must_use]
    pub fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Understands a URL, of HTTP or HTTPS.
    pub fn new(url: &str, timeout: Duration) -> Result<Self, String> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err("a webhook is reached by http:// or https://".into());
        }
        Ok(Self { url: url.to_owned(), server: Server::parse(url)?, timeout })
    }

    /// Who is asked.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How long the answer may take.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Asks once.
    pub async fn ask(&self, observation: &Json) -> Advice {
        let asked = timeout(self.timeout, self.post(observation)).await;
        let late = || Err(format!("no answer within {}", super::text(self.timeout)));
        match asked.unwrap_or_else(|_| late()) {
            Ok(Answer { size, reason }) => Advice::Size { size, reason: worded(size, &reason) },
            Err(how) => Advice::Failed { how },
        }
    }

    async fn post(&self, observation: &Json) -> Result<Answer, String> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.server.path(""))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(observation.to_string())))
            .map_err(|error| error.to_string())?;
        let response = self.server.send(request).await.map_err(|Unreachable(how)| how)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
        let body = body.map_err(|error| format!("the answer cannot be read: {error}"))?.to_bytes();
        if !status.is_success() {
            return Err(format!("it answered {}", status.as_u16()));
        }
        serde_json::from_slice(&body).map_err(|error| format!("its answer is not {{\"size\": N}}: {error}"))
    }
}

fn worded(size: u32, reason: &str) -> String {
    let short: String = reason.chars().filter(|c| !c.is_control()).take(LONGEST_REASON).collect();
    if short.is_empty() {
        format!("the webhook says {size}")
    } else {
        format!("the webhook says {size}: {short}")
    }
}

/// What is told of a service, under the names that expressions know.
pub fn observation(service: &str, load: &Load, zone: &Zone) -> Json {
    let wall = zone.at(load.unix_time);
    json!({
        "service": service,
        "queue": load.queue,
        "oldest_wait": load.oldest_wait.as_secs_f64(),
        "in_flight": load.in_flight,
        "ready": load.ready,
        "starting": load.starting,
        "standby": load.standby,
        "size": load.size,
        "concurrency": load.concurrency,
        "arrival_rate": load.arrival_rate,
        "service_time": load.service_time,
        "start_time": load.start_time,
        "hour": wall.hour(),
        "minute": wall.minute(),
        "weekday": wall.weekday().to_monday_one_offset(),
        "unix_time": load.unix_time,
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers one request with these bytes, or not at all; what it was sent.
    async fn asked(answer: Option<&str>, patience: Duration) -> (Advice, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/decide", listener.local_addr().unwrap());
        let answer = answer.map(str::to_owned);
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = vec![0; 4_096];
            let mut read = 0;
            while !seen[..read].ends_with(b"}") {
                read += stream.read(&mut seen[read..]).await.unwrap();
            }
            match answer {
                // The client may have had enough.
                Some(answer) => drop(stream.write_all(answer.as_bytes()).await),
                None => tokio::time::sleep(Duration::from_secs(60)).await,
            }
            String::from_utf8_lossy(&seen[..read]).into_owned()
        });
        let load = Load { queue: 4, arrival_rate: 1.5, ..Load::default() };
        let observation = observation("calc", &load, &Zone::named("UTC").unwrap());
        let advice = Webhook::new(&url, patience).unwrap().ask(&observation).await;
        let seen = if advice_is_late(&advice) { String::new() } else { server.await.unwrap() };
        (advice, seen)
    }

    fn advice_is_late(advice: &Advice) -> bool {
        matches!(advice, Advice::Failed { how } if how.starts_with("no answer"))
    }

    fn http(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn the_observation_is_posted_and_the_answer_taken() {
        let answer = http("200 OK", r#"{"size": 3, "reason": "be\ncause"}"#);
        let (advice, seen) = asked(Some(&answer), Duration::from_secs(5)).await;
        assert_eq!(advice, Advice::Size { size: 3, reason: "the webhook says 3: because".into() });
        assert!(seen.starts_with("POST /decide HTTP/1.1"), "{seen}");
        let body: Json = serde_json::from_str(seen.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(
            (&body["service"], &body["queue"], &body["arrival_rate"]),
            (&json!("calc"), &json!(4), &json!(1.5))
        );
    }

    #[tokio::test]
    async fn what_is_no_answer_is_a_failure_that_says_why() {
        let huge = format!(r#"{{"size": 1, "reason": "{}"}}"#, "x".repeat(2 * LONGEST_ANSWER));
        for (answer, said) in [
            (http("500 Oops", "{}"), "it answered 500"),
            (http("200 OK", "3"), "its answer is not {\"size\": N}"),
            (http("200 OK", r#"{"size": -1}"#), "its answer is not {\"size\": N}"),
            (http("200 OK", r#"{"size": 1e12}"#), "its answer is not {\"size\": N}"),
            (http("200 OK", &huge), "the answer cannot be read"),
            ("nonsense\r\n\r\n".to_owned(), "invalid HTTP"),
        ] {
            let (advice, _) = asked(Some(&answer), Duration::from_secs(5)).await;
            let Advice::Failed { how } = advice else { panic!("{said}: {advice:?}") };
            assert!(how.contains(said), "{said}: {how}");
        }
        let (advice, _) = asked(None, Duration::from_millis(50)).await;
        assert_eq!(advice, Advice::Failed { how: "no answer within 50ms".into() });
    }

    #[test]
    fn only_what_can_be_asked_is_a_webhook() {
        for wrong in ["", "https://", "http://", "ftp://a", "127.0.0.1:80"] {
            assert!(Webhook::new(wrong, Duration::from_secs(1)).is_err(), "{wrong}");
        }
    }
}
