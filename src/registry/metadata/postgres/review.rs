//! Reviews of blobs and manifests that may be unneeded: the queues that the
//! schema's triggers fill, a row at a time.
//!
//! A row stays locked while its review goes on; whoever relies on what it is
//! about waits for the end, and finds it gone or kept whole.

use std::time::Duration;

use deadpool_postgres::{Client, Transaction};
use jiff::Timestamp;
use tokio_postgres::types::ToSql;

use super::client::{Postgres, encode};
use crate::registry::metadata::MetadataError;
use crate::registry::oci::Digest;
use crate::registry::oci::manifest::Manifest;

/// How a review ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was due.
    Nothing,
    /// It is needed.
    Kept,
    /// It was removed.
    Removed {
        /// What: a digest, with the repository's path for a manifest.
        what: String,
        /// Why it was reviewed.
        event: String,
        /// Bytes that the storage got back.
        bytes: u64,
    },
}

/// How full a queue is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Rows in all.
    pub waiting: i64,
    /// Rows whose time has come.
    pub due: i64,
    /// Rows whose review failed before.
    pub postponed: i64,
    /// When the next review is due.
    pub next: Option<Timestamp>,
}

const NEXT_BLOB: &str = "SELECT digest, event FROM gc_blob_review_queue
    WHERE review_after < now() ORDER BY review_after LIMIT 1 FOR UPDATE SKIP LOCKED";
pub(super) const BLOB_IS_NEEDED: &str = "SELECT EXISTS (SELECT FROM gc_blobs_configurations WHERE digest = $1)
    OR EXISTS (SELECT FROM gc_blobs_layers WHERE digest = $1)";
const NEXT_MANIFEST: &str = "SELECT q.top_level_namespace_id, q.repository_id, q.manifest_id, q.event
    FROM gc_manifest_review_queue AS q
    WHERE q.review_after < now() ORDER BY q.review_after LIMIT 1 FOR UPDATE SKIP LOCKED";
// What is attached is looked for by its subject, one by one (OFFSET 0): joined as a whole, all that
// has a subject in the repository would be read.
//
// Tagged, part of an index, attached to something, or with something tagged
// attached to it, over any number of steps.
const MANIFEST_IS_NEEDED: &str = "WITH RECURSIVE attached AS (
        SELECT $3::bigint AS id
        UNION SELECT m.id FROM attached AS a CROSS JOIN LATERAL
            (SELECT m.id FROM manifests AS m WHERE m.top_level_namespace_id = $1
                AND m.repository_id = $2 AND m.subject_id = a.id OFFSET 0) AS m)
    SELECT EXISTS (SELECT FROM manifests AS m
            WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2 AND m.id = $3
                AND m.subject_id IS NOT NULL)
        OR EXISTS (SELECT FROM attached AS a CROSS JOIN LATERAL
            (SELECT FROM tags AS t WHERE t.top_level_namespace_id = $1
                AND t.repository_id = $2 AND t.manifest_id = a.id LIMIT 1) AS t)
        OR EXISTS (SELECT FROM attached AS a CROSS JOIN LATERAL
            (SELECT FROM manifest_references AS r WHERE r.top_level_namespace_id = $1
                AND r.repository_id = $2 AND r.child_id = a.id LIMIT 1) AS r)";
const ABOUT: &str =
    "SELECT r.path, m.digest, CASE WHEN position('\"subject\"'::bytea IN m.payload) > 0 THEN m.payload END
    FROM manifests AS m JOIN repositories AS r
        ON r.top_level_namespace_id = m.top_level_namespace_id AND r.id = m.repository_id
    WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2 AND m.id = $3";
const ATTACH: &str = "UPDATE manifests AS m SET subject_id = s.id FROM manifests AS s
    WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2 AND m.id = $3
        AND s.top_level_namespace_id = $1 AND s.repository_id = $2 AND s.digest = $4";
const HOLD_MANIFEST: &str = "SELECT FROM manifests
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND id = $3 FOR UPDATE";
const EARLY: &str = "SELECT id, payload FROM manifests
    WHERE top_level_namespace_id = $1 AND repository_id = $2
        AND subject_id IS NULL AND position('\"subject\"'::bytea IN payload) > 0";
/// All that is attached to a manifest, over any number of steps; what nothing is attached to comes first.
const ATTACHED: &str = "WITH RECURSIVE attached AS (
        SELECT $3::bigint AS id, 0 AS depth
        UNION SELECT m.id, a.depth + 1 FROM attached AS a CROSS JOIN LATERAL
            (SELECT m.id FROM manifests AS m WHERE m.top_level_namespace_id = $1
                AND m.repository_id = $2 AND m.subject_id = a.id OFFSET 0) AS m)
    SELECT id FROM attached WHERE depth > 0 ORDER BY depth DESC, id";
