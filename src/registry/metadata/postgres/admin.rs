//! Making and removing whole databases on a server.

use tokio_postgres::error::SqlState;

use super::connection::Database;
use super::error::DatabaseError;
use crate::registry::config::DatabaseConfig;

/// The database that every server has.
const MAINTENANCE: &str = "postgres";

/// Connects beside the database that is worked on.
fn beside(config: &DatabaseConfig) -> Result<Database, DatabaseError> {
    let mut other = config.clone();
    other.name = MAINTENANCE.to_owned();
    Ok(Database::with(&other, false)?.named(&config.to_string()))
}

/// Says whether the role may make databases.
///
/// # Errors
/// When the server cannot be reached.
pub async fn may_create(config: &DatabaseConfig) -> Result<bool, DatabaseError> {
    let server = beside(config)?;
    let client = server.client().await?;
    let row = client
        .query_opt(
            "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user",
            &[],
        )
        .await
        .map_err(|error| server.failure(error))?;
    std::mem::drop(client);
    server.close().await;
    Ok(row.is_some_and(|row| row.get(0)))
}

/// Writes a name as SQL has it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Makes a database when it is missing, as a copy of another where one is
/// named; says whether it was made.
///
/// # Errors
/// When the server cannot be reached, or refuses.
pub async fn create(config: &DatabaseConfig, template: Option<&str>) -> Result<bool, DatabaseError> {
    let server = beside(config)?;
    let client = server.client().await?;
    let known = client
        .query_opt("SELECT FROM pg_database WHERE datname = $1", &[&config.name])
        .await
        .map_err(|error| server.failure(error))?;
    if known.is_some() {
        drop(client);
        server.close().await;
        return Ok(false);
    }
    // Names compare bytewise, so that pages are sorted as the API says.
    let of = template.map_or_else(
        || "TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'".to_owned(),
        |template| format!("TEMPLATE {}", quoted(template)),
    );
    let made = client
        .batch_execute(&format!("CREATE DATABASE {} {of}", quoted(&config.name)))
        .await
        .map_err(|error| (error.code().cloned(), server.failure(error)));
    drop(client);
    server.close().await;
    match made {
        Ok(()) => Ok(true),
        // Somebody else was quicker.
        Err((Some(SqlState::DUPLICATE_DATABASE), _)) => Ok(false),
        Err((_, error)) => Err(error),
    }
}

/// Removes a database with all that is in it, also while it is used; says
/// whether there was one.
///
/// # Errors
/// When the server cannot be reached, or refuses.
pub async fn remove(config: &DatabaseConfig) -> Result<bool, DatabaseError> {
    let server = beside(config)?;
    let client = server.client().await?;
    let gone = client
        .batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", quoted(&config.name)))
        .await
        .map_err(|error| (error.code().cloned(), server.failure(error)));
    drop(client);
    server.close().await;
    match gone {
        Ok(()) => Ok(true),
        Err((Some(SqlState::INVALID_CATALOG_NAME), _)) => Ok(false),
        Err((_, error)) => Err(error),
    }
}
