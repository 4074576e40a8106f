//! Writing a blob: one transaction.

use deadpool_postgres::{Client, Transaction};
use tokio_postgres::types::ToSql;

use super::client::{Postgres, attempt, encode};
use super::repository::Repository;
use crate::registry::metadata::MetadataError;
use crate::registry::oci::{Digest, RepoName};

const PUT_OFF_BLOB: &str = "INSERT INTO gc_blob_review_queue (digest, review_after, event)
    VALUES ($1, gc_review_after('blob_upload'), 'blob_upload')
    ON CONFLICT (digest) DO UPDATE SET review_after = excluded.review_after, event = excluded.event";
const PUT_BLOB: &str = "INSERT INTO blobs (digest, media_type_id, size)
    SELECT $1, id, $2 FROM media_types WHERE media_type = 'application/octet-stream'
    ON CONFLICT (digest) DO NOTHING";
const KNOWN_BLOB: &str = "SELECT FROM blobs WHERE digest = $1";
const LINK_BLOB: &str = "INSERT INTO repository_blobs (top_level_namespace_id, repository_id, blob_digest)
    VALUES ($1, $2, $3)
    ON CONFLICT (top_level_namespace_id, repository_id, blob_digest) DO NOTHING";

/// A push of a blob under way: a transaction that is open, while which no
/// collection removes the blob, neither row nor data.
pub struct BlobPush<'a> {
    postgres: &'a Postgres,
    transaction: Transaction<'a>,
    at: Repository,
    encoded: Vec<u8>,
}

impl Postgres {
    /// Puts a blob's review off, before its data are there; waits for one that
    /// goes on.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn hold_blob(&self, digest: &Digest) -> Result<(), MetadataError> {
        let key = encode(digest);
        let held: Result<u64, MetadataError> =
            attempt!(self, client, self.execute(&client, PUT_OFF_BLOB, &[&key]).await);
        held.map(drop)
    }

    /// Begins to make a blob part of a repository. Without a size it must be
    /// known: nothing when it is not.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn begin_blob<'a>(
        &'a self,
        client: &'a mut Client,
        name: &RepoName,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<Option<BlobPush<'a>>, MetadataError> {
        let at = self.make_repository(&*client, name).await?;
        let encoded = encode(digest);
        let transaction = client.transaction().await.map_err(|error| self.failed(error))?;
        self.execute(&transaction, PUT_OFF_BLOB, &[&encoded]).await?;
        if let Some(size) = size {
            let size = i64::try_from(size).unwrap_or(i64::MAX);
            self.execute(&transaction, PUT_BLOB, &[&encoded, &size]).await?;
        } else if self.row(&transaction, KNOWN_BLOB, &[&encoded]).await?.is_none() {
            return Ok(None);
        }
        Ok(Some(BlobPush {
            postgres: self,
            transaction,
            at,
            encoded,
        }))
    }
}

impl BlobPush<'_> {
    /// Makes the blob, whose data are there, part of the repository, and ends the push.
    ///
    /// # Errors
    /// Those of the database; then it is as it was.
    pub async fn finish(self) -> Result<(), MetadataError> {
        let postgres = self.postgres;
        let key: [&(dyn ToSql + Sync); 3] = [&self.at.namespace, &self.at.id, &self.encoded];
        postgres.execute(&self.transaction, LINK_BLOB, &key).await?;
        self.transaction.commit().await.map_err(|error| postgres.failed(error))
    }
}
