//! Where the metadata of a storage are: by the configuration, and by what the
//! storage says of itself.

use camino::Utf8PathBuf;

use crate::registry::config::Config;
use crate::registry::config::database::Mode;
use crate::registry::storage::{Storage, StorageError, marks, tree};

/// Why the configuration and the storage do not go together.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    /// The storage cannot be read.
    #[error("cannot use the storage directory: {}", .0.source)]
    Storage(#[source] StorageError),
    /// The metadata are elsewhere.
    #[error(
        "the metadata of {0} are in a database, as {0}/docker/registry/lockfiles/database-in-use says, and database.enabled is off: the registry would seem empty. Set database.enabled (in kdk.yml: registry.database.enabled) to true; or, if the database is gone for good, remove that file"
    )]
    DatabaseInUse(Utf8PathBuf),
    /// The metadata are in files.
    #[error(
        "{0} holds images whose metadata are in files, and database.enabled is on: the registry would seem empty. Import them first: set database.enabled to false and run kdk import-registry-data, or kdk registry database import CONFIG"
    )]
    NotImported(Utf8PathBuf),
}

/// Says whether there are images whose metadata are in files.
///
/// # Errors
/// Those of the storage.
pub async fn holds_files(storage: &Storage) -> Result<bool, StorageError> {
    let first = tree::holding_after(storage, "_manifests", "", 1).await?;
    Ok(!first.is_empty())
}

/// Says whether metadata are in a database.
///
/// # Errors
/// When configuration and storage do not agree: images would be hidden.
pub async fn is_in_database(config: &Config, storage: &Storage) -> Result<bool, LocateError> {
    let failed = LocateError::Storage;
    let in_database = marks::is_database_in_use(storage).await.map_err(failed)?;
    let in_files = marks::is_filesystem_in_use(storage).await.map_err(failed)?;
    let holds_files = async || holds_files(storage).await.map_err(failed);
    let database = match config.database.mode {
        Mode::Files => false,
        Mode::Database => true,
        Mode::Prefer => in_database || !(in_files || holds_files().await?),
    };
    // Serving from the wrong place would show an empty registry where there is a full one.
    if !database && in_database {
        return Err(LocateError::DatabaseInUse(config.storage.root.clone()));
    }
    if database && !in_database && (in_files && config.enforce_lockfiles || holds_files().await?) {
        return Err(LocateError::NotImported(config.storage.root.clone()));
    }
    Ok(database)
}
