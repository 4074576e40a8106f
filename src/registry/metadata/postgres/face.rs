//! The operations on metadata, as a database does them.

use std::collections::HashSet;
use std::sync::Arc;

use deadpool_postgres::Client;
use tokio_postgres::types::ToSql;

use super::client::{Postgres, TRIES, attempt, decode, encode, page, page_rows, pause, stored, without_nul};
use super::push::{self, MISSING};
use crate::registry::metadata::{
    BlobRecord, Deleted, IsProtected, Metadata, MetadataError, Page, PutManifest, ReferrerPage, Referrers, Stored,
};
use crate::registry::oci::{Digest, RepoName, Tag};
use crate::registry::storage::{Blobs, Change, Durability};

// Without statistics PostgreSQL takes any index that begins with the repository
// for as good as the key's, and reads the whole repository. Between one value
// and itself, in order of it: only the key's index has that order.

/// A type of their own have those alone that the others may not take for what
/// they look like: GitLab's registry stores BuildKit's caches, which are indexes, as images.
const MANIFEST: &str = "SELECT m.payload, CASE WHEN NOT m.non_conformant THEN
        (SELECT t.media_type FROM media_types AS t WHERE t.id = m.media_type_id) END FROM manifests AS m
    WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2 AND m.digest BETWEEN $3 AND $3
    ORDER BY m.digest LIMIT 1";
const HAS_MANIFEST: &str = "SELECT 1 FROM manifests
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND digest BETWEEN $3 AND $3
    ORDER BY digest LIMIT 1";
const TAGGED: &str = "SELECT m.digest, m.payload, CASE WHEN NOT m.non_conformant THEN
        (SELECT y.media_type FROM media_types AS y WHERE y.id = m.media_type_id) END
    FROM (SELECT t.manifest_id FROM tags AS t
            WHERE t.top_level_namespace_id = $1 AND t.repository_id = $2 AND t.name BETWEEN $3 AND $3
            ORDER BY t.name LIMIT 1) AS t,
        LATERAL (SELECT m.* FROM manifests AS m
            WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2
                AND m.id BETWEEN t.manifest_id AND t.manifest_id
            ORDER BY m.id LIMIT 1) AS m";
const RESOLVE: &str = "SELECT m.digest
    FROM (SELECT t.manifest_id FROM tags AS t
            WHERE t.top_level_namespace_id = $1 AND t.repository_id = $2 AND t.name BETWEEN $3 AND $3
            ORDER BY t.name LIMIT 1) AS t,
        LATERAL (SELECT m.digest FROM manifests AS m
            WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2
                AND m.id BETWEEN t.manifest_id AND t.manifest_id
            ORDER BY m.id LIMIT 1) AS m";
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
const TAGS: &str = "SELECT name FROM tags
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND name > $3 ORDER BY name LIMIT $4";
const HAS_BLOB: &str = "SELECT 1 FROM repository_blobs
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND blob_digest BETWEEN $3 AND $3
    ORDER BY blob_digest LIMIT 1";
const UNLINK_BLOB: &str = "DELETE FROM repository_blobs
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND blob_digest = $3";
const REPOSITORIES: &str = "SELECT r.path, r.top_level_namespace_id, r.id FROM repositories AS r
    WHERE r.path > $1 AND r.deleted_at IS NULL ORDER BY r.path LIMIT $2";
/// Those of some repositories that have manifests. By itself: beside a limit of
/// which nothing is known this is planned anew each time, for 64 partitions. In
/// order of the digests: in that of the ids there is an index of all repositories'.
const HOLDING: &str = "SELECT x.r FROM unnest($1::bigint[], $2::bigint[]) AS x(n, r)
    WHERE (SELECT 1 FROM manifests AS m WHERE m.top_level_namespace_id = x.n AND m.repository_id = x.r
        ORDER BY m.digest LIMIT 1) IS NOT NULL";

