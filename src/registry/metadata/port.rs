//! What can be done with metadata, wherever they are.

use std::sync::Arc;

use super::error::MetadataError;
use super::referrers::{ReferrerPage, Referrers};
use super::types::{BlobRecord, Deleted, IsProtected, Page, PutManifest, Stored};
use crate::registry::oci::{Digest, RepoName, Tag};
use crate::registry::storage::StagedBlob;

/// Knows what belongs to which repository. What an operation has done when
/// it returns is durable, and a collection that is under way leaves what it
/// relies on.
pub trait Metadata: Clone + Send + Sync + 'static {
    /// Returns a manifest, when it belongs to the repository.
    fn manifest(
        &self,
        name: &RepoName,
        digest: &Digest,
    ) -> impl Future<Output = Result<Option<Arc<Stored>>, MetadataError>> + Send;
    /// Says whether a manifest belongs to the repository.
    fn has_manifest(
        &self,
        name: &RepoName,
        digest: &Digest,
    ) -> impl Future<Output = Result<bool, MetadataError>> + Send;
    /// Returns the manifest that a tag stands for.
    fn resolve(&self, name: &RepoName, tag: &Tag)
    -> impl Future<Output = Result<Option<Digest>, MetadataError>> + Send;
    /// Returns the manifest that a tag stands for, with its content.
    fn tagged(
        &self,
        name: &RepoName,
        tag: &Tag,
    ) -> impl Future<Output = Result<Option<(Digest, Arc<Stored>)>, MetadataError>> + Send {
        async {
            let Some(digest) = self.resolve(name, tag).await? else {
                return Ok(None);
            };
            Ok(self.manifest(name, &digest).await?.map(|stored| (digest, stored)))
        }
    }
    /// Checks that all that a manifest needs is there, of the size that it
    /// names, and that its tags may stand for it; stores it, and lets them.
    /// All of it, or nothing.
    fn put_manifest(
        &self,
        name: &RepoName,
        put: PutManifest<'_>,
    ) -> impl Future<Output = Result<(), MetadataError>> + Send;
    /// Removes a manifest and the tags that stand for it, unless one of those
    /// is protected.
    fn delete_manifest(
        &self,
        name: &RepoName,
        digest: &Digest,
        is_protected: &IsProtected<'_>,
    ) -> impl Future<Output = Result<Deleted, MetadataError>> + Send;
    /// Removes a tag; says whether it was there.
    fn delete_tag(&self, name: &RepoName, tag: &Tag) -> impl Future<Output = Result<bool, MetadataError>> + Send;
    /// Returns tags after `last`; nothing when there is no such repository.
    fn tags(
        &self,
        name: &RepoName,
        last: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<Option<Page>, MetadataError>> + Send;
    /// Returns a page of the manifests whose subject is `subject`.
    fn referrers(
        &self,
        name: &RepoName,
        subject: &Digest,
        page: ReferrerPage<'_>,
    ) -> impl Future<Output = Result<Referrers, MetadataError>> + Send;
    /// Returns what is known of a blob, when it belongs to the repository and
    /// its data are there. A collection leaves it from then on: whoever asks
    /// may be about to push a manifest that names it.
    fn blob(
        &self,
        name: &RepoName,
        digest: &Digest,
    ) -> impl Future<Output = Result<Option<BlobRecord>, MetadataError>> + Send;
    /// Makes a blob that has arrived part of the repository.
    fn put_blob(&self, name: &RepoName, blob: StagedBlob) -> impl Future<Output = Result<(), MetadataError>> + Send;
    /// Makes a blob of another repository part of this one, too; nothing when
    /// it is not there, or its content has no name of its own: then it is to
    /// be pushed.
    fn mount_blob(
        &self,
        name: &RepoName,
        from: &RepoName,
        digest: &Digest,
    ) -> impl Future<Output = Result<Option<BlobRecord>, MetadataError>> + Send;
    /// Takes a blob out of the repository; says whether it was in it.
    fn unlink_blob(&self, name: &RepoName, digest: &Digest)
    -> impl Future<Output = Result<bool, MetadataError>> + Send;
    /// Returns repositories after `last`.
    fn repositories(
        &self,
        last: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<Page, MetadataError>> + Send;
}
