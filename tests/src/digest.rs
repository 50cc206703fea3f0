//! `Content-Digest` (RFC 9530): `sha-256=:BASE64:`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

/// The field's value for a body.
pub fn field(body: &[u8]) -> String {
    field_of(&Sha256::digest(body))
}

/// The field's value for a digest.
pub fn field_of(digest: &[u8]) -> String {
    format!("sha-256=:{}:", BASE64_STANDARD.encode(digest))
}

/// The digest in hexadecimal digits, as the model server's JSON has it.
pub fn hex(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A body of `size` bytes that no other `seed` has.
pub fn body(seed: u64, size: usize) -> Vec<u8> {
    // splitmix64, <https://prng.di.unimi.it/splitmix64.c>
    let mut state = seed;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bytes.extend_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
