//! Metadata as link files beside the blobs, as distribution lays them out.
//!
//! Write order: blob, revision link, tag index link, tag current link; read
//! in reverse. So a crash leaves at most garbage that nobody sees. An empty
//! or garbled link reads as absent, and so does a manifest whose content is
//! not what its digest says: both may be what a power loss left.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::RwLock;

use super::judged::Judged;
use super::proven::Proven;
use super::subjects::Subjects;
use crate::registry::metadata::{
    BlobRecord, Deleted, IsProtected, Metadata, MetadataError, Moves, Page, PutManifest, ReferrerPage, Referrers,
    Stored,
};
use crate::registry::oci::references::{Holds, Required};
use crate::registry::oci::{Digest, ParsedManifest, RepoName, Tag};
use crate::registry::storage::{
    Barrier, Blobs, Change, Durability, Expected, Key, Names, StagedBlob, Storage, StorageError, Target, layout, tree,
};

/// Locks that repositories share by their names' hashes.
const STRIPES: usize = 64;

/// Link files on a driver.
///
/// Manifests are put side by side: each file is whole at every moment, and the
/// last tag wins. A deletion, which looks before it removes, is alone in its
/// repository.
#[derive(Clone, Debug)]
pub struct Files {
    pub(super) driver: Storage,
    blobs: Blobs,
    barrier: Arc<Barrier>,
    stripes: Arc<Vec<RwLock<()>>>,
    proven: Proven,
    pub(super) subjects: Subjects,
    judged: Judged,
}

impl Files {
    /// Makes the metadata on a driver.
    pub fn new(driver: Storage) -> Self {
        Self {
            blobs: Blobs::new(driver.clone()),
            driver,
            barrier: Arc::default(),
            stripes: Arc::new(std::iter::repeat_with(RwLock::default).take(STRIPES).collect()),
            proven: Proven::default(),
            subjects: Subjects::default(),
            judged: Judged::default(),
        }
    }

    /// Returns where changes and a collection pass each other.
    pub fn barrier(&self) -> &Arc<Barrier> {
        &self.barrier
    }

    /// Returns the lock that guards a repository.
    fn guard(&self, name: &RepoName) -> &RwLock<()> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let stripe = usize::try_from(hasher.finish() % STRIPES as u64).unwrap_or_default();
        &self.stripes[stripe]
    }

    async fn link(&self, key: &Key) -> Result<Option<Digest>, StorageError> {
        let content = self.driver.get(key).await?;
        Ok(content.and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse().ok()))
    }

    fn put_link(key: Key, digest: &Digest) -> Change {
        Change::PutVerified {
            key,
            content: Bytes::from(digest.to_string()),
        }
    }

    /// Removes durably; says whether there was anything.
    async fn remove(&self, target: Target) -> Result<bool, StorageError> {
        Ok(self.driver.delete(vec![target], Durability::Durable).await? > 0)
    }

    /// Returns a manifest's content, whoever it belongs to.
    async fn content(&self, digest: &Digest) -> Result<Option<Arc<Stored>>, StorageError> {
        let Some(size) = self.blobs.head(digest).await? else {
            return Ok(None);
        };
        if let Some(known) = self.proven.get(digest)
            && known.content.len() as u64 == size
        {
            return Ok(Some(known));
        }
        let Some(content) = self.blobs.read(digest).await? else {
            return Ok(None);
        };
        if Digest::of(digest.algorithm(), &content) != *digest {
            tracing::error!(%digest, "a manifest is not what its digest says and counts as missing; push it again, or see: kdk registry verify");
            return Ok(None);
        }
        let stored = Arc::new(Stored::new(content));
        self.proven.put(digest, &stored);
        Ok(Some(stored))
    }
}

impl Files {
    /// Returns what the content of a repository's blob is stored under,
    /// whether or not it is there: its digest, or, where a Go registry made
    /// the link, another algorithm's.
    ///
    /// # Errors
    /// Those of the storage.
    pub async fn stored_as(&self, name: &RepoName, digest: &Digest) -> Result<Option<Digest>, MetadataError> {
        let named = self.link(&layout::layer_link(name, digest)).await?;
        Ok(named.filter(|named| named == digest || named.algorithm() != digest.algorithm()))
    }

