//! What GitLab's own API asks of the database.

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::client::{Postgres, attempt, decode};
use crate::registry::metadata::MetadataError;
use crate::registry::oci::{Digest, RepoName, Tag};

/// How long adding up sizes may take before it is done less exactly.
const SIZE_LIMIT: &str = "SET LOCAL statement_timeout = 5000";

/// Whether the first part of a path is known.
const NAMESPACE: &str = "SELECT FROM top_level_namespaces WHERE name = split_part($1, '/', 1)";

/// What is known of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// When it was made; nothing for one that only has others below it.
    pub created_at: Option<Timestamp>,
    /// When it was changed.
    pub updated_at: Option<Timestamp>,
    /// When a tag of it was last pushed.
    pub last_published_at: Option<Timestamp>,
}

/// Which sizes are added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Those of the repository.
    Own,
    /// Those of the repositories below, too.
    WithDescendants,
}

/// A tag with what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagDetails {
    /// Its name.
    pub name: String,
    /// The manifest's digest.
    pub digest: Option<Digest>,
    /// The configuration's digest.
    pub config_digest: Option<Digest>,
    /// The configuration's media type.
    pub config_media_type: Option<String>,
    /// The configuration itself.
    pub configuration: Option<Vec<u8>>,
    /// The manifest's media type.
    pub media_type: String,
    /// Bytes of all it stands for.
    pub size: i64,
    /// When the tag was made.
    pub created_at: Option<Timestamp>,
    /// When it was last moved.
    pub updated_at: Option<Timestamp>,
    /// When it was made or last moved.
    pub published_at: Option<Timestamp>,
}

pub(super) fn time(row: &Row, column: usize) -> Option<Timestamp> {
    let micros: Option<i64> = row.get(column);
    micros.and_then(|micros| Timestamp::from_microsecond(micros).ok())
}

pub(super) const COLUMNS: &str = "t.name, m.digest, m.configuration_blob_digest, c.media_type, m.configuration_payload,
    y.media_type, m.total_size,
    (extract(epoch FROM t.created_at) * 1000000)::bigint, (extract(epoch FROM t.updated_at) * 1000000)::bigint,
    (extract(epoch FROM coalesce(t.updated_at, t.created_at)) * 1000000)::bigint";
// See the note on indexes in `manifests`.
pub(super) const FROM: &str = "FROM tags AS t
    CROSS JOIN LATERAL (SELECT m.* FROM manifests AS m
        WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2
            AND m.id BETWEEN t.manifest_id AND t.manifest_id
        ORDER BY m.id LIMIT 1) AS m
    JOIN media_types AS y ON y.id = m.media_type_id
    LEFT JOIN media_types AS c ON c.id = m.configuration_media_type_id
    WHERE t.top_level_namespace_id = $1 AND t.repository_id = $2";

pub(super) fn tag(row: &Row) -> TagDetails {
    let config: Option<&[u8]> = row.get(2);
    TagDetails {
        name: row.get(0),
        digest: decode(row, 1),
        config_digest: config.and_then(Digest::from_bytes),
        config_media_type: row.get(3),
        configuration: row.get(4),
        media_type: row.get(5),
        size: row.get(6),
        created_at: time(row, 7),
        updated_at: time(row, 8),
        published_at: time(row, 9),
    }
}

