//! Writing a manifest: one transaction.

use deadpool_postgres::{Client, GenericClient, Transaction};
use tokio_postgres::types::ToSql;

use super::client::{Postgres, attempt, decode, encode};
use super::layers::Layers;
use super::manifest_row::{ManifestRow, config_type, entry_type};
use super::repository::Repository;
use super::review::DONE_MANIFEST;
use crate::registry::metadata::{MetadataError, Moves, PutManifest};
use crate::registry::oci::manifest::Descriptor;
use crate::registry::oci::references::Required;
use crate::registry::oci::{Digest, RepoName, Tag};

/// Media types that nobody used before that one manifest may bring: each stays for ever.
const MOST_NEW_TYPES: usize = 16;
/// Those of some blobs and manifests that a repository has not.
const MISSING: &str = "SELECT d FROM unnest($3::bytea[]) AS d
    WHERE (SELECT 1 FROM repository_blobs AS b
            WHERE b.top_level_namespace_id = $1 AND b.repository_id = $2 AND b.blob_digest BETWEEN d AND d
            ORDER BY b.blob_digest LIMIT 1) IS NULL
        AND NOT ($4 AND (SELECT 1 FROM manifests AS m
            WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2 AND m.digest BETWEEN d AND d
            ORDER BY m.digest LIMIT 1) IS NOT NULL)";
/// Lets additions pass side by side, and what changes something that is there alone.
const TAKE_TURN: &str = "SELECT CASE WHEN (SELECT 1 FROM manifests
            WHERE top_level_namespace_id = $1 AND repository_id = $2 AND digest BETWEEN $3 AND $3
            ORDER BY digest LIMIT 1) IS NOT NULL
        OR EXISTS (SELECT FROM unnest($4::text[]) AS n, LATERAL (SELECT FROM tags AS t
            WHERE t.top_level_namespace_id = $1 AND t.repository_id = $2 AND t.name BETWEEN n AND n
            ORDER BY t.name LIMIT 1) AS t)
        OR $6
        THEN pg_advisory_xact_lock($5) ELSE pg_advisory_xact_lock_shared($5) END,
    to_regclass('media_types')::oid::bigint";
/// Those of some tags that stand for another manifest.
const TAKEN: &str = "SELECT t.name FROM unnest($3::text[]) AS n, LATERAL (SELECT t.* FROM tags AS t
        WHERE t.top_level_namespace_id = $1 AND t.repository_id = $2 AND t.name BETWEEN n AND n
        ORDER BY t.name LIMIT 1) AS t
    WHERE t.manifest_id IS DISTINCT FROM (SELECT m.id FROM manifests AS m
        WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2 AND m.digest BETWEEN $4 AND $4
        ORDER BY m.digest LIMIT 1)";
// Whoever is about to rely on blobs keeps the collection from removing them.
const HOLD_BLOBS: &str = "SELECT FROM gc_blob_review_queue
    WHERE digest = ANY($1) AND review_after < now() + interval '1 hour' ORDER BY digest FOR UPDATE";
const HOLD_MANIFESTS: &str = "SELECT FROM gc_manifest_review_queue AS q
    WHERE q.top_level_namespace_id = $1 AND q.repository_id = $2
        AND q.manifest_id = ANY(ARRAY(SELECT m.id FROM unnest($3::bytea[]) AS d,
            LATERAL (SELECT m.id FROM manifests AS m
                WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2 AND m.digest BETWEEN d AND d
                ORDER BY m.digest LIMIT 1) AS m))
        AND q.review_after < now() + interval '1 hour'
    ORDER BY q.manifest_id FOR UPDATE";
