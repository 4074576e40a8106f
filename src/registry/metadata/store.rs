//! Metadata, wherever they are.

use std::sync::Arc;

use super::database::InDatabase;
use super::error::MetadataError;
use super::files::Files;
use super::port::Metadata;
use super::referrers::{ReferrerPage, Referrers};
use super::types::{BlobRecord, Deleted, IsProtected, Page, PutManifest, Stored};
use crate::registry::oci::{Digest, RepoName, Tag};
use crate::registry::storage::StagedBlob;

/// Where metadata are.
#[derive(Clone, Debug)]
pub enum Store {
    /// In link files.
    Files(Files),
    /// In a database.
    Database(InDatabase),
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

    async fn put_manifest(&self, name: &RepoName, put: PutManifest<'_>) -> Result<(), MetadataError> {
        pass!(self.put_manifest(name, put))
    }

    async fn delete_manifest(
        &self,
        name: &RepoName,
        digest: &Digest,
        is_protected: &IsProtected<'_>,
    ) -> Result<Deleted, MetadataError> {
        pass!(self.delete_manifest(name, digest, is_protected))
    }

    async fn delete_tag(&self, name: &RepoName, tag: &Tag) -> Result<bool, MetadataError> {
        pass!(self.delete_tag(name, tag))
    }

    async fn tags(&self, name: &RepoName, last: Option<&str>, limit: usize) -> Result<Option<Page>, MetadataError> {
        pass!(self.tags(name, last, limit))
    }

    async fn referrers(
        &self,
        name: &RepoName,
        subject: &Digest,
        page: ReferrerPage<'_>,
    ) -> Result<Referrers, MetadataError> {
        pass!(self.referrers(name, subject, page))
    }

    async fn blob(&self, name: &RepoName, digest: &Digest) -> Result<Option<BlobRecord>, MetadataError> {
        pass!(self.blob(name, digest))
    }

    async fn put_blob(&self, name: &RepoName, blob: StagedBlob) -> Result<(), MetadataError> {
        pass!(self.put_blob(name, blob))
    }

    async fn mount_blob(
        &self,
        name: &RepoName,
        from: &RepoName,
        digest: &Digest,
    ) -> Result<Option<BlobRecord>, MetadataError> {
        pass!(self.mount_blob(name, from, digest))
    }

    async fn unlink_blob(&self, name: &RepoName, digest: &Digest) -> Result<bool, MetadataError> {
        pass!(self.unlink_blob(name, digest))
    }

    async fn repositories(&self, last: Option<&str>, limit: usize) -> Result<Page, MetadataError> {
        pass!(self.repositories(last, limit))
    }
}
