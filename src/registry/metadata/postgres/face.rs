//! The operations on metadata, as a database does them.

use std::sync::Arc;

use bytes::Bytes;
use deadpool_postgres::Client;
use tokio_postgres::types::ToSql;

use super::client::{Postgres, TRIES, attempt, decode, encode, page, page_rows, pause, stored, without_nul};
use super::push::{self, MISSING};
use crate::registry::metadata::{Metadata, MetadataError, Page, Stored};
use crate::registry::oci::{Digest, RepoName, Tag};
use crate::registry::storage::{Change, Durability};

/// A type of their own have those alone that the others may not take for what
/// they look like: GitLab's registry stores BuildKit's caches, which are indexes, as images.
const MANIFEST: &str = "SELECT m.payload, CASE WHEN NOT m.non_conformant THEN
        (SELECT t.media_type FROM media_types AS t WHERE t.id = m.media_type_id) END FROM manifests AS m
    WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2 AND m.digest = $3";
const HAS_MANIFEST: &str = "SELECT 1 FROM manifests
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND digest = $3";
// A join would be free to find all manifests of the repository first, and does
// so as long as the database has no statistics.
const TAGGED: &str = "SELECT m.digest, m.payload, CASE WHEN NOT m.non_conformant THEN
        (SELECT y.media_type FROM media_types AS y WHERE y.id = m.media_type_id) END FROM manifests AS m
    WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2
        AND m.id = (SELECT t.manifest_id FROM tags AS t
            WHERE t.top_level_namespace_id = $1 AND t.repository_id = $2 AND t.name = $3)";
const RESOLVE: &str = "SELECT m.digest FROM manifests AS m
    WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2
        AND m.id = (SELECT t.manifest_id FROM tags AS t
            WHERE t.top_level_namespace_id = $1 AND t.repository_id = $2 AND t.name = $3)";
const DELETE_MANIFEST: &str = "DELETE FROM manifests
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND digest = $3";
/// Those have to be reviewed again: what kept them is gone.
const DETACH: &str = "WITH detached AS (
        UPDATE manifests SET subject_id = NULL
        WHERE top_level_namespace_id = $1 AND repository_id = $2
            AND subject_id = (SELECT s.id FROM manifests AS s
                WHERE s.top_level_namespace_id = $1 AND s.repository_id = $2 AND s.digest = $3)
        RETURNING id)
    INSERT INTO gc_manifest_review_queue (top_level_namespace_id, repository_id, manifest_id, review_after, event)
    SELECT $1, $2, id, gc_review_after('manifest_delete'), 'manifest_delete' FROM detached
    ON CONFLICT (top_level_namespace_id, repository_id, manifest_id)
        DO UPDATE SET review_after = excluded.review_after, event = excluded.event";
const DELETE_TAG: &str = "DELETE FROM tags
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND name = $3";
const TAGS: &str = "SELECT name FROM tags
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND name > $3 ORDER BY name LIMIT $4";
/// Those of a subject that is there.
const REFERRERS: &str =
    "SELECT m.digest, m.payload, CASE WHEN NOT m.non_conformant THEN t.media_type END FROM manifests AS m
    JOIN media_types AS t ON t.id = m.media_type_id
    WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2
        AND m.subject_id = (SELECT s.id FROM manifests AS s
            WHERE s.top_level_namespace_id = $1 AND s.repository_id = $2 AND s.digest = $3)";
/// Those that came before their subject, whose row does not name it.
const UNATTACHED: &str =
    "SELECT m.digest, m.payload, CASE WHEN NOT m.non_conformant THEN t.media_type END FROM manifests AS m
    JOIN media_types AS t ON t.id = m.media_type_id
    WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2
        AND m.subject_id IS NULL AND position('\"subject\"'::bytea IN m.payload) > 0";
const HAS_BLOB: &str = "SELECT 1 FROM repository_blobs
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND blob_digest = $3";
const UNLINK_BLOB: &str = "DELETE FROM repository_blobs
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND blob_digest = $3";
const REPOSITORIES: &str = "SELECT r.path FROM repositories AS r
    WHERE r.path > $1 AND r.deleted_at IS NULL AND EXISTS (SELECT FROM manifests AS m
        WHERE m.top_level_namespace_id = r.top_level_namespace_id AND m.repository_id = r.id)
    ORDER BY r.path LIMIT $2";

