//! Which manifests have which subject, in memory.
//!
//! Nothing is kept on disk for it: that a manifest has a subject follows from
//! its content, and content never changes. What is remembered of a repository
//! holds as long as the listing of its revisions does; of a longer listing
//! only what is new is read.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::registry::oci::{Digest, RepoName};
use crate::registry::storage::Names;

/// Repositories that are remembered at most.
const REPOSITORIES: usize = 200;

/// What is known of one repository.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The listings of revisions that all this is about.
    pub listings: Vec<Names>,
    /// Manifests whose content was read.
    pub read: HashSet<Digest>,
    /// Manifests by subject, sorted.
    pub by_subject: HashMap<Digest, Vec<Digest>>,
}

impl Known {
    /// Says whether the listings are still these.
    pub fn is_of(&self, listings: &[Names]) -> bool {
        self.listings.len() == listings.len()
            && self
                .listings
                .iter()
                .zip(listings)
                .all(|(known, listing)| known.is_same(listing))
    }
}

/// What is known of repositories.
#[derive(Clone, Debug, Default)]
pub struct Subjects(Arc<Mutex<HashMap<String, Arc<Known>>>>);

impl Subjects {
    /// Returns what is known of a repository.
    pub fn get(&self, name: &RepoName) -> Arc<Known> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(name.as_str()).cloned().unwrap_or_default()
    }

    /// Remembers what is known of a repository.
    pub fn put(&self, name: &RepoName, known: Arc<Known>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REPOSITORIES {
            all.clear();
        }
        all.insert(name.to_string(), known);
    }
}
