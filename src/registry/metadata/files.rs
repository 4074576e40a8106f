//! Metadata as link files beside the blobs, as distribution lays them out.
//!
//! Write order: blob, revision link, tag index link, tag current link; read
//! in reverse. So a crash leaves at most garbage that nobody sees. An empty
//! or garbled link reads as absent.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Mutex, MutexGuard};

use super::{Metadata, Page};
use crate::registry::oci::{Digest, RepoName, Tag};
use crate::registry::storage::{Blobs, Driver, StorageError, layout, tree};

/// Locks that repositories share by their names' hashes.
const STRIPES: usize = 64;

/// Link files on a driver.
///
/// Changes to the manifests and tags of one repository come one after the
/// other: several files make one change.
#[derive(Clone, Debug)]
pub struct Files<D> {
    driver: D,
    blobs: Blobs<D>,
    stripes: Arc<Vec<Mutex<()>>>,
}

impl<D: Driver> Files<D> {
    /// Makes the metadata on a driver.
    pub fn new(driver: D) -> Self {
        Self {
            blobs: Blobs::new(driver.clone()),
            driver,
            stripes: Arc::new(std::iter::repeat_with(Mutex::default).take(STRIPES).collect()),
        }
    }

    /// Waits for its turn to change a repository.
    async fn turn(&self, name: &RepoName) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let stripe = usize::try_from(hasher.finish() % STRIPES as u64).unwrap_or_default();
        self.stripes[stripe].lock().await
    }

    async fn link(&self, path: &str) -> Result<Option<Digest>, StorageError> {
        let content = self.driver.read(path).await?;
        Ok(content.and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse().ok()))
    }

    async fn write_link(&self, path: &str, digest: &Digest) -> Result<(), StorageError> {
        self.driver.write(path, Bytes::from(digest.to_string())).await
    }

    /// Returns the names of all repositories, sorted bytewise.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn all_repositories(&self) -> Result<Vec<String>, StorageError> {
        let mut found = tree::holding(&self.driver, "_manifests").await?;
        found.retain(|name| name.parse::<RepoName>().is_ok());
        Ok(found)
    }
}

impl<D: Driver> Metadata for Files<D> {
    async fn manifest(&self, name: &RepoName, digest: &Digest) -> Result<Option<Bytes>, StorageError> {
        if !self.has_manifest(name, digest).await? {
            return Ok(None);
        }
        Ok(self.blobs.read(digest).await?.filter(|content| !content.is_empty()))
    }

    async fn has_manifest(&self, name: &RepoName, digest: &Digest) -> Result<bool, StorageError> {
        Ok(self.link(&layout::revision_link(name, digest)).await?.as_ref() == Some(digest))
    }

    async fn resolve(&self, name: &RepoName, tag: &Tag) -> Result<Option<Digest>, StorageError> {
        self.link(&layout::tag_current_link(name, tag)).await
    }

    async fn put_manifest(
        &self,
        name: &RepoName,
        digest: &Digest,
        content: Bytes,
        tags: &[Tag],
    ) -> Result<(), StorageError> {
        let _turn = self.turn(name).await;
        self.blobs.put(digest, content).await?;
        self.write_link(&layout::revision_link(name, digest), digest).await?;
        for tag in tags {
            self.write_link(&layout::tag_index_link(name, tag, digest), digest)
                .await?;
            self.write_link(&layout::tag_current_link(name, tag), digest).await?;
        }
        Ok(())
    }

    async fn delete_manifest(&self, name: &RepoName, digest: &Digest) -> Result<bool, StorageError> {
        let _turn = self.turn(name).await;
        if !self.has_manifest(name, digest).await? {
            return Ok(false);
        }
        for tag in self.driver.list(&layout::tags(name)).await?.unwrap_or_default() {
            let Ok(tag) = tag.parse::<Tag>() else { continue };
            if self.resolve(name, &tag).await?.as_ref() == Some(digest) {
                self.driver.remove(&layout::tag(name, &tag)).await?;
            }
        }
        self.driver.remove(&layout::revision_link(name, digest)).await
    }

    async fn delete_tag(&self, name: &RepoName, tag: &Tag) -> Result<bool, StorageError> {
        let _turn = self.turn(name).await;
        if self.resolve(name, tag).await?.is_none() {
            return Ok(false);
        }
        self.driver.remove(&layout::tag_current_link(name, tag)).await?;
        self.driver.remove(&layout::tag(name, tag)).await?;
        Ok(true)
    }

    async fn tags(&self, name: &RepoName, last: Option<&str>, limit: usize) -> Result<Option<Page>, StorageError> {
        let Some(all) = self.driver.list(&layout::tags(name)).await? else {
            let known = self.driver.list(&layout::manifests(name.as_str())).await?.is_some();
            return Ok(known.then(|| Page {
                names: Vec::new(),
                more: false,
            }));
        };
        let mut page = Page {
            names: Vec::new(),
            more: false,
        };
        for text in after(all, last) {
            let Ok(tag) = text.parse::<Tag>() else { continue };
            if self.resolve(name, &tag).await?.is_none() {
                continue;
            }
            if page.names.len() == limit {
                page.more = true;
                break;
            }
            page.names.push(text);
        }
        Ok(Some(page))
    }

    async fn has_blob(&self, name: &RepoName, digest: &Digest) -> Result<bool, StorageError> {
        Ok(self.link(&layout::layer_link(name, digest)).await?.as_ref() == Some(digest))
    }

    async fn link_blob(&self, name: &RepoName, digest: &Digest) -> Result<(), StorageError> {
        self.write_link(&layout::layer_link(name, digest), digest).await
    }

    async fn unlink_blob(&self, name: &RepoName, digest: &Digest) -> Result<bool, StorageError> {
        if !self.has_blob(name, digest).await? {
            return Ok(false);
        }
        self.driver.remove(&layout::layer_link(name, digest)).await
    }

    async fn repositories(&self, last: Option<&str>, limit: usize) -> Result<Page, StorageError> {
        let mut rest = after(self.all_repositories().await?, last);
        let names: Vec<String> = rest.by_ref().take(limit).collect();
        Ok(Page {
            more: rest.next().is_some(),
            names,
        })
    }
}

/// Goes on after `last` in a sorted list; `last` need not be in it.
fn after(names: Vec<String>, last: Option<&str>) -> impl Iterator<Item = String> {
    let start = last.map_or(0, |last| names.partition_point(|name| name.as_str() <= last));
    names.into_iter().skip(start)
}
