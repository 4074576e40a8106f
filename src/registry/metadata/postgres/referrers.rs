//! What is attached to a manifest, a page at a time.

use std::sync::Arc;

use bytes::Bytes;
use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::client::{Postgres, attempt, decode, encode, stored};
use super::repository::Repository;
use crate::registry::metadata::{MetadataError, ReferrerPage, Referrers, Stored};
use crate::registry::oci::{Digest, RepoName};

/// Those of a subject that is there, and those that came before theirs, whose
/// rows do not name it; with their sizes. Each part in the order of its index.
const REFERRERS: &str = "(SELECT m.digest, octet_length(m.payload)::bigint FROM manifests AS m
        WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2 AND m.digest > $4
            AND m.subject_id = (SELECT s.id FROM manifests AS s
                WHERE s.top_level_namespace_id = $1 AND s.repository_id = $2 AND s.digest BETWEEN $3 AND $3
                ORDER BY s.digest LIMIT 1)
        ORDER BY m.digest LIMIT $6)
    UNION (SELECT m.digest, octet_length(m.payload)::bigint FROM manifests AS m
        WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2 AND m.digest > $4
            AND m.subject_id IS NULL AND position('\"subject\"'::bytea IN m.payload) > 0
            AND position($5::bytea IN m.payload) > 0
        ORDER BY m.digest LIMIT $6)
    ORDER BY 1 LIMIT $6";
const CONTENTS: &str = "SELECT m.digest, m.payload, CASE WHEN NOT m.non_conformant THEN
        (SELECT t.media_type FROM media_types AS t WHERE t.id = m.media_type_id) END
    FROM unnest($3::bytea[]) AS d, LATERAL (SELECT m.* FROM manifests AS m
        WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2 AND m.digest BETWEEN d AND d
        ORDER BY m.digest LIMIT 1) AS m ORDER BY m.digest";
const PIECE: &str = "SELECT substring(m.payload FROM $4 FOR $5) FROM manifests AS m
    WHERE m.top_level_namespace_id = $1 AND m.repository_id = $2 AND m.digest = $3";
/// Bytes of a large manifest that are read at once.
const PIECE_BYTES: i32 = 512 << 10;
/// Bytes of manifests that are read at once.
const BATCH: i64 = 1 << 20;
/// Manifests that are looked for at once where some may be of another type.
const LOOK: usize = 1000;

/// Manifests that are read at once.
#[derive(Default)]
struct Batch {
    digests: Vec<Vec<u8>>,
    bytes: i64,
}

/// Divides manifests, by digest and size, into such as are read at once.
fn batches(rows: &[Row]) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for row in rows {
        let size: i64 = row.get(1);
        if batches.last().is_none_or(|batch| batch.bytes + size > BATCH) {
            batches.push(Batch::default());
        }
        if let Some(batch) = batches.last_mut() {
            batch.bytes += size;
            batch.digests.push(row.get(0));
        }
    }
    batches
}

impl Postgres {
    /// Returns a page of the manifests whose subject is `subject`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn referrers(
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

    /// Returns a page of what is attached to a manifest of a repository.
    pub(super) async fn referrers_page(
        &self,
        client: &impl GenericClient,
        at: Repository,
        subject: &Digest,
        page: ReferrerPage<'_>,
    ) -> Result<Referrers, MetadataError> {
        let after = page.after.and_then(|after| after.parse::<Digest>().ok());
        let mut after = after.as_ref().map_or(Vec::new(), encode);
        let most = if page.artifact_type.is_some() {
            LOOK
        } else {
            page.limit + 1
        };
        let mut found = Referrers::default();
        loop {
            let rows = self.referrers_after(client, at, subject, &after, most).await?;
            if !self.add_referrers(client, at, subject, page, &rows, &mut found).await? || rows.len() < most {
                return Ok(found);
            }
            after = rows.last().map_or(after, |row| row.get(0));
        }
    }

    /// Returns the digests, after one, of what is or may be attached to a
    /// manifest, with the sizes of their contents.
    async fn referrers_after(
        &self,
        client: &impl GenericClient,
        at: Repository,
        subject: &Digest,
        after: &[u8],
        most: usize,
    ) -> Result<Vec<Row>, MetadataError> {
        let named = subject.to_string().into_bytes();
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let key: [&(dyn ToSql + Sync); 6] = [&at.namespace, &at.id, &encode(subject), &after, &named, &most];
        self.rows(client, REFERRERS, &key).await
    }

    /// Adds them to a page; says whether there is room for more.
    async fn add_referrers(
        &self,
        client: &impl GenericClient,
        at: Repository,
        subject: &Digest,
        page: ReferrerPage<'_>,
        rows: &[Row],
        found: &mut Referrers,
    ) -> Result<bool, MetadataError> {
        for batch in batches(rows) {
            if !found.has_room(u64::try_from(batch.bytes).unwrap_or_default()) {
                return Ok(false);
            }
            for (digest, stored) in self.contents(client, at, &batch).await? {
                let named = stored.manifest().and_then(|manifest| manifest.subject);
                let is_attached = named.is_some_and(|named| named.digest == *subject);
                if is_attached && !found.add_stored(page, &digest, &stored) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Reads manifests.
    async fn contents(
        &self,
        client: &impl GenericClient,
        at: Repository,
        batch: &Batch,
    ) -> Result<Vec<(Digest, Arc<Stored>)>, MetadataError> {
        let key: [&(dyn ToSql + Sync); 3] = [&at.namespace, &at.id, &batch.digests];
        let Batch { digests, bytes } = batch;
        if let [only] = &digests[..]
            && *bytes > BATCH
        {
            let content = self.in_pieces(client, at, only).await?;
            let digest = Digest::from_bytes(only);
            return Ok(digest
                .map(|digest| (digest, Arc::new(Stored::new(content))))
                .into_iter()
                .collect());
        }
        let rows = self.rows(client, CONTENTS, &key).await?;
        Ok(rows
            .iter()
            .filter_map(|row| Some((decode(row, 0)?, stored(row, 1))))
            .collect())
    }

    /// Reads a large manifest piece by piece: the buffer of a connection stays
    /// as large as the longest answer that came by it.
    async fn in_pieces(
        &self,
        client: &impl GenericClient,
        at: Repository,
        digest: &Vec<u8>,
    ) -> Result<Bytes, MetadataError> {
        let mut content = Vec::new();
        loop {
            let from = i32::try_from(content.len() + 1).unwrap_or(i32::MAX);
            let row = self
                .row(client, PIECE, &[&at.namespace, &at.id, digest, &from, &PIECE_BYTES])
                .await?;
            let piece: Vec<u8> = row.map_or_else(Vec::new, |row| row.get(0));
            if piece.is_empty() {
                return Ok(content.into());
            }
            content.reserve_exact(piece.len());
            content.extend(piece);
        }
    }
}
