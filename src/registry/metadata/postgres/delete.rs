//! Deleting what is in a repository.

use deadpool_postgres::Client;
use tokio_postgres::types::ToSql;

use super::client::{Postgres, attempt, encode};
use crate::registry::metadata::{Deleted, IsProtected, MetadataError};
use crate::registry::oci::{Digest, RepoName, Tag};

const DELETE_MANIFEST: &str = "DELETE FROM manifests
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND digest = $3";
/// Those have to be reviewed again: what kept them is gone.
const DETACH: &str = "WITH detached AS (
        UPDATE manifests SET subject_id = NULL
        WHERE top_level_namespace_id = $1 AND repository_id = $2
            AND subject_id = (SELECT s.id FROM manifests AS s
                WHERE s.top_level_namespace_id = $1 AND s.repository_id = $2 AND s.digest BETWEEN $3 AND $3
                ORDER BY s.digest LIMIT 1)
        RETURNING id)
    INSERT INTO gc_manifest_review_queue (top_level_namespace_id, repository_id, manifest_id, review_after, event)
    SELECT $1, $2, id, gc_review_after('manifest_delete'), 'manifest_delete' FROM detached
    ON CONFLICT (top_level_namespace_id, repository_id, manifest_id)
        DO UPDATE SET review_after = excluded.review_after, event = excluded.event";
const TAGS_OF: &str = "SELECT name FROM tags WHERE top_level_namespace_id = $1 AND repository_id = $2
    AND manifest_id = (SELECT id FROM manifests
        WHERE top_level_namespace_id = $1 AND repository_id = $2 AND digest BETWEEN $3 AND $3
        ORDER BY digest LIMIT 1)";
const DELETE_TAG: &str = "DELETE FROM tags
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND name = $3";
const UNLINK_BLOB: &str = "DELETE FROM repository_blobs
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND blob_digest = $3";

impl Postgres {
    /// Removes a manifest and the tags that stand for it, unless one of those
    /// is protected.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn delete_manifest(
        &self,
        name: &RepoName,
        digest: &Digest,
        is_protected: &IsProtected<'_>,
    ) -> Result<Deleted, MetadataError> {
        let _turn = self.turn(name).await?;
        let key = encode(digest);
        self.delete(name, DELETE_MANIFEST, &key, is_protected).await
    }

    /// Removes a tag; says whether it was there.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn delete_tag(&self, name: &RepoName, tag: &Tag) -> Result<bool, MetadataError> {
        let _turn = self.turn(name).await?;
        let deleted = self.delete(name, DELETE_TAG, &tag.as_str(), &None).await?;
        Ok(matches!(deleted, Deleted::Yes(_)))
    }

    /// Takes a blob out of the repository; says whether it was in it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn unlink_blob(&self, name: &RepoName, digest: &Digest) -> Result<bool, MetadataError> {
        let deleted = self.delete(name, UNLINK_BLOB, &encode(digest), &None).await?;
        Ok(matches!(deleted, Deleted::Yes(_)))
    }

    /// Deletes a row of a repository by a key of it.
    async fn delete(
        &self,
        name: &RepoName,
        sql: &str,
        key: &(dyn ToSql + Sync),
        is_protected: &IsProtected<'_>,
    ) -> Result<Deleted, MetadataError> {
        // Whether a try may have been committed whose answer was lost.
        let mut may_be_done = false;
        attempt!(self, mut client, {
            match self.delete_once(&mut client, name, sql, key, is_protected).await {
                Ok(Deleted::Absent) if may_be_done => Ok(Deleted::Yes(Vec::new())),
                Ok(deleted) => Ok(deleted),
                // All else that refers to it goes with it.
                Err(MetadataError::Database(error)) if error.is_reference() => Err(MetadataError::Referenced),
                Err(error) => {
                    may_be_done |= matches!(&error, MetadataError::Database(error) if error.is_unavailable());
                    Err(error)
                }
            }
        })
    }

    async fn delete_once(
        &self,
        client: &mut Client,
        name: &RepoName,
        sql: &str,
        key: &(dyn ToSql + Sync),
        is_protected: &IsProtected<'_>,
    ) -> Result<Deleted, MetadataError> {
        let Some(at) = self.repository(&*client, name).await? else {
            return Ok(Deleted::Absent);
        };
        let transaction = client.transaction().await.map_err(|error| self.failed(error))?;
        // Changes of what is there pass one at a time in a repository, additions
        // side by side: tags, manifests and their reviews refer to each other
        // both ways, so that no order of rows would avoid deadlocks.
        self.rows(&transaction, "SELECT pg_advisory_xact_lock($1)", &[&at.lock()])
            .await?;
        if let Some(is_protected) = is_protected {
            let tags = self.rows(&transaction, TAGS_OF, &[&at.namespace, &at.id, key]).await?;
            if let Some(tag) = tags.iter().map(|row| row.get(0)).find(|tag: &&str| is_protected(tag)) {
                return Ok(Deleted::Protected(tag.to_owned()));
            }
        }
        if sql == DELETE_MANIFEST {
            // What is attached to it stays, as it would in files.
            self.execute(&transaction, DETACH, &[&at.namespace, &at.id, key])
                .await?;
        }
        let deleted = self.execute(&transaction, sql, &[&at.namespace, &at.id, key]).await?;
        transaction.commit().await.map_err(|error| self.failed(error))?;
        Ok(if deleted > 0 {
            Deleted::Yes(Vec::new())
        } else {
            Deleted::Absent
        })
    }
}
