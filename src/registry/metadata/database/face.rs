//! The operations on metadata, as a database and a storage do them.

use std::sync::Arc;

use super::state::InDatabase;
use crate::registry::metadata::{
    BlobRecord, Deleted, IsProtected, Metadata, MetadataError, Page, PutManifest, ReferrerPage, Referrers, Stored,
};
use crate::registry::oci::{Digest, RepoName, Tag};
use crate::registry::storage::StagedBlob;

impl Metadata for InDatabase {
    async fn manifest(&self, name: &RepoName, digest: &Digest) -> Result<Option<Arc<Stored>>, MetadataError> {
        self.rows.manifest(name, digest).await
    }

    async fn has_manifest(&self, name: &RepoName, digest: &Digest) -> Result<bool, MetadataError> {
        self.rows.has_manifest(name, digest).await
    }

    async fn resolve(&self, name: &RepoName, tag: &Tag) -> Result<Option<Digest>, MetadataError> {
        self.rows.resolve(name, tag).await
    }

    async fn tagged(&self, name: &RepoName, tag: &Tag) -> Result<Option<(Digest, Arc<Stored>)>, MetadataError> {
        self.rows.tagged(name, tag).await
    }

    async fn put_manifest(&self, name: &RepoName, put: PutManifest<'_>) -> Result<(), MetadataError> {
        self.push_manifest(name, put).await
    }

    async fn delete_manifest(
        &self,
        name: &RepoName,
        digest: &Digest,
        is_protected: &IsProtected<'_>,
    ) -> Result<Deleted, MetadataError> {
        self.rows.delete_manifest(name, digest, is_protected).await
    }

    async fn delete_tag(&self, name: &RepoName, tag: &Tag) -> Result<bool, MetadataError> {
        self.rows.delete_tag(name, tag).await
    }

    async fn tags(&self, name: &RepoName, last: Option<&str>, limit: usize) -> Result<Option<Page>, MetadataError> {
        self.rows.tags(name, last, limit).await
    }

    async fn referrers(
        &self,
        name: &RepoName,
        subject: &Digest,
        page: ReferrerPage<'_>,
    ) -> Result<Referrers, MetadataError> {
        self.rows.referrers(name, subject, page).await
    }

    async fn blob(&self, name: &RepoName, digest: &Digest) -> Result<Option<BlobRecord>, MetadataError> {
        if !self.rows.has_blob(name, digest).await? {
            return Ok(None);
        }
        let size = self.blobs.head(digest).await?;
        Ok(size.map(|size| BlobRecord { size, alias_of: None }))
    }

    async fn put_blob(&self, name: &RepoName, blob: StagedBlob) -> Result<(), MetadataError> {
        self.push_blob(name, blob).await
    }

    async fn mount_blob(
        &self,
        name: &RepoName,
        from: &RepoName,
        digest: &Digest,
    ) -> Result<Option<BlobRecord>, MetadataError> {
        let Some(blob) = self.blob(from, digest).await? else {
            return Ok(None);
        };
        // It may be removed this moment.
        Ok(self.join(name, digest, None).await?.then_some(blob))
    }

    async fn unlink_blob(&self, name: &RepoName, digest: &Digest) -> Result<bool, MetadataError> {
        self.rows.unlink_blob(name, digest).await
    }

    async fn repositories(&self, last: Option<&str>, limit: usize) -> Result<Page, MetadataError> {
        self.rows.repositories(last, limit).await
    }
}