const REMOVE_MANIFEST: &str = "DELETE FROM manifests
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND id = $3";
pub(super) const DONE_MANIFEST: &str = "DELETE FROM gc_manifest_review_queue
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND manifest_id = $3";
// Five minutes, and twice as long each time, up to a day.
const POSTPONE_BLOB: &str = "UPDATE gc_blob_review_queue SET review_count = review_count + 1,
        review_after = now() + least(interval '5 minutes' * (2 ^ least(review_count, 16)), interval '1 day')
    WHERE digest = $1";
const POSTPONE_MANIFEST: &str = "UPDATE gc_manifest_review_queue SET review_count = review_count + 1,
        review_after = now() + least(interval '5 minutes' * (2 ^ least(review_count, 16)), interval '1 day')
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND manifest_id = $3";
const DONE_BLOB: &str = "DELETE FROM gc_blob_review_queue WHERE digest = $1";

/// A blob's review under way: a transaction that is open.
pub struct BlobReview<'a> {
    postgres: &'a Postgres,
    transaction: Transaction<'a>,
    encoded: Vec<u8>,
    event: String,
}

impl BlobReview<'_> {
    /// Returns what its row is found by.
    pub fn key(&self) -> &[u8] {
        &self.encoded
    }

    /// Returns why the blob is reviewed.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// Returns the blob, where nothing needs it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn unneeded(&self) -> Result<Option<Digest>, MetadataError> {
        let row = self
            .postgres
            .row(&self.transaction, BLOB_IS_NEEDED, &[&self.encoded])
            .await?;
        Ok(Digest::from_bytes(&self.encoded).filter(|_| !row.is_some_and(|row| row.get(0))))
    }

    /// Takes the blob off the queue, and ends the review.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn keep(self) -> Result<(), MetadataError> {
        self.execute(DONE_BLOB).await?;
        self.commit().await
    }

    /// Removes the blob's row, and takes it off the queue; fails where
    /// something refers to it all the same.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn remove(&self) -> Result<(), MetadataError> {
        self.execute("DELETE FROM blobs WHERE digest = $1").await?;
        self.execute(DONE_BLOB).await
    }

    async fn execute(&self, sql: &str) -> Result<(), MetadataError> {
        let done = self.postgres.execute(&self.transaction, sql, &[&self.encoded]).await;
        done.map(drop)
    }

    /// Ends the review: until then nobody sees what it did.
    ///
    /// # Errors
    /// Those of the database; also when somebody else ended its session.
    pub async fn commit(self) -> Result<(), MetadataError> {
        let committed = self.transaction.commit().await;
        committed.map_err(|error| self.postgres.failed(error))
    }
}

