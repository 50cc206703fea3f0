//! Servers inside a test, for services with `addresses`: what they see is seen by the test.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

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
    seen: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    /// Listens on a port that the system picks.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self::on(listener)
    }

    /// Listens on a port that was bound before.
    pub fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("it is bound");
        let recorder = Self { address, seen: Arc::default() };
        let seen = recorder.seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = seen.clone();
                let service = service_fn(move |request: Request<Incoming>| {
                    let path = request.uri().path().to_owned();
                    if path != "/healthz" {
                        seen.lock().push(path.clone());
                    }
                    async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(path)))) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        recorder
    }

    /// The paths so far.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().clone()
    }
}
