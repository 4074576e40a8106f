//! Rows of whole repositories at once, for the import.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use deadpool_postgres::Transaction;

use super::push::{Layers, ManifestRow, config_type, entry_type};
use super::{Postgres, Repository, TRIES, attempt, encode, pause};
use crate::registry::metadata::MetadataError;
use crate::registry::oci::{Digest, RepoName, Tag};
use crate::registry::storage::Driver;

/// Number of the lock that an import holds.
const LOCK: i64 = 0x6b64_6b5f_696d_706f;
/// Tenths of a second that are waited for it.
const PATIENCE: u32 = 50;
/// Rows that one statement brings at most.
const BATCH: usize = 1000;

/// What an import has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Repositories with anything in them.
    pub repositories: i64,
    /// Tags.
    pub tags: i64,
    /// Manifests.
    pub manifests: i64,
    /// Blobs.
    pub blobs: i64,
    /// Their bytes.
    pub bytes: i64,
}

/// Steps of an import, as `import_statistics` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Manifests with all that they refer to.
    Manifests,
    /// Tags.
    Tags,
    /// Blobs that no manifest refers to.
    Blobs,
}

impl Step {
    fn column(self) -> &'static str {
        match self {
            Self::Manifests => "pre_import",
            Self::Tags => "tag_import",
            Self::Blobs => "blob_import",
        }
    }
}

/// An import under way: nobody else imports until it is dropped.
pub struct Import {
    /// Holds the lock.
    client: deadpool_postgres::Client,
    id: i64,
    /// Whether an earlier run brought the tags in, and what is there is newer.
    pub tags_are_done: bool,
}

const PUT_BLOBS: &str = "INSERT INTO blobs (digest, media_type_id, size)
    SELECT x.digest, t.id, x.size FROM unnest($1::bytea[], $2::bigint[]) AS x(digest, size),
        media_types AS t WHERE t.media_type = 'application/octet-stream'
    ORDER BY x.digest ON CONFLICT (digest) DO NOTHING";
const LINK_BLOBS: &str = "INSERT INTO repository_blobs (top_level_namespace_id, repository_id, blob_digest)
    SELECT $1, $2, digest FROM unnest($3::bytea[]) AS digest ORDER BY digest
    ON CONFLICT (top_level_namespace_id, repository_id, blob_digest) DO NOTHING";
const PUT_TAGS: &str = "INSERT INTO tags (top_level_namespace_id, repository_id, name, manifest_id)
    SELECT $1, $2, x.name, m.id FROM unnest($3::text[], $4::bytea[]) AS x(name, digest)
    JOIN manifests AS m ON m.top_level_namespace_id = $1 AND m.repository_id = $2 AND m.digest = x.digest
    ORDER BY x.name
    ON CONFLICT (top_level_namespace_id, repository_id, name)
        DO UPDATE SET manifest_id = excluded.manifest_id WHERE tags.manifest_id <> excluded.manifest_id";

const PUT_MANIFESTS: &str = "INSERT INTO manifests (top_level_namespace_id, repository_id, digest, payload,
        schema_version, media_type_id, artifact_media_type_id, configuration_media_type_id,
        configuration_blob_digest, configuration_payload, total_size, non_distributable_layers)
    SELECT $1, $2, x.digest, x.payload, 2, x.media_type, x.artifact_type, x.config_type,
        x.config, x.configuration, x.total_size, x.non_distributable
    FROM unnest($3::bytea[], $4::bytea[], $5::smallint[], $6::bigint[], $7::smallint[], $8::bytea[],
            $9::bytea[], $10::bigint[], $11::boolean[])
        AS x(digest, payload, media_type, artifact_type, config_type, config, configuration, total_size,
            non_distributable)
    ORDER BY x.digest
    ON CONFLICT (top_level_namespace_id, repository_id, digest) DO NOTHING";
const MANIFEST_IDS: &str = "SELECT digest, id FROM manifests
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND digest = ANY($3)";

/// Columns of many manifests.
#[derive(Default)]
struct Manifests<'a> {
    payload: Vec<&'a [u8]>,
    media_type: Vec<Option<i16>>,
    artifact_type: Vec<Option<i64>>,
    config_type: Vec<Option<i16>>,
    config: Vec<Option<Vec<u8>>>,
    configuration: Vec<Option<&'a [u8]>>,
    total_size: Vec<i64>,
    foreign: Vec<bool>,
}

