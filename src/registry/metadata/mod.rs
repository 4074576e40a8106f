//! What belongs to which repository: manifests, tags, blob membership.
//!
//! Operations are those of the API, never rows or links, so that link files
//! and a database can stand behind the same trait.

pub mod files;
mod proven;
mod subjects;

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use super::oci::manifest::Manifest;
use super::oci::{Digest, RepoName, Tag, media_type};
use super::storage::{Change, StorageError};

pub use files::Files;

/// One page of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The names, sorted bytewise.
    pub names: Vec<String>,
    /// Whether more follow.
    pub more: bool,
}

/// A manifest as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its bytes, exactly as they were pushed.
    pub content: Bytes,
    /// Its media type.
    pub media_type: Cow<'static, str>,
}

impl Stored {
    /// Understands stored bytes as far as possible.
    pub fn new(content: Bytes) -> Self {
        let media_type = match Manifest::parse(&content, None) {
            Ok(manifest) => media_type::shared(manifest.media_type),
            Err(_) => media_type::shared(media_type::of_unknown(&content)),
        };
        Self { content, media_type }
    }

    /// Returns what it says; nothing for a kind that this registry does not know.
    pub fn manifest(&self) -> Option<Manifest> {
        Manifest::parse(&self.content, None).ok()
    }
}

impl Page {
    /// Takes the page after `last` from a sorted list; `last` need not be in it.
    fn of(names: &[String], last: Option<&str>, limit: usize) -> Self {
        let start = last.map_or(0, |last| names.partition_point(|name| name.as_str() <= last));
        let rest = &names[start..];
        Self {
            names: rest.iter().take(limit).cloned().collect(),
            more: rest.len() > limit,
        }
    }
}

/// Knows what belongs to which repository. What an operation has done when
/// it returns is durable.
pub trait Metadata: Clone + Send + Sync + 'static {
    /// Returns a manifest, when it belongs to the repository.
    fn manifest(
        &self,
        name: &RepoName,
        digest: &Digest,
    ) -> impl Future<Output = Result<Option<Arc<Stored>>, StorageError>> + Send;
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
    /// Returns the manifests whose subject is `subject`, sorted by digest.
    fn referrers(
        &self,
        name: &RepoName,
        subject: &Digest,
    ) -> impl Future<Output = Result<Vec<(Digest, Arc<Stored>)>, StorageError>> + Send;
    /// Says whether a blob belongs to the repository.
    fn has_blob(&self, name: &RepoName, digest: &Digest) -> impl Future<Output = Result<bool, StorageError>> + Send;
    /// Makes a blob part of the repository. `arrival` brings its content;
    /// without one the content is stored already.
    fn put_blob(
        &self,
        name: &RepoName,
        digest: &Digest,
        arrival: Option<Change>,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;
    /// Takes a blob out of the repository; says whether it was in it.
    fn unlink_blob(&self, name: &RepoName, digest: &Digest) -> impl Future<Output = Result<bool, StorageError>> + Send;
    /// Returns repositories after `last`.
    fn repositories(&self, last: Option<&str>, limit: usize)
    -> impl Future<Output = Result<Page, StorageError>> + Send;
}
