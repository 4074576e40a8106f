//! What there is: queues, blobs, marks.

use super::access::{database_of, lease, runtime};
use super::error::CommandError;
use crate::registry::config::database::Mode;
use crate::registry::config::{Config, Source};
use crate::registry::maintenance::online::Totals;
use crate::registry::metadata::Postgres;
use crate::registry::metadata::locate::{LocateError, is_in_database};
use crate::registry::metadata::postgres::Database;
use crate::registry::metadata::postgres::review::Queue;
use crate::registry::state::StateDir;
use crate::registry::storage::{Blobs, Storage, StorageError, Work, marks};

/// Returns why a configuration's registry would not start, when it is that its
/// metadata are elsewhere.
pub fn misplaced(config: &Config) -> Option<String> {
    if config.storage.in_memory || !config.storage.root.is_dir() {
        return None;
    }
    let driver = Storage::in_directory(&config.storage.root).ok()?.bulk();
    let place = runtime().ok()?.block_on(is_in_database(config, &driver));
    match place {
        Err(error @ (LocateError::DatabaseInUse(_) | LocateError::NotImported(_))) => Some(error.to_string()),
        _ => None,
    }
}

/// How full the queues of blobs and manifests are, and what was removed so far.
///
/// # Errors
/// When the database cannot be read.
pub fn online_gc(source: &Source) -> Result<([Queue; 2], Totals), CommandError> {
    let config = source.load()?;
    let database = Database::new(&database_of(source)?)?;
    let queues = runtime()?.block_on(async {
        let queues = Postgres::new(database.clone()).queues().await;
        database.close().await;
        queues
    })?;
    Ok((queues, Totals::read(&StateDir::beside(&config.storage.root))))
}

/// Removes the mark that the metadata of a configuration's storage are in a
/// database, unless the configuration says so, too.
///
/// # Errors
/// When the storage cannot be changed.
pub fn forget_database(source: &Source) -> Result<(), CommandError> {
    let config = source.load()?;
    if config.database.mode == Mode::Database {
        // It is in use still, and what the files know of is not to be served again.
        return Ok(());
    }
    if !config.storage.root.try_exists()? {
        return Ok(());
    }
    let storage = Storage::in_directory(&config.storage.root)?;
    if let Some(other) = lease(&storage, Work::Mark)? {
        return Err(CommandError::Held(other.to_string(), "stop it first"));
    }
    let removed = runtime()?.block_on(marks::clear_database_in_use(&storage));
    storage.release();
    removed.map_err(|error| CommandError::Collect(error.into()))
}

/// Returns how many blobs a configuration's storage holds, and their bytes.
///
/// # Errors
/// When the storage cannot be read.
pub fn stored_blobs(source: &Source) -> Result<(usize, u64), CommandError> {
    let root = source.load()?.storage.root;
    if !root.try_exists()? {
        return Ok((0, 0));
    }
    let blobs = Blobs::new(Storage::in_directory(&root)?.bulk());
    let counted = runtime()?.block_on(async {
        let (mut count, mut bytes) = (0, 0);
        for shard in blobs.shards().await? {
            for digest in blobs.digests(&shard).await? {
                if let Some(size) = blobs.head(&digest).await? {
                    count += 1;
                    bytes += size;
                }
            }
        }
        Ok((count, bytes))
    });
    counted.map_err(|error: StorageError| CommandError::Collect(error.into()))
}
