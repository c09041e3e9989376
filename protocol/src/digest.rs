//! One number for the whole schema, sent in Hello.
//!
//! Owns the hash over the kinds and versions that decide whether two builds
//! understand each other's records. Two builds of one protocol version with
//! different digests still talk; the digest tells which build wrote what.

/// Text of the schema: change it with every change of a record or command.
const SCHEMA: &str = concat!(
    "frame 1; records 1-20, 22, 23, 24, 28, 31, 32, 33; chips 13; skips 11; block rice 1, bitpack 1; session 4; refusals 3; notices 3; wattline ",
    env!("CARGO_PKG_VERSION")
);

/// FNV-1a 64 over the schema's text (Fowler, Noll, Vo; offset basis and prime
/// of the 64-bit variant).
#[must_use]
pub fn protocol_digest() -> u64 {
    SCHEMA.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_digest_is_the_same_in_every_build_of_a_version() {
        assert_eq!(super::protocol_digest(), super::protocol_digest());
        assert_ne!(super::protocol_digest(), 0);
    }
}