/// A new manifest with its layers and tags; nothing where it is there already.
const PUT_MANIFEST: &str = "WITH new AS (
        INSERT INTO manifests (top_level_namespace_id, repository_id, digest, payload,
            schema_version, media_type_id, artifact_media_type_id, configuration_media_type_id,
            configuration_blob_digest, configuration_payload, total_size, non_conformant,
            non_distributable_layers, subject_id)
        VALUES ($1, $2, $3, $4, 2, $5::smallint, $6::bigint, $7::smallint, $8, $9, $10, $11, $12, $13)
        ON CONFLICT (top_level_namespace_id, repository_id, digest) DO NOTHING RETURNING id),
    parts AS (
        INSERT INTO layers (top_level_namespace_id, repository_id, manifest_id, digest, media_type_id, size)
        SELECT $1, $2, new.id, x.digest, x.media_type_id, x.size
        FROM new, unnest($14::bytea[], $15::smallint[], $16::bigint[]) AS x(digest, media_type_id, size)
        ORDER BY x.digest
        ON CONFLICT (top_level_namespace_id, repository_id, manifest_id, digest) DO NOTHING),
    named AS (
        INSERT INTO tags (top_level_namespace_id, repository_id, name, manifest_id)
        SELECT $1, $2, name, new.id FROM new, unnest($17::text[]) AS name ORDER BY name
        ON CONFLICT (top_level_namespace_id, repository_id, name)
            DO UPDATE SET manifest_id = excluded.manifest_id, updated_at = now())
    SELECT id FROM new";
const MANIFEST_ID: &str = "SELECT id FROM manifests
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND digest BETWEEN $3 AND $3
    ORDER BY digest LIMIT 1";
const PUT_OFF_MANIFEST: &str = "INSERT INTO gc_manifest_review_queue
        (top_level_namespace_id, repository_id, manifest_id, review_after, event)
    VALUES ($1, $2, $3, gc_review_after('manifest_upload'), 'manifest_upload')
    ON CONFLICT (top_level_namespace_id, repository_id, manifest_id)
        DO UPDATE SET review_after = excluded.review_after, event = excluded.event";
// Nothing but the rows that it is given: each partitioned table that a
// statement reads costs more than the rest of it.
const PUT_LAYERS: &str = "INSERT INTO layers
        (top_level_namespace_id, repository_id, manifest_id, digest, media_type_id, size)
    SELECT x.n, x.r, x.manifest_id, x.digest, x.media_type_id, x.size
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::smallint[], $6::bigint[])
        AS x(n, r, manifest_id, digest, media_type_id, size)
    ORDER BY x.digest
    ON CONFLICT (top_level_namespace_id, repository_id, manifest_id, digest) DO NOTHING";
const KNOWN_BLOBS: &str = "SELECT repository_id, blob_digest FROM repository_blobs
    WHERE top_level_namespace_id = ANY($1) AND repository_id = ANY($2) AND blob_digest = ANY($3)";
const PUT_REFERENCES: &str = "INSERT INTO manifest_references
        (top_level_namespace_id, repository_id, parent_id, child_id)
    SELECT $1, $2, $3, m.id FROM unnest($4::bytea[]) AS d, LATERAL (SELECT m.id FROM manifests AS m
        WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2 AND m.digest BETWEEN d AND d
        ORDER BY m.digest LIMIT 1) AS m
    WHERE m.id <> $3
    ON CONFLICT (top_level_namespace_id, repository_id, parent_id, child_id) DO NOTHING";
const PUT_TAGS: &str = "INSERT INTO tags (top_level_namespace_id, repository_id, name, manifest_id)
    SELECT $1, $2, name, $4 FROM unnest($3::text[]) AS name ORDER BY name
    ON CONFLICT (top_level_namespace_id, repository_id, name)
        DO UPDATE SET manifest_id = excluded.manifest_id, updated_at = now()
        WHERE tags.manifest_id <> excluded.manifest_id";
// Once a second is enough: pushes to one repository would wait for each other here.
const PUBLISHED: &str = "UPDATE repositories SET last_published_at = now()
    WHERE top_level_namespace_id = $1 AND id = $2
        AND (last_published_at IS NULL OR last_published_at < now() - interval '1 second')";