    /// Checks that all is there that a manifest needs.
    async fn check_required(&self, name: &RepoName, required: &[Required]) -> Result<(), MetadataError> {
        let mut missing = Vec::new();
        for Required { digest, size, holds } in required {
            let or_manifest = *holds == Holds::Either;
            // A link alone is not enough: a garbage collection may have left it behind.
            let mut place = self.stored_as(name, digest).await?;
            if or_manifest && self.has_manifest(name, digest).await? {
                place = Some(digest.clone());
            }
            let stored = match place {
                Some(place) => self.blobs.head(&place).await?,
                None => None,
            };
            match stored {
                Some(stored) => {
                    if !or_manifest && stored != *size {
                        return Err(MetadataError::WrongSize {
                            digest: digest.clone(),
                            declared: *size,
                            stored,
                        });
                    }
                }
                None => missing.push(digest.clone()),
            }
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(MetadataError::Missing(missing))
        }
    }
}

impl Metadata for Files {
    async fn manifest(&self, name: &RepoName, digest: &Digest) -> Result<Option<Arc<Stored>>, MetadataError> {
        if !self.has_manifest(name, digest).await? {
            return Ok(None);
        }
        Ok(self.content(digest).await?)
    }

    async fn has_manifest(&self, name: &RepoName, digest: &Digest) -> Result<bool, MetadataError> {
        Ok(self.link(&layout::revision_link(name, digest)).await?.as_ref() == Some(digest))
    }

    async fn resolve(&self, name: &RepoName, tag: &Tag) -> Result<Option<Digest>, MetadataError> {
        Ok(self.link(&layout::tag_current_link(name, tag)).await?)
    }

    async fn put_manifest(&self, name: &RepoName, put: PutManifest<'_>) -> Result<(), MetadataError> {
        let ParsedManifest { digest, content, .. } = put.manifest;
        let _passing = self.barrier.enter().await;
        self.barrier.protect(put.relied_on());
        let immutable = || put.tags.iter().filter(|(_, moves)| *moves == Moves::Refused);
        // Of two who set an immutable tag, the second has to see the first.
        let (_side_by_side, _alone) = if immutable().next().is_some() {
            (None, Some(self.guard(name).write().await))
        } else {
            (Some(self.guard(name).read().await), None)
        };
        self.check_required(name, put.required).await?;
        for (tag, _) in immutable() {
            let now = self.resolve(name, tag).await?;
            if now.is_some_and(|now| now != *digest) {
                return Err(MetadataError::Immutable(tag.clone()));
            }
        }
        let mut changes = vec![
            Change::PutVerified {
                key: layout::blob_data(digest),
                content: content.clone(),
            },
            Self::put_link(layout::revision_link(name, digest), digest),
        ];
        let tags = || put.tags.iter().map(|(tag, _)| tag);
        changes.extend(tags().map(|tag| Self::put_link(layout::tag_index_link(name, tag, digest), digest)));
        changes.extend(tags().map(|tag| Change::Update {
            key: layout::tag_current_link(name, tag),
            content: Bytes::from(digest.to_string()),
            expected: Expected::Anything,
        }));
        Ok(self.driver.commit(changes, Durability::Durable).await?)
    }

    async fn delete_manifest(
        &self,
        name: &RepoName,
        digest: &Digest,
        is_protected: &IsProtected<'_>,
    ) -> Result<Deleted, MetadataError> {
        let _alone = self.guard(name).write().await;
        if !self.has_manifest(name, digest).await? {
            return Ok(Deleted::Absent);
        }
        let listing = self.driver.list(&layout::tags(name)).await?;
        let mut own = Vec::new();
        for tag in listing.iter().flat_map(Names::iter) {
            let Ok(tag) = tag.parse::<Tag>() else { continue };
            if self.resolve(name, &tag).await?.as_ref() == Some(digest) {
                own.push(tag);
            }
        }
        if let Some(is_protected) = is_protected
            && let Some(tag) = own.iter().find(|tag| is_protected(tag.as_str()))
        {
            return Ok(Deleted::Protected(tag.to_string()));
        }
        for tag in &own {
            self.remove(Target::All(layout::tag(name, tag))).await?;
        }
        let removed = self.remove(Target::All(layout::revision(name, digest))).await?;
        Ok(if removed { Deleted::Yes(own) } else { Deleted::Absent })
    }

