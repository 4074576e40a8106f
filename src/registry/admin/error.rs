//! Why a verb failed.

use camino::Utf8PathBuf;

use crate::registry::config::ConfigError;
use crate::registry::maintenance::error::CollectError;
use crate::registry::metadata::locate::LocateError;
use crate::registry::metadata::postgres::migrations::SchemaError;
use crate::registry::metadata::{DatabaseError, MetadataError};
use crate::registry::storage::Holder;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The metadata are elsewhere.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The system refused something basic.
    #[error(transparent)]
    System(#[from] std::io::Error),
    /// The storage directory is not there.
    #[error("the storage directory {0} does not exist")]
    NoStorage(Utf8PathBuf),
    /// There is no storage outside of the server.
    #[error("{0}: storage.inmemory exists only inside its running server; this command cannot reach it")]
    InMemory(Utf8PathBuf),
    /// Another process writes to the storage.
    #[error("{0} writes to this storage: {1}")]
    Held(String, &'static str),
    /// The right to write cannot be had.
    #[error("the storage cannot be written: {0}")]
    Unwritable(std::io::Error),
    /// The collection did not come to its end.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// The metadata database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Its schema cannot be used or changed.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The metadata are in a database.
    #[error(
        "the metadata of this storage are in a database, and garbage is collected while the registry serves (see kdk registry gc status); nothing was touched"
    )]
    Online,
    /// The import failed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A server writes to the storage.
    #[error("{0} serves this storage and takes pushes, which an import would miss")]
    Writing(Holder),
    /// The configuration names no database.
    #[error("{0}: database.dbname names no database")]
    NoDatabase(Utf8PathBuf),
    /// The server that collects failed.
    #[error("{0}")]
    Remote(String),
}
