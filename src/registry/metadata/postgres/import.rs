//! An import from its beginning to its end, as the database knows it.

use std::collections::HashSet;
use std::time::Duration;

use super::client::{Postgres, attempt};
use crate::registry::metadata::MetadataError;
use crate::registry::oci::RepoName;

/// Number of the lock that an import holds.
const LOCK: i64 = 0x6b64_6b5f_696d_706f;
/// Tenths of a second that are waited for it.
const PATIENCE: u32 = 50;

/// An import leaves the time empty until it ends.
/// Whether anything has a name.
const HAS_TAGS: &str = "SELECT FROM tags LIMIT 1";
const PUSHED_TO: &str = "SELECT FROM repositories WHERE last_published_at IS NOT NULL LIMIT 1";
/// How to go on with a database that the storage does not speak of.
const MARK_LOST: &str = " (if one does, the storage only lacks the file docker/registry/lockfiles/database-in-use: make it again, holding {\"version\":1}, and set database.enabled)";

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
    /// Manifests that no tag leads to, which stay behind.
    pub untagged: i64,
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
    /// Whether an earlier run began it.
    pub again: bool,
    /// Whether rows may be written without triggers and foreign keys.
    pub direct: bool,
}

impl Postgres {
    /// Begins an import, or goes on with one that did not come to its end.
    /// `images` says whether more than blobs is to be brought in, `marked`
    /// whether the storage says that its metadata are in a database,
    /// `is_second` whether it begins with step two: then the first may have
    /// been another registry's, which left manifests and no tag.
    ///
    /// # Errors
    /// When the database has tags of its own, somebody else imports, or it fails.
    pub async fn begin_import(&self, images: bool, marked: bool, is_second: bool) -> Result<Import, MetadataError> {
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
            crate::sys::task::sleep(Duration::from_millis(100)).await;
        }
        let direct = self.may_be_direct(&client).await?;
        let unfinished = self
            .row(
                &client,
                "SELECT id, coalesce(tag_import, false) FROM import_statistics
                    WHERE finished_at IS NULL ORDER BY id DESC LIMIT 1",
                &[],
            )
            .await?;
        let tags_are_done = unfinished.as_ref().is_some_and(|row| row.get(1));
        let may_be_used = is_second && self.row(&client, HAS_TAGS, &[]).await?.is_none();
        if images && unfinished.is_none() && !may_be_used && self.is_used().await? {
            return Err(MetadataError::Import(format!(
                "the metadata database has repositories already: an import into it is done, or a registry uses it{}; to import once more, empty it first, with: kdk reset-registry-data",
                if marked { "" } else { MARK_LOST }
            )));
        }
        if images && marked && !tags_are_done {
            return Err(MetadataError::Import(
                "the storage says that a registry keeps its metadata in a database, and none was imported into this one: is registry.database right? To import what is left of the files all the same, set registry.database.enabled to false and run kdk reset-registry-data first".to_owned(),
            ));
        }
        if images && unfinished.is_some() && !marked && self.row(&client, PUSHED_TO, &[]).await?.is_some() {
            return Err(MetadataError::Import(format!(
                "images were pushed to the metadata database since an import into it began{MARK_LOST}; to import the files once more, and lose those images, empty it first, with: kdk reset-registry-data"
            )));
        }
        if let Some(row) = unfinished {
            return Ok(Import {
                client,
                id: row.get(0),
                // Without the mark the registry served from files since, if it served.
                tags_are_done: tags_are_done && marked,
                again: true,
                direct,
            });
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
            again: false,
            direct,
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

    /// Returns the media types that are known.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn media_types(&self) -> Result<HashSet<String>, MetadataError> {
        attempt!(self, client, {
            let rows = self.rows(&client, "SELECT media_type FROM media_types", &[]).await?;
            Ok(rows.iter().map(|row| row.get(0)).collect())
        })
    }

    /// Notes that repositories' manifests are there.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn note_finished(&self, names: &[&RepoName]) -> Result<(), MetadataError> {
        let sql = "UPDATE repositories SET updated_at = now() WHERE path = ANY($1)";
        let paths: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        attempt!(self, client, self.execute(&client, sql, &[&paths]).await.map(drop))
    }

    /// Returns the repositories of which that was noted within a time.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn finished_within(&self, time: Duration) -> Result<HashSet<String>, MetadataError> {
        let sql = "SELECT path FROM repositories WHERE updated_at > now() - make_interval(secs => $1)";
        attempt!(self, client, {
            let rows = self.rows(&client, sql, &[&time.as_secs_f64()]).await?;
            Ok(rows.iter().map(|row| row.get(0)).collect())
        })
    }

    /// Ends an import; `whole` says whether nothing of it is left to do, and
    /// `kept` whether it stays on record then.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn end_import(
        &self,
        import: Import,
        counts: Counts,
        whole: bool,
        kept: bool,
    ) -> Result<(), MetadataError> {
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
            untagged: _,
        } = counts;
        self.execute(
            &import.client,
            sql,
            &[&import.id, &repositories, &tags, &manifests, &blobs, &bytes, &whole],
        )
        .await?;
        if whole {
            // When repositories were last pushed to, as far as is known. What
            // was done to them since their tags are there is not the import's.
            let sql = "UPDATE repositories SET last_published_at = coalesce(last_published_at, updated_at),
                    updated_at = NULL
                WHERE updated_at <= (SELECT coalesce(tag_import_finished_at, finished_at)
                    FROM import_statistics WHERE id = $1)";
            self.execute(&import.client, sql, &[&import.id]).await?;
        }
        if whole && !kept {
            let sql = "DELETE FROM import_statistics WHERE id = $1";
            self.execute(&import.client, sql, &[&import.id]).await?;
        }
        // With the connection goes the lock.
        self.database.forget(import.client);
        Ok(())
    }
}
