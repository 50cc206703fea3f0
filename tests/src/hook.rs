//! Who takes the results of jobs: a server that keeps every request whole and answers as the test says.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, Mac as _};
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::tls::Pair;
use crate::{PATIENCE, eventually};

/// A receiver of callbacks.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    taken: Vec<Taken>,
    /// What it answers next, with fields; afterwards 204.
    answers: VecDeque<(u16, Vec<(&'static str, String)>)>,
    /// How long it takes over each.
    pause: Duration,
}

/// What it was sent.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The request's head.
    pub head: Parts,
    /// Its body.
    pub body: Bytes,
}

impl Hook {
    /// Listens on a port that the system picks.
    ///
    /// # Panics
    /// Without a port.
    pub async fn start() -> Self {
        Self::serve(None).await
    }

    /// The same over TLS.
    ///
    /// # Panics
    /// Without a port.
    pub async fn secure(pair: &Pair) -> Self {
        Self::serve(Some(pair.acceptor())).await
    }

    async fn serve(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let hook = Self { address, state: Arc::default() };
        let state = hook.state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, tls) = (state.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => take(stream, state).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                take(stream, state).await;
                            }
                        }
                    }
                });
            }
        });
        hook
    }

    /// It answers so, once, after what was said before.
    pub fn answers(&self, status: u16, fields: &[(&'static str, &str)]) {
        let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.state.lock().answers.push_back((status, fields));
    }

    /// It takes so long over each from now on.
    pub fn pauses(&self, pause: Duration) {
        self.state.lock().pause = pause;
    }

    /// What it was sent so far.
    pub fn taken(&self) -> Vec<Taken> {
        self.state.lock().taken.clone()
    }

    /// Waits until it was sent so much.
    pub async fn has(&self, count: usize) -> Vec<Taken> {
        eventually(PATIENCE, &format!("{count} callbacks"), async || {
            Some(self.taken()).filter(|taken| taken.len() >= count)
        })
        .await
    }
}

async fn take<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, state: Arc<Mutex<State>>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let state = state.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let (answer, pause) = {
                let mut state = state.lock();
                state.taken.push(Taken { head, body });
                (state.answers.pop_front(), state.pause)
            };
            tokio::time::sleep(pause).await;
            let (status, fields) = answer.unwrap_or((204, Vec::new()));
            let mut response = Response::builder().status(status);
            for (name, value) in fields {
                response = response.header(name, value);
            }
            Ok::<_, Infallible>(response.body(Empty::<Bytes>::new()).expect("a plain answer"))
        }
    });
    // Whoever sent it may have left.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl Taken {
    /// A field of it; empty if it is not there.
    pub fn field(&self, name: &str) -> &str {
        self.head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether one of its signatures is that of the secret.
    pub fn is_signed_with(&self, secret: &[u8]) -> bool {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any key");
        mac.update(format!("{}.{}.", self.field("webhook-id"), self.field("webhook-timestamp")).as_bytes());
        mac.update(&self.body);
        let right = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        self.field("webhook-signature").split(' ').any(|signature| signature == right)
    }
}
