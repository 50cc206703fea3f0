//! Spans as OTLP has them (opentelemetry-proto 1.x, `trace.proto`): only the messages and fields that are sent.

use prost::Message;

use super::{Kind, Recorded, Span, Value};

#[derive(Clone, PartialEq, Message)]
struct TracesData {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<SpanMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct SpanMessage {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
    /// The flags of the trace: sampled.
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(oneof = "AnyKind", tags = "1, 3")]
    value: Option<AnyKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum AnyKind {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Int(i64),
}

/// `STATUS_CODE_ERROR`.
const ERROR: i32 = 2;
/// The flag `sampled`.
const SAMPLED: u32 = 1;

/// One request to the collector; the spans are those of this service, in this process.
pub(super) fn request(service_name: &str, batch: Vec<Recorded>) -> Vec<u8> {
    let resource = Resource {
        attributes: vec![
            text("service.name", service_name),
            text("service.version", env!("CARGO_PKG_VERSION")),
            key_value("process.pid", AnyKind::Int(i64::from(std::process::id()))),
        ],
    };
    let scope = Scope { name: "longshore".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let spans = batch.into_iter().flat_map(|recorded| {
        let Recorded { trace, state, spans } = recorded;
        spans.into_iter().map(move |span| message(trace, &state, span))
    });
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: spans.collect() }];
    TracesData { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans }] }
        .encode_to_vec()
}

fn message(trace: [u8; 16], state: &str, span: Span) -> SpanMessage {
    let attributes = span.attributes.into_iter().map(|(key, value)| {
        let value = match value {
            Value::Text(text) => AnyKind::Text(text.into_owned()),
            Value::Int(number) => AnyKind::Int(number),
        };
        key_value(key, value)
    });
    SpanMessage {
        trace_id: trace.to_vec(),
        span_id: span.id.to_vec(),
        trace_state: state.to_owned(),
        parent_span_id: span.parent.map(|id| id.to_vec()).unwrap_or_default(),
        name: span.name.into_owned(),
        kind: match span.kind {
            Kind::Internal => 1,
            Kind::Server => 2,
            Kind::Client => 3,
        },
        start_time_unix_nano: span.begun,
        end_time_unix_nano: span.ended,
        attributes: attributes.collect(),
        status: span.error.map(|message| Status { message: message.into_owned(), code: ERROR }),
        flags: SAMPLED,
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    key_value(key, AnyKind::Text(value.to_owned()))
}

fn key_value(key: &str, value: AnyKind) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}
