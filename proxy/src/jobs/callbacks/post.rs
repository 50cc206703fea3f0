//! One attempt at a callback: one connection, one request, the head of its answer. A redirect is an answer like another:
//! nobody follows it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body::Body;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::target::{self, Target};
use crate::config::Receiver;
use crate::http_client::{cause, secured};

/// How long one of several addresses is tried.
const CONNECT: Duration = Duration::from_secs(5);

/// Nobody is believed who asks for more patience than this.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) why: String,
    /// Whether it will not be taken ever.
    pub(super) is_final: bool,
    /// How long its receiver wants to be left alone.
    pub(super) after: Option<Duration>,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, is_final: false, after: None }
    }
}

/// Sends a message to its receiver.
pub(super) async fn post<B>(
    target: &Target,
    listed: &[Receiver],
    headers: HeaderMap,
    body: B,
) -> Result<(), Failure>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(&target.path)
        .header(header::HOST, &target.authority)
        .header(header::CONNECTION, "close")
        .header(header::USER_AGENT, concat!("longshore/", env!("CARGO_PKG_VERSION")))
        .body(body)
        .map_err(|error| error.to_string())?;
    request.headers_mut().extend(headers);
    let stream = connect(target, listed).await?;
    let (status, headers) = if target.secure {
        let secured = secured(&target.host, stream, None).await;
        exchange(secured.map_err(|error| format!("no TLS with {}: {error}", target.host))?, request).await?
    } else {
        exchange(stream, request).await?
    };
    judged(status, &headers)
}

/// Connects to the first address that takes the connection, of those that were looked up and allowed.
async fn connect(target: &Target, listed: &[Receiver]) -> Result<TcpStream, String> {
    let mut last = format!("{} has no address", target.host);
    for address in target.addresses(listed, target::lookup).await? {
        match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = format!("no connection to {address}: {error}"),
            Err(_) => last = format!("no connection to {address} within {} s", CONNECT.as_secs()),
        }
    }
    Err(last)
}

async fn exchange<S, B>(stream: S, request: Request<B>) -> Result<(StatusCode, HeaderMap), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| cause(&error))?;
    let asking = async {
        let response = sender.send_request(request).await.map_err(|error| cause(&error))?;
        let (head, _) = response.into_parts();
        Ok((head.status, head.headers))
    };
    tokio::pin!(asking);
    tokio::select! {
        biased;
        answered = &mut asking => answered,
        // It has ended: the answer is there, or never will be.
        _ = connection => asking.await,
    }
}

/// Anything in the two hundreds says that it was taken; `410` that nobody wants it.
fn judged(status: StatusCode, headers: &HeaderMap) -> Result<(), Failure> {
    if status.is_success() {
        return Ok(());
    }
    let why = match status.is_redirection() {
        true => format!("it answered {}: redirects are not followed", status.as_u16()),
        false => format!("it answered {}", status.as_u16()),
    };
    let after = headers.get(header::RETRY_AFTER).and_then(|after| after.to_str().ok()?.trim().parse().ok());
    let after = after.map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
    Err(Failure { why, is_final: status == StatusCode::GONE, after })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_taken_is_delivered() {
        let judge = |status: u16, after: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(after) = after {
                headers.insert(header::RETRY_AFTER, after.parse().unwrap());
            }
            judged(StatusCode::from_u16(status).unwrap(), &headers)
        };
        assert_eq!(judge(204, None), Ok(()));
        for (status, is_final) in [(301, false), (307, false), (400, false), (410, true), (500, false)] {
            assert_eq!(judge(status, None).unwrap_err().is_final, is_final, "{status}");
        }
        assert!(judge(302, None).unwrap_err().why.contains("not followed"));
        let after = |text| judge(503, Some(text)).unwrap_err().after;
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("9999999"), Some(LONGEST_WAIT));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), None);
    }
}
