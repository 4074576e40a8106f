//! Metadata in a PostgreSQL database, in GitLab's schema.
//!
//! Blobs' data stay in the storage; what belongs to which repository, and
//! manifests themselves, are rows. Statements name the partitioned parents
//! and their columns, so that a newer schema does not disturb them.
//!
//! A row of a review queue is the lock by which pushes and the online garbage
//! collection pass each other: whoever relies on a blob or manifest that is
//! there takes its row, and puts its review off.

pub mod admin;
pub mod bulk;
pub mod connection;
pub mod gitlab;
pub mod import;
pub mod migrations;
pub mod push;
pub mod rename;
pub mod review;
pub mod walk;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use deadpool_postgres::{Client, GenericClient};
use futures_util::future::try_join_all;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::{Metadata, MetadataError, Page, Stored};
use crate::registry::oci::{Digest, RepoName, Tag, media_type};
use crate::registry::storage::{Change, Durability, Storage};
pub use connection::{Database, DatabaseError};

/// How often an operation is tried when others are in its way, or its connection broke.
const TRIES: u32 = 8;
/// Longest first pause between two tries, in milliseconds; later ones are longer.
const PAUSE: u32 = 20;
/// First bits of the advisory locks on repositories.
const LOCKS: i64 = 0x6b64_6b00_0000_0000;

/// Runs statements on a connection, again where that may help. A transaction
/// takes `mut client`.
macro_rules! attempt {
    ($self:expr, mut $client:ident, $work:expr) => {
        attempt!(@ $self, (mut $client), $client, $work)
    };
    ($self:expr, $client:ident, $work:expr) => {
        attempt!(@ $self, ($client), $client, $work)
    };
    (@ $self:expr, ($($binding:tt)+), $client:ident, $work:expr) => {{
        let mut tries = 1;
        loop {
            let $($binding)+ = $self.database.client().await?;
            let outcome = async { $work }.await;
            match outcome {
                Err(MetadataError::Database(error)) if error.is_passing() && tries < TRIES => {
                    if error.is_unavailable() {
                        $self.database.forget($client);
                    }
                    crate::sys::task::sleep(pause(tries)).await;
                    tries += 1;
                }
                other => break other,
            }
        }
    }};
}
use attempt;

/// Returns how long to wait before the next try; by chance, so that those who
/// were in each other's way do not meet again.
fn pause(tries: u32) -> std::time::Duration {
    // Without chance they may meet again, and try once more.
    std::time::Duration::from_millis(crate::sys::random::below(u64::from(PAUSE * tries)))
}

/// Keys of a repository's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Repository {
    namespace: i64,
    id: i64,
}

impl Repository {
    /// Returns the number of the advisory lock on it.
    fn lock(self) -> i64 {
        LOCKS ^ self.id
    }
}

/// Metadata in a database; the data of blobs on a driver.
#[derive(Clone, Debug)]
pub struct Postgres {
    database: Database,
    driver: Storage,
    /// Ids of media types, which never change.
    types: Arc<Mutex<HashMap<String, i16>>>,
}

/// Writes a digest as the database keeps it: a byte for the algorithm, then the hash.
fn encode(digest: &Digest) -> Vec<u8> {
    digest.to_bytes()
}

fn decode(row: &Row, column: usize) -> Option<Digest> {
    Digest::from_bytes(row.get(column))
}

/// A column's stored manifest: its payload, and its media type after that.
fn stored(row: &Row, column: usize) -> Arc<Stored> {
    Arc::new(Stored {
        content: Bytes::from(row.get::<_, Vec<u8>>(column)),
        media_type: media_type::shared(row.get(column + 1)),
    })
}

impl Postgres {
    /// Makes the metadata on a database and a driver.
    pub fn new(database: Database, driver: Storage) -> Self {
        Self {
            database,
            driver,
            types: Arc::default(),
        }
    }

