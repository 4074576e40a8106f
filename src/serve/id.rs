//! Ids that nothing else has: of this process, of requests, of events, of uploads.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes a random id (UUID version 4).
pub fn random() -> String {
    let mut bytes = [0_u8; 16];
    // Without randomness the id is merely not unique, which all uses can bear.
    let _ = crate::sys::random::fill(&mut bytes);
    uuid(bytes)
}

/// Returns the id of this process, which it has as long as it lives.
pub fn own() -> &'static str {
    static OWN: LazyLock<String> = LazyLock::new(random);
    &OWN
}

/// Makes an id for a request: unlike every other, but not hard to guess.
pub fn of_request() -> String {
    static NEXT: LazyLock<(AtomicU64, [u8; 8])> = LazyLock::new(|| {
        let mut bytes = [0; 16];
        let _ = crate::sys::random::fill(&mut bytes);
        let (first, rest) = bytes.split_at(8);
        let half = |part: &[u8]| <[u8; 8]>::try_from(part).unwrap_or_default();
        (AtomicU64::new(u64::from_le_bytes(half(first))), half(rest))
    });
    // An odd factor keeps different numbers different.
    let number = NEXT
        .0
        .fetch_add(1, Ordering::Relaxed)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&NEXT.1);
    uuid(bytes)
}

fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = data_encoding::HEXLOWER.encode(&bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
