//! One look at an instance: does it answer as configured?

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

use crate::config::{Check, Protocol};
use crate::connect::Connector;

/// What of an answer's body is looked at.
const BODY_LIMIT: usize = 64 * 1024;

/// Asks once. `Silent` is a server that took the connection and said nothing within `limit`.
pub async fn http_or_tcp(
    connector: &Connector,
    (instance, address): (InstanceId, SocketAddr),
    check: &Check,
    limit: Duration,
) -> Health {
    let stream = match timeout(limit, connector.connect(instance, address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() != std::io::ErrorKind::TimedOut => return Health::NotReady,
        Ok(Err(_)) | Err(_) => return Health::Silent,
    };
    match check {
        Check::Http { path, status, body } => {
            let asked = async {
                let response = get(stream, connector, path).await?;
                let as_wanted = match status {
                    Some(status) => response.status().as_u16() == *status,
                    None => response.status().as_u16() < 500,
                };
                let Some(pattern) = body.as_ref().filter(|_| as_wanted) else { return Ok(as_wanted) };
                let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(pattern.is_match(&body.to_bytes()))
            };
            match timeout(limit, asked).await {
                Ok(Ok(true)) => Health::Ready,
                Ok(Ok(false) | Err(_)) => Health::NotReady,
                Err(_) => Health::Silent,
            }
        }
        Check::Tcp | Check::Log(_) => Health::Ready,
    }
}

async fn get(stream: TcpStream, connector: &Connector, path: &str) -> hyper::Result<Response<Incoming>> {
    match connector.protocol() {
        Protocol::H1 => {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
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
