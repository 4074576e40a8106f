//! Manifests in memory, by digest.
//!
//! What was found to have its digest once needs no second look: whatever lies
//! under that digest on disk is either the same, or wrong. Only whether it is
//! still there must be asked each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::types::Stored;
use crate::registry::oci::Digest;

/// Bytes that each of the two generations holds at most.
const BUDGET: usize = 4 << 20;
/// What an entry costs besides its content.
const OVERHEAD: usize = 300;

/// Manifests by digest, in two generations: what is used moves to the young
/// one, and the old one goes when the young one is full.
#[derive(Clone, Debug, Default)]
pub struct Proven(Arc<Mutex<Generations>>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Digest, Arc<Stored>>,
    old: HashMap<Digest, Arc<Stored>>,
    used: usize,
}

impl Generations {
    fn put(&mut self, digest: &Digest, stored: &Arc<Stored>) {
        self.used += OVERHEAD + stored.content.len();
        self.young.insert(digest.clone(), Arc::clone(stored));
        if self.used > BUDGET {
            self.old = std::mem::take(&mut self.young);
            self.used = 0;
        }
    }
}

impl Proven {
    /// Returns the manifest with a digest, when it is in memory.
    pub fn get(&self, digest: &Digest) -> Option<Arc<Stored>> {
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stored) = generations.young.get(digest) {
            return Some(Arc::clone(stored));
        }
        let stored = generations.old.remove(digest)?;
        generations.put(digest, &stored);
        Some(stored)
    }

    /// Keeps a manifest whose content has the digest.
    pub fn put(&self, digest: &Digest, stored: &Arc<Stored>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .put(digest, stored);
    }
}
