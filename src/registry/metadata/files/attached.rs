//! Finding out which manifests of a repository are attached to which.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::face::Files;
use super::subjects::Known;
use crate::registry::oci::manifest::Manifest;
use crate::registry::oci::{Algorithm, Digest, RepoName};
use crate::registry::storage::{Blobs, Names, StorageError, layout};
use crate::sys::task;

/// Manifests that are read in one go.
const PART: usize = 500;
/// Parts that are read at once.
const AT_ONCE: usize = 2;
/// So few are not worth a thread.
const FEW: usize = 16;

impl Files {
    /// Returns what is known of subjects, after reading what is new.
    pub(super) async fn known_subjects(&self, name: &RepoName) -> Result<Arc<Known>, StorageError> {
        let mut listings = Vec::new();
        for algorithm in Algorithm::ALL {
            let prefix = layout::revisions(name).below(algorithm.name());
            if let Some(listing) = self.driver.list(&prefix).await? {
                listings.push((algorithm, listing));
            }
        }
        let known = self.subjects.get(name);
        if known.is_of(&listings) {
            return Ok(known);
        }
        // It goes on without whoever asked: else somebody without patience
        // would begin it anew each time, and never see its end.
        let (own, place) = (self.clone(), name.clone());
        let reading = task::spawn(async move { own.read_subjects(&place, listings).await });
        reading
            .await
            .unwrap_or_else(|error| Err(StorageError::new("read", name, error.into())))
    }

    /// Reads what is new of a repository, while others wait.
    async fn read_subjects(
        &self,
        name: &RepoName,
        listings: Vec<(Algorithm, Names)>,
    ) -> Result<Arc<Known>, StorageError> {
        let _reading = self.subjects.reading(name).await;
        let known = self.subjects.get(name);
        if known.is_of(&listings) {
            return Ok(known);
        }
        let mut new = Vec::new();
        for (algorithm, listing) in &listings {
            let digests = listing
                .iter()
                .filter_map(|hex| format!("{}:{hex}", algorithm.name()).parse().ok());
            new.extend(digests.filter(|digest: &Digest| !known.read.contains(digest)));
        }
        let mut fresh = Known {
            read: known.read.clone(),
            by_subject: known.by_subject.clone(),
            listings,
        };
        let all = new.len();
        let parts: Vec<Vec<Digest>> = new.chunks(PART).map(<[Digest]>::to_vec).collect();
        let parts = stream::iter(parts).map(|part| self.subjects_of(part));
        let mut parts = parts.buffered(AT_ONCE);
        let mut found = 0;
        while let Some(part) = parts.try_next().await? {
            found += part.len();
            for (digest, subject) in part {
                if let Some(subject) = subject {
                    fresh.by_subject.entry(subject).or_default().push(digest.clone());
                }
                fresh.read.insert(digest);
            }
        }
        if found < all {
            // The rest may come later, under the same listing.
            fresh.listings.clear();
        }
        for attached in fresh.by_subject.values_mut().filter(|all| !all.is_sorted()) {
            attached.sort_unstable();
        }
        let fresh = Arc::new(fresh);
        self.subjects.put(name, Arc::clone(&fresh));
        Ok(fresh)
    }

    /// Returns manifests with their subjects; those are left out that are not
    /// there, or not what their digests say.
    async fn subjects_of(&self, digests: Vec<Digest>) -> Result<Vec<(Digest, Option<Digest>)>, StorageError> {
        if digests.len() <= FEW {
            return read(Blobs::new(self.driver.clone()), digests).await;
        }
        let work = read(Blobs::new(self.driver.bulk()), digests);
        let handle = tokio::runtime::Handle::current();
        let done = task::blocking(move || handle.block_on(work)).await;
        done.unwrap_or_else(|error| Err(StorageError::new("read", "manifests", error.into())))
    }
}

async fn read(blobs: Blobs, digests: Vec<Digest>) -> Result<Vec<(Digest, Option<Digest>)>, StorageError> {
    let mut found = Vec::with_capacity(digests.len());
    for digest in digests {
        let content = blobs.read(&digest).await?;
        if let Some(content) = content.filter(|content| Digest::of(digest.algorithm(), content) == digest) {
            let manifest = Manifest::parse(&content, None).ok();
            let subject = manifest.and_then(|manifest| manifest.subject);
            found.push((digest, subject.map(|subject| subject.digest)));
        }
    }
    Ok(found)
}
