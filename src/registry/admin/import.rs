//! `database import`.

use super::access::{database_of, lease, runtime, stop_on_signal, storage_of};
use super::error::CommandError;
use crate::registry::config::Source;
use crate::registry::maintenance::import::{self, Importer};
use crate::registry::metadata::Postgres;
use crate::registry::metadata::postgres::Database;
use crate::registry::metadata::postgres::import::Counts;
use crate::registry::storage::{Storage, Work};

/// What an import brought in, and how many rows each table has, when that was asked.
pub type Imported = (Counts, Vec<(&'static str, i64)>);

/// Imports the link files of a configuration's storage into its metadata
/// database. SIGINT and SIGTERM end it early.
///
/// # Errors
/// When it cannot begin, or does not come to its end.
pub fn import(
    source: &Source,
    options: import::Options,
    count_rows: bool,
    report: &(dyn Fn(import::Event) + Sync),
) -> Result<Imported, CommandError> {
    let config = storage_of(source)?;
    let database = database_of(source)?;
    let runtime = runtime()?;
    // Everything is looked at once: no caches, and no other threads, which
    // would cost more than the reading.
    let driver = Storage::in_directory(&config.storage.root)?.bulk();
    // Blobs that nothing refers to may come while pushes go on, and reading
    // changes nothing.
    if !options.dry_run && (options.manifests || options.tags) {
        match lease(&driver, Work::Import)? {
            None => {}
            Some(server) if server.work == Work::Serve => return Err(CommandError::Writing(server)),
            Some(other) => return Err(CommandError::Held(other.to_string(), "try again when it is done")),
        }
    }
    let stop = stop_on_signal(&runtime);
    runtime.block_on(async {
        let database = Database::hasty(&database)?;
        let postgres = Postgres::new(database.clone());
        let counts = Importer::new(driver.clone(), &postgres, options, &stop, report)
            .run()
            .await;
        driver.release();
        let counts = counts?;
        let rows = if count_rows {
            postgres.row_counts().await?
        } else {
            Vec::new()
        };
        database.close().await;
        Ok((counts, rows))
    })
}
