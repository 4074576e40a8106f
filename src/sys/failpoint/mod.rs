//! Named places at which a test makes the real binary fail, wait, stop or die.
//! In release builds there are none.
//!
//! `KDK_FAILPOINTS` is a list of `NAME=ACTION` with `;` between. An action is
//! `kill` (signal 9), `stop` (signal 19, until somebody sends 18), `panic`, `delay:MS`,
//! `hold:PATH` (until there is a file of that name), `full` (no space left on
//! the device) or `fail` (an input/output error), these two also `full:PATH`,
//! `fail:PATH` (once there is a file of that name);
//! `@N` after it means the Nth time only (from 1), `@N+` from then on.

/// Does what is asked for at a place; mostly nothing.
///
/// # Errors
/// With the error that the place is to fail with.
#[cfg(not(debug_assertions))]
#[inline]
pub fn reach(_name: &str) -> std::io::Result<()> {
    Ok(())
}

#[cfg(debug_assertions)]
pub use plan::{is_planned, reach};

/// The same at a place that cannot fail.
#[inline]
pub fn pass(name: &str) {
    let _ = reach(name);
}

#[cfg(debug_assertions)]
mod plan;
