//! The handshake of TLS, before a connection speaks HTTP: how long it may take, how many may be under way, and what is
//! agreed on in it.

use std::path::Path;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use pingora_core::protocols::Stream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::clients::Connected;
use super::serve::turn_away;
use super::{Gateway, Settings};
use crate::config::identity::{HTTP_2, Identity};
use crate::config::{Limits, ProxyConfig, TlsFiles};
use crate::metrics::{self, Handshake};
use crate::problem::Problem;

/// A certificate is spoken of when it has less than this to live.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 3_600);

/// Who the proxy is to clients that speak TLS.
pub struct Secure {
    /// The last that there was: connections that came before TLS was switched off need it still.
    identity: ArcSwapOption<Identity>,
    metrics: metrics::Tls,
}

/// A connection after its handshake.
pub struct Agreed {
    /// What was sent, in the clear. In a box, since it is large, and most of what is done with a connection need not know.
    pub stream: Box<TlsStream<Stream>>,
    /// Whether HTTP/2 was agreed on; else it is HTTP/1.1.
    pub http2: bool,
}

impl Secure {
    /// With the identity of `proxy`, if it has one.
    pub fn new(proxy: &ProxyConfig, metrics: metrics::Tls) -> Self {
        let secure = Self { identity: ArcSwapOption::empty(), metrics };
        secure.change(proxy);
        secure
    }

    /// The identity of another `[proxy]`, from the next handshake on.
    pub fn change(&self, proxy: &ProxyConfig) {
        if let Some((tls, identity)) = proxy.tls.as_ref().and_then(|tls| Some((tls, tls.identity.as_ref()?)))
        {
            self.put(&tls.files.cert, identity.clone());
        }
    }

    fn put(&self, file: &Path, identity: Identity) {
        if let Some(expires) = identity.expires() {
            self.metrics.expires(expires.as_second());
            warn_of_end(file, expires);
        }
        self.identity.store(Some(identity.into()));
    }
}

impl Gateway {
    /// The files of the identity in force.
    pub fn tls_files(&self) -> Option<TlsFiles> {
        self.settings.load().tls_files.clone()
    }

    /// The files have this in them now. Returns whether that is news.
    pub fn change_identity(&self, files: &TlsFiles, identity: Identity) -> bool {
        let known = self.secure.identity.load();
        let is_news =
            self.settings.load().tls_files.as_ref() == Some(files) && known.as_deref() != Some(&identity);
        if is_news {
            self.secure.put(&files.cert, identity);
            self.secure.metrics.reloaded("applied");
        }
        is_news
    }

    /// The files have something in them that cannot be used.
    pub fn identity_refused(&self) {
        self.secure.metrics.reloaded("refused");
    }
}

impl Settings {
    pub(super) fn tls_files_of(proxy: &ProxyConfig) -> Option<TlsFiles> {
        proxy.tls.as_ref().map(|tls| tls.files.clone())
    }
}

fn warn_of_end(file: &Path, expires: Timestamp) {
    let file = file.display();
    let left = expires.duration_since(Timestamp::now());
    if left.is_negative() {
        tracing::warn!(%file, %expires, "the certificate has expired: clients will refuse it");
    } else if left.unsigned_abs() < EXPIRES_SOON {
        tracing::warn!(%file, %expires, "the certificate expires soon");
    }
}

/// Comes to terms with a client, in this order:
///
/// 1. there are not too many handshakes under way, of all clients or of this one;
/// 2. it begins one, before `shutdown`; what speaks HTTP in the clear is told where it is;
/// 3. it ends it. All of this within `limit`. One that has begun is finished though the proxy shuts down: its client has
///    come before that.
///
/// None when there is nothing to be said to it any more.
pub async fn accept(
    gateway: &Gateway,
    connected: &Connected,
    limits: &Limits,
    mut stream: Stream,
    limit: Duration,
    shutdown: impl Future<Output = ()>,
) -> Option<Agreed> {
    let metrics = &gateway.secure.metrics;
    // 1.
    let Some(_turn) = connected.handshake(limits) else {
        metrics.handshake(Handshake::Refused);
        return None;
    };
    let end = Instant::now() + limit;
    // 2.
    let mut first = [0];
    let peeked = tokio::select! {
        peeked = timeout_at(end, stream.try_peek(&mut first)) => peeked,
        () = shutdown => return None,
    };
    match peeked {
        Err(_) => {
            metrics.handshake(Handshake::TimedOut);
            return None;
        }
        Ok(Ok(true)) => {}
        Ok(Ok(false) | Err(_)) => return None,
    }
    if first[0].is_ascii_uppercase() {
        metrics.handshake(Handshake::Failed);
        let problem =
            Problem::BadRequest("TLS is spoken here: ask with https:// instead of http://".to_owned());
        turn_away(gateway, stream, &problem).await;
        return None;
    }
    // 3.
    let acceptor = TlsAcceptor::from(gateway.secure.identity.load().as_ref()?.server());
    match timeout_at(end, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            metrics.handshake(Handshake::Completed);
            let http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP_2);
            Some(Agreed { stream: Box::new(stream), http2 })
        }
        Ok(Err(error)) => {
            metrics.handshake(Handshake::Failed);
            tracing::debug!(%error, "a TLS handshake has failed");
            None
        }
        Err(_) => {
            metrics.handshake(Handshake::TimedOut);
            None
        }
    }
}