impl Postgres {
    /// Deletes a row of a repository by a key of it; says whether it was there.
    async fn delete(&self, name: &RepoName, sql: &str, key: &(dyn ToSql + Sync)) -> Result<bool, MetadataError> {
        // Whether a try may have been committed whose answer was lost.
        let mut may_be_done = false;
        attempt!(self, mut client, {
            match self.delete_once(&mut client, name, sql, key).await {
                Ok(was_there) => Ok(was_there || may_be_done),
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
    ) -> Result<bool, MetadataError> {
        let Some(at) = self.repository(&*client, name).await? else {
            return Ok(false);
        };
        let transaction = client.transaction().await.map_err(|error| self.failed(error))?;
        // Changes of what is there pass one at a time in a repository, additions
        // side by side: tags, manifests and their reviews refer to each other
        // both ways, so that no order of rows would avoid deadlocks.
        self.rows(&transaction, "SELECT pg_advisory_xact_lock($1)", &[&at.lock()])
            .await?;
        if sql == DELETE_MANIFEST {
            // What is attached to it stays, as it would in files.
            self.execute(&transaction, DETACH, &[&at.namespace, &at.id, key])
                .await?;
        }
        let deleted = self.execute(&transaction, sql, &[&at.namespace, &at.id, key]).await?;
        transaction.commit().await.map_err(|error| self.failed(error))?;
        Ok(deleted > 0)
    }
}

impl Metadata for Postgres {
    async fn manifest(&self, name: &RepoName, digest: &Digest) -> Result<Option<Arc<Stored>>, MetadataError> {
        attempt!(self, client, {
            let Some(at) = self.repository(&client, name).await? else {
                return Ok(None);
            };
            if let Some(stored) = self.known.manifest(at, digest) {
                return Ok(Some(stored));
            }
            let key = encode(digest);
            let row = self.row(&client, MANIFEST, &[&at.namespace, &at.id, &key]).await?;
            let stored = row.map(|row| stored(&row, 0));
            if let Some(stored) = &stored {
                self.known.put_manifest(at, digest, stored);
            }
            Ok(stored)
        })
    }

    async fn tagged(&self, name: &RepoName, tag: &Tag) -> Result<Option<(Digest, Arc<Stored>)>, MetadataError> {
        attempt!(self, client, {
            let Some(at) = self.repository(&client, name).await? else {
                return Ok(None);
            };
            if let Some(found) = self.known.tagged(at, tag) {
                return Ok(Some(found));
            }
            let key: [&(dyn ToSql + Sync); 3] = [&at.namespace, &at.id, &tag.as_str()];
            let row = self.row(&client, TAGGED, &key).await?;
            let found = row.and_then(|row| Some((decode(&row, 0)?, stored(&row, 1))));
            if let Some((digest, stored)) = &found {
                self.known.put_tagged(at, tag, digest, stored);
            }
            Ok(found)
        })
    }

    async fn has_manifest(&self, name: &RepoName, digest: &Digest) -> Result<bool, MetadataError> {
        Ok(self.find(name, HAS_MANIFEST, &encode(digest)).await?.is_some())
    }

    async fn resolve(&self, name: &RepoName, tag: &Tag) -> Result<Option<Digest>, MetadataError> {
        let row = self.find(name, RESOLVE, &tag.as_str()).await?;
        Ok(row.and_then(|row| decode(&row, 0)))
    }

    async fn put_manifest(
        &self,
        name: &RepoName,
        digest: &Digest,
        content: Bytes,
        tags: &[Tag],
    ) -> Result<(), MetadataError> {
        let mut row = self.manifest_row(digest, content).await?;
        row.present = row.required();
        if row.is_index() {
            // What is absent now is allowed to be.
            let absent = self.missing(name, &row.present, true).await?;
            row.present.retain(|digest| !absent.contains(digest));
        }
        let _turn = self.turn(name).await?;
        let outcome = attempt!(self, mut client, self.put_row(&mut client, name, &row, tags).await);
        match outcome {
            // What it refers to was there when it was looked for, and went since.
            Err(MetadataError::Database(error)) if error.is_reference() => {
                Err(MetadataError::Missing(self.missing(name, &row.present, true).await?))
            }
            other => other,
        }
    }

    async fn delete_manifest(&self, name: &RepoName, digest: &Digest) -> Result<bool, MetadataError> {
        let _turn = self.turn(name).await?;
        self.delete(name, DELETE_MANIFEST, &encode(digest)).await
    }

    async fn delete_tag(&self, name: &RepoName, tag: &Tag) -> Result<bool, MetadataError> {
        let _turn = self.turn(name).await?;
        self.delete(name, DELETE_TAG, &tag.as_str()).await
    }

    async fn tags(&self, name: &RepoName, last: Option<&str>, limit: usize) -> Result<Option<Page>, MetadataError> {
        attempt!(self, client, {
            let Some(at) = self.repository(&client, name).await? else {
                return Ok(None);
            };
            let last = without_nul(last);
            let rows = self
                .rows(&client, TAGS, &[&at.namespace, &at.id, &last, &page_rows(limit)])
                .await?;
            Ok(Some(page(&rows, limit)))
        })
    }

    async fn referrers(&self, name: &RepoName, subject: &Digest) -> Result<Vec<(Digest, Arc<Stored>)>, MetadataError> {
        let found: Result<Vec<_>, MetadataError> = attempt!(self, client, {
            let Some(at) = self.repository(&client, name).await? else {
                return Ok(Vec::new());
            };
            let mut rows = self
                .rows(&client, REFERRERS, &[&at.namespace, &at.id, &encode(subject)])
                .await?;
            rows.extend(self.rows(&client, UNATTACHED, &[&at.namespace, &at.id]).await?);
            Ok(rows
                .iter()
                .filter_map(|row| Some((decode(row, 0)?, stored(row, 1))))
                .collect())
        });
        let mut found = found?;
        found.retain(|(_, stored)| {
            let manifest = stored.manifest();
            manifest.is_some_and(|manifest| manifest.subject.is_some_and(|named| named.digest == *subject))
        });
        found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    async fn has_blob(&self, name: &RepoName, digest: &Digest) -> Result<bool, MetadataError> {
        attempt!(self, client, {
            let Some(at) = self.repository(&client, name).await? else {
                return Ok(false);
            };
            if self.known.has_blob(at, digest) {
                return Ok(true);
            }
            let key = encode(digest);
            let row = self.row(&client, HAS_BLOB, &[&at.namespace, &at.id, &key]).await?;
            if row.is_some() {
                self.known.put_blob(at, digest);
            }
            Ok(row.is_some())
        })
    }

    async fn missing(
        &self,
        name: &RepoName,
        digests: &[Digest],
        or_manifests: bool,
    ) -> Result<Vec<Digest>, MetadataError> {
        let encoded: Vec<Vec<u8>> = digests.iter().map(encode).collect();
        attempt!(self, client, {
            let Some(at) = self.repository(&client, name).await? else {
                return Ok(digests.to_vec());
            };
            let rows = self
                .rows(&client, MISSING, &[&at.namespace, &at.id, &encoded, &or_manifests])
                .await?;
            Ok(rows.iter().filter_map(|row| decode(row, 0)).collect())
        })
    }

    async fn put_blob(&self, name: &RepoName, digest: &Digest, arrival: Option<Change>) -> Result<(), MetadataError> {
        let size = arrival.as_ref().and_then(Change::size);
        let size = size.map(|size| i64::try_from(size).unwrap_or(i64::MAX));
        if let Some(change) = arrival {
            // Before the transaction, since making data durable takes time. A
            // review that goes on is waited for, and another one put off; it
            // removes what no row knows of when this is cut off. While there
            // is no database, the upload stays as it is.
            let key = encode(digest);
            let held: Result<u64, MetadataError> =
                attempt!(self, client, self.execute(&client, push::PUT_OFF_BLOB, &[&key]).await);
            held?;
            self.driver.commit(vec![change], Durability::Durable).await?;
        }
        let outcome = attempt!(
            self,
            mut client,
            self.put_blob_row(&mut client, name, digest, size).await
        );
        match outcome {
            Err(MetadataError::Missing(_)) if size.is_some() => Err(MetadataError::Collected(digest.clone())),
            other => other,
        }
    }

    async fn unlink_blob(&self, name: &RepoName, digest: &Digest) -> Result<bool, MetadataError> {
        self.delete(name, UNLINK_BLOB, &encode(digest)).await
    }

    async fn repositories(&self, last: Option<&str>, limit: usize) -> Result<Page, MetadataError> {
        attempt!(self, client, {
            let last = without_nul(last);
            let rows = self.rows(&client, REPOSITORIES, &[&last, &page_rows(limit)]).await?;
            Ok(page(&rows, limit))
        })
    }
}
