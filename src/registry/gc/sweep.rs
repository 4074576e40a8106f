//! The sweep: manifests, then links to dead blobs, then the blobs. Each step
//! is durable before the next, so that a link never leads to nothing after a
//! power loss, and an interrupted sweep only leaves more to do.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::RwLockWriteGuard;

use super::collect::{CollectError, Crew, Site, Summary, progress};
use super::mark::{self, Dead, Key, key};
use crate::registry::oci::{Digest, RepoName};
use crate::registry::storage::{self, Durability, StorageError, Target, layout};

/// Items that are removed while the gate is closed once.
const SLICE: usize = 64;

/// A sweep under way.
pub struct Sweep<'a> {
    site: &'a Site<'a>,
    crew: Crew<'a>,
    cutoff: Timestamp,
    /// What belongs to manifests that came back to life after the marking.
    spared: Mutex<HashSet<Key>>,
    links: AtomicUsize,
}

impl<'a> Sweep<'a> {
    /// Prepares a sweep of what was not changed since the cutoff.
    pub fn new(site: &'a Site<'a>, crew: &Crew<'a>, cutoff: Timestamp) -> Self {
        Self {
            site,
            // Where pushes wait at the gate, one hand at a time holds it.
            crew: if site.gate.is_some() {
                crew.in_order()
            } else {
                // Removing a name sleeps in the kernel.
                crew.waiting()
            },
            cutoff,
            spared: Mutex::default(),
            links: AtomicUsize::new(0),
        }
    }

    /// Removes dead manifests and blobs, with the links to them.
    pub fn run(
        &self,
        names: &[RepoName],
        dead: &[Dead],
        blobs: &[(Digest, u64)],
        summary: &mut Summary,
    ) -> Result<(), CollectError> {
        let total = dead.len() + blobs.len();
        let done = AtomicUsize::new(0);
        let told = |more: usize| progress(self.site.report, &done, more, total);
        // A repository's manifests go in order, with one hand.
        let repositories: Vec<&[Dead]> = dead.chunk_by(|a, b| a.name == b.name).collect();
        let removed: Vec<usize> = self.crew.each(&repositories, async |all| {
            let mut removed = 0;
            for slice in all.chunks(SLICE) {
                removed += self.manifests(all, slice).await?;
                told(slice.len());
            }
            Ok(removed)
        })?;
        summary.manifests_deleted = removed.iter().sum();
        let keys: HashSet<Key> = blobs.iter().map(|(digest, _)| key(digest)).collect();
        if !keys.is_empty() {
            self.crew
                .each(names, async |name| self.layer_links(name, &keys).await)?;
        }
        self.flush()?;
        let freed = AtomicU64::new(0);
        let slices: Vec<&[(Digest, u64)]> = blobs.chunks(SLICE).collect();
        let removed: Vec<usize> = self.crew.each(&slices, async |slice| {
            let removed = self.blobs(slice, &freed).await?;
            told(slice.len());
            Ok(removed)
        })?;
        self.flush()?;
        summary.blobs_deleted = removed.iter().sum();
        summary.bytes_freed = freed.into_inner();
        summary.links_deleted = self.links.load(Ordering::Relaxed);
        Ok(())
    }

    fn flush(&self) -> Result<(), CollectError> {
        Ok(self.site.handle.block_on(self.site.driver.flush())?)
    }

    async fn closed(&self) -> Option<RwLockWriteGuard<'_, ()>> {
        match self.site.gate {
            Some(gate) => Some(gate.close().await),
            None => None,
        }
    }

    fn is_noted(&self, digest: &Digest) -> bool {
        self.site.gate.is_some_and(|gate| gate.is_noted(digest))
    }

    /// Removes a slice of a repository's dead manifests.
    async fn manifests(&self, all: &[Dead], slice: &[Dead]) -> Result<usize, CollectError> {
        let _closed = self.closed().await;
        // What names a manifest of the slice may be in any other.
        for dead in all.iter().filter(|dead| self.is_noted(&dead.digest)) {
            self.spare(&dead.digest, all);
        }
        for dead in slice {
            if mark::is_young(self.site.driver, &dead.link(), self.cutoff).await? {
                self.spare(&dead.digest, all);
            }
        }
        let mut removed = 0;
        for dead in slice.iter().filter(|dead| !self.is_spared(&dead.digest)) {
            for path in &dead.history {
                self.remove_link(path.clone()).await?;
            }
            self.remove_link(dead.link()).await?;
            removed += 1;
        }
        Ok(removed)
    }

    /// Keeps what belongs to a manifest that somebody relies on again: what
    /// it names, and what is attached to that.
    fn spare(&self, digest: &Digest, all: &[Dead]) {
        let mut spared = self.spared.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = vec![digest];
        while let Some(digest) = open.pop() {
            if !spared.insert(key(digest)) {
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

    fn is_spared(&self, digest: &Digest) -> bool {
        let spared = self.spared.lock().unwrap_or_else(PoisonError::into_inner);
        spared.contains(&key(digest))
    }

    async fn layer_links(&self, name: &RepoName, keys: &HashSet<Key>) -> Result<(), CollectError> {
        let links = mark::digests_below(self.site.driver, &layout::layers(name)).await?;
        let dead: Vec<&Digest> = links.iter().filter(|digest| keys.contains(&key(digest))).collect();
        for slice in dead.chunks(SLICE) {
            let _closed = self.closed().await;
            for digest in slice {
                if !self.is_kept(digest).await? {
                    self.remove_link(layout::layer_link(name, digest)).await?;
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
            if self.discard(layout::blob_data(digest)).await? {
                removed += 1;
                freed.fetch_add(*size, Ordering::Relaxed);
            }
        }
        Ok(removed)
    }

    /// Says whether a blob is needed after all.
    async fn is_kept(&self, digest: &Digest) -> Result<bool, StorageError> {
        Ok(self.is_spared(digest)
            || self.is_noted(digest)
            || mark::is_young(self.site.driver, &layout::blob_data(digest), self.cutoff).await?)
    }

    async fn remove_link(&self, link: storage::Key) -> Result<(), StorageError> {
        if self.discard(link).await? {
            self.links.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn discard(&self, key: storage::Key) -> Result<bool, StorageError> {
        let target = vec![Target::Object(key)];
        Ok(self.site.driver.delete(target, Durability::Volatile).await? > 0)
    }
}
