//! The signature of a callback, as Standard Webhooks has it: the libraries of that verify it.
//!
//! `webhook-signature: v1,BASE64`, the HMAC-SHA256 of `webhook-id`, `webhook-timestamp` and the body with a dot between
//! them; one for each secret, with a space between those.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// A signature that is being made, with every secret at once.
pub(super) struct Signature(Vec<Hmac<Sha256>>);

impl Signature {
    /// Begins with what stands before the body; `timestamp` is in seconds since 1970.
    pub(super) fn new(secrets: &[Vec<u8>], id: &str, timestamp: u64) -> Self {
        // A key of any length is taken.
        let keyed = secrets.iter().filter_map(|secret| Hmac::new_from_slice(secret).ok());
        let mut signature = Self(keyed.collect());
        signature.update(format!("{id}.{timestamp}.").as_bytes());
        signature
    }

    /// Takes more of the body.
    pub(super) fn update(&mut self, data: &[u8]) {
        self.0.iter_mut().for_each(|mac| mac.update(data));
    }

    /// The field's value.
    pub(super) fn finish(self) -> String {
        let made = self.0.into_iter().map(|mac| format!("v1,{}", BASE64.encode(mac.finalize().into_bytes())));
        made.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        let secret = BASE64.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let sign = |secrets: &[Vec<u8>]| {
            let mut signature = Signature::new(secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330);
            signature.update(b"{\"test\": ");
            signature.update(b"2432232314}");
            signature.finish()
        };
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(std::slice::from_ref(&secret)), expected);
        let both = sign(&[secret, b"another".to_vec()]);
        assert!(both.starts_with(expected) && both.split(' ').count() == 2, "{both}");
    }
}