/// A push of a manifest under way: a transaction that is open.
pub struct ManifestPush<'a> {
    postgres: &'a Postgres,
    transaction: Transaction<'a>,
    at: Repository,
    row: &'a ManifestRow,
    tags: &'a [(Tag, Moves)],
}

impl ManifestPush<'_> {
    /// Keeps others and the collection away from what a manifest stands on;
    /// returns what has no row.
    async fn hold(&self, required: &[Required]) -> Result<Vec<Digest>, MetadataError> {
        let own = encode(self.row.digest());
        let key = self.at.lock();
        let named = self.row.named();
        let expected: Vec<Vec<u8>> = required.iter().map(|one| encode(&one.digest)).collect();
        let tags = self.names();
        let refused = self.tags.iter().filter(|(_, moves)| *moves == Moves::Refused);
        let immutable: Vec<&str> = refused.map(|(tag, _)| tag.as_str()).collect();
        let (namespace, id, is_index) = (&self.at.namespace, &self.at.id, &self.row.is_index());
        // Of two who set an immutable tag, the second has to see the first.
        let alone = &!immutable.is_empty();
        let turn: &[&(dyn ToSql + Sync)] = &[namespace, id, &own, &tags, &key, alone];
        let blobs: &[&(dyn ToSql + Sync)] = &[&named];
        let manifests: &[&(dyn ToSql + Sync)] = &[namespace, id, &named];
        let taken: &[&(dyn ToSql + Sync)] = &[namespace, id, &immutable, &own];
        let there: &[&(dyn ToSql + Sync)] = &[namespace, id, &expected, is_index];
        let mut statements = vec![(TAKE_TURN, turn), (HOLD_BLOBS, blobs)];
        if *alone {
            statements.push((TAKEN, taken));
        }
        if *is_index {
            statements.push((HOLD_MANIFESTS, manifests));
        }
        statements.push((MISSING, there));
        let answers = self.postgres.pipeline(&self.transaction, &statements).await?;
        let table = answers.first().and_then(|rows| rows.first()?.get(1));
        self.postgres.check_types(table)?;
        if *alone && let Some(row) = answers.get(2).and_then(|rows| rows.first()) {
            let tag = row.get::<_, &str>(0).parse();
            return Err(tag.map_or(MetadataError::Referenced, MetadataError::Immutable));
        }
        let absent = answers.last().into_iter().flatten();
        Ok(absent.filter_map(|row| decode(row, 0)).collect())
    }

    fn names(&self) -> Vec<&str> {
        self.tags.iter().map(|(tag, _)| tag.as_str()).collect()
    }

    /// Writes the manifest with all that belongs to it, and ends the push.
    ///
    /// # Errors
    /// Those of the database; then nothing is written.
    pub async fn finish(self) -> Result<(), MetadataError> {
        let (postgres, at) = (self.postgres, self.at);
        let names = self.names();
        postgres
            .insert_manifest(&self.transaction, at, self.row, &names)
            .await?;
        if !names.is_empty() {
            let key: [&(dyn ToSql + Sync); 2] = [&at.namespace, &at.id];
            postgres.execute(&self.transaction, PUBLISHED, &key).await?;
        }
        self.transaction.commit().await.map_err(|error| postgres.failed(error))
    }
}

