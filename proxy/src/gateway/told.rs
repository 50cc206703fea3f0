//! What Longshore tells the client about its answer.

use std::time::Duration;

use bytes::BufMut;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::headers::X_REQUEST_ID;

const LONGSHORE_INSTANCE: HeaderName = HeaderName::from_static("longshore-instance");
const LONGSHORE_ATTEMPTS: HeaderName = HeaderName::from_static("longshore-attempts");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What Longshore tells about the answer.
pub struct Told<'a> {
    /// The instance that answered.
    pub instance: &'a HeaderValue,
    /// How many attempts it took.
    pub attempts: u32,
    /// Time spent waiting for a slot, all waits together.
    pub queue: Duration,
    /// Time from the last dispatch to the head of the answer.
    pub instance_time: Duration,
    /// The request's id.
    pub request_id: &'a HeaderValue,
}

impl Told<'_> {
    /// Adds the same to an answer whose fields are lines.
    pub fn write(&self, lines: &mut Vec<u8>) {
        lines.extend_from_slice(b"longshore-instance: ");
        lines.extend_from_slice(self.instance.as_bytes());
        lines.extend_from_slice(b"\r\nlongshore-attempts: ");
        lines.extend_from_slice(itoa::Buffer::new().format(self.attempts).as_bytes());
        lines.extend_from_slice(b"\r\nserver-timing: ");
        put_timing(lines, self.queue, self.instance_time);
        lines.extend_from_slice(b"\r\nx-request-id: ");
        lines.extend_from_slice(self.request_id.as_bytes());
        lines.extend_from_slice(b"\r\n");
    }
}

/// Adds Longshore's own fields to an answer.
pub fn tell(headers: &mut HeaderMap, told: &Told<'_>) {
    headers.insert(LONGSHORE_INSTANCE, told.instance.clone());
    let attempts = match told.attempts {
        1 => HeaderValue::from_static("1"),
        more => HeaderValue::from(more),
    };
    headers.insert(LONGSHORE_ATTEMPTS, attempts);
    // Appended: an instance may well have timings of its own to tell.
    headers.append(SERVER_TIMING, timing(told.queue, told.instance_time));
    headers.insert(X_REQUEST_ID, told.request_id.clone());
}

fn timing(queue: Duration, instance: Duration) -> HeaderValue {
    let mut text = [0; 96];
    let mut rest = &mut text[..];
    // Two numbers of 64 bits have room.
    put_timing(&mut rest, queue, instance);
    let left = rest.len();
    HeaderValue::from_bytes(&text[..text.len() - left]).unwrap_or_else(|_| HeaderValue::from_static("queue"))
}

fn put_timing(text: &mut impl BufMut, queue: Duration, instance: Duration) {
    text.put_slice(b"queue;dur=");
    put_millis(text, queue);
    text.put_slice(b", instance;dur=");
    put_millis(text, instance);
}

/// Milliseconds with three decimals. Formatting machinery would cost more than the rest of an answer's fields.
fn put_millis(text: &mut impl BufMut, duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    text.put_slice(itoa::Buffer::new().format(micros / 1000).as_bytes());
    let rest = micros % 1000;
    let digit = |value: u64| b'0' + (value % 10) as u8;
    text.put_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timings_are_in_milliseconds() {
        let value = timing(Duration::from_micros(1_250), Duration::from_millis(20));
        assert_eq!(value, "queue;dur=1.250, instance;dur=20.000");
    }
}
