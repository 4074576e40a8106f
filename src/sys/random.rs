//! Chance: the only place that asks the system for it.

use std::io;

/// Fills bytes that nobody can guess.
///
/// # Errors
/// When the system has no randomness to give.
#[expect(clippy::disallowed_methods, reason = "this is the room that asks for chance")]
pub fn fill(bytes: &mut [u8]) -> io::Result<()> {
    if super::simulation::fill(bytes) {
        return Ok(());
    }
    getrandom::fill(bytes).map_err(io::Error::other)
}

/// Returns a number below a limit, which any will do for.
pub fn below(limit: u64) -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the first will do, too.
    let _ = fill(&mut bytes);
    u64::from_le_bytes(bytes) % limit.max(1)
}
