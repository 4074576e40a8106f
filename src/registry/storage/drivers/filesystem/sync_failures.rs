//! How often syncing failed: the system tells of lost data once, and to whoever
//! happens to ask. What was written before may be lost, though a sync of its
//! own succeeds.

use std::sync::atomic::{AtomicU64, Ordering};

/// How often syncing had failed at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// The moment of what is known to be lost: no sync is like it.
    pub const LOST: Self = Self(0);
}

/// Counts failures, from one.
#[derive(Debug)]
pub struct SyncFailures(AtomicU64);

impl Default for SyncFailures {
    fn default() -> Self {
        Self(AtomicU64::new(1))
    }
}

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