impl<D: Driver> Postgres<D> {
    /// Begins an import, or goes on with one that did not come to its end.
    ///
    /// # Errors
    /// When the database has tags of its own, somebody else imports, or it fails.
    pub async fn begin_import(&self) -> Result<Import, MetadataError> {
        let client = self.database.client().await?;
        // What is noted here is durable, and with it all that was committed before.
        self.execute(&client, "SET synchronous_commit = on", &[]).await?;
        let mut tries = 0;
        loop {
            let row = self.row(&client, "SELECT pg_try_advisory_lock($1)", &[&LOCK]).await?;
            if row.is_some_and(|row| row.get(0)) {
                break;
            }
            // The server takes a moment to see that a killed import is gone.
            if tries == PATIENCE {
                return Err(MetadataError::Import("another import is under way".to_owned()));
            }
            tries += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let unfinished = self
            .row(
                &client,
                "SELECT id, coalesce(tag_import, false) FROM import_statistics
                    WHERE finished_at IS NULL ORDER BY id DESC LIMIT 1",
                &[],
            )
            .await?;
        if let Some(row) = unfinished {
            return Ok(Import {
                client,
                id: row.get(0),
                tags_are_done: row.get(1),
            });
        }
        let tags = self.row(&client, "SELECT FROM tags LIMIT 1", &[]).await?;
        if tags.is_some() {
            return Err(MetadataError::Import(
                "the metadata database has tags already; empty it first, with: kdk reset-registry-data".to_owned(),
            ));
        }
        let row = self
            .row(
                &client,
                "INSERT INTO import_statistics (started_at, storage_driver) VALUES (now(), 'filesystem') RETURNING id",
                &[],
            )
            .await?;
        let id = row.map_or(0, |row| row.get(0));
        Ok(Import {
            client,
            id,
            tags_are_done: false,
        })
    }

    /// Notes that a step begins, or has ended.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn note_step(&self, import: &Import, step: Step, ended: bool) -> Result<(), MetadataError> {
        let column = step.column();
        let sql = if ended {
            format!("UPDATE import_statistics SET {column} = true, {column}_finished_at = now() WHERE id = $1")
        } else {
            format!("UPDATE import_statistics SET {column}_started_at = now() WHERE id = $1")
        };
        self.execute(&import.client, &sql, &[&import.id]).await.map(drop)
    }