    async fn delete_tag(&self, name: &RepoName, tag: &Tag) -> Result<bool, MetadataError> {
        let _alone = self.guard(name).write().await;
        // One that is broken can go, too.
        if self.driver.get(&layout::tag_current_link(name, tag)).await?.is_none() {
            return Ok(false);
        }
        self.remove(Target::Object(layout::tag_current_link(name, tag))).await?;
        self.remove(Target::All(layout::tag(name, tag))).await?;
        Ok(true)
    }

    async fn tags(&self, name: &RepoName, last: Option<&str>, limit: usize) -> Result<Option<Page>, MetadataError> {
        let Some(all) = self.driver.list(&layout::tags(name)).await? else {
            let known = self.driver.list(&layout::manifests(name.as_str())).await?.is_some();
            return Ok(known.then(Page::default));
        };
        // Only what is on the page is judged, and where it begins again.
        let begin = last.map_or(0, |last| all.partition_point(|name| name <= last));
        let mut judged = self
            .judged
            .get(name, &all, begin..begin.saturating_add(limit).saturating_add(1));
        let mut page = Page::default();
        for at in begin..all.len() {
            let Some(text) = all.get(at) else { break };
            if !judged.contains(at) {
                let Ok(tag) = text.parse::<Tag>() else { continue };
                if self.resolve(name, &tag).await?.is_none() {
                    continue;
                }
                judged.add(at);
            }
            if page.names.len() == limit {
                page.more = true;
                break;
            }
            page.names.push(text.to_owned());
        }
        self.judged.put(name, &all, judged);
        Ok(Some(page))
    }

    async fn referrers(
        &self,
        name: &RepoName,
        subject: &Digest,
        page: ReferrerPage<'_>,
    ) -> Result<Referrers, MetadataError> {
        let known = self.known_subjects(name).await?;
        let attached = known.by_subject.get(subject).map_or(&[][..], Vec::as_slice);
        // In order of their texts, too.
        let begin = page.after.map_or(0, |after| {
            attached.partition_point(|digest| digest.to_string().as_str() <= after)
        });
        let mut found = Referrers::default();
        // Its content is read when its turn comes, and not kept.
        for digest in &attached[begin..] {
            let Some(size) = self.blobs.head(digest).await? else {
                continue;
            };
            if !found.has_room(size) {
                break;
            }
            if let Some(stored) = self.manifest(name, digest).await?
                && !found.add_stored(page, digest, &stored)
            {
                break;
            }
        }
        Ok(found)
    }

    async fn blob(&self, name: &RepoName, digest: &Digest) -> Result<Option<BlobRecord>, MetadataError> {
        let Some(place) = self.stored_as(name, digest).await? else {
            return Ok(None);
        };
        self.barrier.protect([digest, &place]);
        let size = self.blobs.head(&place).await?;
        let alias_of = (place != *digest).then_some(place);
        Ok(size.map(|size| BlobRecord { size, alias_of }))
    }

    async fn put_blob(&self, name: &RepoName, blob: StagedBlob) -> Result<(), MetadataError> {
        let _passing = self.barrier.enter().await;
        self.barrier.protect([&blob.digest]);
        let link = Self::put_link(layout::layer_link(name, &blob.digest), &blob.digest);
        let changes = vec![blob.into_change(), link];
        Ok(self.driver.commit(changes, Durability::Durable).await?)
    }

    async fn mount_blob(
        &self,
        name: &RepoName,
        from: &RepoName,
        digest: &Digest,
    ) -> Result<Option<BlobRecord>, MetadataError> {
        let _passing = self.barrier.enter().await;
        let blob = self.blob(from, digest).await?;
        let Some(blob) = blob.filter(|blob| blob.alias_of.is_none()) else {
            return Ok(None);
        };
        let used = Change::Touch {
            key: layout::blob_data(digest),
        };
        let link = Self::put_link(layout::layer_link(name, digest), digest);
        self.driver.commit(vec![used, link], Durability::Durable).await?;
        Ok(Some(blob))
    }

    async fn unlink_blob(&self, name: &RepoName, digest: &Digest) -> Result<bool, MetadataError> {
        if self.stored_as(name, digest).await?.is_none() {
            return Ok(false);
        }
        Ok(self.remove(Target::All(layout::layer(name, digest))).await?)
    }

    async fn repositories(&self, last: Option<&str>, limit: usize) -> Result<Page, MetadataError> {
        let mut names = tree::holding_after(&self.driver, "_manifests", last.unwrap_or_default(), limit + 1).await?;
        let more = names.len() > limit;
        names.truncate(limit);
        Ok(Page { names, more })
    }
}
