//! Hashes a request's number: one multiplication, the same in every process.

use std::hash::Hasher;

/// Mixes one `u64` by a multiplication and a fold (Fibonacci hashing, Knuth, TAOCP vol. 3, 6.4). The numbers come from
/// the gateway, not from clients, so nobody can choose them to collide.
#[derive(Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ (mixed >> 32);
    }
}