    /// Ends an import; `whole` says whether nothing of it is left to do.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn end_import(&self, import: Import, counts: Counts, whole: bool) -> Result<(), MetadataError> {
        // Else the first queries would be planned as if the tables were empty.
        import
            .client
            .batch_execute("ANALYZE")
            .await
            .map_err(|error| self.failed(error))?;
        let sql = "UPDATE import_statistics SET finished_at = CASE WHEN $7 THEN now() END, repositories_count = $2,
            tags_count = $3, manifests_count = $4, blobs_count = $5, blobs_size_bytes = $6 WHERE id = $1";
        let Counts {
            repositories,
            tags,
            manifests,
            blobs,
            bytes,
        } = counts;
        self.execute(
            &import.client,
            sql,
            &[&import.id, &repositories, &tags, &manifests, &blobs, &bytes, &whole],
        )
        .await?;
        // With the connection goes the lock.
        self.database.forget(import.client);
        Ok(())
    }

    /// Brings blobs in, of whatever repositories; returns how many were new.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn import_blobs(&self, blobs: &BTreeMap<Digest, u64>) -> Result<u64, MetadataError> {
        let all: Vec<(Vec<u8>, i64)> = blobs
            .iter()
            .map(|(digest, size)| (encode(digest), i64::try_from(*size).unwrap_or(i64::MAX)))
            .collect();
        let mut new = 0;
        for batch in all.chunks(BATCH) {
            let (digests, sizes): (Vec<&[u8]>, Vec<i64>) =
                batch.iter().map(|(digest, size)| (digest.as_slice(), *size)).unzip();
            let added: Result<u64, MetadataError> = attempt!(
                self,
                client,
                self.execute(&client, PUT_BLOBS, &[&digests, &sizes]).await
            );
            new += added?;
        }
        Ok(new)
    }

    /// Brings a repository's manifests in, those first that others refer to.
    /// Their blobs must be there.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn import_manifests(
        &self,
        name: &RepoName,
        blobs: &[Digest],
        rows: &[ManifestRow],
    ) -> Result<(), MetadataError> {
        let blobs: Vec<Vec<u8>> = blobs.iter().map(encode).collect();
        attempt!(self, mut client, {
            let at = self.make_repository(&client, name).await?;
            let transaction = client.transaction().await.map_err(|error| self.failed(error))?;
            self.execute(&transaction, LINK_BLOBS, &[&at.namespace, &at.id, &blobs])
                .await?;
            // Most are plain images, which need not come one by one.
            for run in rows.chunk_by(|a, b| a.is_plain() && b.is_plain()) {
                match run {
                    [row] => drop(self.insert_manifest(&transaction, at, row, false).await?),
                    many => self.insert_plain(&transaction, at, many).await?,
                }
            }
            transaction.commit().await.map_err(|error| self.failed(error))
        })
    }

    /// Writes many images that are attached to nothing.
    async fn insert_plain(
        &self,
        transaction: &Transaction<'_>,
        at: Repository,
        rows: &[ManifestRow],
    ) -> Result<(), MetadataError> {
        let names: HashSet<&str> = rows.iter().flat_map(ManifestRow::types).collect();
        let types = self
            .type_ids(transaction, &names.into_iter().collect::<Vec<_>>())
            .await?;
        let id_of = |name: &str| types.get(name).copied();
        let own: Vec<Vec<u8>> = rows.iter().map(|row| encode(row.digest())).collect();
        let mut manifests = Manifests::default();
        for row in rows {
            manifests.payload.push(&row.content);
            manifests.media_type.push(id_of(&row.manifest.media_type));
            let artifact = row.artifact_type.as_deref().and_then(id_of);
            manifests.artifact_type.push(artifact.map(i64::from));
            let config = row.config();
            manifests
                .config_type
                .push(config.and_then(|config| id_of(config_type(config))));
            manifests.config.push(config.map(|config| encode(&config.digest)));
            manifests.configuration.push(row.configuration.as_deref());
            manifests.total_size.push(row.total_size());
            manifests.foreign.push(row.has_foreign_layers());
        }
        self.execute(
            transaction,
            PUT_MANIFESTS,
            &[
                &at.namespace,
                &at.id,
                &own,
                &manifests.payload,
                &manifests.media_type,
                &manifests.artifact_type,
                &manifests.config_type,
                &manifests.config,
                &manifests.configuration,
                &manifests.total_size,
                &manifests.foreign,
            ],
        )
        .await?;
        let ids: HashMap<Vec<u8>, i64> = self
            .rows(transaction, MANIFEST_IDS, &[&at.namespace, &at.id, &own])
            .await?
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect();
        let mut layers = Layers::default();
        for (row, own) in rows.iter().zip(&own) {
            let id = ids.get(own).copied().unwrap_or_default();
            for layer in row.entries() {
                layers.add(id, layer, id_of(entry_type(layer)));
            }
        }
        self.insert_layers(transaction, at, layers).await
    }

    /// Lets tags stand for manifests that were brought in; returns how many do.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn import_tags(&self, name: &RepoName, tags: &HashMap<Tag, Digest>) -> Result<u64, MetadataError> {
        let (names, digests): (Vec<&str>, Vec<Vec<u8>>) =
            tags.iter().map(|(tag, digest)| (tag.as_str(), encode(digest))).unzip();
        attempt!(self, client, {
            let at = self.make_repository(&client, name).await?;
            self.execute(&client, PUT_TAGS, &[&at.namespace, &at.id, &names, &digests])
                .await?;
            let count = "SELECT count(*) FROM tags WHERE top_level_namespace_id = $1 AND repository_id = $2";
            let row = self.row(&client, count, &[&at.namespace, &at.id]).await?;
            Ok(row.map_or(0, |row| row.get::<_, i64>(0).unsigned_abs()))
        })
    }

    /// Counts rows.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn row_counts(&self) -> Result<Vec<(&'static str, i64)>, MetadataError> {
        const TABLES: [&str; 10] = [
            "top_level_namespaces",
            "repositories",
            "manifests",
            "manifest_references",
            "layers",
            "tags",
            "blobs",
            "repository_blobs",
            "gc_blob_review_queue",
            "gc_manifest_review_queue",
        ];
        let mut counts = Vec::new();
        for table in TABLES {
            let sql = format!("SELECT count(*) FROM {table}");
            let count: Result<i64, MetadataError> = attempt!(self, client, {
                let row = self.row(&client, &sql, &[]).await?;
                Ok(row.map_or(0, |row| row.get(0)))
            });
            counts.push((table, count?));
        }
        Ok(counts)
    }
}
