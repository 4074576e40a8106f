//! What belongs to which repository: manifests, tags, blob membership.
//!
//! Operations are those of the API, never rows or links, so that link files
//! and a database can stand behind the same trait.

pub mod files;
pub mod import;
pub mod postgres;
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
pub use postgres::{DatabaseError, Postgres};

/// Why metadata cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// An index holds the manifest.
    #[error("the manifest belongs to an index")]
    Referenced,
    /// Content that is needed is gone.
    #[error("content that is referred to is missing")]
    Missing(Vec<Digest>),
    /// A blob was pushed while the one that was there before was removed.
    #[error("the blob {0} was being removed when it was pushed")]
    Collected(Digest),
    /// An import cannot begin or go on.
    #[error("{0}")]
    Import(String),
    /// A media type that cannot be kept.
    #[error("the media type {0:?} cannot be kept")]
    MediaType(String),
}

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

/// Where metadata are.
#[derive(Clone, Debug)]
pub enum Store {
    /// In link files.
    Files(Files),
    /// In a database.
    Database(Postgres),
}

impl Store {
    /// Says whether it is a database.
    pub fn is_database(&self) -> bool {
        matches!(self, Self::Database(_))
    }
}

/// Passes an operation on.
macro_rules! pass {
    ($self:ident.$operation:ident($($argument:expr),*)) => {
        match $self {
            Self::Files(files) => files.$operation($($argument),*).await,
            Self::Database(database) => database.$operation($($argument),*).await,
        }
    };
}

impl Metadata for Store {
    async fn manifest(&self, name: &RepoName, digest: &Digest) -> Result<Option<Arc<Stored>>, MetadataError> {
        pass!(self.manifest(name, digest))
    }

    async fn has_manifest(&self, name: &RepoName, digest: &Digest) -> Result<bool, MetadataError> {
        pass!(self.has_manifest(name, digest))
    }

    async fn resolve(&self, name: &RepoName, tag: &Tag) -> Result<Option<Digest>, MetadataError> {
        pass!(self.resolve(name, tag))
    }

    async fn tagged(&self, name: &RepoName, tag: &Tag) -> Result<Option<(Digest, Arc<Stored>)>, MetadataError> {
        pass!(self.tagged(name, tag))
    }

    async fn put_manifest(
        &self,
        name: &RepoName,
        digest: &Digest,
        content: Bytes,
        tags: &[Tag],
    ) -> Result<(), MetadataError> {
        pass!(self.put_manifest(name, digest, content, tags))
    }

    async fn delete_manifest(&self, name: &RepoName, digest: &Digest) -> Result<bool, MetadataError> {
        pass!(self.delete_manifest(name, digest))
    }

    async fn delete_tag(&self, name: &RepoName, tag: &Tag) -> Result<bool, MetadataError> {
        pass!(self.delete_tag(name, tag))
    }

    async fn tags(&self, name: &RepoName, last: Option<&str>, limit: usize) -> Result<Option<Page>, MetadataError> {
        pass!(self.tags(name, last, limit))
    }

    async fn referrers(&self, name: &RepoName, subject: &Digest) -> Result<Vec<(Digest, Arc<Stored>)>, MetadataError> {
        pass!(self.referrers(name, subject))
    }

    async fn has_blob(&self, name: &RepoName, digest: &Digest) -> Result<bool, MetadataError> {
        pass!(self.has_blob(name, digest))
    }

    async fn missing(
        &self,
        name: &RepoName,
        digests: &[Digest],
        or_manifests: bool,
    ) -> Result<Vec<Digest>, MetadataError> {
        pass!(self.missing(name, digests, or_manifests))
    }

    async fn put_blob(&self, name: &RepoName, digest: &Digest, arrival: Option<Change>) -> Result<(), MetadataError> {
        pass!(self.put_blob(name, digest, arrival))
    }

    async fn unlink_blob(&self, name: &RepoName, digest: &Digest) -> Result<bool, MetadataError> {
        pass!(self.unlink_blob(name, digest))
    }

    async fn repositories(&self, last: Option<&str>, limit: usize) -> Result<Page, MetadataError> {
        pass!(self.repositories(last, limit))
    }
}
