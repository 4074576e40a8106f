//! Why metadata cannot be read or changed.

use super::postgres::DatabaseError;
use crate::registry::oci::Digest;
use crate::registry::storage::StorageError;

/// Why metadata cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// An index holds the manifest.
    #[error("the manifest belongs to an index")]
    Referenced,
    /// Content that is needed is gone.
    #[error("content that is referred to is missing")]
    Missing(Vec<Digest>),
    /// A blob was pushed while the one that was there before was removed.
    #[error("the blob {0} was being removed when it was pushed")]
    Collected(Digest),
    /// An import cannot begin or go on.
    #[error("{0}")]
    Import(String),
    /// A media type that cannot be kept.
    #[error("the media type {0:?} cannot be kept")]
    MediaType(String),
}
