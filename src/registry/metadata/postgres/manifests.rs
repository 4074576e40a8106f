//! Looking manifests and blobs up.

use std::sync::Arc;

use tokio_postgres::types::ToSql;

use super::client::{Postgres, attempt, decode, encode, stored};
use crate::registry::metadata::{MetadataError, Stored};
use crate::registry::oci::{Digest, RepoName, Tag};

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
const HAS_BLOB: &str = "SELECT 1 FROM repository_blobs
    WHERE top_level_namespace_id = $1 AND repository_id = $2 AND blob_digest BETWEEN $3 AND $3
    ORDER BY blob_digest LIMIT 1";

impl Postgres {
    /// Returns a manifest, when it belongs to the repository.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn manifest(&self, name: &RepoName, digest: &Digest) -> Result<Option<Arc<Stored>>, MetadataError> {
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

    /// Returns the manifest that a tag stands for, with its content.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tagged(&self, name: &RepoName, tag: &Tag) -> Result<Option<(Digest, Arc<Stored>)>, MetadataError> {
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

    /// Says whether a manifest belongs to the repository.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn has_manifest(&self, name: &RepoName, digest: &Digest) -> Result<bool, MetadataError> {
        Ok(self.find(name, HAS_MANIFEST, &encode(digest)).await?.is_some())
    }

    /// Returns the manifest that a tag stands for.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn resolve(&self, name: &RepoName, tag: &Tag) -> Result<Option<Digest>, MetadataError> {
        let row = self.find(name, RESOLVE, &tag.as_str()).await?;
        Ok(row.and_then(|row| decode(&row, 0)))
    }

    /// Says whether a blob belongs to a repository.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn has_blob(&self, name: &RepoName, digest: &Digest) -> Result<bool, MetadataError> {
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
