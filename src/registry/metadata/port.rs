//! What can be done with metadata, wherever they are.

use std::sync::Arc;

use bytes::Bytes;

use super::error::MetadataError;
use super::types::{Page, Stored};
use crate::registry::oci::{Digest, RepoName, Tag};
use crate::registry::storage::Change;

/// Knows what belongs to which repository. What an operation has done when
/// it returns is durable.
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
    /// Stores a manifest and lets tags stand for it.
    fn put_manifest(
        &self,
        name: &RepoName,
        digest: &Digest,
        content: Bytes,
        tags: &[Tag],
    ) -> impl Future<Output = Result<(), MetadataError>> + Send;
    /// Removes a manifest and the tags that stand for it; says whether it was there.
    fn delete_manifest(
        &self,
        name: &RepoName,
        digest: &Digest,
    ) -> impl Future<Output = Result<bool, MetadataError>> + Send;
    /// Removes a tag; says whether it was there.
    fn delete_tag(&self, name: &RepoName, tag: &Tag) -> impl Future<Output = Result<bool, MetadataError>> + Send;
    /// Returns tags after `last`; nothing when there is no such repository.
    fn tags(
        &self,
        name: &RepoName,
        last: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<Option<Page>, MetadataError>> + Send;
    /// Returns the manifests whose subject is `subject`, sorted by digest.
    fn referrers(
        &self,
        name: &RepoName,
        subject: &Digest,
    ) -> impl Future<Output = Result<Vec<(Digest, Arc<Stored>)>, MetadataError>> + Send;
    /// Says whether a blob belongs to the repository.
    fn has_blob(&self, name: &RepoName, digest: &Digest) -> impl Future<Output = Result<bool, MetadataError>> + Send;
    /// Returns those of `digests` that are no blobs of the repository, nor,
    /// with `or_manifests`, its manifests.
    fn missing(
        &self,
        name: &RepoName,
        digests: &[Digest],
        or_manifests: bool,
    ) -> impl Future<Output = Result<Vec<Digest>, MetadataError>> + Send;
    /// Makes a blob part of the repository. `arrival` brings its content;
    /// without one the content is stored already.
    fn put_blob(
        &self,
        name: &RepoName,
        digest: &Digest,
        arrival: Option<Change>,
    ) -> impl Future<Output = Result<(), MetadataError>> + Send;
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
