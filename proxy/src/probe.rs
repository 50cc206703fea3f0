//! One look at an instance: does it answer as configured?

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use longshore_pool::{Health, InstanceId};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::Check;
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
                let response = get(stream, connector.service(), path).await?;
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

async fn get(stream: TcpStream, service: &str, path: &str) -> hyper::Result<Response<Incoming>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header(header::HOST, service)
        .header(header::USER_AGENT, "longshore-probe")
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new());
    // The path was checked when the configuration was read.
    let request = request.unwrap_or_default();
    let answer = sender.send_request(request);
    tokio::spawn(async move {
        // Its failure is the answer's failure.
        let _ = connection.await;
    });
    answer.await
}
