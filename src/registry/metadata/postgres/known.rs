//! What repositories are known to hold, in memory.
//!
//! A manifest never changes under its digest. What may change is whether a
//! repository still has it, and where a tag leads: for that the schema keeps a
//! number of each repository (`migrations/kdk/0005_repository_versions.sql`)
//! which changes in the transaction of whatever deletes something in it or
//! moves a tag, through whichever server. It is read before what it stands
//! for, so that what is kept under it is never older. What is added is not
//! told: that something is absent is never kept.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::repository::{Repository, Version};
use crate::registry::metadata::Stored;
use crate::registry::oci::{Digest, Tag};
use crate::sys::generations::Generations;

/// Bytes that each of the two generations holds at most.
const BUDGET: usize = 8 << 20;
/// What an entry costs besides its content.
const OVERHEAD: usize = 300;

/// What repositories are known to hold.
#[derive(Clone, Debug)]
pub(super) struct Known(Arc<Mutex<Generations<Key, Entry>>>);

#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    Tag(i64, String),
    Manifest(i64, Digest),
    Blob(i64, Digest),
}

/// What is kept, and the repository's number when it was read.
#[derive(Debug)]
struct Entry {
    version: Version,
    found: Found,
}

#[derive(Clone, Debug)]
enum Found {
    Tagged(Digest, Arc<Stored>),
    Manifest(Arc<Stored>),
    Blob,
}

impl Default for Known {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Generations::new(BUDGET))))
    }
}

impl Known {
    /// Returns where a tag leads.
    pub fn tagged(&self, at: Repository, tag: &Tag) -> Option<(Digest, Arc<Stored>)> {
        match self.get(at, &Key::Tag(at.id, tag.to_string()))? {
            Found::Tagged(digest, stored) => Some((digest, stored)),
            Found::Manifest(_) | Found::Blob => None,
        }
    }

    /// Keeps where a tag leads.
    pub fn put_tagged(&self, at: Repository, tag: &Tag, digest: &Digest, stored: &Arc<Stored>) {
        let found = Found::Tagged(digest.clone(), Arc::clone(stored));
        self.put(at, Key::Tag(at.id, tag.to_string()), found, 0);
        self.put_manifest(at, digest, stored);
    }

    /// Returns a manifest.
    pub fn manifest(&self, at: Repository, digest: &Digest) -> Option<Arc<Stored>> {
        match self.get(at, &Key::Manifest(at.id, digest.clone()))? {
            Found::Manifest(stored) => Some(stored),
            Found::Tagged(..) | Found::Blob => None,
        }
    }

    /// Keeps a manifest.
    pub fn put_manifest(&self, at: Repository, digest: &Digest, stored: &Arc<Stored>) {
        let key = Key::Manifest(at.id, digest.clone());
        self.put(at, key, Found::Manifest(Arc::clone(stored)), stored.content.len());
    }

    /// Says whether it is known that a repository has a blob.
    pub fn has_blob(&self, at: Repository, digest: &Digest) -> bool {
        self.get(at, &Key::Blob(at.id, digest.clone())).is_some()
    }

    /// Keeps that a repository has a blob.
    pub fn put_blob(&self, at: Repository, digest: &Digest) {
        self.put(at, Key::Blob(at.id, digest.clone()), Found::Blob, 0);
    }

    fn get(&self, at: Repository, key: &Key) -> Option<Found> {
        let version = at.version?;
        let mut all = self.all();
        let entry = all.get(key)?;
        (entry.version == version).then(|| entry.found.clone())
    }

    fn put(&self, at: Repository, key: Key, found: Found, size: usize) {
        if let Some(version) = at.version {
            self.all().put(key, Entry { version, found }, OVERHEAD + size);
        }
    }

    fn all(&self) -> MutexGuard<'_, Generations<Key, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
