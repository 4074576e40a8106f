//! Where pushes and a collection pass each other.
//!
//! A collection marks what is reachable, then sweeps the rest. Whatever a push
//! relies on or adds after the marking began is protected, and nothing is
//! removed without a last look while the barrier is closed.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::registry::oci::Digest;

/// How long a sweep waits for a quiet moment before it insists.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Where pushes and a sweep pass each other.
#[derive(Debug, Default)]
pub struct Barrier {
    lock: RwLock<()>,
    protected: Mutex<Option<HashSet<Digest>>>,
}

impl Barrier {
    /// Passes the barrier: until the guard is dropped nothing is swept. Changes
    /// that rely on what is stored are made under it.
    pub async fn enter(&self) -> RwLockReadGuard<'_, ()> {
        self.lock.read().await
    }

    /// Protects content that somebody relies on, while a collection runs.
    pub fn protect<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) {
        if let Some(protected) = self.protected().as_mut() {
            protected.extend(digests.into_iter().cloned());
        }
    }

    /// Begins a collection; nothing when one is running already.
    pub fn begin(&self) -> Option<Collecting<'_>> {
        let mut protected = self.protected();
        if protected.is_some() {
            return None;
        }
        *protected = Some(HashSet::new());
        Some(Collecting(self))
    }

    /// Says whether somebody relies on content since the collection began.
    pub fn is_protected(&self, digest: &Digest) -> bool {
        self.protected()
            .as_ref()
            .is_some_and(|protected| protected.contains(digest))
    }

    /// Closes the barrier, at a moment when nobody passes if there is one soon.
    pub async fn close(&self) -> RwLockWriteGuard<'_, ()> {
        let began = crate::sys::clock::monotonic();
        while began.elapsed() < CLOSE_TIMEOUT {
            if let Ok(closed) = self.lock.try_write() {
                return closed;
            }
            crate::sys::task::sleep(Duration::from_millis(5)).await;
        }
        self.lock.write().await
    }

    fn protected(&self) -> std::sync::MutexGuard<'_, Option<HashSet<Digest>>> {
        self.protected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A collection, until it is dropped.
#[derive(Debug)]
pub struct Collecting<'a>(&'a Barrier);

impl Drop for Collecting<'_> {
    fn drop(&mut self) {
        *self.0.protected() = None;
    }
}
