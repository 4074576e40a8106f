//! Statements on connections, and what all of them need.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use deadpool_postgres::GenericClient;
use futures_util::future::try_join_all;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

use super::connection::Database;
use super::finder::Finder;
use super::known::Known;
use super::repository::Repository;
use crate::registry::metadata::{MetadataError, Page, Stored};
use crate::registry::oci::{Digest, RepoName, media_type};

/// How often an operation is tried when others are in its way, or its connection broke.
pub(in crate::registry::metadata) const TRIES: u32 = 8;
/// Longest first pause between two tries, in milliseconds; later ones are longer.
const PAUSE: u32 = 20;
/// Turns that repositories share by their names' hashes.
const STRIPES: usize = 64;
/// Works on a connection, and again where that may help. A transaction takes
/// `mut client`.
macro_rules! attempt {
    ($self:expr, mut $client:ident, $work:expr) => {
        attempt!(@ $self, (mut $client), $client, $work)
    };
    ($self:expr, $client:ident, $work:expr) => {
        attempt!(@ $self, ($client), $client, $work)
    };
    (@ $self:expr, ($($binding:tt)+), $client:ident, $work:expr) => {{
        let work = async {
            let mut tries = 1;
            loop {
                let $($binding)+ = $self.database().client().await?;
                let outcome = async { $work }.await;
                match outcome {
                    Err(MetadataError::Database(error)) if error.is_passing() && tries < $crate::registry::metadata::postgres::client::TRIES => {
                        if error.is_unavailable() {
                            $self.database().forget($client);
                        }
                        $crate::sys::task::sleep($crate::registry::metadata::postgres::client::pause(tries)).await;
                        tries += 1;
                    }
                    Err(MetadataError::Database(error)) => {
                        if error.spoils_connection() {
                            $self.database().forget($client);
                        }
                        break Err(MetadataError::Database(error));
                    }
                    other => break other,
                }
            }
        };
        $self.database().within(work).await
    }};
}
pub(in crate::registry::metadata) use attempt;

/// Returns how long to wait before the next try; by chance, so that those who
/// were in each other's way do not meet again.
pub(in crate::registry::metadata) fn pause(tries: u32) -> std::time::Duration {
    // Without chance they may meet again, and try once more.
    std::time::Duration::from_millis(crate::sys::random::below(u64::from(PAUSE * tries)))
}

/// The rows that metadata are in a database.
#[derive(Clone, Debug)]
pub struct Postgres {
    pub(super) database: Database,
    /// Turns of those who change a repository, by its name: whoever waits for
    /// another there holds connections that others need elsewhere.
    turns: Arc<[Semaphore]>,
    types: Arc<Mutex<MediaTypes>>,
    pub(super) known: Known,
    pub(super) finder: Finder,
}

/// Ids of media types, which never change as long as their table is the same.
#[derive(Debug, Default)]
struct MediaTypes {
    /// The table's number.
    table: i64,
    ids: HashMap<String, i16>,
}

/// Writes a digest as the database keeps it: a byte for the algorithm, then the hash.
pub(super) fn encode(digest: &Digest) -> Vec<u8> {
    digest.to_bytes()
}

pub(super) fn decode(row: &Row, column: usize) -> Option<Digest> {
    Digest::from_bytes(row.get(column))
}

/// A column's stored manifest: its payload, and its media type after that,
/// where it is not the payload that says so.
pub(super) fn stored(row: &Row, column: usize) -> Arc<Stored> {
    let content = Bytes::from(row.get::<_, Vec<u8>>(column));
    Arc::new(match row.get::<_, Option<String>>(column + 1) {
        Some(known) => Stored {
            content,
            media_type: media_type::shared(known),
        },
        None => Stored::new(content),
    })
}

impl Postgres {
    /// Makes them on a database.
    pub fn new(database: Database) -> Self {
        let turns = (database.max_connections() / 2).max(1);
        Self {
            turns: std::iter::repeat_with(|| Semaphore::new(turns)).take(STRIPES).collect(),
            database,
            types: Arc::default(),
            known: Known::default(),
            finder: Finder::default(),
        }
    }

