//! Rows of many repositories at once, for the import.
//!
//! What GitLab's schema does for each row costs several times the row itself:
//! each foreign key looks into 64 partitions, each trigger runs a statement.
//! Where the database's user may say so (it is the server's own, in a root),
//! neither is done for the rows of an import. What they would do is done for
//! all of them at once; what they would check is so already: blobs are there
//! before what names them, and nobody else works on the database meanwhile.

use std::collections::{BTreeMap, HashMap, HashSet};

use deadpool_postgres::{GenericClient, Transaction};
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::client::{Postgres, attempt, decode, encode};
use super::connection::{ADMIN, IMPORT};
use super::layers::Layers;
use super::manifest_row::{ManifestRow, config_type, entry_type};
use super::repository::Repository;
use crate::registry::metadata::MetadataError;
use crate::registry::oci::{Digest, RepoName, Tag};

/// Rows that one statement brings at most.
const BATCH: usize = 1000;

/// Leaves out triggers and foreign keys in this transaction.
const DIRECT: &str = "SET LOCAL session_replication_role = replica";
/// Has them again.
const CHECKED: &str = "SET LOCAL session_replication_role = origin";

const NAMESPACES: &str = "INSERT INTO top_level_namespaces (name) SELECT DISTINCT name FROM unnest($1::text[]) AS name
    ORDER BY name ON CONFLICT (name) DO NOTHING";
const REPOSITORIES: &str = "INSERT INTO repositories (top_level_namespace_id, name, path)
    SELECT t.id, x.name, x.path FROM unnest($1::text[], $2::text[], $3::text[]) AS x(top, name, path)
    JOIN top_level_namespaces AS t ON t.name = x.top ORDER BY x.path
    ON CONFLICT (path) DO UPDATE SET deleted_at = NULL WHERE repositories.deleted_at IS NOT NULL";
const FIND_REPOSITORIES: &str = "SELECT path, top_level_namespace_id, id FROM repositories
    WHERE path = ANY($1) AND deleted_at IS NULL";
const PUT_BLOBS: &str = "WITH new AS (
        INSERT INTO blobs (digest, media_type_id, size)
        SELECT x.digest, t.id, x.size FROM unnest($1::bytea[], $2::bigint[]) AS x(digest, size),
            media_types AS t WHERE t.media_type = 'application/octet-stream'
        ORDER BY x.digest ON CONFLICT (digest) DO NOTHING RETURNING size)
    SELECT count(*), coalesce(sum(size), 0)::bigint FROM new";
const LINK_BLOBS: &str = "INSERT INTO repository_blobs (top_level_namespace_id, repository_id, blob_digest)
    SELECT x.n, x.r, x.digest FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS x(n, r, digest)
    ORDER BY x.n, x.r, x.digest
    ON CONFLICT (top_level_namespace_id, repository_id, blob_digest) DO NOTHING";
const PUT_TAGS: &str = "INSERT INTO tags (top_level_namespace_id, repository_id, name, manifest_id, created_at)
    SELECT x.n, x.r, x.name, m.id, coalesce(to_timestamp(x.since / 1000.0), now())
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[], $5::bigint[]) AS x(n, r, name, digest, since)
    JOIN manifests AS m ON m.top_level_namespace_id = x.n AND m.repository_id = x.r AND m.digest = x.digest
    ORDER BY x.n, x.r, x.name
    ON CONFLICT (top_level_namespace_id, repository_id, name)
        DO UPDATE SET manifest_id = excluded.manifest_id WHERE tags.manifest_id <> excluded.manifest_id";
/// How many are as they should be.
const COUNT_TAGS: &str = "SELECT x.r, count(*)
    FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bytea[]) AS x(n, r, name, digest)
    JOIN manifests AS m ON m.top_level_namespace_id = x.n AND m.repository_id = x.r AND m.digest = x.digest
    JOIN tags AS t ON t.top_level_namespace_id = x.n AND t.repository_id = x.r AND t.name = x.name
        AND t.manifest_id = m.id
    GROUP BY x.r";