impl Postgres {
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
                Ok(Deleted::Absent) if may_be_done => Ok(Deleted::Yes),
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
        Ok(if deleted > 0 { Deleted::Yes } else { Deleted::Absent })
    }

    /// Returns those of some digests that are neither blobs nor manifests of a repository.
    async fn missing(&self, name: &RepoName, digests: &[Digest]) -> Result<Vec<Digest>, MetadataError> {
        let encoded: Vec<Vec<u8>> = digests.iter().map(encode).collect();
        attempt!(self, client, {
            let Some(at) = self.repository(&client, name).await? else {
                return Ok(digests.to_vec());
            };
            let rows = self
                .rows(&client, MISSING, &[&at.namespace, &at.id, &encoded, &true])
                .await?;
            Ok(rows.iter().filter_map(|row| decode(row, 0)).collect())
        })
    }

    /// Says whether a blob belongs to a repository.
    async fn has_blob(&self, name: &RepoName, digest: &Digest) -> Result<bool, MetadataError> {
        let Some(at) = self.found(name).await? else {
            return Ok(false);
        };
        if self.known.has_blob(at, digest) {
            return Ok(true);
        }
        attempt!(self, client, {
            let key = encode(digest);
            let row = self.row(&client, HAS_BLOB, &[&at.namespace, &at.id, &key]).await?;
            if row.is_some() {
                self.known.put_blob(at, digest);
            }
            Ok(row.is_some())
        })
    }
}

impl Metadata for Postgres {
    async fn manifest(&self, name: &RepoName, digest: &Digest) -> Result<Option<Arc<Stored>>, MetadataError> {
        let Some(at) = self.found(name).await? else {
            return Ok(None);
        };
        if let Some(stored) = self.known.manifest(at, digest) {
            return Ok(Some(stored));
        }
        attempt!(self, client, {
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
        let Some(at) = self.found(name).await? else {
            return Ok(None);
        };
        if let Some(found) = self.known.tagged(at, tag) {
            return Ok(Some(found));
        }
        attempt!(self, client, {
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

    async fn put_manifest(&self, name: &RepoName, put: PutManifest<'_>) -> Result<(), MetadataError> {
        let row = self.manifest_row(put.manifest.clone()).await?;
        let _turn = self.turn(name).await?;
        let outcome = attempt!(self, mut client, self.put_row(&mut client, name, &row, put).await);
        match outcome {
            // What it refers to was there when it was looked for, and went since.
            Err(MetadataError::Database(error)) if error.is_reference() => {
                let digests: Vec<Digest> = put.required.iter().map(|one| one.digest.clone()).collect();
                Err(MetadataError::Missing(self.missing(name, &digests).await?))
            }
            other => other,
        }
    }

    async fn delete_manifest(
        &self,
        name: &RepoName,
        digest: &Digest,
        is_protected: &IsProtected<'_>,
    ) -> Result<Deleted, MetadataError> {
        let _turn = self.turn(name).await?;
        let key = encode(digest);
        self.delete(name, DELETE_MANIFEST, &key, is_protected).await
    }

    async fn delete_tag(&self, name: &RepoName, tag: &Tag) -> Result<bool, MetadataError> {
        let _turn = self.turn(name).await?;
        let deleted = self.delete(name, DELETE_TAG, &tag.as_str(), &None).await?;
        Ok(deleted == Deleted::Yes)
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

    async fn referrers(
        &self,
        name: &RepoName,
        subject: &Digest,
        page: ReferrerPage<'_>,
    ) -> Result<Referrers, MetadataError> {
        attempt!(self, client, {
            match self.repository(&client, name).await? {
                None => Ok(Referrers::default()),
                Some(at) => self.referrers_page(&client, at, subject, page).await,
            }
        })
    }

    async fn blob(&self, name: &RepoName, digest: &Digest) -> Result<Option<BlobRecord>, MetadataError> {
        if !self.has_blob(name, digest).await? {
            return Ok(None);
        }
        let size = Blobs::new(self.driver.clone()).head(digest).await?;
        Ok(size.map(|size| BlobRecord { size, alias_of: None }))
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
        let deleted = self.delete(name, UNLINK_BLOB, &encode(digest), &None).await?;
        Ok(deleted == Deleted::Yes)
    }

    async fn repositories(&self, last: Option<&str>, limit: usize) -> Result<Page, MetadataError> {
        attempt!(self, client, {
            let mut found = Page::default();
            let mut after: String = without_nul(last).into();
            loop {
                let rows = self.rows(&client, REPOSITORIES, &[&after, &page_rows(limit)]).await?;
                let namespaces: Vec<i64> = rows.iter().map(|row| row.get(1)).collect();
                let ids: Vec<i64> = rows.iter().map(|row| row.get(2)).collect();
                let holding = self.rows(&client, HOLDING, &[&namespaces, &ids]).await?;
                let holding: HashSet<i64> = holding.iter().map(|row| row.get(0)).collect();
                for row in rows.iter().filter(|row| holding.contains(&row.get(2))) {
                    if found.names.len() == limit {
                        found.more = true;
                        return Ok(found);
                    }
                    found.names.push(row.get(0));
                }
                match rows.last() {
                    Some(last) if rows.len() > limit => after = last.get(0),
                    _ => return Ok(found),
                }
            }
        })
    }
}
