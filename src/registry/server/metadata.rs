//! Opening metadata where they are, and letting the storage say so.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::error::StartError;
use crate::registry::config::Config;
use crate::registry::metadata::locate::{holds_files, is_in_database};
use crate::registry::metadata::postgres::{Database, migrations};
use crate::registry::metadata::{Files, InDatabase, Postgres, Store};
use crate::registry::storage::{Storage, StorageError, marks};

/// Opens metadata where they are.
///
/// # Errors
/// When they are elsewhere than the configuration says, or cannot be used.
pub async fn open(config: &Config, storage: &Storage) -> Result<Store, StartError> {
    if !is_in_database(config, storage).await? {
        // One without images may yet become a database's.
        if config.enforce_lockfiles && !config.storage.readonly && holds_files(storage).await? {
            marks::set_filesystem_in_use(storage).await?;
        }
        return Ok(Store::Files(Files::new(storage.clone())));
    }
    let database = Database::new(&config.database)?;
    let reached = database.client().await.map(drop);
    let postgres = Postgres::new(database);
    match reached {
        Ok(()) => mark(config, storage, &postgres).await?,
        // It may come back: until then requests are told so.
        Err(error) if !error.is_schema() => {
            tracing::error!(error = %error.in_full(), "the metadata database is not available; trying again with each request");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Store::Database(InDatabase::new(postgres, storage.clone())))
}

/// Lets the storage say that its metadata are in a database.
async fn mark(config: &Config, storage: &Storage, postgres: &Postgres) -> Result<(), StorageError> {
    let was_marked = marks::is_database_in_use(storage).await?;
    if !was_marked && postgres.is_used().await.unwrap_or_default() {
        tracing::warn!(directory = %config.storage.root, "the metadata database has repositories already, and this storage was not used with it: is storage.filesystem.rootdirectory right?");
    }
    if config.storage.readonly {
        return Ok(());
    }
    marks::move_to_database(storage).await
}

/// Says what a database lacks, and marks a storage whose database was away at
/// the start, once it is reached: a collection must not take it for one whose
/// metadata are in files.
pub async fn when_reached(storage: Storage, postgres: Postgres, stop: CancellationToken) {
    const PAUSE: Duration = Duration::from_millis(500);
    let work = async {
        let client = loop {
            match postgres.database().client().await {
                Ok(client) => break client,
                Err(_) => crate::sys::task::sleep(PAUSE).await,
            }
        };
        if let Ok(lacking @ 1..) = migrations::lacking(&client).await {
            tracing::warn!(
                "the metadata database lacks {lacking} of this version's migrations; run: kdk registry database migrate up CONFIG"
            );
        }
        drop(client);
        while !marks::is_database_in_use(&storage).await.unwrap_or_default() {
            if postgres.database().ping().await.is_ok()
                && let Err(error) = marks::move_to_database(&storage).await
            {
                tracing::error!(error = %error, "the storage cannot be marked as one whose metadata are in a database");
            }
            crate::sys::task::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}