    /// Waits for a turn among those who change a repository.
    ///
    /// # Errors
    /// When it takes longer than a request may.
    pub async fn turn(&self, name: &RepoName) -> Result<SemaphorePermit<'_>, MetadataError> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let stripe = usize::try_from(hasher.finish() % STRIPES as u64).unwrap_or_default();
        let turn = self.turns[stripe].acquire();
        // They are never closed.
        self.database
            .within(async { turn.await.map_err(|_| MetadataError::Import("closed".to_owned())) })
            .await
    }

    /// Returns the database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    pub(super) fn failed(&self, error: Error) -> MetadataError {
        self.database.failure(error).into()
    }

    pub(super) async fn rows(
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

    pub(super) async fn row(
        &self,
        client: &impl GenericClient,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, MetadataError> {
        Ok(self.rows(client, sql, parameters).await?.into_iter().next())
    }

    pub(super) async fn execute(
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
    pub(super) async fn pipeline(
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
    pub(super) async fn find(
        &self,
        name: &RepoName,
        sql: &str,
        key: &(dyn ToSql + Sync),
    ) -> Result<Option<Row>, MetadataError> {
        attempt!(self, client, {
            let Some(at) = self.repository(&client, name).await? else {
                return Ok(None);
            };
            self.row(&client, sql, &[&at.namespace, &at.id, key]).await
        })
    }

    pub(super) async fn repository(
        &self,
        client: &impl GenericClient,
        name: &RepoName,
    ) -> Result<Option<Repository>, MetadataError> {
        const FIND: &str = "SELECT top_level_namespace_id, id, NULL::bigint FROM repositories
            WHERE path = $1 AND deleted_at IS NULL";
        const FIND_WITH_VERSION: &str = "SELECT top_level_namespace_id, id,
                (SELECT version FROM kdk.repository_versions WHERE repository_id = id)
            FROM repositories WHERE path = $1 AND deleted_at IS NULL";
        let sql = if self.database.has_versions() {
            FIND_WITH_VERSION
        } else {
            FIND
        };
        let connections = self.database.connections_made();
        let row = self.row(client, sql, &[&name.as_str()]).await?;
        Ok(row.map(|row| Repository {
            namespace: row.get(0),
            id: row.get(1),
            version: row.get::<_, Option<i64>>(2).map(|version| (version, connections)),
        }))
    }

    /// Finds a repository, or makes it.
    pub(super) async fn make_repository(
        &self,
        client: &impl GenericClient,
        name: &RepoName,
    ) -> Result<Repository, MetadataError> {
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
            version: None,
        })
    }

    /// Returns the ids of media types; those that nobody used before are added.
    pub(super) async fn type_ids(
        &self,
        client: &impl GenericClient,
        names: &[&str],
    ) -> Result<HashMap<String, i16>, MetadataError> {
        let (mut found, unknown) = self.known_types(client, names).await?;
        if !unknown.is_empty() {
            found.extend(self.add_types(client, &unknown).await?);
        }
        Ok(found)
    }

    /// Returns those of some media types that nobody used before.
    pub(super) async fn unknown_types<'a>(
        &self,
        client: &impl GenericClient,
        names: &[&'a str],
    ) -> Result<Vec<&'a str>, MetadataError> {
        Ok(self.known_types(client, names).await?.1)
    }

    /// Adds media types; returns their ids.
    pub(super) async fn add_types(
        &self,
        client: &impl GenericClient,
        names: &[&str],
    ) -> Result<HashMap<String, i16>, MetadataError> {
        // Where it is there, no number is used up.
        const ADD: &str =
            "INSERT INTO media_types (media_type) SELECT x FROM (SELECT DISTINCT unnest($1::text[])) AS n(x)
            WHERE NOT EXISTS (SELECT FROM media_types AS t WHERE t.media_type = x)
            ON CONFLICT (media_type) DO NOTHING";
        self.execute(client, ADD, &[&names]).await?;
        Ok(self.known_types(client, names).await?.0)
    }

    /// Returns the ids of media types, and those that have none.
    async fn known_types<'a>(
        &self,
        client: &impl GenericClient,
        names: &[&'a str],
    ) -> Result<(HashMap<String, i16>, Vec<&'a str>), MetadataError> {
        const FIND: &str = "SELECT media_type, id::smallint, to_regclass('media_types')::oid::bigint
            FROM media_types WHERE media_type = ANY($1)";
        const LONGEST: usize = 255;
        let mut found = HashMap::new();
        let mut unknown = Vec::new();
        {
            let types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
            for name in names {
                match types.ids.get(*name) {
                    Some(id) => drop(found.insert((*name).to_owned(), *id)),
                    None if name.trim().is_empty() || name.contains('\0') || name.chars().count() > LONGEST => {
                        return Err(MetadataError::MediaType((*name).to_owned()));
                    }
                    None if unknown.contains(name) => {}
                    None => unknown.push(*name),
                }
            }
        }
        if unknown.is_empty() {
            return Ok((found, unknown));
        }
        let rows = self.rows(client, FIND, &[&unknown]).await?;
        let mut types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            let table = row.get(2);
            if types.table != table {
                *types = MediaTypes {
                    table,
                    ids: HashMap::new(),
                };
            }
            types.ids.insert(row.get(0), row.get(1));
            found.insert(row.get(0), row.get(1));
        }
        unknown.retain(|name| !found.contains_key(*name));
        Ok((found, unknown))
    }

    /// Checks that the media types' table is the one whose ids are known: a
    /// database may be restored, and a schema made anew, under a running server.
    pub(super) fn check_types(&self, table: Option<i64>) -> Result<(), MetadataError> {
        let mut types = self.types.lock().unwrap_or_else(PoisonError::into_inner);
        if table == Some(types.table) {
            return Ok(());
        }
        *types = MediaTypes::default();
        Err(self.database.replaced().into())
    }
}

/// Returns where a page begins; the database knows no text with a NUL.
pub(super) fn without_nul(last: Option<&str>) -> &str {
    last.unwrap_or_default().split('\0').next().unwrap_or_default()
}

/// Cuts a page out of rows of which there may be one too many.
pub(super) fn page(rows: &[Row], limit: usize) -> Page {
    let more = rows.len() > limit;
    let names = rows.iter().take(limit).map(|row| row.get(0)).collect();
    Page { names, more }
}

/// Returns how many rows a page takes, and one to see whether more follow.
pub(super) fn page_rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}
