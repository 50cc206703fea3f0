//! Requests that two readers could take for two different things: what an instance gets of them, byte by byte.

use std::time::Duration;

use longshore_tests::raw::{Raw, exchange};
use longshore_tests::strict::Message;
use longshore_tests::tap::Tap;
use longshore_tests::{Backend, Cluster, Setup, each};
use tokio::time::timeout;

/// What becomes of a case's bytes.
#[derive(Clone, Copy, Debug)]
enum Expect {
    /// No request reaches the instance; the answer is 400, and the connection is over.
    Refused,
    /// The same, but there may be no answer, or one that is not HTTP/1.1.
    Cut,
    /// One request with this target and body; what follows on the connection is not read.
    Last(&'static str, &'static str),
    /// One request with this target and body; what follows is a request of its own.
    Then(&'static str, &'static str),
}

use Expect::{Cut, Last, Refused, Then};

/// Longest wait for the end of a connection.
const PATIENCE: Duration = Duration::from_secs(3);

/// Comes after each case on its connection, whatever the case is.
const AFTER: &str = "GET /after HTTP/1.1\r\nHost: tap\r\nConnection: close\r\n\r\n";

/// Bytes, and what becomes of them.
type Case = (&'static str, Expect);

async fn cluster(tap: &Tap) -> Cluster {
    Setup::new(Backend::Process).service(&tap.service("tap", "")).start().await
}

/// Sends each case on a connection of its own and compares what the instance got.
async fn hold(cases: &[Case]) {
    let tap = Tap::start().await;
    let cluster = cluster(&tap).await;
    let mut wrong = Vec::new();
    for (bytes, expect) in cases {
        let mut raw = Raw::connect(cluster.address()).await;
        raw.send(format!("{bytes}{AFTER}")).await;
        let answer =
            timeout(PATIENCE, raw.rest()).await.unwrap_or_else(|_| "nothing, and it stays open".to_owned());
        let seen: Vec<(String, String)> = tap.take().iter().map(summary).collect();
        let seen: Vec<(&str, &str)> = seen.iter().map(|(target, body)| (&**target, &**body)).collect();
        if !expect.is_met(&answer, &seen) {
            wrong.push(format!(
                "{bytes:?} is not {expect:?}: the instance got {seen:?}, the client {answer:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    cluster.admin().works_on("tap", 0).await;
    cluster.admin().lost_nothing("tap").await;
    cluster.stop().await;
}

impl Expect {
    fn is_met(self, answer: &str, seen: &[(&str, &str)]) -> bool {
        let statuses = statuses(answer);
        match self {
            Refused => {
                let says_so = answer.contains("urn:longshore:bad-request")
                    && answer.to_lowercase().contains("connection: close");
                seen.is_empty() && statuses == ["400"] && says_so
            }
            Cut => seen.is_empty() && (statuses.is_empty() || statuses == ["400"]),
            Last(target, body) => {
                seen == [(target, body)] && statuses.first() == Some(&"200") && statuses.len() <= 2
            }
            Then(target, body) => seen == [(target, body), ("/after", "")] && statuses == ["200", "200"],
        }
    }
}

/// The statuses of all answers; 100 is none.
fn statuses(answers: &str) -> Vec<&str> {
    let parts = answers.split("HTTP/1.").skip(1).filter_map(|part| part.get(2..5));
    parts.filter(|status| *status != "100" && status.bytes().all(|byte| byte.is_ascii_digit())).collect()
}

fn summary(message: &Message) -> (String, String) {
    (message.target.clone(), String::from_utf8_lossy(&message.body).into_owned())
}

async fn a_length_is_one_number_or_none() {
    hold(&[
        ("POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: 3\r\n\r\nabc", Then("/a", "abc")),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: 003\r\n\r\nabc", Then("/a", "abc")),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: 0\r\n\r\n", Then("/a", "")),
        // The same twice is what RFC 9112 (6.3) lets a recipient take for one.
        (
            "POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            Then("/a", "abc"),
        ),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: 3\r\nContent-Length: \r\n\r\nabc", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: 3, 4\r\n\r\nabcd", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: 3, 3\r\n\r\nabc", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: \r\n\r\n", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: +3\r\n\r\nabc", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: -3\r\n\r\nabc", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: 0x3\r\n\r\nabc", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: 3 3\r\n\r\nabc", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: 3.0\r\n\r\nabc", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: \"3\"\r\n\r\nabc", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: 18446744073709551619\r\n\r\nabc", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: 99999999999999999999\r\n\r\nabc", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length : 3\r\n\r\nabc", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length\t: 3\r\n\r\nabc", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\n Content-Length: 3\r\n\r\nabc", Refused),
        // Names that some servers read as Content-Length do not reach any.
        ("POST /a HTTP/1.1\r\nHost: tap\r\nContent_Length: 3\r\n\r\n", Then("/a", "")),
        (
            "GET /a HTTP/1.1\r\nHost: tap\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\nabc",
            Then("/a", "abc"),
        ),
    ])
    .await;
}

async fn a_transfer_encoding_is_one_chunked_or_none() {
    hold(&[
        (
            "POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            Then("/a", "abc"),
        ),
        (
            "POST /a HTTP/1.1\r\nHost: tap\r\ntRANSFER-eNCODING:\tCHUNKED \t\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            Then("/a", "abc"),
        ),
        // No method is known to have no body.
        (
            "GET /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            Then("/a", "abc"),
        ),
        ("GET /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n\r\n", Cut),
        ("DELETE /a HTTP/1.1\r\nHost: tap\r\nContent-Length: 3\r\n\r\nabc", Then("/a", "abc")),
        // The one framing that RFC 9112 (6.3) names, and then the end.
        (
            "POST /a HTTP/1.1\r\nHost: tap\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            Last("/a", "abc"),
        ),
        (
            "POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n",
            Last("/a", ""),
        ),
        (
            "POST /a HTTP/1.1\r\nHost: tap\r\nConnection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nabc\r\n0\r\n\r\n",
            Then("/a", "abc"),
        ),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: identity\r\n\r\n", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: \r\n\r\n", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: gzip\r\n\r\n", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: , chunked\r\n\r\n0\r\n\r\n", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", Refused),
        (
            "POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Refused,
        ),
        (
            "POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Refused,
        ),
        (
            "POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
            Refused,
        ),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: chunked\x0c\r\n\r\n0\r\n\r\n", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding\u{a0}: chunked\r\n\r\n0\r\n\r\n", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", Refused),
        ("POST /a HTTP/1.1\r\nHost: tap\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused),
        ("POST /a HTTP/1.0\r\nHost: tap\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused),
        // Names that some servers read as Transfer-Encoding do not reach any.
        ("POST /a HTTP/1.1\r\nHost: tap\r\nTransfer_Encoding: chunked\r\n\r\n", Then("/a", "")),
    ])
    .await;
}

async fn chunks_are_what_they_say() {
    const fn chunked(bytes: &'static str, expect: Expect) -> Case {
        (bytes, expect)
    }
    let cases = [
        chunked("3\r\nabc\r\n0\r\n\r\n", Then("/a", "abc")),
        chunked("0003\r\nabc\r\n00\r\n\r\n", Then("/a", "abc")),
        chunked("A\r\nabcdefghij\r\na\r\nabcdefghij\r\n0\r\n\r\n", Then("/a", "abcdefghijabcdefghij")),
        // Extensions end at the proxy (RFC 9112, 7.1.1).
        chunked("3;name=value\r\nabc\r\n0;last\r\n\r\n", Then("/a", "abc")),
        chunked("3 ;name=\"va;lue\"\r\nabc\r\n0\r\n\r\n", Then("/a", "abc")),
        chunked("3;\nabc\r\n0\r\n\r\n", Cut),
        chunked("3;a\rb\r\nabc\r\n0\r\n\r\n", Cut),
        chunked("3;a=\"\n\"\r\nabc\r\n0\r\n\r\n", Cut),
        chunked("3\nabc\n0\n\n", Cut),
        chunked("3\r\nabc\n0\r\n\r\n", Cut),
        chunked("3\r\nabcd\r\n0\r\n\r\n", Cut),
        chunked("3\r\nab\r\n0\r\n\r\n", Cut),
        chunked("\r\n3\r\nabc\r\n0\r\n\r\n", Cut),
        chunked(" 3\r\nabc\r\n0\r\n\r\n", Cut),
        chunked("3 3\r\nabc\r\n0\r\n\r\n", Cut),
        chunked("-3\r\nabc\r\n0\r\n\r\n", Cut),
        chunked("+3\r\nabc\r\n0\r\n\r\n", Cut),
        chunked("0x3\r\nabc\r\n0\r\n\r\n", Cut),
        chunked("3h\r\nabc\r\n0\r\n\r\n", Cut),
        chunked("g\r\nabc\r\n0\r\n\r\n", Cut),
        chunked(";\r\n\r\n0\r\n\r\n", Cut),
        chunked("10000000000000003\r\nabc\r\n0\r\n\r\n", Cut),
        chunked("fffffffffffffffff\r\nabc\r\n0\r\n\r\n", Cut),
        // Without its last CRLF, what follows is neither a trailer nor a request.
        chunked("3\r\nabc\r\n0\r\n", Cut),
        chunked("3\r\nabc\r\n0\r\nno field\r\n\r\n", Cut),
        chunked("3\r\nabc\r\n0\r\nbad name: x\r\n\r\n", Cut),
        chunked("3\r\nabc\r\n0\r\nx: y\r\n folded\r\n\r\n", Cut),
        // Trailers that nobody announced, or that must not be ones, are not passed on.
        chunked("3\r\nabc\r\n0\r\nx: y\r\n\r\n", Then("/a", "abc")),
        chunked("3\r\nabc\r\n0\r\nContent-Length: 50\r\nHost: other\r\n\r\n", Then("/a", "abc")),
    ];
    let heads = [
        "POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: tap\r\nTransfer-Encoding: chunked\r\nTrailer: x, content-length, host\r\nTE: trailers\r\nConnection: TE\r\n\r\n",
    ];
    for head in heads {
        let whole: Vec<String> = cases.iter().map(|(bytes, _)| format!("{head}{bytes}")).collect();
        let rows = whole
            .iter()
            .zip(&cases)
            .map(|(bytes, (_, expect))| (&*Box::leak(bytes.clone().into_boxed_str()), *expect));
        hold(&rows.collect::<Vec<Case>>()).await;
    }
}

async fn lines_are_what_they_say() {
    hold(&[
        ("GET /a HTTP/1.1\r\nHost: tap\r\n\r\n", Then("/a", "")),
        ("\r\n\r\nGET /a HTTP/1.1\r\nHost: tap\r\n\r\n", Then("/a", "")),
        // A line may end in LF alone (RFC 9112, 2.2); an instance gets CRLF.
        ("GET /a HTTP/1.1\nHost: tap\nX: y\n\n", Then("/a", "")),
        ("GET /a HTTP/1.1\r\nHost: tap\r\nX: y\n\r\n", Then("/a", "")),
        ("GET /a HTTP/1.1\rHost: tap\r\r", Refused),
        ("GET /a HTTP/1.1\r\nHost: tap\r\nX: y\rz\r\n\r\n", Refused),
        ("GET /a HTTP/1.1\r\nHost: tap\r\nX: y\0z\r\n\r\n", Refused),
        ("GET /a HTTP/1.1\r\nHost: tap\r\nX\0Y: z\r\n\r\n", Refused),
        ("GET /a\0 HTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("GET /a HTTP/1.1\r\nHost: tap\r\nX: y\r\n folded\r\n\r\n", Refused),
        ("GET /a HTTP/1.1\r\nHost: tap\r\nX: y\r\n\tfolded\r\n\r\n", Refused),
        ("GET /a HTTP/1.1\r\n folded\r\nHost: tap\r\n\r\n", Refused),
        ("GET /a HTTP/1.1\r\nHost: tap\r\nX : y\r\n\r\n", Refused),
        ("GET /a HTTP/1.1\r\nHost: tap\r\n: y\r\n\r\n", Refused),
        ("GET /a HTTP/1.1\r\nHost: tap\r\nno colon\r\n\r\n", Refused),
        ("GET /a HTTP/1.1\r\nHost: tap\r\nX(y): z\r\n\r\n", Refused),
        ("GET /a HTTP/1.1\r\nHost: tap\r\nX\u{e9}: z\r\n\r\n", Refused),
        (" GET /a HTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("GET  /a HTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("GET /a  HTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("GET\t/a HTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("GET /a\tHTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("GET /a b HTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("GET /a HTTP/1.1 \r\nHost: tap\r\n\r\n", Refused),
        ("GE(T /a HTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("GET /a\r\n", Refused),
        ("GET /a HTTP/0.9\r\nHost: tap\r\n\r\n", Refused),
        ("GET /a HTTP/1.2\r\nHost: tap\r\n\r\n", Refused),
        ("GET /a HTTP/2.0\r\nHost: tap\r\n\r\n", Refused),
        ("GET /a HTTP/11\r\nHost: tap\r\n\r\n", Refused),
        ("GET /a http/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("GET /a HTTP/1.0\r\nHost: tap\r\n\r\n", Last("/a", "")),
        ("GET /a HTTP/1.0\r\n\r\n", Last("/a", "")),
        ("GET /a HTTP/1.0\r\nConnection: keep-alive\r\nHost: tap\r\n\r\n", Then("/a", "")),
        ("GET /a HTTP/1.1\r\nHost: tap\r\nConnection: keep-alive, close\r\n\r\n", Last("/a", "")),
        (
            "GET /a HTTP/1.1\r\nHost: tap\r\nConnection: keep-alive\r\nConnection: Close\r\n\r\n",
            Last("/a", ""),
        ),
        // An upgrade that is not taken up is an ordinary request.
        ("GET /a HTTP/1.1\r\nHost: tap\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", Then("/a", "")),
        (
            "GET /a HTTP/1.1\r\nHost: tap\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
             HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
            Then("/a", ""),
        ),
        (
            "POST /a HTTP/1.1\r\nHost: tap\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
            Then("/a", ""),
        ),
        // What begins as HTTP/2 is not HTTP/1.1 any more.
        ("PRI /a HTTP/1.1\r\nHost: tap\r\n\r\n", Cut),
        ("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", Cut),
        ("GET /a HTTP/1.1\r\nHost: tap\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Last("/a", "")),
    ])
    .await;
}

async fn a_host_is_one_and_a_target_has_one_of_three_forms() {
    hold(&[
        ("GET /a HTTP/1.1\r\nHost: \r\n\r\n", Then("/a", "")),
        ("GET /a HTTP/1.1\r\nHost: TAP:5000\r\n\r\n", Then("/a", "")),
        ("GET /a HTTP/1.1\r\n\r\n", Refused),
        ("GET /a HTTP/1.1\r\nHost: tap\r\nHost: tap\r\n\r\n", Refused),
        ("GET /a HTTP/1.1\r\nHost: tap\r\nhost: other\r\n\r\n", Refused),
        ("GET /a HTTP/1.0\r\nHost: tap\r\nHost: other\r\n\r\n", Refused),
        ("GET /a HTTP/1.1\r\nHost: tap, other\r\n\r\n", Refused),
        ("GET /a HTTP/1.1\r\nHost: tap other\r\n\r\n", Refused),
        ("GET /a HTTP/1.1\r\nHost: tap/b\r\n\r\n", Refused),
        ("GET /a HTTP/1.1\r\nHost: tap?b\r\n\r\n", Refused),
        ("GET /a HTTP/1.1\r\nHost: tap#b\r\n\r\n", Refused),
        ("GET /a HTTP/1.1\r\nHost: http://tap\r\n\r\n", Refused),
        ("GET /a HTTP/1.1\r\nHost: user@tap\r\n\r\n", Refused),
        ("GET /a HTTP/1.1\r\nHost: t\u{e4}p\r\n\r\n", Refused),
        ("GET http://tap/a HTTP/1.1\r\nHost: other\r\n\r\n", Then("/a", "")),
        ("GET HTTP://tap:80/a?b HTTP/1.1\r\nHost: tap\r\n\r\n", Then("/a?b", "")),
        ("GET http://tap HTTP/1.1\r\nHost: tap\r\n\r\n", Then("/", "")),
        ("GET http://tap?b HTTP/1.1\r\nHost: tap\r\n\r\n", Then("/?b", "")),
        // No target has a fragment: it is dropped, as a browser would.
        ("GET http://tap#b HTTP/1.1\r\nHost: tap\r\n\r\n", Then("/", "")),
        ("GET /a#b HTTP/1.1\r\nHost: tap\r\n\r\n", Then("/a", "")),
        ("GET http://tap/a HTTP/1.1\r\n\r\n", Refused),
        ("GET http:///a HTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("GET http:a HTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("GET ftp://tap/a HTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("GET http://user@tap/a HTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("GET http://other@tap:secret@tap/a HTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("GET tap HTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("GET tap:80 HTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("GET a/b HTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("GET ?a HTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("GET * HTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("GET  HTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("OPTIONS * HTTP/1.1\r\nHost: tap\r\n\r\n", Then("*", "")),
        ("GET //tap/a HTTP/1.1\r\nHost: tap\r\n\r\n", Then("//tap/a", "")),
        ("GET /../%2e/a%00%0d%0a HTTP/1.1\r\nHost: tap\r\n\r\n", Then("/../%2e/a%00%0d%0a", "")),
        ("CONNECT tap:80 HTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
        ("CONNECT /a HTTP/1.1\r\nHost: tap\r\n\r\n", Refused),
    ])
    .await;
}

/// Fields that are sent, and all that the instance sees of them.
type Passage = (&'static str, &'static [&'static str]);

async fn fields_that_lie_do_not_pass() {
    let passages: [Passage; 12] = [
        ("X-One: 1\r\nX-Two: a\r\nX-Two: b", &["x-one: 1", "x-two: a", "x-two: b"]),
        ("X_Own: 1\r\nx-own: 2", &["x_own: 1", "x-own: 2"]),
        ("Content_Length: 5\r\nContent-length: 0", &["content-length: 0"]),
        ("Transfer_Encoding: chunked", &[]),
        ("X_Forwarded_For: 9.9.9.9\r\nX-Forwarded_Proto: https", &[]),
        ("Connection: close, host, content-length\r\nContent-Length: 0", &["content-length: 0"]),
        ("Connection: close\r\nConnection: X-Secret\r\nX-Secret: 1", &[]),
        ("Connection: close, Transfer-Encoding, x-request-id, x-forwarded-for, via", &[]),
        ("Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nTrailer: x", &["trailer: x"]),
        ("Upgrade: websocket\r\nProxy-Authorization: Basic x", &[]),
        ("X-Tabs: \t a\tb \t", &["x-tabs: a\tb"]),
        ("X-Empty:", &["x-empty: "]),
    ];
    let tap = Tap::start().await;
    let cluster = cluster(&tap).await;
    let own =
        ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "forwarded", "via"];
    for (fields, expected) in passages {
        let request = format!("POST /a HTTP/1.1\r\nHost: tap\r\nConnection: close\r\n{fields}\r\n\r\n");
        let answer = exchange(cluster.address(), request).await;
        let [message] = &tap.take()[..] else { panic!("{fields:?}: {answer}") };
        assert_eq!(message.values("host"), ["tap"], "{fields:?}");
        assert_eq!(message.values("x-forwarded-for"), ["127.0.0.1"], "{fields:?}");
        let hidden =
            |name: &str| own.contains(&name) || ["host", "x-request-id", "traceparent"].contains(&name);
        let seen = message.fields.iter().filter(|(name, _)| !hidden(name));
        let seen: Vec<String> =
            seen.map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect();
        assert_eq!(seen, expected, "{fields:?}");
    }
    for head in ["GET /a HTTP/1.0", "GET /a HTTP/1.0\r\nConnection: host"] {
        exchange(cluster.address(), format!("{head}\r\n\r\n")).await;
        assert_eq!(tap.take()[0].values("host"), ["tap"], "an instance's HTTP/1.1 has a Host: {head}");
    }
    exchange(cluster.address(), "GET http://TAP:80/a HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n")
        .await;
    assert_eq!(tap.take()[0].values("host"), ["TAP:80"], "the target's host is the one (RFC 9112, 3.2.2)");
    cluster.stop().await;
}

each!(light 60: a_length_is_one_number_or_none, a_transfer_encoding_is_one_chunked_or_none);
each!(light 60: chunks_are_what_they_say, lines_are_what_they_say);
each!(light 60: a_host_is_one_and_a_target_has_one_of_three_forms, fields_that_lie_do_not_pass);
