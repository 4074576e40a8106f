//! Making blobs part of repositories.

use super::state::InDatabase;
use crate::registry::metadata::MetadataError;
use crate::registry::metadata::postgres::client::attempt;
use crate::registry::oci::{Digest, RepoName};
use crate::registry::storage::{Durability, StagedBlob};

impl InDatabase {
    pub(super) async fn push_blob(&self, name: &RepoName, blob: StagedBlob) -> Result<(), MetadataError> {
        let (digest, size) = (blob.digest.clone(), blob.size);
        // Before the transaction, since making data durable takes time. A
        // review that goes on is waited for, and another one put off; it
        // removes what no row knows of when this is cut off. While there
        // is no database, the upload stays as it is.
        self.rows.hold_blob(&digest).await?;
        self.storage
            .commit(vec![blob.into_change()], Durability::Durable)
            .await?;
        if self.join(name, &digest, Some(size)).await? {
            Ok(())
        } else {
            Err(MetadataError::Collected(digest))
        }
    }

    /// Makes a blob part of a repository, unless its data are gone; without a
    /// size it must be known.
    pub(super) async fn join(
        &self,
        name: &RepoName,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<bool, MetadataError> {
        attempt!(self.rows, mut client, {
            let Some(push) = self.rows.begin_blob(&mut client, name, digest, size).await? else {
                return Ok(false);
            };
            // They might have been collected just before.
            if self.blobs.head(digest).await?.is_none() {
                return Ok(false);
            }
            push.finish().await.map(|()| true)
        })
    }
}
