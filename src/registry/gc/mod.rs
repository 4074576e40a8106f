//! Removing what nobody needs: unfinished uploads, and content that nothing
//! refers to.
//!
//! A collection marks what is alive, then sweeps the rest: links before data.
//! It runs alone on the storage, or inside the one server that uses it. There
//! the [`Gate`] keeps pushes safe: whatever a push relies on or adds after
//! the marking began is noted, and no item is removed without a last look
//! while the gate is closed.

pub mod collect;
pub mod mark;
pub mod online;
pub mod purge;
mod sweep;

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::oci::Digest;

/// How long a sweep waits for a quiet moment before it insists.
const POLITE: Duration = Duration::from_secs(2);

/// Where pushes and a sweep pass each other.
#[derive(Debug, Default)]
pub struct Gate {
    lock: RwLock<()>,
    noted: Mutex<Option<HashSet<Digest>>>,
}

impl Gate {
    /// Passes the gate: until the guard is dropped nothing is swept. Changes
    /// that rely on what is stored are made under it.
    pub async fn pass(&self) -> RwLockReadGuard<'_, ()> {
        self.lock.read().await
    }

    /// Notes content that somebody relies on, while a collection runs.
    pub fn note<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) {
        if let Some(noted) = self.noted().as_mut() {
            noted.extend(digests.into_iter().cloned());
        }
    }

    /// Starts noting; nothing when a collection is running already.
    fn watch(&self) -> Option<Watch<'_>> {
        let mut noted = self.noted();
        if noted.is_some() {
            return None;
        }
        *noted = Some(HashSet::new());
        Some(Watch(self))
    }

    fn is_noted(&self, digest: &Digest) -> bool {
        self.noted().as_ref().is_some_and(|noted| noted.contains(digest))
    }

    /// Closes the gate, at a moment when nobody passes if there is one soon.
    async fn close(&self) -> RwLockWriteGuard<'_, ()> {
        let began = crate::sys::clock::monotonic();
        while began.elapsed() < POLITE {
            if let Ok(closed) = self.lock.try_write() {
                return closed;
            }
            crate::sys::task::sleep(Duration::from_millis(5)).await;
        }
        self.lock.write().await
    }

    fn noted(&self) -> std::sync::MutexGuard<'_, Option<HashSet<Digest>>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the noting when it is dropped.
struct Watch<'a>(&'a Gate);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        *self.0.noted() = None;
    }
}
