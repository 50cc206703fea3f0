//! Names for requests: the pool's own, and the ones that people and traces see.

use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;
use longshore_pool::RequestId;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Gives every request of this process a name that no other process gives.
pub struct Ids {
    process: u64,
    next: AtomicU64,
}

/// A request's name, as the beginning of a trace (W3C trace context).
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    process: u64,
    request: u64,
}

impl Ids {
    /// A process is named by chance: 64 bits, so that processes do not meet.
    pub fn new() -> Self {
        Self { process: fastrand::u64(1..), next: AtomicU64::new(1) }
    }

    /// The next name.
    pub fn next(&self) -> (RequestId, Trace) {
        let request = self.next.fetch_add(1, Ordering::Relaxed);
        (RequestId(request), Trace { process: self.process, request })
    }
}

impl Trace {
    /// As `X-Request-Id`: 32 hexadecimal digits, the same as the id of the trace that begins with it.
    pub fn request_id(self) -> HeaderValue {
        let mut text = [0; 32];
        hex(&mut text[..16], self.process);
        hex(&mut text[16..], self.request);
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    }

    /// A `traceparent` that begins a trace. Not sampled: nobody exports it.
    pub fn begin(self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        hex(&mut text[3..19], self.process);
        hex(&mut text[19..35], self.request);
        hex(&mut text[36..52], self.process ^ self.request.rotate_left(32) | 1);
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("00"))
    }
}

fn hex(text: &mut [u8], number: u64) {
    for (digits, byte) in text.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        digits.copy_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_begins_with_the_request_s_id() {
        let trace = Trace { process: 0x1234_5678_9abc_def0, request: 0xff };
        assert_eq!(trace.request_id(), "123456789abcdef000000000000000ff");
        assert_eq!(trace.begin(), "00-123456789abcdef000000000000000ff-123456879abcdef1-00");
    }

    #[test]
    fn names_are_never_used_twice() {
        let ids = Ids::new();
        assert_ne!(ids.next().0, ids.next().0);
    }
}
