//! SHA-256 of a body as it passes, and the `Content-Digest` field (RFC 9530).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::HeaderName;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The field.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// A body that has been received: what is left of it is this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Bytes.
    pub(crate) length: u64,
    /// SHA-256 of them.
    pub(crate) sha256: [u8; 32],
}

/// A `Content-Digest` that is not the body's.
#[derive(Debug, Error)]
pub(crate) enum DigestError {
    #[error("Content-Digest cannot be read: sha-256=:BASE64: is wanted")]
    Malformed,
    #[error("Content-Digest does not match: {length} bytes were received, and their digest is {actual}")]
    Mismatch { length: u64, actual: String },
}

/// Adds up a body.
#[derive(Default)]
pub(crate) struct Summing {
    length: u64,
    hash: Sha256,
}

impl Summing {
    /// Takes the next part.
    pub(crate) fn add(&mut self, part: &[u8]) {
        self.length += part.len() as u64;
        self.hash.update(part);
    }

    /// Ends it.
    pub(crate) fn finish(self) -> Summary {
        Summary { length: self.length, sha256: self.hash.finalize().into() }
    }
}

impl Summary {
    /// Of a whole body.
    pub(crate) fn of(body: &[u8]) -> Self {
        let mut sum = Summing::default();
        sum.add(body);
        sum.finish()
    }

    /// As `sha256sum` prints it.
    pub(crate) fn hex(&self) -> String {
        self.sha256.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// As the field has it.
    pub(crate) fn field(&self) -> String {
        format!("sha-256=:{}:", STANDARD.encode(self.sha256))
    }

    /// Compares with the field, if there is one with a SHA-256; other algorithms are not looked at.
    pub(crate) fn verify(&self, headers: &HeaderMap) -> Result<(), DigestError> {
        for value in headers.get_all(CONTENT_DIGEST) {
            let value = value.to_str().map_err(|_| DigestError::Malformed)?;
            for member in value.split(',').filter_map(|member| member.trim().strip_prefix("sha-256=")) {
                let text = member.strip_prefix(':').and_then(|text| text.strip_suffix(':'));
                let wanted = STANDARD.decode(text.ok_or(DigestError::Malformed)?);
                if wanted.map_err(|_| DigestError::Malformed)? != self.sha256 {
                    return Err(DigestError::Mismatch { length: self.length, actual: self.field() });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    /// The example of RFC 9530, appendix D: SHA-256 of `{"hello": "world"}` and a line end.
    const EXAMPLE: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_DIGEST, HeaderValue::from_static(value))])
    }

    #[test]
    fn the_field_is_that_of_the_rfc() {
        let body = Summary::of(b"{\"hello\": \"world\"}\n");
        assert_eq!(body.field(), EXAMPLE);
        assert!(body.verify(&headers(EXAMPLE)).is_ok());
    }

    #[test]
    fn another_body_does_not_match() {
        let error = Summary::of(b"{\"hello\": \"moon\"}\n").verify(&headers(EXAMPLE)).unwrap_err();
        assert!(matches!(error, DigestError::Mismatch { length: 18, .. }), "{error}");
    }

    #[test]
    fn other_algorithms_are_not_looked_at_and_nonsense_is_refused() {
        assert!(Summary::of(b"").verify(&headers("sha-512=:AAAA:")).is_ok());
        assert!(Summary::of(b"").verify(&headers("sha-512=:AAAA:, sha-256=none")).is_err());
    }
}