const DIGESTS: &str = "SELECT r.path, m.digest FROM repositories AS r JOIN manifests AS m
        ON m.top_level_namespace_id = r.top_level_namespace_id AND m.repository_id = r.id
    WHERE r.path = ANY($1)";
const PUT_MANIFESTS: &str = "INSERT INTO manifests (top_level_namespace_id, repository_id, digest, payload,
        schema_version, media_type_id, media_type_id_convert_to_bigint, artifact_media_type_id,
        configuration_media_type_id, configuration_blob_digest, configuration_payload, total_size,
        non_distributable_layers)
    SELECT x.n, x.r, x.digest, x.payload, 2, x.media_type, x.media_type, x.artifact_type, x.config_type,
        x.config, x.configuration, x.total_size, x.non_distributable
    FROM unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::bytea[], $5::smallint[], $6::bigint[], $7::smallint[],
            $8::bytea[], $9::bytea[], $10::bigint[], $11::boolean[])
        AS x(n, r, digest, payload, media_type, artifact_type, config_type, config, configuration, total_size,
            non_distributable)
    ORDER BY x.n, x.r, x.digest
    ON CONFLICT (top_level_namespace_id, repository_id, digest) DO NOTHING
    RETURNING top_level_namespace_id, repository_id, id, digest, configuration_blob_digest";
/// What the triggers do for a manifest, for all that come from `new`.
const TRACK_MANIFESTS: &str = ", queued AS (
        INSERT INTO gc_manifest_review_queue
            (top_level_namespace_id, repository_id, manifest_id, review_after, event)
        SELECT top_level_namespace_id, repository_id, id, gc_review_after('manifest_upload'), 'manifest_upload'
        FROM new),
    configurations AS (
        INSERT INTO gc_blobs_configurations (top_level_namespace_id, repository_id, manifest_id, digest)
        SELECT top_level_namespace_id, repository_id, id, configuration_blob_digest FROM new
        WHERE configuration_blob_digest IS NOT NULL ON CONFLICT (digest, manifest_id) DO NOTHING),
    remembered AS (
        INSERT INTO gc_tmp_blobs_manifests (digest) SELECT DISTINCT digest FROM new ORDER BY digest
        ON CONFLICT (digest) DO NOTHING)";
/// What the trigger does for a layer, for all that come from `new`.
const TRACK_LAYERS: &str = "INSERT INTO gc_blobs_layers (top_level_namespace_id, repository_id, layer_id, digest)
    SELECT top_level_namespace_id, repository_id, id, digest FROM new
    ON CONFLICT (digest, layer_id) DO NOTHING";
const FIND_MANIFESTS: &str = "SELECT m.repository_id, m.digest, m.id
    FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS x(n, r, digest)
    JOIN manifests AS m ON m.top_level_namespace_id = x.n AND m.repository_id = x.r AND m.digest = x.digest";

/// What of a repository is brought in with others.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The repository.
    pub name: &'a RepoName,
    /// Blobs that are to belong to it, which must be there.
    pub blobs: &'a [Digest],
    /// Manifests, those first that others refer to.
    pub rows: &'a [ManifestRow],
}

/// What a tag stands for, and since when, where that is known.
#[derive(Clone, Debug)]
pub struct Since {
    /// The manifest.
    pub digest: Digest,
    /// When the tag was last put.
    pub time: Option<Timestamp>,
}

/// Columns of many manifests.
#[derive(Default)]
struct Manifests<'a> {
    namespace: Vec<i64>,
    repository: Vec<i64>,
    digest: Vec<Vec<u8>>,
    payload: Vec<&'a [u8]>,
    media_type: Vec<Option<i16>>,
    artifact_type: Vec<Option<i64>>,
    config_type: Vec<Option<i16>>,
    config: Vec<Option<Vec<u8>>>,
    configuration: Vec<Option<&'a [u8]>>,
    total_size: Vec<i64>,
    foreign: Vec<bool>,
}

