//! Servers inside a test, for services with `addresses`: what they see is seen by the test.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;

/// A server that notes the path of every request but probes of `/healthz`, in the order of their arrival.
#[derive(Clone, Debug)]
pub struct Recorder {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<(String, Instant)>>>,
}

impl Recorder {
    /// Listens on a port that the system picks.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self::on(listener)
    }

    /// The same, and every answer takes so long.
    pub async fn slow(work: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self::working(listener, work)
    }

    /// Listens on a port that was bound before.
    pub fn on(listener: TcpListener) -> Self {
        Self::working(listener, Duration::ZERO)
    }

    fn working(listener: TcpListener, work: Duration) -> Self {
        let address = listener.local_addr().expect("it is bound");
        let recorder = Self { address, seen: Arc::default() };
        let seen = recorder.seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = seen.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let path = request.uri().path().to_owned();
                    let is_probe = path == "/healthz";
                    if !is_probe {
                        seen.lock().push((path.clone(), Instant::now()));
                    }
                    async move {
                        if !is_probe && !work.is_zero() {
                            tokio::time::sleep(work).await;
                        }
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(path))))
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        recorder
    }

    /// The paths so far.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().iter().map(|(path, _)| path.clone()).collect()
    }

    /// When each path was asked for, so far.
    pub fn arrivals(&self) -> BTreeMap<String, Vec<Instant>> {
        let mut arrivals: BTreeMap<String, Vec<Instant>> = BTreeMap::new();
        for (path, at) in &*self.seen.lock() {
            arrivals.entry(path.clone()).or_default().push(*at);
        }
        arrivals
    }
}