impl Postgres {
    /// Begins a push: keeps others and the collection away from what a manifest
    /// stands on. Returns with it those of what the manifest needs that have no
    /// row. The data of the others may be gone all the same: whoever pushes
    /// looks at them before the push ends.
    ///
    /// # Errors
    /// When a tag may not stand for it, or the database fails.
    pub async fn begin_manifest<'a>(
        &'a self,
        client: &'a mut Client,
        name: &RepoName,
        row: &'a ManifestRow,
        put: PutManifest<'a>,
    ) -> Result<(ManifestPush<'a>, Vec<Digest>), MetadataError> {
        // Outside of the transaction: other pushes must not wait for these
        // rows, and an id must not be remembered that was rolled back.
        let at = self.make_repository(&*client, name).await?;
        let types: Vec<&str> = row.types().collect();
        let unknown = self.unknown_types(&*client, &types).await?;
        if !unknown.is_empty() {
            if unknown.len() > MOST_NEW_TYPES {
                return Err(MetadataError::ManyMediaTypes(unknown.len(), MOST_NEW_TYPES));
            }
            // What is refused leaves none behind.
            self.check_rows(&*client, at, row, put.required).await?;
            self.add_types(&*client, &unknown).await?;
        }
        let transaction = client.transaction().await.map_err(|error| self.failed(error))?;
        let push = ManifestPush {
            postgres: self,
            transaction,
            at,
            row,
            tags: put.tags,
        };
        let missing = push.hold(put.required).await?;
        Ok((push, missing))
    }

    /// Writes a manifest, what it refers to, and tags of it.
    pub(super) async fn insert_manifest(
        &self,
        transaction: &Transaction<'_>,
        at: Repository,
        row: &ManifestRow,
        tags: &[&str],
    ) -> Result<(), MetadataError> {
        let own = encode(row.digest());
        let names: Vec<&str> = row.types().collect();
        let types = self.type_ids(transaction, &names).await?;
        let id_of = |name: &str| types.get(name).copied();
        let non_distributable = row.has_foreign_layers();
        let subject = match &row.manifest.subject {
            None => None,
            Some(subject) => self.manifest_id(transaction, at, &subject.digest).await?,
        };
        let config = row.config().map(|config| encode(&config.digest));
        let configuration = row.kept_configuration();
        let parts: Vec<&Descriptor> = if row.is_index() {
            self.blob_entries(transaction, at, row).await?
        } else {
            row.entries().iter().collect()
        };
        let mut layers = Layers::default();
        for layer in &parts {
            layers.add(at, 0, row, layer, id_of(entry_type(layer)));
        }
        self.drop_unknown(transaction, &mut layers).await?;
        // Build caches are indexes of blobs.
        let is_cache = row.is_index() && !parts.is_empty();
        let parameters: [&(dyn ToSql + Sync); 17] = [
            &at.namespace,
            &at.id,
            &own,
            &row.content.as_ref(),
            &id_of(&row.manifest.media_type),
            &row.artifact_type.as_deref().and_then(id_of).map(i64::from),
            &row.config().and_then(|config| id_of(config_type(config))),
            &config,
            &configuration,
            &row.total_size(is_cache),
            &is_cache,
            &non_distributable,
            &subject,
            &layers.digest,
            &layers.media_type,
            &layers.size,
            &tags,
        ];
        let id: i64 = if let Some(new) = self.row(transaction, PUT_MANIFEST, &parameters).await? {
            new.get(0)
        } else {
            // It is there: whoever pushed it again relies on it from now on.
            let known = self.manifest_id(transaction, at, row.digest()).await?;
            // None when it was removed this moment; the reference then fails, and all is tried again.
            let id = known.unwrap_or_default();
            self.execute(transaction, PUT_OFF_MANIFEST, &[&at.namespace, &at.id, &id])
                .await?;
            self.execute(transaction, PUT_TAGS, &[&at.namespace, &at.id, &tags, &id])
                .await?;
            id
        };
        if row.is_index() {
            // Of one that is there some entries may have come since.
            let named = row.named();
            self.execute(transaction, PUT_REFERENCES, &[&at.namespace, &at.id, &id, &named])
                .await?;
        }
        if subject.is_some() {
            // What is attached lives as long as its subject. GitLab's collection
            // does not ask for that, and removes what is due and has no tag.
            self.execute(transaction, DONE_MANIFEST, &[&at.namespace, &at.id, &id])
                .await?;
        }
        Ok(())
    }

    /// Returns those of some digests that are neither blobs nor manifests of a repository.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn missing(&self, name: &RepoName, digests: &[Digest]) -> Result<Vec<Digest>, MetadataError> {
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

    async fn manifest_id(
        &self,
        transaction: &Transaction<'_>,
        at: Repository,
        digest: &Digest,
    ) -> Result<Option<i64>, MetadataError> {
        let row = self
            .row(transaction, MANIFEST_ID, &[&at.namespace, &at.id, &encode(digest)])
            .await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Checks that a repository has rows of what a manifest needs.
    async fn check_rows(
        &self,
        client: &impl GenericClient,
        at: Repository,
        row: &ManifestRow,
        required: &[Required],
    ) -> Result<(), MetadataError> {
        let digests: Vec<Vec<u8>> = required.iter().map(|one| encode(&one.digest)).collect();
        let there: [&(dyn ToSql + Sync); 4] = [&at.namespace, &at.id, &digests, &row.is_index()];
        let missing = self.rows(client, MISSING, &there).await?;
        if missing.is_empty() {
            return Ok(());
        }
        let missing = missing.iter().filter_map(|row| decode(row, 0)).collect();
        Err(MetadataError::Missing(missing))
    }

    /// Drops layers that may be fetched from elsewhere and are not here.
    async fn drop_unknown(&self, transaction: &Transaction<'_>, rows: &mut Layers) -> Result<(), MetadataError> {
        if rows.has_optional() {
            let parameters: [&(dyn ToSql + Sync); 3] = [&rows.namespace, &rows.repository, &rows.digest];
            let known = self.rows(transaction, KNOWN_BLOBS, &parameters).await?;
            rows.keep(&known.iter().map(|row| (row.get(0), row.get(1))).collect());
        }
        Ok(())
    }

    /// Writes layers, and what follows from those that are new (`track`, which
    /// finds them as `new`). Those that may be fetched from elsewhere need not
    /// be here.
    pub(super) async fn insert_layers(
        &self,
        transaction: &Transaction<'_>,
        mut rows: Layers,
        track: Option<&str>,
    ) -> Result<(), MetadataError> {
        self.drop_unknown(transaction, &mut rows).await?;
        if rows.digest.is_empty() {
            return Ok(());
        }
        let sql = match track {
            None => PUT_LAYERS.to_owned(),
            Some(track) => format!(
                "WITH new AS ({PUT_LAYERS} RETURNING top_level_namespace_id, repository_id, id, digest) {track}"
            ),
        };
        let columns: [&(dyn ToSql + Sync); 6] = [
            &rows.namespace,
            &rows.repository,
            &rows.manifest,
            &rows.digest,
            &rows.media_type,
            &rows.size,
        ];
        self.execute(transaction, &sql, &columns).await.map(drop)
    }

    /// Returns the entries of an index that are blobs of the repository.
    async fn blob_entries<'a>(
        &self,
        transaction: &Transaction<'_>,
        at: Repository,
        row: &'a ManifestRow,
    ) -> Result<Vec<&'a Descriptor>, MetadataError> {
        const BLOBS: &str = "SELECT blob_digest FROM repository_blobs AS b
            WHERE b.top_level_namespace_id = $1 AND b.repository_id = $2 AND b.blob_digest = ANY($3)
                AND NOT EXISTS (SELECT FROM manifests AS m WHERE m.top_level_namespace_id = $1
                    AND m.repository_id = $2 AND m.digest = b.blob_digest)";
        if !row.is_index() {
            return Ok(Vec::new());
        }
        let entries: Vec<Vec<u8>> = row.entries().iter().map(|entry| encode(&entry.digest)).collect();
        let rows = self
            .rows(transaction, BLOBS, &[&at.namespace, &at.id, &entries])
            .await?;
        let blobs: Vec<Vec<u8>> = rows.iter().map(|row| row.get(0)).collect();
        Ok(row
            .entries()
            .iter()
            .filter(|entry| blobs.contains(&encode(&entry.digest)))
            .collect())
    }
}