impl<'a> Manifests<'a> {
    fn add(&mut self, at: Repository, row: &'a ManifestRow, id_of: impl Fn(&str) -> Option<i16>) {
        let config = row.config();
        self.namespace.push(at.namespace);
        self.repository.push(at.id);
        self.digest.push(encode(row.digest()));
        self.payload.push(&row.content);
        self.media_type.push(id_of(&row.manifest.media_type));
        let artifact = row.artifact_type.as_deref().and_then(&id_of);
        self.artifact_type.push(artifact.map(i64::from));
        self.config_type
            .push(config.and_then(|config| id_of(config_type(config))));
        self.config.push(config.map(|config| encode(&config.digest)));
        self.configuration.push(row.kept_configuration());
        self.total_size.push(row.total_size(false));
        self.foreign.push(row.has_foreign_layers());
    }
}

impl Postgres {
    /// Says whether this user may leave out triggers and foreign keys, and
    /// nobody else works on the database.
    pub(super) async fn may_be_direct(&self, client: &impl GenericClient) -> Result<bool, MetadataError> {
        let sql = "SELECT has_parameter_privilege('session_replication_role', 'SET')
            AND NOT EXISTS (SELECT FROM pg_stat_activity
                WHERE datname = current_database() AND coalesce(backend_type, 'client backend') = 'client backend'
                    AND application_name <> ALL($1))";
        let harmless: &[&str] = &[ADMIN, IMPORT, "psql"];
        let row = self.row(client, sql, &[&harmless]).await?;
        Ok(row.is_some_and(|row| row.get(0)))
    }

    async fn batch(&self, transaction: &Transaction<'_>, sql: &str) -> Result<(), MetadataError> {
        transaction.batch_execute(sql).await.map_err(|error| self.failed(error))
    }

    /// Finds repositories, or makes them; in the order of the names.
    async fn make_repositories(
        &self,
        client: &impl GenericClient,
        names: &[&RepoName],
    ) -> Result<Vec<Repository>, MetadataError> {
        let paths: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        let mut known = self.find_repositories(client, &paths).await?;
        let missing: Vec<&str> = paths
            .iter()
            .copied()
            .filter(|path| !known.contains_key(*path))
            .collect();
        if !missing.is_empty() {
            let top = |path: &&str| path.split('/').next().unwrap_or_default().to_owned();
            let last = |path: &&str| path.rsplit('/').next().unwrap_or_default().to_owned();
            let tops: Vec<String> = missing.iter().map(top).collect();
            let lasts: Vec<String> = missing.iter().map(last).collect();
            self.execute(client, NAMESPACES, &[&tops]).await?;
            self.execute(client, REPOSITORIES, &[&tops, &lasts, &missing]).await?;
            known = self.find_repositories(client, &paths).await?;
        }
        let found: Option<Vec<Repository>> = paths.iter().map(|path| known.get(*path).copied()).collect();
        found.ok_or(MetadataError::Missing(Vec::new()))
    }

    async fn find_repositories(
        &self,
        client: &impl GenericClient,
        paths: &[&str],
    ) -> Result<HashMap<String, Repository>, MetadataError> {
        let rows = self.rows(client, FIND_REPOSITORIES, &[&paths]).await?;
        let found = rows.iter().map(|row| {
            let at = Repository {
                namespace: row.get(1),
                id: row.get(2),
                version: None,
            };
            (row.get(0), at)
        });
        Ok(found.collect())
    }

