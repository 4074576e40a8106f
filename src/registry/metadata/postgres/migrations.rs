//! The schema of the metadata database: GitLab's, by names and migration ids,
//! so that either registry opens what the other made.
//!
//! The schema is made whole. A database that has some of the ids was made by
//! an older registry, which alone can bring it further; one that has more is
//! served as it is, and never migrated.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use tokio_postgres::{Client, GenericClient, Transaction};

/// What makes the schema in an empty database.
const SCHEMA: &str = include_str!("../../../../migrations/schema.sql");
/// What adds to it that may follow while a registry serves.
const POST_SCHEMA: &str = include_str!("../../../../migrations/post-deployment.sql");
/// What removes both.
const DROP: &str = include_str!("../../../../migrations/drop.sql");
/// Ids of the migrations that must be there before a registry serves, in order.
const PRE_DEPLOYMENT: &str = include_str!("../../../../migrations/pre-deployment.txt");
/// Ids of those that may follow while it serves, in order.
const POST_DEPLOYMENT: &str = include_str!("../../../../migrations/post-deployment.txt");
/// Number of the lock that migrating holds: who comes second waits.
const LOCK: i64 = 0x6b64_6b5f_6d69_6772;

/// Why a schema cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// Migrations are missing.
    #[error("the metadata database {missing}; run: kdk registry database migrate up CONFIG")]
    Pending {
        /// What is missing.
        missing: Missing,
    },
    /// Another, older registry made it.
    #[error(
        "the metadata database lacks {0} migrations and has others: an older registry made it; migrate it with that registry's newer version"
    )]
    Older(usize),
    /// Another, newer registry made it.
    #[error("the metadata database has migrations that this version does not know, such as {0}; it is not changed")]
    Newer(String),
    /// There is data in the way.
    #[error("the metadata database has {0} repositories; only an empty one is taken down")]
    NotEmpty(i64),
    /// The server is too old.
    #[error("PostgreSQL {0} is too old; the metadata database needs version 15 or later")]
    Server(String),
    /// A statement failed.
    #[error("cannot read or change the schema of the metadata database")]
    Statement(#[from] tokio_postgres::Error),
}

/// How many migrations are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing(usize);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == pre_deployment().count() {
            f.write_str("has no schema yet")
        } else {
            write!(f, "lacks {} migrations", self.0)
        }
    }
}

/// Returns the ids that must be there, in order.
pub fn pre_deployment() -> impl Iterator<Item = &'static str> {
    PRE_DEPLOYMENT.lines().filter(|line| !line.is_empty())
}

/// Returns the ids that may follow, in order.
pub fn post_deployment() -> impl Iterator<Item = &'static str> {
    POST_DEPLOYMENT.lines().filter(|line| !line.is_empty())
}

/// What a database has: ids and when they were applied.
type Applied = BTreeMap<String, Option<Timestamp>>;

/// One line of a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The migration's id.
    pub id: String,
    /// Whether this version knows it.
    pub known: bool,
    /// When it was applied.
    pub applied: Option<Timestamp>,
}

/// What migrating did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Ids that must be there before a registry serves.
    pub pre_deployment: Vec<&'static str>,
    /// Ids that may follow.
    pub post_deployment: Vec<&'static str>,
}

async fn applied(client: &impl GenericClient, table: &str) -> Result<Applied, tokio_postgres::Error> {
    let there = client
        .query_one("SELECT to_regclass($1) IS NOT NULL", &[&format!("public.{table}")])
        .await?;
    if !there.get::<_, bool>(0) {
        return Ok(Applied::new());
    }
    let rows = client
        .query(
            &format!("SELECT id, (extract(epoch FROM applied_at) * 1000000)::bigint FROM {table}"),
            &[],
        )
        .await?;
    let time = |micros: i64| Timestamp::from_microsecond(micros).ok();
    Ok(rows
        .iter()
        .map(|row| (row.get(0), row.get::<_, Option<i64>>(1).and_then(time)))
        .collect())
}

/// Checks that a registry can serve from the database.
///
/// # Errors
/// When migrations are missing, the server is too old, or a statement fails.
pub async fn check(client: &Client) -> Result<(), SchemaError> {
    check_server(client).await?;
    let there = applied(client, "schema_migrations").await?;
    let missing = pre_deployment().filter(|id| !there.contains_key(*id)).count();
    if missing == 0 {
        Ok(())
    } else {
        Err(SchemaError::Pending {
            missing: Missing(missing),
        })
    }
}

async fn check_server(client: &Client) -> Result<(), SchemaError> {
    const OLDEST: i32 = 150_000;
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version')",
            &[],
        )
        .await?;
    if row.get::<_, i32>(0) < OLDEST {
        return Err(SchemaError::Server(row.get(1)));
    }
    Ok(())
}

