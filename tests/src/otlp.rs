//! A collector of traces inside a test: takes OTLP over HTTP in protobuf, and keeps every span.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::tls::Pair;

/// A span as it came over the wire.
#[derive(Clone, Debug, Default)]
pub struct Span {
    /// The trace's id, in hexadecimal.
    pub trace: String,
    /// Its own id.
    pub id: String,
    /// The span that it is part of; empty for none.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// 1 internal, 2 server, 3 client.
    pub kind: u64,
    /// Nanoseconds since 1970.
    pub begun: u64,
    /// Nanoseconds since 1970.
    pub ended: u64,
    /// The trace's state.
    pub state: String,
    /// What it says.
    pub attributes: BTreeMap<String, String>,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// What sent it says of itself.
    pub resource: BTreeMap<String, String>,
}

/// A collector.
#[derive(Clone, Debug)]
pub struct Collector {
    /// Where it listens.
    pub address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
    answer: Arc<AtomicU16>,
}

impl Collector {
    /// Listens on a port that the system picks.
    pub async fn start() -> Self {
        Self::listen(None).await
    }

    /// The same, and speaks TLS with this certificate.
    pub async fn secure(pair: &Pair) -> Self {
        Self::listen(Some(pair.acceptor())).await
    }

    async fn listen(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let collector = Self { address, spans: Arc::default(), answer: Arc::new(AtomicU16::new(200)) };
        let serving = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let collector = serving.clone();
                let service = service_fn(move |request| collector.clone().take(request));
                let Some(tls) = tls.clone() else {
                    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
                    continue;
                };
                tokio::spawn(async move {
                    // A client that does not believe it goes away.
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        collector
    }

    /// Answers every batch with this status from now on; what is not 200 is not kept.
    pub fn answer(&self, status: u16) {
        self.answer.store(status, Ordering::Relaxed);
    }

    /// The spans so far.
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().clone()
    }

    async fn take(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let status = self.answer.load(Ordering::Relaxed);
        assert_eq!(request.uri().path(), "/v1/traces");
        assert_eq!(request.headers()["content-type"], "application/x-protobuf");
        let body = request.into_body().collect().await.expect("the whole body").to_bytes();
        if status == 200 {
            self.spans.lock().extend(traces(&body));
        }
        let response = Response::builder().status(status).body(Full::default());
        Ok(response.expect("a status"))
    }
}

/// One field of a protobuf message.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(number) => panic!("a number ({number}) where bytes should be"),
        }
    }

    fn number(&self) -> u64 {
        match self {
            Self::Number(number) => *number,
            Self::Bytes(bytes) => panic!("bytes ({bytes:?}) where a number should be"),
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).expect("a text")
    }

    fn hex(&self) -> String {
        self.bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The fields of a message, each with its number.
fn fields(mut message: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut message)),
            1 => Field::Number(u64::from_le_bytes(part(&mut message, 8).try_into().expect("8 bytes"))),
            2 => {
                let size = varint(&mut message) as usize;
                Field::Bytes(part(&mut message, size))
            }
            5 => Field::Number(u32::from_le_bytes(part(&mut message, 4).try_into().expect("4 bytes")).into()),
            wire => panic!("wire type {wire} is not used by OTLP"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

fn varint(message: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = part(message, 1)[0];
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return number;
        }
    }
    panic!("a number of more than 64 bits");
}

fn part<'a>(message: &mut &'a [u8], size: usize) -> &'a [u8] {
    let (part, rest) = message.split_at_checked(size).expect("the message is whole");
    *message = rest;
    part
}

/// `TracesData`: `resource_spans` (1), in each a `resource` (1) and `scope_spans` (2), in each of these `spans` (2).
fn traces(body: &[u8]) -> Vec<Span> {
    let mut out = Vec::new();
    for (_, resource_spans) in fields(body).iter().filter(|(number, _)| *number == 1) {
        let parts = fields(resource_spans.bytes());
        let mut resource = BTreeMap::new();
        for (_, one) in parts.iter().filter(|(number, _)| *number == 1) {
            resource.extend(fields(one.bytes()).iter().map(|(_, pair)| attribute(pair.bytes())));
        }
        for (_, scope_spans) in parts.iter().filter(|(number, _)| *number == 2) {
            let spans = fields(scope_spans.bytes());
            let spans = spans.iter().filter(|(number, _)| *number == 2);
            out.extend(spans.map(|(_, one)| Span { resource: resource.clone(), ..span(one.bytes()) }));
        }
    }
    out
}

/// `Span`, by the numbers of opentelemetry-proto's trace.proto.
fn span(message: &[u8]) -> Span {
    let mut span = Span::default();
    for (number, field) in fields(message) {
        match number {
            1 => span.trace = field.hex(),
            2 => span.id = field.hex(),
            3 => span.state = field.text(),
            4 => span.parent = field.hex(),
            5 => span.name = field.text(),
            6 => span.kind = field.number(),
            7 => span.begun = field.number(),
            8 => span.ended = field.number(),
            9 => span.attributes.extend([attribute(field.bytes())]),
            15 => {
                let status = fields(field.bytes());
                let text = |number| status.iter().find(|(one, _)| *one == number).map(|(_, field)| field);
                assert_eq!(text(3).map(Field::number), Some(2), "only errors are told");
                span.error = Some(text(2).map(Field::text).unwrap_or_default());
            }
            _ => {}
        }
    }
    span
}

/// `KeyValue`: `key` (1), `value` (2), which is a text (1) or a number (3).
fn attribute(message: &[u8]) -> (String, String) {
    let (mut key, mut value) = (String::new(), String::new());
    for (number, field) in fields(message) {
        match number {
            1 => key = field.text(),
            _ => {
                for (kind, one) in fields(field.bytes()) {
                    value = if kind == 1 { one.text() } else { one.number().to_string() };
                }
            }
        }
    }
    (key, value)
}
