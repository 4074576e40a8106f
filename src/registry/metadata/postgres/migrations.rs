//! The schema of the metadata database: GitLab's, by names and migration ids,
//! so that either registry opens what the other made.
//!
//! The schema is made whole. A database that has some of the ids was made by
//! an older registry, which alone can bring it further; one that has more is
//! served as it is, and never migrated.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient, Transaction};

/// A migration of this project's own.
macro_rules! own {
    ($id:literal) => {
        (
            concat!("kdk/", $id),
            include_str!(concat!("../../../../migrations/kdk/", $id, ".sql")),
        )
    };
}

/// What makes the schema in an empty database.
const SCHEMA: &str = include_str!("../../../../migrations/schema.sql");
/// What adds to it that may follow while a registry serves.
const POST_SCHEMA: &str = include_str!("../../../../migrations/post-deployment.sql");
/// What is added to either registry's schema, and mended in it, by id and in order.
const OWN: [(&str, &str); 6] = [
    own!("0001_media_types"),
    own!("0002_configurations"),
    own!("0003_deleted_manifests"),
    own!("0004_waiting_manifests"),
    own!("0005_repository_versions"),
    own!("0006_referrers"),
];
/// What removes all.
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
    #[error("the metadata database has {0} repositories; the schema can be removed only when there are none")]
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
    /// Ids of this project's own, which may follow, too.
    pub own: Vec<&'static str>,
    /// How many of those are left to the schema's owner, since this user may
    /// not apply them.
    pub left: usize,
}

impl Outcome {
    /// Returns all ids, in order.
    pub fn ids(&self) -> impl Iterator<Item = &'static str> {
        let all = self.pre_deployment.iter().chain(&self.post_deployment).chain(&self.own);
        all.copied()
    }
}

/// Where it is recorded what was applied.
const PRE_TABLE: &str = "public.schema_migrations";
const POST_TABLE: &str = "public.post_deploy_schema_migrations";
const OWN_TABLE: &str = "kdk.migrations";
const MAKE_OWN_TABLE: &str = "CREATE SCHEMA IF NOT EXISTS kdk;
    CREATE TABLE IF NOT EXISTS kdk.migrations (
        id text NOT NULL PRIMARY KEY,
        applied_at timestamp with time zone
    );
    GRANT USAGE ON SCHEMA kdk TO PUBLIC;
    GRANT SELECT ON kdk.migrations TO PUBLIC";

async fn applied(client: &impl GenericClient, table: &str) -> Result<Applied, tokio_postgres::Error> {
    let there = client
        .query_one("SELECT to_regclass($1) IS NOT NULL", &[&table])
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

/// Checks that a registry can serve from the database; says whether
/// repositories have numbers there by which changes are seen.
///
/// # Errors
/// When migrations are missing, the server is too old, or a statement fails.
pub async fn check(client: &Client) -> Result<bool, SchemaError> {
    let has_versions = check_server(client).await?;
    let there = applied(client, PRE_TABLE).await?;
    let missing = pre_deployment().filter(|id| !there.contains_key(*id)).count();
    if missing == 0 {
        Ok(has_versions)
    } else {
        Err(SchemaError::Pending {
            missing: Missing(missing),
        })
    }
}

async fn check_server(client: &Client) -> Result<bool, SchemaError> {
    const OLDEST: i32 = 150_000;
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
                EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                    WHERE n.nspname = 'kdk' AND c.relname = 'repository_versions'
                        AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))",
            &[],
        )
        .await?;
    if row.get::<_, i32>(0) < OLDEST {
        return Err(SchemaError::Server(row.get(1)));
    }
    Ok(row.get(2))
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
    add(&mut pre_deployment(), applied(client, PRE_TABLE).await?);
    if !skip_post {
        add(&mut post_deployment(), applied(client, POST_TABLE).await?);
        add(&mut own(), applied(client, OWN_TABLE).await?);
    }
    lines.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(lines)
}

/// Returns the id of the newest migration that is applied.
///
/// # Errors
/// When a statement fails.
pub async fn version(client: &Client) -> Result<Option<String>, SchemaError> {
    let there = applied(client, PRE_TABLE).await?;
    Ok(there.into_keys().next_back())
}

/// Returns the ids of this project's own, in order.
fn own() -> impl Iterator<Item = &'static str> {
    OWN.iter().map(|(id, _)| *id)
}

