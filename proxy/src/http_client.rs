//! One request to one server over a connection of its own: the least that the commands and webhooks need.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

mod tls;

pub(crate) use tls::{Trust, secured};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// A server named by a URL: `http[s]://HOST[:PORT][/PREFIX]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    secure: bool,
    host: String,
    port: u16,
    prefix: String,
}

impl Server {
    /// Understands a URL; the scheme may be missing.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let uri: Uri = full.parse().map_err(|error| format!("{error}"))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err("only http:// and https:// are spoken".into()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("a host is missing")?;
        if uri.query().is_some() {
            return Err("it has a query".into());
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let port = match authority.strip_prefix(host).ok_or("a user name has no use here")? {
            "" if secure => 443,
            "" => 80,
            port => port.trim_start_matches(':').parse().map_err(|_| "the port is from 1 to 65535")?,
        };
        Ok(Self {
            secure,
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// `HOST:PORT`.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// As a URL, without a path.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.authority())
    }

    /// The same server, as it is reached by who reaches `other` on its machine: what listens everywhere is there, too.
    pub(crate) fn seen_from(self, other: &Self) -> Self {
        let everywhere = self.host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
        if everywhere { Self { host: other.host.clone(), ..self } } else { self }
    }

    /// The path as the server knows it.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// Opens a connection; it closes when the sender is dropped and its last answer read.
    pub(crate) async fn connect<B>(&self) -> Result<SendRequest<B>, Unreachable>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.connect_over(None).await
    }

    /// The same, where others than this machine's authorities may say who the server is.
    async fn connect_over<B>(&self, trust: Option<&Trust>) -> Result<SendRequest<B>, Unreachable>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let stream = timeout(CONNECT, connecting).await.map_err(|_| Unreachable(late()))??;
        stream.set_nodelay(true)?;
        if !self.secure {
            return speak(stream).await;
        }
        let securing = timeout(CONNECT, tls::secured(&self.host, stream, trust));
        speak(securing.await.map_err(|_| Unreachable(late()))??).await
    }

    /// Sends a request whose URI is a path, with `Host` added.
    pub(crate) async fn send<B>(&self, request: Request<B>) -> Result<Response<Incoming>, Unreachable>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.send_over(None, request).await
    }

    /// The same, where others than this machine's authorities may say who the server is.
    pub(crate) async fn send_over<B>(
        &self,
        trust: Option<&Trust>,
        mut request: Request<B>,
    ) -> Result<Response<Incoming>, Unreachable>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut sender = self.connect_over(trust).await?;
        if let Ok(host) = self.authority().parse() {
            request.headers_mut().insert(header::HOST, host);
        }
        sender.send_request(request).await.map_err(|error| Unreachable(cause(&error)))
    }
}

async fn speak<S, B>(stream: S) -> Result<SendRequest<B>, Unreachable>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let shaking = handshake(TokioIo::new(stream));
    let (sender, connection) = shaking.await.map_err(|error| Unreachable(cause(&error)))?;
    tokio::spawn(async move {
        // Whoever sent the request learns of the failure from its answer.
        let _ = connection.await;
    });
    Ok(sender)
}

/// Why a server did not answer, in a few words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unreachable(pub(super) String);

impl From<io::Error> for Unreachable {
    fn from(error: io::Error) -> Self {
        Self(io_cause(&error))
    }
}

fn late() -> String {
    format!("no connection within {}", humantime::format_duration(CONNECT))
}

fn io_cause(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::TimedOut => late(),
        _ => error.to_string(),
    }
}

/// What is behind an error of hyper's, whose own text says only at which step it came.
pub(crate) fn cause(error: &hyper::Error) -> String {
    let source = std::error::Error::source(error);
    match source.and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(error) => io_cause(error),
        None if error.is_incomplete_message() => {
            "connection closed before the answer was complete".to_owned()
        }
        None => source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}")),
    }
}

/// A part of a path: what may not stand there is percent-encoded.
pub(crate) fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_a_url() {
        let authority = |url: &str| {
            Server::parse(url).map(|server| format!("{}{}", server.authority(), server.path("/x")))
        };
        assert_eq!(authority("http://127.0.0.1:5001").as_deref(), Ok("127.0.0.1:5001/x"));
        assert_eq!(authority("localhost:5001/").as_deref(), Ok("localhost:5001/x"));
        assert_eq!(authority("http://[::1]:7/admin/").as_deref(), Ok("[::1]:7/admin/x"));
        assert_eq!(authority("http://ops").as_deref(), Ok("ops:80/x"));
        assert_eq!(authority("https://ops/a").as_deref(), Ok("ops:443/a/x"));
        for wrong in [
            "",
            "ftp://a",
            "http://",
            "http://a b",
            "http://a:x",
            "http://a:65536",
            "http://u@a",
            "http://a/?q",
        ] {
            assert!(authority(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_part_of_a_path() {
        assert_eq!(segment("calc-1"), "calc-1");
        assert_eq!(segment("../a b?"), "..%2Fa%20b%3F");
    }
}
