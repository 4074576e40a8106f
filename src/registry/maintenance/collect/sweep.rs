//! The sweep: manifests, then links to dead blobs, then the blobs. Each step
//! is durable before the next, so that a link never leads to nothing after a
//! power loss, and an interrupted sweep only leaves more to do.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::RwLockWriteGuard;

use super::collection::Collection;
use super::mark::UnreferencedManifest;
use crate::registry::maintenance::error::CollectError;
use crate::registry::maintenance::events::Summary;
use crate::registry::maintenance::progress::progress;
use crate::registry::maintenance::workers::WorkerPool;
use crate::registry::metadata::files::links::Link;
use crate::registry::metadata::files::walk;
use crate::registry::oci::{Digest, RepoName};
use crate::registry::storage::{Blobs, Durability, StorageError, tree};

/// Items that are removed while the barrier is closed once.
const SLICE: usize = 64;

/// A sweep under way.
pub struct Sweep<'a> {
    collection: &'a Collection<'a>,
    pool: WorkerPool<'a>,
    cutoff: Timestamp,
    /// What belongs to manifests that came back to life after the marking.
    retained: Mutex<HashSet<Digest>>,
    links: AtomicUsize,
}

impl<'a> Sweep<'a> {
    /// Prepares a sweep of what was not changed since the cutoff.
    pub fn new(collection: &'a Collection<'a>, pool: &WorkerPool<'a>, cutoff: Timestamp) -> Self {
        Self {
            collection,
            // Where pushes wait at the barrier, one worker at a time holds it.
            pool: if collection.barrier.is_some() {
                pool.serial()
            } else {
                // Removing a name sleeps in the kernel.
                pool.io_bound()
            },
            cutoff,
            retained: Mutex::default(),
            links: AtomicUsize::new(0),
        }
    }

    /// Removes dead manifests and blobs, with the links to them.
    pub fn run(
        &self,
        dead: &[UnreferencedManifest],
        blobs: &[(Digest, u64)],
        summary: &mut Summary,
    ) -> Result<(), CollectError> {
        let total = dead.len() + blobs.len();
        let done = AtomicUsize::new(0);
        let told = |more: usize| progress(self.collection.report, &done, more, total);
        // A repository's manifests go in order, with one worker.
        let repositories: Vec<&[UnreferencedManifest]> = dead.chunk_by(|a, b| a.name == b.name).collect();
        let removed: Vec<usize> = self.pool.each(&repositories, async |all| {
            let mut removed = 0;
            for slice in all.chunks(SLICE) {
                removed += self.manifests(all, slice).await?;
                told(slice.len());
            }
            Ok::<_, CollectError>(removed)
        })?;
        summary.manifests_deleted = removed.iter().sum();
        let keys: HashSet<&Digest> = blobs.iter().map(|(digest, _)| digest).collect();
        if !keys.is_empty() {
            let names = self.with_layers()?;
            self.pool
                .each(&names, async |name| self.layer_links(name, &keys).await)?;
        }
        self.flush()?;
        let freed = AtomicU64::new(0);
        let slices: Vec<&[(Digest, u64)]> = blobs.chunks(SLICE).collect();
        let removed: Vec<usize> = self.pool.each(&slices, async |slice| {
            let removed = self.blobs(slice, &freed).await?;
            told(slice.len());
            Ok::<_, CollectError>(removed)
        })?;
        self.flush()?;
        summary.blobs_deleted = removed.iter().sum();
        summary.bytes_freed = freed.into_inner();
        summary.links_deleted = self.links.load(Ordering::Relaxed);
        Ok(())
    }

    /// Returns the repositories that have blobs, also those without a manifest.
    fn with_layers(&self) -> Result<Vec<RepoName>, CollectError> {
        let Collection { driver, handle, .. } = self.collection;
        let names = handle.block_on(tree::holding(driver, "_layers"))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    fn flush(&self) -> Result<(), CollectError> {
        Ok(self.collection.handle.block_on(self.collection.driver.flush())?)
    }

    async fn closed(&self) -> Option<RwLockWriteGuard<'_, ()>> {
        match self.collection.barrier {
            Some(barrier) => Some(barrier.close().await),
            None => None,
        }
    }

