//! How long content is kept that nothing refers to yet.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::sys::clock::Clock;

/// Returns the time since which what is used is within grace.
pub fn cutoff(grace: Duration) -> Timestamp {
    let grace = SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX);
    // Without grace even what is made in this moment may go.
    let now = Clock::System.now() + SignedDuration::from_secs(i64::from(grace.is_zero()));
    now.checked_sub(grace).unwrap_or(Timestamp::MIN)
}
