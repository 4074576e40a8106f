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
use crate::registry::metadata::Stored;
use crate::registry::oci::{Digest, RepoName};
use crate::registry::storage::{Blobs, Driver, StorageError, layout};

/// Items that are removed while the gate is closed once.
const SLICE: usize = 64;

/// A sweep under way.
pub struct Sweep<'a, D> {
    site: &'a Site<'a, D>,
    crew: &'a Crew<'a>,
    cutoff: Timestamp,
    /// Blobs of manifests that came back to life after the marking.
    spared: Mutex<HashSet<Key>>,
    links: AtomicUsize,
}

impl<'a, D: Driver> Sweep<'a, D> {
    /// Prepares a sweep of what was not changed since the cutoff.
    pub fn new(site: &'a Site<'a, D>, crew: &'a Crew<'a>, cutoff: Timestamp) -> Self {
        Self {
            site,
            crew,
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
        let slices: Vec<&[Dead]> = dead.chunks(SLICE).collect();
        let removed: Vec<usize> = self
            .crew
            .each(&slices, async |slice| self.manifests(slice, &done, total).await)?;
        summary.manifests_deleted = removed.iter().sum();
        let keys: HashSet<Key> = blobs.iter().map(|(digest, _)| key(digest)).collect();
        if !keys.is_empty() {
            self.crew
                .each(names, async |name| self.layer_links(name, &keys).await)?;
        }
        self.flush()?;
        let freed = AtomicU64::new(0);
        let slices: Vec<&[(Digest, u64)]> = blobs.chunks(SLICE).collect();
        let removed: Vec<usize> = self
            .crew
            .each(&slices, async |slice| self.blobs(slice, &freed, &done, total).await)?;
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

    async fn manifests(&self, slice: &[Dead], done: &AtomicUsize, total: usize) -> Result<usize, CollectError> {
        let _closed = self.closed().await;
        let mut removed = 0;
        for dead in slice {
            progress(self.site.report, done, total);
            let link = layout::revision_link(&dead.name, &dead.digest);
            if self.is_noted(&dead.digest) || mark::is_young(self.site.driver, &link, self.cutoff).await? {
                self.spare(&dead.name, &dead.digest).await?;
                continue;
            }
            for path in &dead.history {
                self.remove_link(path, &layout::tags(&dead.name)).await?;
            }
            self.remove_link(&link, &layout::manifests(dead.name.as_str())).await?;
            removed += 1;
        }
        Ok(removed)
    }

    /// Keeps what belongs to a manifest that somebody relies on again.
    async fn spare(&self, name: &RepoName, digest: &Digest) -> Result<(), StorageError> {
        let mut open = vec![digest.clone()];
        let mut seen = HashSet::new();
        while let Some(digest) = open.pop() {
            if !seen.insert(digest.clone()) {
                continue;
            }
            let revision = layout::revision_link(name, &digest);
            if mark::link(self.site.driver, &revision, &digest).await? == mark::Link::Good
                && let Some(content) = Blobs::new(self.site.driver.clone()).read(&digest).await?
            {
                open.extend(mark::references(&Stored::new(content)).0);
            }
        }
        let mut spared = self.spared.lock().unwrap_or_else(PoisonError::into_inner);
        spared.extend(seen.iter().map(key));
        Ok(())
    }

    async fn layer_links(&self, name: &RepoName, keys: &HashSet<Key>) -> Result<(), CollectError> {
        let top = layout::layers(name);
        let links = mark::digests_below(self.site.driver, &top).await?;
        let dead: Vec<&Digest> = links.iter().filter(|digest| keys.contains(&key(digest))).collect();
        if dead.is_empty() {
            return Ok(());
        }
        let _closed = self.closed().await;
        for digest in dead {
            if !self.is_kept(digest).await? {
                self.remove_link(&layout::layer_link(name, digest), &top).await?;
            }
        }
        Ok(())
    }

    async fn blobs(
        &self,
        slice: &[(Digest, u64)],
        freed: &AtomicU64,
        done: &AtomicUsize,
        total: usize,
    ) -> Result<usize, CollectError> {
        let _closed = self.closed().await;
        let mut removed = 0;
        for (digest, size) in slice {
            progress(self.site.report, done, total);
            if self.is_kept(digest).await? {
                continue;
            }
            if self
                .site
                .driver
                .discard(&layout::blob_data(digest), &layout::blobs())
                .await?
            {
                removed += 1;
                freed.fetch_add(*size, Ordering::Relaxed);
            }
        }
        Ok(removed)
    }

    /// Says whether a blob is needed after all.
    async fn is_kept(&self, digest: &Digest) -> Result<bool, StorageError> {
        let spared = self
            .spared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&key(digest));
        Ok(spared
            || self.is_noted(digest)
            || mark::is_young(self.site.driver, &layout::blob_data(digest), self.cutoff).await?)
    }

    async fn remove_link(&self, path: &str, keep: &str) -> Result<(), StorageError> {
        if self.site.driver.discard(path, keep).await? {
            self.links.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