    fn is_protected(&self, digest: &Digest) -> bool {
        self.collection
            .barrier
            .is_some_and(|barrier| barrier.is_protected(digest))
    }

    /// Removes a slice of a repository's dead manifests.
    async fn manifests(
        &self,
        all: &[UnreferencedManifest],
        slice: &[UnreferencedManifest],
    ) -> Result<usize, CollectError> {
        let _closed = self.closed().await;
        // What names a manifest of the slice may be in any other.
        for dead in all.iter().filter(|dead| self.is_protected(&dead.digest)) {
            self.retain(&dead.digest, all);
        }
        for dead in slice {
            if dead.link().is_used_since(self.collection.driver, self.cutoff).await? {
                self.retain(&dead.digest, all);
            }
        }
        let mut removed = 0;
        for dead in slice.iter().filter(|dead| !self.is_retained(&dead.digest)) {
            for link in &dead.history {
                self.remove_link(link).await?;
            }
            self.remove_link(&dead.link()).await?;
            removed += 1;
        }
        Ok(removed)
    }

    /// Keeps what belongs to a manifest that somebody relies on again: what
    /// it names, and what is attached to that.
    fn retain(&self, digest: &Digest, all: &[UnreferencedManifest]) {
        let mut retained = self.retained.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = vec![digest];
        while let Some(digest) = open.pop() {
            if !retained.insert(digest.clone()) {
                continue;
            }
            for dead in all {
                if dead.digest == *digest {
                    open.extend(&dead.references);
                } else if dead.subject.as_ref() == Some(digest) {
                    open.push(&dead.digest);
                }
            }
        }
    }

    fn is_retained(&self, digest: &Digest) -> bool {
        let retained = self.retained.lock().unwrap_or_else(PoisonError::into_inner);
        retained.contains(digest)
    }

    async fn layer_links(&self, name: &RepoName, keys: &HashSet<&Digest>) -> Result<(), CollectError> {
        let links = walk::layers(self.collection.driver, name).await?.digests;
        let dead: Vec<&Digest> = links.iter().filter(|digest| keys.contains(*digest)).collect();
        for slice in dead.chunks(SLICE) {
            let _closed = self.closed().await;
            for digest in slice {
                if !self.is_kept(digest).await? {
                    self.remove_link(&Link::layer(name, digest)).await?;
                }
            }
        }
        Ok(())
    }

    async fn blobs(&self, slice: &[(Digest, u64)], freed: &AtomicU64) -> Result<usize, CollectError> {
        let _closed = self.closed().await;
        let mut removed = 0;
        for (digest, size) in slice {
            if self.is_kept(digest).await? {
                continue;
            }
            if self.stored().remove(digest, Durability::Volatile).await? {
                removed += 1;
                freed.fetch_add(*size, Ordering::Relaxed);
            }
        }
        Ok(removed)
    }

    /// Says whether a blob is needed after all.
    async fn is_kept(&self, digest: &Digest) -> Result<bool, StorageError> {
        Ok(self.is_retained(digest) || self.is_protected(digest) || self.is_young(digest).await?)
    }

    async fn is_young(&self, digest: &Digest) -> Result<bool, StorageError> {
        let used = self.stored().last_used(digest).await?;
        Ok(used.is_some_and(|used| used.at >= self.cutoff))
    }

    async fn remove_link(&self, link: &Link) -> Result<(), StorageError> {
        let target = vec![link.target()];
        if self.collection.driver.delete(target, Durability::Volatile).await? > 0 {
            self.links.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn stored(&self) -> Blobs {
        Blobs::new(self.collection.driver.clone())
    }
}
