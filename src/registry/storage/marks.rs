//! What a storage says of itself: whether its metadata are in a database or
//! in its files (the lock files of GitLab's registry).

use bytes::Bytes;

use super::change::{Change, Durability, Target};
use super::dispatch::Storage;
use super::error::StorageError;
use super::key::Key;
use super::layout;

/// What lock files hold, as GitLab's registry writes them.
const CONTENT: &[u8] = b"{\"version\":1}";

/// Says whether the metadata are in a database.
///
/// # Errors
/// When the storage cannot be read.
pub async fn is_database_in_use(storage: &Storage) -> Result<bool, StorageError> {
    Ok(storage.head(&layout::database_in_use()).await?.is_some())
}

/// Says whether the storage names its files as where the metadata are.
///
/// # Errors
/// When the storage cannot be read.
pub async fn is_filesystem_in_use(storage: &Storage) -> Result<bool, StorageError> {
    Ok(storage.head(&layout::filesystem_in_use()).await?.is_some())
}

/// Writes down that the metadata are in a database, and no more in files:
/// GitLab's registry starts with no storage that says both.
///
/// # Errors
/// When it cannot be written.
pub async fn move_to_database(storage: &Storage) -> Result<(), StorageError> {
    if !is_database_in_use(storage).await? {
        set(storage, layout::database_in_use()).await?;
    }
    if is_filesystem_in_use(storage).await? {
        clear(storage, layout::filesystem_in_use()).await?;
    }
    Ok(())
}

/// Writes down that the metadata are in files.
///
/// # Errors
/// When it cannot be written.
pub async fn set_filesystem_in_use(storage: &Storage) -> Result<(), StorageError> {
    set(storage, layout::filesystem_in_use()).await
}

async fn set(storage: &Storage, key: Key) -> Result<(), StorageError> {
    let content = Bytes::from_static(CONTENT);
    let change = Change::Put { key, content };
    storage.commit(vec![change], Durability::Durable).await
}

/// Takes the word back that the metadata are in a database.
///
/// # Errors
/// When it cannot be removed.
pub async fn clear_database_in_use(storage: &Storage) -> Result<(), StorageError> {
    clear(storage, layout::database_in_use()).await
}

async fn clear(storage: &Storage, key: Key) -> Result<(), StorageError> {
    let target = vec![Target::Object(key)];
    storage.delete(target, Durability::Durable).await.map(drop)
}
