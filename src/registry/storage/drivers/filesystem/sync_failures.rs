//! How often syncing failed: the system tells of lost data once, and to whoever
//! happens to ask. What was written before may be lost, though a sync of its
//! own succeeds.

use std::sync::atomic::{AtomicU64, Ordering};

/// How often syncing had failed at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

/// Counts failures.
#[derive(Debug, Default)]
pub struct SyncFailures(AtomicU64);

impl SyncFailures {
    /// Returns the moment, for what is written from now on.
    pub fn now(&self) -> Moment {
        Moment(self.0.load(Ordering::Acquire))
    }

    /// Notes one.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}
