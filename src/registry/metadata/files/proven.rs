//! Manifests in memory, by digest.
//!
//! What was found to have its digest once needs no second look: whatever lies
//! under that digest on disk is either the same, or wrong. Only whether it is
//! still there must be asked each time.

use std::sync::{Arc, Mutex, PoisonError};

use crate::registry::metadata::Stored;
use crate::registry::oci::Digest;
use crate::sys::generations::Generations;

/// Bytes that each of the two generations holds at most.
const BUDGET: usize = 4 << 20;
/// Bytes of the largest that is kept: a few of the largest that there can be
/// would drive all others out.
const LARGEST: usize = 1 << 20;
/// What an entry costs besides its content.
const OVERHEAD: usize = 300;

/// Manifests by digest.
#[derive(Clone, Debug)]
pub struct Proven(Arc<Mutex<Generations<Digest, Arc<Stored>>>>);

impl Default for Proven {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Generations::new(BUDGET))))
    }
}

impl Proven {
    /// Returns the manifest with a digest, when it is in memory.
    pub fn get(&self, digest: &Digest) -> Option<Arc<Stored>> {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generations.get(digest).map(|stored| Arc::clone(stored))
    }

    /// Keeps a manifest whose content has the digest.
    pub fn put(&self, digest: &Digest, stored: &Arc<Stored>) {
        let cost = OVERHEAD + stored.content.len();
        if cost > LARGEST {
            return;
        }
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        generations.put(digest.clone(), Arc::clone(stored), cost);
    }
}