    /// Brings blobs in, of whatever repositories; returns how many were new,
    /// and their bytes.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn import_blobs(&self, blobs: &BTreeMap<Digest, u64>) -> Result<(i64, i64), MetadataError> {
        let all: Vec<(Vec<u8>, i64)> = blobs
            .iter()
            .map(|(digest, size)| (encode(digest), i64::try_from(*size).unwrap_or(i64::MAX)))
            .collect();
        let (mut new, mut bytes) = (0, 0);
        for batch in all.chunks(BATCH) {
            let (digests, sizes): (Vec<&[u8]>, Vec<i64>) =
                batch.iter().map(|(digest, size)| (digest.as_slice(), *size)).unzip();
            let added: Result<Option<Row>, MetadataError> =
                attempt!(self, client, self.row(&client, PUT_BLOBS, &[&digests, &sizes]).await);
            if let Some(row) = added? {
                new += row.get::<_, i64>(0);
                bytes += row.get::<_, i64>(1);
            }
        }
        Ok((new, bytes))
    }

    /// Brings manifests in, of one repository or many. Their blobs must be there.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn import_manifests(&self, parts: &[Part<'_>], direct: bool) -> Result<(), MetadataError> {
        let names: Vec<&RepoName> = parts.iter().map(|part| part.name).collect();
        let rows = || parts.iter().flat_map(|part| part.rows);
        let types: HashSet<&str> = rows().flat_map(ManifestRow::types).collect();
        let types: Vec<&str> = types.into_iter().collect();
        attempt!(self, mut client, {
            let places = self.make_repositories(&client, &names).await?;
            // Outside of the transaction: an id must not be remembered that was rolled back.
            let types = self.type_ids(&client, &types).await?;
            let transaction = client.transaction().await.map_err(|error| self.failed(error))?;
            if direct {
                self.batch(&transaction, DIRECT).await?;
            }
            self.link_blobs(&transaction, parts, &places).await?;
            let all = || {
                let placed = parts.iter().zip(&places);
                placed.flat_map(|(part, at)| part.rows.iter().map(move |row| (*at, row)))
            };
            // What refers to nothing may come first, and together.
            let plain: Vec<_> = all().filter(|(_, row)| row.is_plain()).collect();
            self.insert_plain(&transaction, &plain, &types, direct).await?;
            if direct {
                self.batch(&transaction, CHECKED).await?;
            }
            for (at, row) in all().filter(|(_, row)| !row.is_plain()) {
                self.insert_manifest(&transaction, at, row, &[]).await?;
            }
            transaction.commit().await.map_err(|error| self.failed(error))
        })
    }

    async fn link_blobs(
        &self,
        transaction: &Transaction<'_>,
        parts: &[Part<'_>],
        places: &[Repository],
    ) -> Result<(), MetadataError> {
        let (mut namespaces, mut repositories, mut digests) = (Vec::new(), Vec::new(), Vec::new());
        for (part, at) in parts.iter().zip(places) {
            for digest in part.blobs {
                namespaces.push(at.namespace);
                repositories.push(at.id);
                digests.push(encode(digest));
            }
        }
        self.execute(transaction, LINK_BLOBS, &[&namespaces, &repositories, &digests])
            .await
            .map(drop)
    }

    /// Writes images that are attached to nothing.
    async fn insert_plain(
        &self,
        transaction: &Transaction<'_>,
        rows: &[(Repository, &ManifestRow)],
        types: &HashMap<String, i16>,
        direct: bool,
    ) -> Result<(), MetadataError> {
        if rows.is_empty() {
            return Ok(());
        }
        let id_of = |name: &str| types.get(name).copied();
        let mut columns = Manifests::default();
        for (at, row) in rows {
            columns.add(*at, row, id_of);
        }
        let track = if direct { TRACK_MANIFESTS } else { "" };
        let sql = format!("WITH new AS ({PUT_MANIFESTS}){track} SELECT repository_id, digest, id FROM new");
        let mut found = self
            .rows(
                transaction,
                &sql,
                &[
                    &columns.namespace,
                    &columns.repository,
                    &columns.digest,
                    &columns.payload,
                    &columns.media_type,
                    &columns.artifact_type,
                    &columns.config_type,
                    &columns.config,
                    &columns.configuration,
                    &columns.total_size,
                    &columns.foreign,
                ],
            )
            .await?;
        if found.len() < rows.len() {
            // Some were there, from a run that was cut off.
            let keys: [&(dyn ToSql + Sync); 3] = [&columns.namespace, &columns.repository, &columns.digest];
            found.extend(self.rows(transaction, FIND_MANIFESTS, &keys).await?);
        }
        let ids: HashMap<(i64, &[u8]), i64> = found.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
        let mut layers = Layers::default();
        for ((at, row), digest) in rows.iter().zip(&columns.digest) {
            let id = ids.get(&(at.id, digest.as_slice())).copied().unwrap_or_default();
            for layer in row.entries() {
                layers.add(*at, id, row, layer, id_of(entry_type(layer)));
            }
        }
        let track = direct.then_some(TRACK_LAYERS);
        self.insert_layers(transaction, layers, track).await
    }

    /// Returns which manifests repositories have already.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn known_manifests(&self, names: &[&RepoName]) -> Result<HashSet<(String, Digest)>, MetadataError> {
        let paths: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        attempt!(self, client, {
            let rows = self.rows(&client, DIGESTS, &[&paths]).await?;
            let known = rows.iter().filter_map(|row| Some((row.get(0), decode(row, 1)?)));
            Ok(known.collect())
        })
    }

    /// Removes the tags that an import which was cut off brought in: some may
    /// be gone from the files, or stand for something else.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn clear_tags(&self, direct: bool) -> Result<(), MetadataError> {
        attempt!(self, mut client, {
            let transaction = client.transaction().await.map_err(|error| self.failed(error))?;
            if direct {
                self.batch(&transaction, DIRECT).await?;
            }
            self.execute(&transaction, "DELETE FROM tags", &[]).await?;
            transaction.commit().await.map_err(|error| self.failed(error))
        })
    }

    /// Lets tags stand for manifests that were brought in; returns how many
    /// do in each repository.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn import_tags(
        &self,
        parts: &[(RepoName, HashMap<Tag, Since>)],
        direct: bool,
    ) -> Result<Vec<usize>, MetadataError> {
        let names: Vec<&RepoName> = parts.iter().map(|(name, _)| name).collect();
        attempt!(self, mut client, {
            let places = self.make_repositories(&client, &names).await?;
            let (mut namespaces, mut repositories) = (Vec::new(), Vec::new());
            let (mut tags, mut digests, mut times) = (Vec::new(), Vec::new(), Vec::new());
            for ((_, part), at) in parts.iter().zip(&places) {
                for (tag, Since { digest, time }) in part {
                    namespaces.push(at.namespace);
                    repositories.push(at.id);
                    tags.push(tag.as_str());
                    digests.push(encode(digest));
                    times.push(time.map(Timestamp::as_millisecond));
                }
            }
            let transaction = client.transaction().await.map_err(|error| self.failed(error))?;
            if direct {
                self.batch(&transaction, DIRECT).await?;
            }
            let columns: [&(dyn ToSql + Sync); 4] = [&namespaces, &repositories, &tags, &digests];
            let [n, r, names, manifests] = columns;
            self.execute(&transaction, PUT_TAGS, &[n, r, names, manifests, &times])
                .await?;
            let counts: HashMap<i64, i64> = self
                .rows(&transaction, COUNT_TAGS, &columns)
                .await?
                .iter()
                .map(|row| (row.get(0), row.get(1)))
                .collect();
            transaction.commit().await.map_err(|error| self.failed(error))?;
            let count = |at: &Repository| counts.get(&at.id).copied().unwrap_or_default();
            Ok(places
                .iter()
                .map(|at| usize::try_from(count(at)).unwrap_or_default())
                .collect())
        })
    }
}