impl Postgres {
    /// Returns what is known of a repository; nothing when there is none.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn details(&self, name: &RepoName) -> Result<Option<Details>, MetadataError> {
        let sql = "SELECT (extract(epoch FROM created_at) * 1000000)::bigint,
                (extract(epoch FROM updated_at) * 1000000)::bigint,
                (extract(epoch FROM last_published_at) * 1000000)::bigint
            FROM repositories WHERE path = $1 AND deleted_at IS NULL";
        attempt!(self, client, {
            let row = self.row(&client, sql, &[&name.as_str()]).await?;
            Ok(row.map(|row| Details {
                created_at: time(&row, 0),
                updated_at: time(&row, 1),
                last_published_at: time(&row, 2),
            }))
        })
    }

    /// Adds up the layers of repositories, each counted once: those that tags
    /// lead to, or, where that takes too long, all; says which.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn size(&self, name: &RepoName, extent: Extent) -> Result<Option<(i64, bool)>, MetadataError> {
        let repositories = match extent {
            Extent::Own => "path = $1",
            Extent::WithDescendants => "(path = $1 OR starts_with(path, $1 || '/'))",
        };
        let those = format!(
            "WITH RECURSIVE those AS MATERIALIZED (SELECT top_level_namespace_id AS n, id AS r FROM repositories
                WHERE {repositories} AND deleted_at IS NULL
                    AND top_level_namespace_id = (SELECT id FROM top_level_namespaces
                        WHERE name = split_part($1, '/', 1)))"
        );
        let known = format!("{those} SELECT FROM those LIMIT 1");
        let exact = format!(
            "{those}, alive AS (
                SELECT t.top_level_namespace_id AS n, t.repository_id AS r, t.manifest_id AS m FROM those
                    JOIN tags AS t ON t.top_level_namespace_id = those.n AND t.repository_id = those.r
                UNION SELECT f.top_level_namespace_id, f.repository_id, f.child_id FROM alive
                    JOIN manifest_references AS f ON f.top_level_namespace_id = alive.n
                        AND f.repository_id = alive.r AND f.parent_id = alive.m)
            SELECT least(coalesce(sum(size), 0), 9223372036854775807)::bigint FROM (SELECT DISTINCT l.digest, l.size FROM alive
                JOIN layers AS l ON l.top_level_namespace_id = alive.n AND l.repository_id = alive.r
                    AND l.manifest_id = alive.m) AS x"
        );
        let rough = format!(
            "{those} SELECT least(coalesce(sum(size), 0), 9223372036854775807)::bigint FROM (SELECT DISTINCT l.digest, l.size FROM those
                JOIN layers AS l ON l.top_level_namespace_id = those.n AND l.repository_id = those.r) AS x"
        );
        attempt!(self, mut client, {
            let known = match extent {
                Extent::Own => &known,
                // What is nowhere below a known one has no bytes.
                Extent::WithDescendants => NAMESPACE,
            };
            if self.row(&client, known, &[&name.as_str()]).await?.is_none() {
                return Ok(None);
            }
            let transaction = client.transaction().await.map_err(|error| self.failed(error))?;
            transaction
                .batch_execute(SIZE_LIMIT)
                .await
                .map_err(|error| self.failed(error))?;
            let sum = self.row(&transaction, &exact, &[&name.as_str()]).await;
            drop(transaction);
            match sum {
                Ok(row) => Ok(row.map(|row| (row.get(0), true))),
                Err(MetadataError::Database(error)) if error.is_timeout() => {
                    let row = self.row(&client, &rough, &[&name.as_str()]).await?;
                    Ok(row.map(|row| (row.get(0), false)))
                }
                Err(error) => Err(error),
            }
        })
    }

    /// Returns a tag with what it stands for, and what that refers to, where
    /// there is one; nothing when there is no such repository.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tag_details(
        &self,
        name: &RepoName,
        wanted: &Tag,
    ) -> Result<Option<Option<(TagDetails, Vec<TagDetails>)>>, MetadataError> {
        let one = format!("SELECT {COLUMNS} {FROM} AND t.name BETWEEN $3 AND $3 ORDER BY t.name LIMIT 1");
        let children = "SELECT '', m.digest, m.configuration_blob_digest, c.media_type, m.configuration_payload,
                y.media_type, m.total_size, NULL::bigint, NULL::bigint, NULL::bigint
            FROM (SELECT t.manifest_id FROM tags AS t
                    WHERE t.top_level_namespace_id = $1 AND t.repository_id = $2 AND t.name BETWEEN $3 AND $3
                    ORDER BY t.name LIMIT 1) AS t
            CROSS JOIN LATERAL (SELECT f.* FROM manifest_references AS f
                WHERE f.top_level_namespace_id = $1 AND f.repository_id = $2
                    AND f.parent_id BETWEEN t.manifest_id AND t.manifest_id
                ORDER BY f.parent_id, f.child_id) AS f
            CROSS JOIN LATERAL (SELECT m.* FROM manifests AS m
                WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2
                    AND m.id BETWEEN f.child_id AND f.child_id
                ORDER BY m.id LIMIT 1) AS m
            JOIN media_types AS y ON y.id = m.media_type_id
            LEFT JOIN media_types AS c ON c.id = m.configuration_media_type_id
            ORDER BY f.id";
        attempt!(self, client, {
            let Some(at) = self.repository(&client, name).await? else {
                return Ok(None);
            };
            let parameters: [&(dyn ToSql + Sync); 3] = [&at.namespace, &at.id, &wanted.as_str()];
            let Some(row) = self.row(&client, &one, &parameters).await? else {
                return Ok(Some(None));
            };
            let rows = self.rows(&client, children, &parameters).await?;
            Ok(Some(Some((tag(&row), rows.iter().map(tag).collect()))))
        })
    }

    /// Returns repositories with tags at a path and below it, after `last`;
    /// nothing when nobody knows the first part of the path.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn repositories_below(
        &self,
        path: &RepoName,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Option<(Vec<(String, Details)>, bool)>, MetadataError> {
        let sql = "SELECT r.path, (extract(epoch FROM r.created_at) * 1000000)::bigint,
                (extract(epoch FROM r.updated_at) * 1000000)::bigint,
                (extract(epoch FROM r.last_published_at) * 1000000)::bigint
            FROM repositories AS r
            WHERE r.top_level_namespace_id = (SELECT id FROM top_level_namespaces WHERE name = split_part($1, '/', 1))
                AND (r.path = $1 OR starts_with(r.path, $1 || '/')) AND r.path > $2 AND r.deleted_at IS NULL
                AND (SELECT 1 FROM tags AS t WHERE t.top_level_namespace_id = r.top_level_namespace_id
                    AND t.repository_id = r.id ORDER BY t.name LIMIT 1) IS NOT NULL
            ORDER BY r.path LIMIT $3";
        attempt!(self, client, {
            if self.row(&client, NAMESPACE, &[&path.as_str()]).await?.is_none() {
                return Ok(None);
            }
            let last = super::client::without_nul(last);
            let rows = self
                .rows(&client, sql, &[&path.as_str(), &last, &super::client::page_rows(limit)])
                .await?;
            let found = rows.iter().take(limit).map(|row| {
                let details = Details {
                    created_at: time(row, 1),
                    updated_at: time(row, 2),
                    last_published_at: time(row, 3),
                };
                (row.get(0), details)
            });
            Ok(Some((found.collect(), rows.len() > limit)))
        })
    }

    /// Returns what is known of imports into the database, as JSON; nothing
    /// when there were none.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn imports(&self) -> Result<Option<serde_json::Value>, MetadataError> {
        // What did not happen is left out, as GitLab's registry does.
        let columns = [
            "started_at",
            "finished_at",
            "pre_import_started_at",
            "pre_import_finished_at",
            "tag_import_started_at",
            "tag_import_finished_at",
            "blob_import_started_at",
            "blob_import_finished_at",
        ]
        .map(|name| format!(r#"'{name}', to_char(x.{name} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"#));
        let sql = format!(
            "SELECT json_strip_nulls(json_agg((to_jsonb(x) || jsonb_build_object({},
                'blobs_count', nullif(x.blobs_count, 0), 'blobs_size_bytes', nullif(x.blobs_size_bytes, 0)))::json
                ORDER BY x.id))::text FROM import_statistics AS x",
            columns.join(", ")
        );
        attempt!(self, client, {
            let row = self.row(&client, &sql, &[]).await?;
            let text: Option<String> = row.and_then(|row| row.get(0));
            Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
        })
    }
}
