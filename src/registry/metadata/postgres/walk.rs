//! Walking through all that a database knows, page by page.

use bytes::Bytes;
use tokio_postgres::types::ToSql;

use super::client::{Postgres, attempt, decode, encode};
use super::review::BLOB_IS_NEEDED;
use crate::registry::metadata::MetadataError;
use crate::registry::oci::Digest;

/// A manifest's number, repository, digest and content.
pub type Manifest = (i64, String, Digest, Bytes);

/// What a manifest needs in its repository.
#[derive(Clone, Debug)]
pub struct Named {
    /// The repository.
    pub repository: String,
    /// The manifest.
    pub by: Digest,
    /// What it needs.
    pub digest: Digest,
    /// Whether that may be a manifest.
    pub or_manifest: bool,
}

/// Numbers of what is in no repository where it is needed, and whether its blob is known.
const UNLINKED: &str = "SELECT x.number, EXISTS (SELECT FROM blobs AS k WHERE k.digest = x.digest)
    FROM unnest($1::text[], $2::bytea[], $3::boolean[], $4::bytea[])
        WITH ORDINALITY AS x(path, digest, or_manifest, by, number)
    JOIN repositories AS r ON r.path = x.path
    JOIN manifests AS n ON n.top_level_namespace_id = r.top_level_namespace_id
        AND n.repository_id = r.id AND n.digest = x.by
    WHERE NOT EXISTS (SELECT FROM repository_blobs AS b WHERE b.top_level_namespace_id = r.top_level_namespace_id
            AND b.repository_id = r.id AND b.blob_digest = x.digest)
        AND NOT (x.or_manifest AND EXISTS (SELECT FROM manifests AS m
            WHERE m.top_level_namespace_id = r.top_level_namespace_id
                AND m.repository_id = r.id AND m.digest = x.digest))
    ORDER BY 1";

impl Postgres {
    /// Returns those of what manifests need that are not in their repositories,
    /// and whether their blobs are known.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn unlinked<'a>(&self, named: &'a [Named]) -> Result<Vec<(&'a Named, bool)>, MetadataError> {
        let paths: Vec<&str> = named.iter().map(|one| one.repository.as_str()).collect();
        let digests: Vec<Vec<u8>> = named.iter().map(|one| encode(&one.digest)).collect();
        let by: Vec<Vec<u8>> = named.iter().map(|one| encode(&one.by)).collect();
        let or_manifest: Vec<bool> = named.iter().map(|one| one.or_manifest).collect();
        attempt!(self, client, {
            let parameters: [&(dyn ToSql + Sync); 4] = [&paths, &digests, &or_manifest, &by];
            let rows = self.rows(&client, UNLINKED, &parameters).await?;
            Ok(rows
                .iter()
                .filter_map(|row| {
                    let number = usize::try_from(row.get::<_, i64>(0)).ok()?;
                    Some((named.get(number.checked_sub(1)?)?, row.get(1)))
                })
                .collect())
        })
    }

    /// Says whether there are any repositories.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn is_used(&self) -> Result<bool, MetadataError> {
        attempt!(self, client, {
            Ok(self
                .row(&client, "SELECT FROM repositories LIMIT 1", &[])
                .await?
                .is_some())
        })
    }

    /// Returns blobs after `after`, in order of their digests, with their sizes in bytes.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn blob_page(&self, after: Option<&Digest>, limit: i64) -> Result<Vec<(Digest, i64)>, MetadataError> {
        let sql = "SELECT digest, size FROM blobs WHERE digest > $1 ORDER BY digest LIMIT $2";
        let after = after.map_or(Vec::new(), encode);
        attempt!(self, client, {
            let rows = self.rows(&client, sql, &[&after, &limit]).await?;
            Ok(rows
                .iter()
                .filter_map(|row| Some((decode(row, 0)?, row.get(1))))
                .collect())
        })
    }

    /// Says whether an image needs a blob. One that none needs may be without
    /// data for a while: a review that was killed in between goes on later.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn is_blob_needed(&self, digest: &Digest) -> Result<bool, MetadataError> {
        attempt!(self, client, {
            let needed = self.row(&client, BLOB_IS_NEEDED, &[&encode(digest)]).await?;
            Ok(needed.is_some_and(|row| row.get(0)))
        })
    }

    /// Returns manifests whose numbers are greater than `after`, in order of them.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn manifest_page(&self, after: i64, limit: i64) -> Result<Vec<Manifest>, MetadataError> {
        let sql = "SELECT m.id, r.path, m.digest, m.payload FROM manifests AS m
            JOIN repositories AS r ON r.top_level_namespace_id = m.top_level_namespace_id AND r.id = m.repository_id
            WHERE m.id > $1 ORDER BY m.id LIMIT $2";
        attempt!(self, client, {
            let rows = self.rows(&client, sql, &[&after, &limit]).await?;
            let content = |row: &tokio_postgres::Row| Bytes::from(row.get::<_, Vec<u8>>(3));
            Ok(rows
                .iter()
                .filter_map(|row| Some((row.get(0), row.get(1), decode(row, 2)?, content(row))))
                .collect())
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
