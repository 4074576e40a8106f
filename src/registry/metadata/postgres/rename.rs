//! Moving repositories to another path: a project's, and all below it.
//!
//! A new path can be leased first, so that whoever renames a project in two
//! places finds out whether this one will do its part. GitLab's registry keeps
//! leases in Redis; here they are rows of a schema of their own, which is made
//! when the first is taken: GitLab's tables stay GitLab's.

use jiff::Timestamp;

use super::client::{Postgres, attempt};
use super::gitlab::time;
use super::repository::LOCKS;
use crate::registry::metadata::MetadataError;
use crate::registry::oci::RepoName;

/// Most repositories that are moved at once, as in GitLab's registry.
pub const MOST: i64 = 1000;
/// Longest path of a repository, in characters.
const LONGEST: i64 = 255;

/// What came of moving repositories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renamed {
    /// They are at the new path.
    Done,
    /// The new path is kept for them until this time.
    Leased(Timestamp),
    /// There are none at the path nor below it.
    Unknown,
    /// Others are at the new path.
    Taken,
    /// The new path is kept for others until this time.
    Kept(Timestamp),
    /// There are more than [`MOST`].
    TooMany,
    /// A path would be longer than it may be.
    TooLong,
    /// The database's user may not make what leases are kept in.
    NoLeases,
}

/// Renamings in a namespace pass one at a time: each sees what the one before did.
const TAKE_TURN: &str = "SELECT pg_advisory_xact_lock($1 # hashtextextended(split_part($2, '/', 1), 0))";
const HAS_LEASES: &str = "SELECT to_regclass('kdk.repository_leases') IS NOT NULL";
/// What is lost with the server's memory is a lease of a minute.
const MAKE_LEASES: &str = "CREATE SCHEMA IF NOT EXISTS kdk;
    CREATE UNLOGGED TABLE IF NOT EXISTS kdk.repository_leases
        (path text PRIMARY KEY, granted_to text NOT NULL, expires_at timestamptz NOT NULL)";
const END_LEASES: &str = "DELETE FROM kdk.repository_leases WHERE expires_at < now()";
const LEASE: &str = "INSERT INTO kdk.repository_leases AS l (path, granted_to, expires_at)
    VALUES ($1, $2, now() + interval '60 seconds')
    ON CONFLICT (path) DO UPDATE SET expires_at = excluded.expires_at WHERE l.granted_to = excluded.granted_to
    RETURNING (extract(epoch FROM expires_at) * 1000000)::bigint";
const KEPT: &str = "SELECT (extract(epoch FROM expires_at) * 1000000)::bigint FROM kdk.repository_leases
    WHERE path = $1";
const RELEASE: &str = "DELETE FROM kdk.repository_leases WHERE path = $1";
/// How many there are, and how long the longest path is.
const COUNT: &str = "SELECT count(*), coalesce(max(char_length(path)), 0)::bigint FROM repositories
    WHERE top_level_namespace_id = (SELECT id FROM top_level_namespaces WHERE name = split_part($1, '/', 1))
        AND (path = $1 OR starts_with(path, $1 || '/'))";
const RENAME: &str = "UPDATE repositories
    SET path = $2 || substr(path, char_length($1) + 1),
        name = CASE WHEN path = $1 THEN regexp_replace($2, '^.*/', '') ELSE name END,
        updated_at = now()
    WHERE top_level_namespace_id = (SELECT id FROM top_level_namespaces WHERE name = split_part($1, '/', 1))
        AND (path = $1 OR starts_with(path, $1 || '/'))";

impl Postgres {
    /// Moves the repository at a path, and all below it, to another path in
    /// the same top-level namespace. With `dry_run` only takes a lease on it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn rename(&self, from: &RepoName, to: &RepoName, dry_run: bool) -> Result<Renamed, MetadataError> {
        match self.try_rename(from.as_str(), to.as_str(), dry_run).await {
            Err(MetadataError::Database(error)) if error.is_privilege() => Ok(Renamed::NoLeases),
            other => other,
        }
    }

    async fn try_rename(&self, old: &str, new: &str, dry_run: bool) -> Result<Renamed, MetadataError> {
        self.make_leases().await?;
        attempt!(self, mut client, {
            let transaction = client.transaction().await.map_err(|error| self.failed(error))?;
            self.rows(&transaction, TAKE_TURN, &[&LOCKS, &old]).await?;
            let (count, longest) = match self.row(&transaction, COUNT, &[&old]).await? {
                Some(row) => (row.get::<_, i64>(0), row.get::<_, i64>(1)),
                None => (0, 0),
            };
            let grown = i64::try_from(new.len()).unwrap_or(LONGEST) - i64::try_from(old.len()).unwrap_or_default();
            match count {
                0 => return Ok(Renamed::Unknown),
                count if count > MOST => return Ok(Renamed::TooMany),
                _ if longest + grown > LONGEST => return Ok(Renamed::TooLong),
                _ => {}
            }
            let others = self.row(&transaction, COUNT, &[&new]).await?;
            if others.is_some_and(|row| row.get::<_, i64>(0) > 0) {
                return Ok(Renamed::Taken);
            }
            self.execute(&transaction, END_LEASES, &[]).await?;
            let Some(lease) = self.row(&transaction, LEASE, &[&new, &old]).await? else {
                let kept = self.row(&transaction, KEPT, &[&new]).await?;
                let until = kept.and_then(|row| time(&row, 0));
                return Ok(Renamed::Kept(until.unwrap_or_default()));
            };
            let outcome = if dry_run {
                Renamed::Leased(time(&lease, 0).unwrap_or_default())
            } else {
                self.execute(&transaction, RENAME, &[&old, &new]).await?;
                self.execute(&transaction, RELEASE, &[&new]).await?;
                Renamed::Done
            };
            transaction.commit().await.map_err(|error| self.failed(error))?;
            Ok(outcome)
        })
    }

    /// Makes what leases are kept in, where it is missing.
    async fn make_leases(&self) -> Result<(), MetadataError> {
        attempt!(self, client, {
            if self.row(&client, HAS_LEASES, &[]).await?.is_some_and(|row| row.get(0)) {
                return Ok(());
            }
            let made = client.batch_execute(MAKE_LEASES).await;
            made.map_err(|error| self.failed(error))
        })
    }
}
