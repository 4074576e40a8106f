//! Digests, where there are many of them.

use crate::registry::oci::{Algorithm, Digest};

/// A digest in little space.
pub type DigestKey = [u8; 33];

/// Returns the key of a digest.
pub fn key(digest: &Digest) -> DigestKey {
    let mut key = [0; 33];
    key[0] = u8::from(digest.algorithm() == Algorithm::Sha512);
    let hex = &digest.hex()[..64];
    // A digest has hex digits only.
    data_encoding::HEXLOWER
        .decode_mut(hex.as_bytes(), &mut key[1..])
        .expect("a digest's hex");
    key
}