impl Postgres {
    /// Sets the time from events to reviews, where the configuration names one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn set_review_after(&self, time: Duration) -> Result<(), MetadataError> {
        let client = self.database.client().await?;
        let seconds = time.as_secs_f64();
        let sql = "UPDATE gc_review_after_defaults SET value = make_interval(secs => $1)";
        self.execute(&client, sql, &[&seconds]).await.map(drop)
    }

    /// Begins the review of the blob that waits longest for it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn next_blob<'a>(
        &'a self,
        client: &'a mut Client,
        limit: Duration,
    ) -> Result<Option<BlobReview<'a>>, MetadataError> {
        let transaction = client.transaction().await.map_err(|error| self.failed(error))?;
        self.limit(&transaction, limit).await?;
        let row = self.row(&transaction, NEXT_BLOB, &[]).await?;
        Ok(row.map(|row| BlobReview {
            postgres: self,
            transaction,
            encoded: row.get(0),
            event: row.get(1),
        }))
    }

    /// Puts a blob's review off that failed; twice as long each time. While
    /// the database is away, nothing can be put off.
    pub async fn postpone_blob(&self, client: &Client, key: &[u8], error: &MetadataError) {
        self.postpone(client, error, POSTPONE_BLOB, &[&key]).await;
    }

    /// Reviews the manifest that waits longest for it.
    ///
    /// # Errors
    /// Those of the database; the review is put off.
    pub async fn review_manifest(&self, limit: Duration) -> Result<Outcome, MetadataError> {
        let mut client = self.database.client().await?;
        let transaction = client.transaction().await.map_err(|error| self.failed(error))?;
        self.limit(&transaction, limit).await?;
        let Some(row) = self.row(&transaction, NEXT_MANIFEST, &[]).await? else {
            return Ok(Outcome::Nothing);
        };
        let (namespace, repository, id): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        let key: [&(dyn ToSql + Sync); 3] = [&namespace, &repository, &id];
        let outcome = self.review_manifest_row(transaction, &key, row.get(3)).await;
        if let Err(error) = &outcome {
            self.postpone(&client, error, POSTPONE_MANIFEST, &key).await;
        }
        outcome
    }

    async fn review_manifest_row(
        &self,
        transaction: Transaction<'_>,
        key: &[&(dyn ToSql + Sync); 3],
        event: String,
    ) -> Result<Outcome, MetadataError> {
        // Whoever is attaching something to it right now comes first.
        self.rows(&transaction, HOLD_MANIFEST, key).await?;
        let needed = self.row(&transaction, MANIFEST_IS_NEEDED, key).await?;
        let about = self.row(&transaction, ABOUT, key).await?;
        let mut needed = needed.is_some_and(|row| row.get(0));
        // One that came before its subject does not name it yet.
        let subject = about.as_ref().and_then(|row| {
            let payload: Option<Vec<u8>> = row.get(2);
            Manifest::parse(&payload?, None).ok()?.subject
        });
        // Also one that is tagged: the tag may go before the subject does.
        if let Some(subject) = subject {
            let digest = encode(&subject.digest);
            let attached = self
                .execute(&transaction, ATTACH, &[key[0], key[1], key[2], &digest])
                .await?;
            needed |= attached > 0;
        }
        if !needed
            && let Some(row) = &about
            && self.attach_early(&transaction, key, row.get(1)).await?
        {
            let again = self.row(&transaction, MANIFEST_IS_NEEDED, key).await?;
            needed = again.is_some_and(|row| row.get(0));
        }
        let mut outcome = Outcome::Kept;
        if needed {
            self.execute(&transaction, DONE_MANIFEST, key).await?;
        } else {
            // What is attached to it goes first: where a statement takes both, the
            // schema's trigger queues a subject that is gone already, and fails.
            let attached = self.rows(&transaction, ATTACHED, key).await?;
            for row in &attached {
                let id: i64 = row.get(0);
                self.execute(&transaction, REMOVE_MANIFEST, &[key[0], key[1], &id])
                    .await?;
            }
            self.execute(&transaction, REMOVE_MANIFEST, key).await?;
            if let Some(row) = about {
                let digest = Digest::from_bytes(row.get(1)).map_or_else(String::new, |digest| digest.to_string());
                let also = match attached.len() {
                    0 => String::new(),
                    count => format!(" with {count} attached to it"),
                };
                outcome = Outcome::Removed {
                    what: format!("{}@{digest}{also}", row.get::<_, String>(0)),
                    event,
                    bytes: 0,
                };
            }
        }
        transaction.commit().await.map_err(|error| self.failed(error))?;
        Ok(outcome)
    }

    /// Attaches to a manifest what came before it and names it as its
    /// subject; says whether anything did.
    async fn attach_early(
        &self,
        transaction: &Transaction<'_>,
        key: &[&(dyn ToSql + Sync); 3],
        own: &[u8],
    ) -> Result<bool, MetadataError> {
        let mut attached = false;
        for row in self.rows(transaction, EARLY, &key[..2]).await? {
            let (id, payload): (i64, Vec<u8>) = (row.get(0), row.get(1));
            let subject = Manifest::parse(&payload, None)
                .ok()
                .and_then(|manifest| manifest.subject);
            if subject.is_some_and(|subject| encode(&subject.digest) == own) {
                self.execute(transaction, ATTACH, &[key[0], key[1], &id, &own]).await?;
                self.execute(transaction, DONE_MANIFEST, &[key[0], key[1], &id]).await?;
                attached = true;
            }
        }
        Ok(attached)
    }

    async fn postpone(&self, client: &Client, error: &MetadataError, sql: &str, key: &[&(dyn ToSql + Sync)]) {
        let away = matches!(error, MetadataError::Database(error) if error.is_unavailable());
        if !away && let Err(error) = self.execute(client, sql, key).await {
            tracing::error!(error = %error, "cannot put off an online GC review");
        }
    }

    /// Returns how full the queues of blobs and manifests are.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn queues(&self) -> Result<[Queue; 2], MetadataError> {
        let client = self.database.client().await?;
        let mut queues = Vec::new();
        for table in ["gc_blob_review_queue", "gc_manifest_review_queue"] {
            let sql = format!(
                "SELECT count(*), count(*) FILTER (WHERE review_after < now()),
                    count(*) FILTER (WHERE review_count > 0),
                    (extract(epoch FROM min(review_after)) * 1000)::bigint FROM {table}"
            );
            let row = self
                .row(&client, &sql, &[])
                .await?
                .ok_or(MetadataError::Missing(Vec::new()))?;
            let next: Option<i64> = row.get(3);
            queues.push(Queue {
                waiting: row.get(0),
                due: row.get(1),
                postponed: row.get(2),
                next: next.and_then(|millis| Timestamp::from_millisecond(millis).ok()),
            });
        }
        queues.try_into().map_err(|_| MetadataError::Missing(Vec::new()))
    }

    /// Bounds what a transaction may wait and take.
    async fn limit(&self, transaction: &Transaction<'_>, limit: Duration) -> Result<(), MetadataError> {
        let millis = limit.as_millis();
        let sql = format!("SET LOCAL statement_timeout = {millis}; SET LOCAL lock_timeout = {millis}");
        transaction
            .batch_execute(&sql)
            .await
            .map_err(|error| self.failed(error))
    }
}
