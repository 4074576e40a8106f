//! The schema of the metadata database.

use super::access::with_database;
use super::error::CommandError;
use crate::registry::config::Source;
use crate::registry::metadata::postgres::migrations::{self, Line, Outcome};

/// What is done to the schema of the metadata database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrate {
    /// It is made where it is missing.
    Up {
        /// Without what may follow while a registry serves.
        skip_post: bool,
    },
    /// It is removed from an empty database.
    Down,
}

/// Migrates a configuration's metadata database. Whether it is enabled does not matter.
///
/// # Errors
/// When the database cannot be reached or changed.
pub fn migrate(source: &Source, direction: Migrate, dry_run: bool) -> Result<Outcome, CommandError> {
    with_database(source, async |client| {
        let outcome = match direction {
            Migrate::Up { skip_post } => migrations::up(client, dry_run, skip_post).await,
            Migrate::Down => migrations::down(client, dry_run).await,
        };
        Ok(outcome?)
    })
}

/// Returns the migrations of a configuration's metadata database, known and applied.
///
/// # Errors
/// When the database cannot be reached or read.
pub fn migrations_of(source: &Source, skip_post: bool) -> Result<Vec<Line>, CommandError> {
    with_database(source, async |client| Ok(migrations::status(client, skip_post).await?))
}

/// Returns the id of the newest migration that is applied.
///
/// # Errors
/// When the database cannot be reached or read.
pub fn schema_version(source: &Source) -> Result<Option<String>, CommandError> {
    with_database(source, async |client| Ok(migrations::version(client).await?))
}