    /// Returns the database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    fn failed(&self, error: Error) -> MetadataError {
        self.database.failure(error).into()
    }

    async fn rows(
        &self,
        client: &impl GenericClient,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, MetadataError> {
        let rows = async {
            let statement = client.prepare_cached(sql).await?;
            client.query(&statement, parameters).await
        };
        rows.await.map_err(|error| self.failed(error))
    }

    async fn row(
        &self,
        client: &impl GenericClient,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, MetadataError> {
        Ok(self.rows(client, sql, parameters).await?.into_iter().next())
    }

    async fn execute(
        &self,
        client: &impl GenericClient,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, MetadataError> {
        let done = async {
            let statement = client.prepare_cached(sql).await?;
            client.execute(&statement, parameters).await
        };
        done.await.map_err(|error| self.failed(error))
    }

    /// Sends statements one after the other without waiting for their
    /// answers, which come in the same order.
    async fn pipeline(
        &self,
        client: &impl GenericClient,
        statements: &[(&str, &[&(dyn ToSql + Sync)])],
    ) -> Result<Vec<Vec<Row>>, MetadataError> {
        let answers = async {
            // Before: a statement that is not prepared yet would come late.
            let mut prepared = Vec::new();
            for (sql, _) in statements {
                prepared.push(client.prepare_cached(sql).await?);
            }
            let sent = prepared.iter().zip(statements);
            try_join_all(sent.map(|(statement, (_, parameters))| client.query(statement, parameters))).await
        };
        answers.await.map_err(|error| self.failed(error))
    }

    /// Finds a row of a repository by a key of it.
    async fn find(&self, name: &RepoName, sql: &str, key: &(dyn ToSql + Sync)) -> Result<Option<Row>, MetadataError> {
        attempt!(self, client, {
            let Some(at) = self.repository(&client, name).await? else {
                return Ok(None);
            };
            self.row(&client, sql, &[&at.namespace, &at.id, key]).await
        })
    }

    /// Deletes a row of a repository by a key of it; says whether it was there.
    async fn delete(
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

    async fn repository(
        &self,
        client: &impl GenericClient,
        name: &RepoName,
    ) -> Result<Option<Repository>, MetadataError> {
        const FIND: &str = "SELECT top_level_namespace_id, id FROM repositories WHERE path = $1 AND deleted_at IS NULL";
        let row = self.row(client, FIND, &[&name.as_str()]).await?;
        Ok(row.map(|row| Repository {
            namespace: row.get(0),
            id: row.get(1),
        }))
    }

    /// Finds a repository, or makes it.
    async fn make_repository(&self, client: &impl GenericClient, name: &RepoName) -> Result<Repository, MetadataError> {
        const NAMESPACE: &str = "INSERT INTO top_level_namespaces (name) VALUES ($1) ON CONFLICT (name) DO NOTHING";
        const MAKE: &str = "INSERT INTO repositories (top_level_namespace_id, name, path)
            SELECT id, $2, $3 FROM top_level_namespaces WHERE name = $1
            ON CONFLICT (path) DO UPDATE SET deleted_at = NULL
            RETURNING top_level_namespace_id, id";
        if let Some(known) = self.repository(client, name).await? {
            return Ok(known);
        }
        let path = name.as_str();
        let top = path.split('/').next().unwrap_or(path);
        let last = path.rsplit('/').next().unwrap_or(path);
        self.execute(client, NAMESPACE, &[&top]).await?;
        let row = self.row(client, MAKE, &[&top, &last, &path]).await?;
        let row = row.ok_or(MetadataError::Missing(Vec::new()))?;
        Ok(Repository {
            namespace: row.get(0),
            id: row.get(1),
        })
    }

    /// Returns the ids of media types; those that nobody used before are added.
    async fn type_ids(
        &self,
        client: &impl GenericClient,
        names: &[&str],
    ) -> Result<HashMap<String, i16>, MetadataError> {
        const ADD: &str = "INSERT INTO media_types (media_type) SELECT DISTINCT unnest($1::text[])
            ON CONFLICT (media_type) DO NOTHING";
        const FIND: &str = "SELECT media_type, id FROM media_types WHERE media_type = ANY($1)";
        const LONGEST: usize = 255;
        let mut found = HashMap::new();
        let mut unknown = Vec::new();
        {
            let types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
            for name in names {
                match types.get(*name) {
                    Some(id) => drop(found.insert((*name).to_owned(), *id)),
                    None if name.trim().is_empty() || name.contains('\0') || name.chars().count() > LONGEST => {
                        return Err(MetadataError::MediaType((*name).to_owned()));
                    }
                    None => unknown.push(*name),
                }
            }
        }
        if unknown.is_empty() {
            return Ok(found);
        }
        let mut rows = self.rows(client, FIND, &[&unknown]).await?;
        if rows.len() < unknown.len() {
            self.execute(client, ADD, &[&unknown]).await?;
            rows = self.rows(client, FIND, &[&unknown]).await?;
        }
        let mut types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            types.insert(row.get(0), row.get(1));
            found.insert(row.get(0), row.get(1));
        }
        Ok(found)
    }
}

const MANIFEST: &str = "SELECT m.payload, t.media_type FROM manifests AS m
    JOIN media_types AS t ON t.id = m.media_type_id
    WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2 AND m.digest = $3";
const HAS_MANIFEST: &str = "SELECT 1 FROM manifests
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND digest = $3";
const TAGGED: &str = "SELECT m.digest, m.payload, y.media_type FROM tags AS t
    JOIN manifests AS m ON m.top_level_namespace_id = t.top_level_namespace_id
        AND m.repository_id = t.repository_id AND m.id = t.manifest_id
    JOIN media_types AS y ON y.id = m.media_type_id
    WHERE t.top_level_namespace_id = $1 AND t.repository_id = $2 AND t.name = $3";
const RESOLVE: &str = "SELECT m.digest FROM tags AS t
    JOIN manifests AS m ON m.top_level_namespace_id = t.top_level_namespace_id
        AND m.repository_id = t.repository_id AND m.id = t.manifest_id
    WHERE t.top_level_namespace_id = $1 AND t.repository_id = $2 AND t.name = $3";
const DELETE_MANIFEST: &str = "DELETE FROM manifests
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND digest = $3";
const DETACH: &str = "UPDATE manifests SET subject_id = NULL
    WHERE top_level_namespace_id = $1 AND repository_id = $2
        AND subject_id = (SELECT s.id FROM manifests AS s
            WHERE s.top_level_namespace_id = $1 AND s.repository_id = $2 AND s.digest = $3)";
const DELETE_TAG: &str = "DELETE FROM tags
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND name = $3";
const TAGS: &str = "SELECT name FROM tags
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND name > $3 ORDER BY name LIMIT $4";
/// Those of a subject that is there.
const REFERRERS: &str = "SELECT m.digest, m.payload, t.media_type FROM manifests AS m
    JOIN media_types AS t ON t.id = m.media_type_id
    WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2
        AND m.subject_id = (SELECT s.id FROM manifests AS s
            WHERE s.top_level_namespace_id = $1 AND s.repository_id = $2 AND s.digest = $3)";
/// Those that came before their subject, whose row does not name it.
const UNATTACHED: &str = "SELECT m.digest, m.payload, t.media_type FROM manifests AS m
    JOIN media_types AS t ON t.id = m.media_type_id
    WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2
        AND m.subject_id IS NULL AND m.artifact_media_type_id IS NOT NULL";
const HAS_BLOB: &str = "SELECT 1 FROM repository_blobs
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND blob_digest = $3";
const MISSING: &str = "SELECT d FROM unnest($3::bytea[]) AS d
    WHERE NOT EXISTS (SELECT FROM repository_blobs AS b
            WHERE b.top_level_namespace_id = $1 AND b.repository_id = $2 AND b.blob_digest = d)
        AND NOT ($4 AND EXISTS (SELECT FROM manifests AS m
            WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2 AND m.digest = d))";
const UNLINK_BLOB: &str = "DELETE FROM repository_blobs
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND blob_digest = $3";
const REPOSITORIES: &str = "SELECT r.path FROM repositories AS r
    WHERE r.path > $1 AND r.deleted_at IS NULL AND EXISTS (SELECT FROM manifests AS m
        WHERE m.top_level_namespace_id = r.top_level_namespace_id AND m.repository_id = r.id)
    ORDER BY r.path LIMIT $2";

/// Returns where a page begins; the database knows no text with a NUL.
fn without_nul(last: Option<&str>) -> &str {
    last.unwrap_or_default().split('\0').next().unwrap_or_default()
}

/// Cuts a page out of rows of which there may be one too many.
fn page(rows: &[Row], limit: usize) -> Page {
    let more = rows.len() > limit;
    let names = rows.iter().take(limit).map(|row| row.get(0)).collect();
    Page { names, more }
}

/// Returns how many rows a page takes, and one to see whether more follow.
fn page_rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}

impl Metadata for Postgres {
    async fn manifest(&self, name: &RepoName, digest: &Digest) -> Result<Option<Arc<Stored>>, MetadataError> {
        let row = self.find(name, MANIFEST, &encode(digest)).await?;
        Ok(row.map(|row| stored(&row, 0)))
    }

    async fn tagged(&self, name: &RepoName, tag: &Tag) -> Result<Option<(Digest, Arc<Stored>)>, MetadataError> {
        let row = self.find(name, TAGGED, &tag.as_str()).await?;
        Ok(row.and_then(|row| Some((decode(&row, 0)?, stored(&row, 1)))))
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
        let key = encode(digest);
        attempt!(self, mut client, {
            match self.delete(&mut client, name, DELETE_MANIFEST, &key).await {
                // All else that refers to it goes with it.
                Err(MetadataError::Database(error)) if error.is_reference() => Err(MetadataError::Referenced),
                other => other,
            }
        })
    }

    async fn delete_tag(&self, name: &RepoName, tag: &Tag) -> Result<bool, MetadataError> {
        attempt!(
            self,
            mut client,
            self.delete(&mut client, name, DELETE_TAG, &tag.as_str()).await
        )
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
        Ok(self.find(name, HAS_BLOB, &encode(digest)).await?.is_some())
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
        let key = encode(digest);
        attempt!(
            self,
            mut client,
            self.delete(&mut client, name, UNLINK_BLOB, &key).await
        )
    }

    async fn repositories(&self, last: Option<&str>, limit: usize) -> Result<Page, MetadataError> {
        attempt!(self, client, {
            let last = without_nul(last);
            let rows = self.rows(&client, REPOSITORIES, &[&last, &page_rows(limit)]).await?;
            Ok(page(&rows, limit))
        })
    }
}
