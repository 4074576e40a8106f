//! What verbs work with: a runtime, the storage, the right to change it, the
//! database.

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::error::CommandError;
use crate::registry::config::{Config, DatabaseConfig, Source};
use crate::registry::metadata::postgres::{AdminClient, Database};
use crate::registry::storage::{Holder, LeaseError, Storage, Work};

/// Makes what runs a verb.
pub fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Loads a configuration whose storage is there.
pub fn storage_of(source: &Source) -> Result<Config, CommandError> {
    let config = source.load()?;
    if config.storage.in_memory {
        return Err(CommandError::InMemory(source.path.clone()));
    }
    if config.storage.root.is_dir() {
        Ok(config)
    } else {
        Err(CommandError::NoStorage(config.storage.root))
    }
}

/// Takes the right to write to a storage; returns who has it instead.
pub fn lease(storage: &Storage, work: Work) -> Result<Option<Holder>, CommandError> {
    match storage.lease(&Holder::own(work)) {
        Ok(()) => Ok(None),
        Err(LeaseError::Held(Some(other))) => Ok(Some(other)),
        Err(LeaseError::Held(None)) => Err(CommandError::Held(
            "another process".to_owned(),
            "try again when it is done",
        )),
        Err(LeaseError::Unwritable(error)) => Err(CommandError::Unwritable(error)),
        Err(LeaseError::Io(error)) => Err(error.into()),
    }
}

/// Returns where a configuration has its metadata database.
pub fn database_of(source: &Source) -> Result<DatabaseConfig, CommandError> {
    let config = source.load()?.database;
    if config.name.is_empty() {
        return Err(CommandError::NoDatabase(source.path.clone()));
    }
    Ok(config)
}

/// Works with a configuration's metadata database, whatever its schema.
pub fn with_database<T>(
    source: &Source,
    work: impl AsyncFnOnce(&mut AdminClient) -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    let database = Database::with(&database_of(source)?, false)?;
    runtime()?.block_on(async {
        let mut client = database.client().await?;
        let outcome = work(&mut client).await;
        drop(client);
        database.close().await;
        outcome
    })
}

/// Returns what SIGINT and SIGTERM cancel.
pub fn stop_on_signal(runtime: &Runtime) -> CancellationToken {
    let stop = CancellationToken::new();
    let told = stop.clone();
    runtime.spawn(async move {
        if let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            told.cancel();
        }
    });
    stop
}