/// Returns how many of this project's own migrations a database lacks; it is
/// served without them, and some things are slower or not mended.
///
/// # Errors
/// When a statement fails.
pub async fn lacking(client: &Client) -> Result<usize, tokio_postgres::Error> {
    let there = applied(client, OWN_TABLE).await?;
    Ok(own().filter(|id| !there.contains_key(*id)).count())
}

/// Begins a change that nobody else makes meanwhile; returns what is applied.
async fn locked(client: &mut Client) -> Result<(Transaction<'_>, [Applied; 3]), SchemaError> {
    let transaction = client.transaction().await?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK])
        .await?;
    let pre = applied(&transaction, PRE_TABLE).await?;
    let post = applied(&transaction, POST_TABLE).await?;
    let own = applied(&transaction, OWN_TABLE).await?;
    Ok((transaction, [pre, post, own]))
}

/// Makes the schema where it is missing; with `skip_post` without what may
/// follow while a registry serves. With `dry_run` only says what that takes.
///
/// # Errors
/// When another registry made the schema and it lacks something, or a statement fails.
pub async fn up(client: &mut Client, dry_run: bool, skip_post: bool) -> Result<Outcome, SchemaError> {
    check_server(client).await?;
    let (transaction, [pre, post, done]) = locked(client).await?;
    let known: HashSet<&str> = pre_deployment().chain(post_deployment()).collect();
    let other = pre.keys().chain(post.keys()).find(|id| !known.contains(id.as_str()));
    let mut outcome = Outcome {
        left: 0,
        pre_deployment: pre_deployment().filter(|id| !pre.contains_key(*id)).collect(),
        post_deployment: post_deployment()
            .filter(|id| !skip_post && !post.contains_key(*id))
            .collect(),
        // What a newer registry made is left alone.
        own: own()
            .filter(|id| !skip_post && other.is_none() && !done.contains_key(*id))
            .collect(),
    };
    if let Some(other) = other
        && !(outcome.pre_deployment.is_empty() && outcome.post_deployment.is_empty())
    {
        return Err(SchemaError::Newer(other.clone()));
    }
    for (table, sql, there, missing) in [
        (PRE_TABLE, SCHEMA, pre, &outcome.pre_deployment),
        (POST_TABLE, POST_SCHEMA, post, &outcome.post_deployment),
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
        record(&transaction, table, missing).await?;
    }
    if dry_run || outcome.own.is_empty() {
        transaction.commit().await?;
        return Ok(outcome);
    }
    match apply_own(&transaction, &outcome.own).await {
        Ok(()) => transaction.commit().await?,
        // A schema that is complete is served all the same, whoever owns it.
        Err(error)
            if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
                && outcome.pre_deployment.is_empty()
                && outcome.post_deployment.is_empty() =>
        {
            transaction.rollback().await?;
            outcome.left = std::mem::take(&mut outcome.own).len();
        }
        Err(error) => return Err(error.into()),
    }
    Ok(outcome)
}

async fn apply_own(transaction: &Transaction<'_>, ids: &[&str]) -> Result<(), tokio_postgres::Error> {
    transaction.batch_execute(MAKE_OWN_TABLE).await?;
    for (_, sql) in OWN.iter().filter(|(id, _)| ids.contains(id)) {
        transaction.batch_execute(sql).await?;
    }
    record(transaction, OWN_TABLE, ids).await
}

async fn record(transaction: &Transaction<'_>, table: &str, ids: &[&str]) -> Result<(), tokio_postgres::Error> {
    let sql =
        format!("INSERT INTO {table} (id, applied_at) SELECT id, clock_timestamp() FROM unnest($1::text[]) AS id");
    transaction.execute(&sql, &[&ids]).await.map(drop)
}

/// Removes the schema from a database that holds no repository. With
/// `dry_run` only says what would go.
///
/// # Errors
/// When there are repositories, another registry made the schema, or a statement fails.
pub async fn down(client: &mut Client, dry_run: bool) -> Result<Outcome, SchemaError> {
    let (transaction, [pre, post, done]) = locked(client).await?;
    let known: Vec<&str> = pre_deployment().chain(post_deployment()).collect();
    if let Some(other) = pre.keys().chain(post.keys()).find(|id| !known.contains(&id.as_str())) {
        return Err(SchemaError::Newer(other.clone()));
    }
    let outcome = Outcome {
        pre_deployment: pre_deployment().filter(|id| pre.contains_key(*id)).collect(),
        post_deployment: post_deployment().filter(|id| post.contains_key(*id)).collect(),
        own: own().filter(|id| done.contains_key(*id)).collect(),
        left: 0,
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