/// Returns all migrations, known and applied, in order of their ids.
///
/// # Errors
/// When a statement fails.
pub async fn status(client: &Client, skip_post: bool) -> Result<Vec<Line>, SchemaError> {
    let mut lines = Vec::new();
    let mut add = |known: &mut dyn Iterator<Item = &'static str>, mut there: Applied| {
        for id in known {
            let applied = there.remove(id).flatten();
            lines.push(Line {
                id: id.to_owned(),
                known: true,
                applied,
            });
        }
        lines.extend(there.into_iter().map(|(id, applied)| Line {
            id,
            known: false,
            applied,
        }));
    };
    add(&mut pre_deployment(), applied(client, "schema_migrations").await?);
    if !skip_post {
        let there = applied(client, "post_deploy_schema_migrations").await?;
        add(&mut post_deployment(), there);
    }
    lines.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(lines)
}

/// Returns the id of the newest migration that is applied.
///
/// # Errors
/// When a statement fails.
pub async fn version(client: &Client) -> Result<Option<String>, SchemaError> {
    let there = applied(client, "schema_migrations").await?;
    Ok(there.into_keys().next_back())
}

/// Begins a change that nobody else makes meanwhile; returns what is applied.
async fn locked(client: &mut Client) -> Result<(Transaction<'_>, Applied, Applied), SchemaError> {
    let transaction = client.transaction().await?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    let pre = applied(&transaction, "schema_migrations").await?;
    let post = applied(&transaction, "post_deploy_schema_migrations").await?;
    Ok((transaction, pre, post))
}

/// Makes the schema where it is missing; with `skip_post` without what may
/// follow while a registry serves. With `dry_run` only says what that takes.
///
/// # Errors
/// When another registry made the schema and it lacks something, or a statement fails.
pub async fn up(client: &mut Client, dry_run: bool, skip_post: bool) -> Result<Outcome, SchemaError> {
    check_server(client).await?;
    let (transaction, pre, post) = locked(client).await?;
    let outcome = Outcome {
        pre_deployment: pre_deployment().filter(|id| !pre.contains_key(*id)).collect(),
        post_deployment: post_deployment()
            .filter(|id| !skip_post && !post.contains_key(*id))
            .collect(),
    };
    if !(outcome.pre_deployment.is_empty() && outcome.post_deployment.is_empty()) {
        let known: HashSet<&str> = pre_deployment().chain(post_deployment()).collect();
        if let Some(other) = pre.keys().chain(post.keys()).find(|id| !known.contains(id.as_str())) {
            return Err(SchemaError::Newer(other.clone()));
        }
    }
    for (table, sql, there, missing) in [
        ("schema_migrations", SCHEMA, pre, &outcome.pre_deployment),
        (
            "post_deploy_schema_migrations",
            POST_SCHEMA,
            post,
            &outcome.post_deployment,
        ),
    ] {
        if missing.is_empty() {
            continue;
        }
        if !there.is_empty() {
            return Err(SchemaError::Older(missing.len()));
        }
        if dry_run {
            continue;
        }
        transaction.batch_execute(sql).await?;
        transaction
            .execute(
                &format!(
                    "INSERT INTO {table} (id, applied_at) SELECT id, clock_timestamp() FROM unnest($1::text[]) AS id"
                ),
                &[missing],
            )
            .await?;
    }
    transaction.commit().await?;
    Ok(outcome)
}

/// Removes the schema from a database that holds no repository. With
/// `dry_run` only says what would go.
///
/// # Errors
/// When there are repositories, another registry made the schema, or a statement fails.
pub async fn down(client: &mut Client, dry_run: bool) -> Result<Outcome, SchemaError> {
    let (transaction, pre, post) = locked(client).await?;
    let known: Vec<&str> = pre_deployment().chain(post_deployment()).collect();
    if let Some(other) = pre.keys().chain(post.keys()).find(|id| !known.contains(&id.as_str())) {
        return Err(SchemaError::Newer(other.clone()));
    }
    let outcome = Outcome {
        pre_deployment: pre_deployment().filter(|id| pre.contains_key(*id)).collect(),
        post_deployment: post_deployment().filter(|id| post.contains_key(*id)).collect(),
    };
    if pre.is_empty() {
        return Ok(outcome);
    }
    let repositories: i64 = transaction
        .query_one("SELECT count(*) FROM repositories", &[])
        .await?
        .get(0);
    if repositories > 0 {
        return Err(SchemaError::NotEmpty(repositories));
    }
    transaction.rollback().await?;
    if !dry_run {
        // It commits as it goes, the lists of migrations first: all at once takes more locks than there are.
        client.batch_execute(DROP).await?;
    }
    Ok(outcome)
}
