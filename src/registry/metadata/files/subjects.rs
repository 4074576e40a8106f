//! Which manifests have which subject, in memory.
//!
//! Nothing is kept on disk for it: that a manifest has a subject follows from
//! its content, and content never changes. What is remembered of a repository
//! holds as long as the listing of its revisions does; of a longer listing
//! only what is new is read.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::MutexGuard;

use crate::registry::oci::{Algorithm, Digest, RepoName};
use crate::registry::storage::Names;

/// Repositories that are remembered at most.
const REPOSITORIES: usize = 200;
/// Repositories in which somebody may read at once, at most.
const READERS: usize = 16;

/// What is known of one repository.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The listings of revisions that all this is about.
    pub listings: Vec<(Algorithm, Names)>,
    /// Manifests whose content was read.
    pub read: HashSet<Digest>,
    /// Manifests by subject, sorted.
    pub by_subject: HashMap<Digest, Vec<Digest>>,
}

impl Known {
    /// Says whether the listings are still these.
    pub fn is_of(&self, listings: &[(Algorithm, Names)]) -> bool {
        self.listings.len() == listings.len()
            && self
                .listings
                .iter()
                .zip(listings)
                .all(|(known, listing)| known.0 == listing.0 && known.1.is_same(&listing.1))
    }
}

/// What is known of repositories.
#[derive(Clone, Debug, Default)]
pub struct Subjects(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    known: Mutex<HashMap<String, Arc<Known>>>,
    /// Held by whoever reads what is new; shared by some repositories.
    reading: [tokio::sync::Mutex<()>; READERS],
}

impl Subjects {
    /// Waits until nobody else reads what is new in a repository.
    pub async fn reading(&self, name: &RepoName) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let place = usize::try_from(hasher.finish() % READERS as u64).unwrap_or_default();
        self.0.reading[place].lock().await
    }

    /// Returns what is known of a repository.
    pub fn get(&self, name: &RepoName) -> Arc<Known> {
        let all = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(name.as_str()).cloned().unwrap_or_default()
    }

    /// Remembers what is known of a repository.
    pub fn put(&self, name: &RepoName, known: Arc<Known>) {
        let mut all = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REPOSITORIES {
            all.clear();
        }
        all.insert(name.to_string(), known);
    }
}
