//! One look at an instance: does it answer as configured?

use std::error::Error;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use longshore_pool::{Health, InstanceId};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::{Check, Pattern, Protocol};
use crate::connect::Connector;
use crate::gateway::MAX_FIELDS;

/// What of an answer's body is looked at.
const BODY_LIMIT: usize = 64 * 1024;

/// What a look saw.
pub struct Seen {
    /// How the instance is.
    pub health: Health,
    /// The same in words, unless it is well.
    pub words: String,
}

impl Seen {
    /// It answered as configured.
    pub const WELL: Self = Self { health: Health::Ready, words: String::new() };

    /// It answered something else, or nothing.
    pub const fn not_ready(words: String) -> Self {
        Self { health: Health::NotReady, words }
    }

    const fn silent(words: String) -> Self {
        Self { health: Health::Silent, words }
    }
}

/// Asks once. `Silent` is a server that took the connection and said nothing within `limit`.
pub async fn http_or_tcp(
    connector: &Connector,
    (instance, address): (InstanceId, SocketAddr),
    check: &Check,
    limit: Duration,
) -> Seen {
    let stream = match timeout(limit, connector.connect(instance, address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
            return Seen::not_ready(format!("connection refused at {address}"));
        }
        Ok(Err(error)) if error.kind() != ErrorKind::TimedOut => {
            return Seen::not_ready(format!("no connection to {address}: {error}"));
        }
        Ok(Err(_)) | Err(_) => return Seen::silent(format!("no connection to {address} in time")),
    };
    match check {
        Check::Http { path, status, body } => {
            let asked = ask(stream, connector, path, (*status, body.as_ref()));
            match timeout(limit, asked).await {
                Ok(Ok(None)) => Seen::WELL,
                Ok(Ok(Some(wrong))) => Seen::not_ready(format!("GET {path} at {address}: {wrong}")),
                Ok(Err(error)) => {
                    let why = with_causes(&*error);
                    Seen::not_ready(format!("GET {path} at {address} got no answer of HTTP: {why}"))
                }
                Err(_) => Seen::silent(format!(
                    "GET {path} at {address}: no answer within {}",
                    humantime::format_duration(limit)
                )),
            }
        }
        Check::Tcp | Check::Log(_) => Seen::WELL,
    }
}

/// What is wrong with its answer, if anything.
async fn ask(
    stream: TcpStream,
    connector: &Connector,
    path: &str,
    (status, pattern): (Option<u16>, Option<&Pattern>),
) -> Result<Option<String>, Box<dyn Error + Send + Sync>> {
    let response = get(stream, connector, path).await?;
    let got = response.status().as_u16();
    match status {
        Some(wanted) if got != wanted => return Ok(Some(format!("answered {got} where {wanted} is wanted"))),
        None if got >= 500 => return Ok(Some(format!("answered {got} where less than 500 is wanted"))),
        Some(_) | None => {}
    }
    let Some(pattern) = pattern else { return Ok(None) };
    let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await?.to_bytes();
    let wrong = || format!("answered {got}, but its body does not match /{}/", pattern.as_str());
    Ok((!pattern.is_match(&body)).then(wrong))
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

async fn get(stream: TcpStream, connector: &Connector, path: &str) -> hyper::Result<Response<Incoming>> {
    match connector.protocol() {
        Protocol::H1 => {
            let (mut sender, connection) =
                http1::Builder::new().max_headers(MAX_FIELDS).handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let request = request(path)
                .header(header::HOST, connector.service())
                .header(header::CONNECTION, "close")
                .body(Empty::<Bytes>::new());
            // The path was checked when the configuration was read.
            sender.send_request(request.unwrap_or_default()).await
        }
        Protocol::H2c => {
            let (mut sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            let target = format!("http://{}{path}", connector.service());
            let request = request(&target).header(header::TE, "trailers").body(Empty::<Bytes>::new());
            sender.send_request(request.unwrap_or_default()).await
        }
    }
}

fn request(target: &str) -> http::request::Builder {
    Request::get(target).header(header::USER_AGENT, "longshore-probe").header(header::ACCEPT, "*/*")
}
