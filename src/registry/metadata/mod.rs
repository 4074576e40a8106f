//! What belongs to which repository: manifests, tags, blob membership.
//!
//! Operations are those of the API, never rows or links, so that link files
//! and a database can stand behind the same trait.

pub mod files;

use std::future::Future;

use bytes::Bytes;

use super::oci::{Digest, RepoName, Tag};
use super::storage::StorageError;

pub use files::Files;

/// One page of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The names, sorted bytewise.
    pub names: Vec<String>,
    /// Whether more follow.
    pub more: bool,
}

/// Knows what belongs to which repository. What an operation has done when
/// it returns is durable.
pub trait Metadata: Clone + Send + Sync + 'static {
    /// Returns a manifest's bytes, when it belongs to the repository.
    fn manifest(
        &self,
        name: &RepoName,
        digest: &Digest,
    ) -> impl Future<Output = Result<Option<Bytes>, StorageError>> + Send;
    /// Says whether a manifest belongs to the repository.
    fn has_manifest(&self, name: &RepoName, digest: &Digest)
    -> impl Future<Output = Result<bool, StorageError>> + Send;
    /// Returns the manifest that a tag stands for.
    fn resolve(&self, name: &RepoName, tag: &Tag) -> impl Future<Output = Result<Option<Digest>, StorageError>> + Send;
    /// Stores a manifest and lets tags stand for it.
    fn put_manifest(
        &self,
        name: &RepoName,
        digest: &Digest,
        content: Bytes,
        tags: &[Tag],
    ) -> impl Future<Output = Result<(), StorageError>> + Send;
    /// Removes a manifest and the tags that stand for it; says whether it was there.
    fn delete_manifest(
        &self,
        name: &RepoName,
        digest: &Digest,
    ) -> impl Future<Output = Result<bool, StorageError>> + Send;
    /// Removes a tag; says whether it was there.
    fn delete_tag(&self, name: &RepoName, tag: &Tag) -> impl Future<Output = Result<bool, StorageError>> + Send;
    /// Returns tags after `last`; nothing when there is no such repository.
    fn tags(
        &self,
        name: &RepoName,
        last: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<Option<Page>, StorageError>> + Send;
    /// Says whether a blob belongs to the repository.
    fn has_blob(&self, name: &RepoName, digest: &Digest) -> impl Future<Output = Result<bool, StorageError>> + Send;
    /// Makes a stored blob part of the repository.
    fn link_blob(&self, name: &RepoName, digest: &Digest) -> impl Future<Output = Result<(), StorageError>> + Send;
    /// Takes a blob out of the repository; says whether it was in it.
    fn unlink_blob(&self, name: &RepoName, digest: &Digest) -> impl Future<Output = Result<bool, StorageError>> + Send;
    /// Returns repositories after `last`.
    fn repositories(&self, last: Option<&str>, limit: usize)
    -> impl Future<Output = Result<Page, StorageError>> + Send;
}
