//! `Content-Digest` with SHA-256 (RFC 9530).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// The field's name.
pub(super) const FIELD: &str = "content-digest";

/// The field's value for a content.
pub(super) fn of(content: &[u8]) -> String {
    value(Sha256::new_with_prefix(content))
}

/// The field's value for what was hashed.
pub(super) fn value(hash: Sha256) -> String {
    format!("sha-256=:{}:", STANDARD.encode(hash.finalize()))
}

/// Whether a field agrees with the value for what was received; nothing when it has no SHA-256.
pub(super) fn agrees(field: &str, received: &str) -> Option<bool> {
    let part =
        field.split(',').map(str::trim).find(|part| part.to_ascii_lowercase().starts_with("sha-256="))?;
    let (_, digest) = part.split_once('=')?;
    Some(received.split_once('=').is_some_and(|(_, received)| received == digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 9530, appendix B.1.
    const HELLO: &[u8] = b"{\"hello\": \"world\"}\n";
    const FIELD_OF_HELLO: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";

    #[test]
    fn the_example_of_the_rfc_is_met() {
        assert_eq!(of(HELLO), FIELD_OF_HELLO);
    }

    #[test]
    fn a_field_is_compared_by_its_sha_256() {
        let received = of(HELLO);
        assert_eq!(agrees(FIELD_OF_HELLO, &received), Some(true));
        assert_eq!(agrees(&format!("sha-512=:AAAA:, {FIELD_OF_HELLO}"), &received), Some(true));
        assert_eq!(agrees(&of(b"other"), &received), Some(false));
        assert_eq!(agrees("md5=:AAAA:", &received), None);
    }
}
