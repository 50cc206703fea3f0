//! W3C trace context: `traceparent` and `tracestate`, as far as a proxy reads them.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::headers::keep;
use super::ids::{Trace, hex};

/// Trace, parent and flags.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What vendors add to it.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// `00-TRACE-PARENT-FLAGS` of version 0; later versions may have more behind it.
const LENGTH: usize = 55;

/// What a client says of the trace that its request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace: [u8; 16],
    /// The client's span in it.
    pub span: [u8; 8],
    /// Whether the client may have recorded it.
    pub sampled: bool,
}

/// The client's trace, if its one `traceparent` is valid.
pub fn parent(headers: &HeaderMap) -> Option<Parent> {
    let mut fields = headers.get_all(&TRACEPARENT).iter();
    match (fields.next(), fields.next()) {
        (Some(field), None) => parse(field.as_bytes()),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

/// A valid `traceparent` is passed on as it is; otherwise a trace begins here, and a `tracestate` belongs to none. `sampled` marks
/// what begins here.
pub fn pass_on(headers: &mut HeaderMap, trace: Trace, sampled: bool) {
    if headers.contains_key(&TRACEPARENT) && parent(headers).is_some() {
        return;
    }
    if headers.contains_key(&TRACESTATE) {
        keep(headers, |name| *name != TRACESTATE);
    }
    headers.insert(TRACEPARENT, trace.begin(sampled));
}

/// A `traceparent` of version 0.
pub fn write(trace: [u8; 16], span: [u8; 8], sampled: bool) -> HeaderValue {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    hex(&mut text[3..35], &trace);
    hex(&mut text[36..52], &span);
    text[54] = b'0' + u8::from(sampled);
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("00"))
}

fn parse(text: &[u8]) -> Option<Parent> {
    let (head, rest) = text.split_at_checked(LENGTH)?;
    let [version, trace, span, flags] = [&head[..2], &head[3..35], &head[36..52], &head[53..]];
    let [version] = bytes(version)?;
    let ends = if version == 0 { rest.is_empty() } else { rest.first().is_none_or(|next| *next == b'-') };
    let dashes = [2, 35, 52].into_iter().all(|at| head[at] == b'-');
    let (trace, span, [flags]) = (bytes(trace)?, bytes(span)?, bytes(flags)?);
    let right = version != 0xff && ends && dashes && trace != [0; 16] && span != [0; 8];
    right.then_some(Parent { trace, span, sampled: flags & 1 != 0 })
}

/// Bytes, each two hexadecimal digits in lower case.
fn bytes<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::ids::Ids;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn only_what_the_standard_calls_valid_is_a_parent() {
        let parent = parse(VALID.as_bytes()).unwrap();
        assert_eq!(
            (parent.trace[..2].to_vec(), parent.span[7], parent.sampled),
            (vec![0x0a, 0xf7], 0x31, true)
        );
        for (text, valid) in [
            (VALID.replace("-01", "-00"), true),
            (VALID.replace("-01", "-ff"), true),
            (format!("cc{}", &VALID[2..]), true),
            (format!("cc{}-what-the-future-brings", &VALID[2..]), true),
            (format!("cc{}.future", &VALID[2..]), false),
            (format!("ff{}", &VALID[2..]), false),
            (format!("{VALID}-more"), false),
            (VALID[..54].to_owned(), false),
            (VALID.to_uppercase(), false),
            (VALID.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)), false),
            (VALID.replace("b7ad6b7169203331", &"0".repeat(16)), false),
            (VALID.replace('-', "_"), false),
            (VALID.replace("0af7", "xaf7"), false),
            (String::new(), false),
        ] {
            assert_eq!(parse(text.as_bytes()).is_some(), valid, "{text}");
        }
    }

    #[test]
    fn a_trace_is_passed_on_with_its_state_or_begun_without_one() {
        let trace = Ids::new().next().1;
        let mut valid = headers(&[("traceparent", VALID), ("tracestate", "a=1"), ("tracestate", "b=2")]);
        let sent = valid.clone();
        pass_on(&mut valid, trace, true);
        assert_eq!(valid, sent);
        for wrong in [
            headers(&[("tracestate", "a=1"), ("x", "1"), ("y", "2")]),
            headers(&[("tracestate", "a=1"), ("x", "1"), ("y", "2"), ("traceparent", "nonsense")]),
            headers(&[("traceparent", VALID), ("traceparent", VALID), ("x", "1"), ("y", "2")]),
        ] {
            let mut got = wrong.clone();
            pass_on(&mut got, trace, true);
            assert_eq!(got.get(&TRACESTATE), None);
            assert_eq!(got.get_all(&TRACEPARENT).iter().collect::<Vec<_>>(), [trace.begin(true)]);
            assert_eq!((&got["x"], &got["y"]), (&wrong["x"], &wrong["y"]));
        }
    }
}
