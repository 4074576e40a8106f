//! Why metadata cannot be read or changed.

use super::postgres::DatabaseError;
use crate::registry::oci::{Digest, Tag};
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
    /// A blob has another size than is said of it.
    #[error("the blob {digest} has {stored} bytes, and not {declared}")]
    WrongSize {
        /// Which blob.
        digest: Digest,
        /// What is said, in bytes.
        declared: u64,
        /// What it has, in bytes.
        stored: u64,
    },
    /// A tag stands for another manifest already, and may not leave it.
    #[error("the tag {0} is immutable")]
    Immutable(Tag),
    /// More media types that nobody used before than one manifest may bring.
    #[error("the manifest has {0} media types that are new to the database; at most {1} are allowed")]
    ManyMediaTypes(usize, usize),
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
