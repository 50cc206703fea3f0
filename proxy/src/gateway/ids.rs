//! Names for requests: the pool's own, and the ones that people and traces see.

use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;
use longshore_pool::RequestId;

use super::trace_context;

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

    /// How every request id of this process begins: 16 hexadecimal digits.
    pub fn process(&self) -> String {
        format!("{:016x}", self.process)
    }

    /// The next name.
    pub fn next(&self) -> (RequestId, Trace) {
        let request = self.next.fetch_add(1, Ordering::Relaxed);
        (RequestId(request), Trace { process: self.process, request: mixed(request ^ self.process) })
    }
}

/// A number that looks like chance, another one for each number (the finish of SplitMix64): who samples by a trace's id
/// takes its last bits for random.
const fn mixed(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// A name for a span, by chance.
pub fn span() -> [u8; 8] {
    fastrand::u64(1..).to_be_bytes()
}

impl Trace {
    /// As `X-Request-Id`: 32 hexadecimal digits, the same as the id of the trace that begins with it.
    pub fn request_id(self) -> HeaderValue {
        let mut text = [0; 32];
        hex(&mut text, &self.id());
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
    }

    /// The id of the trace that begins with the request.
    pub fn id(self) -> [u8; 16] {
        (u128::from(self.process) << 64 | u128::from(self.request)).to_be_bytes()
    }

    /// Its part that is random in each request.
    pub const fn random(self) -> u64 {
        self.request
    }

    /// A `traceparent` that begins a trace.
    pub fn begin(self, sampled: bool) -> HeaderValue {
        let span = self.process ^ self.request.rotate_left(32) | 1;
        trace_context::write(self.id(), span.to_be_bytes(), sampled)
    }
}

/// A name as it goes into the log: without quotes around it, and without what a terminal would obey.
pub fn plain(name: &HeaderValue) -> std::slice::EscapeAscii<'_> {
    name.as_bytes().escape_ascii()
}

/// Two digits for each byte.
pub fn hex(text: &mut [u8], bytes: &[u8]) {
    for (digits, byte) in text.chunks_exact_mut(2).zip(bytes) {
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
        assert_eq!(trace.begin(false), "00-123456789abcdef000000000000000ff-123456879abcdef1-00");
        assert_eq!(trace.begin(true), "00-123456789abcdef000000000000000ff-123456879abcdef1-01");
    }

    #[test]
    fn a_name_is_logged_as_it_is_unless_a_terminal_would_obey_it() {
        let shown = |bytes: &[u8]| plain(&HeaderValue::from_bytes(bytes).unwrap()).to_string();
        assert_eq!(shown(b"calc-0-1"), "calc-0-1");
        assert_eq!(shown(b"a\xc2\x9b1m"), "a\\xc2\\x9b1m");
    }

    #[test]
    fn names_are_never_used_twice() {
        let ids = Ids::new();
        assert!(ids.next().1.request_id().to_str().unwrap().starts_with(&ids.process()));
        assert_ne!(ids.next().0, ids.next().0);
        let names: std::collections::BTreeSet<u64> = (0..10_000).map(|_| ids.next().1.random()).collect();
        assert_eq!(names.len(), 10_000);
        let low = names.iter().filter(|name| **name < u64::MAX / 2).count();
        assert!((4_500..5_500).contains(&low), "{low} of 10000 in the lower half");
    }
}
