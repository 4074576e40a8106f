//! `verify`.

use super::access::{database_of, lease, runtime, stop_on_signal, storage_of};
use super::error::CommandError;
use crate::registry::config::Source;
use crate::registry::maintenance::verify::{self, Findings};
use crate::registry::metadata::Postgres;
use crate::registry::metadata::locate::is_in_database;
use crate::registry::metadata::postgres::Database;
use crate::registry::storage::{Storage, Work};

/// Checks a configuration's storage and its metadata, and mends what can be mended.
///
/// # Errors
/// When the storage or the database cannot be read, or a repair is asked for
/// while a server uses the storage.
pub fn verify(
    source: &Source,
    repair: bool,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Findings, CommandError> {
    let config = storage_of(source)?;
    let root = &config.storage.root;
    let runtime = runtime()?;
    let driver = Storage::in_directory(root)?.bulk();
    if repair && let Some(other) = lease(&driver, Work::Repair)? {
        return Err(CommandError::Held(other.to_string(), "stop it before a repair"));
    }
    let stop = stop_on_signal(&runtime);
    let in_database = runtime.block_on(is_in_database(&config, &driver))?;
    let database = if in_database {
        let database = Database::new(&database_of(source)?)?;
        // Before anything is mended, of which nobody would hear.
        drop(runtime.block_on(database.client())?);
        Some(database)
    } else {
        None
    };
    let platforms = &config.validation.platforms;
    let findings = verify::verify(
        &driver,
        runtime.handle(),
        &stop,
        repair,
        !in_database,
        platforms,
        progress,
    );
    driver.release();
    let mut findings = findings?;
    if let Some(database) = database {
        runtime.block_on(async {
            let postgres = Postgres::new(database.clone());
            let outcome = verify::database::check(&postgres, &driver, platforms, &stop, &mut findings).await;
            database.close().await;
            outcome
        })?;
    }
    Ok(findings)
}
