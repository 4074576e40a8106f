//! Objects that come piece by piece, over several requests and restarts.

use std::any::Any;
use std::fmt;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;

use super::error::StorageError;
use super::key::Key;
use crate::registry::oci::Hasher;

/// Some bytes, and the running digest of all that came before them. Whoever
/// writes them feeds the digest, on the same thread.
#[derive(Debug)]
pub struct Piece {
    /// The bytes.
    pub bytes: BytesMut,
    /// The digest; nothing where it is to be computed later.
    pub hasher: Option<Hasher>,
}

/// An unfinished object, open for whoever writes to it alone.
///
/// Dropped, it is as if the process had ended: what was written may be there
/// or not, and no note is.
pub trait Writer: Send {
    /// Writes a piece after what is there, and gives its buffer back, empty.
    fn write(&mut self, piece: Piece) -> BoxFuture<'_, Result<Piece, StorageError>>;
    /// Leaves it for later, with a note of what is there now.
    fn pause(self: Box<Self>, note: Option<Bytes>) -> BoxFuture<'static, Result<(), StorageError>>;
    /// Takes back what was written since it was opened.
    fn rollback(self: Box<Self>) -> BoxFuture<'static, Result<(), StorageError>>;
    /// Ends it. What it is to become is said by a [`super::Change::Promote`];
    /// without one it is left as by `pause`.
    fn finish(self: Box<Self>, note: Option<Bytes>) -> BoxFuture<'static, Result<Staged, StorageError>>;
}

/// An unfinished object that was taken up again.
pub struct Resumed {
    /// What writes to it.
    pub writer: Box<dyn Writer>,
    /// How many bytes are there.
    pub size: u64,
    /// The note of whoever left it, where these are still the same bytes.
    pub note: Option<Bytes>,
}

/// An object that is all there, under the name that it was written by.
pub struct Staged {
    /// That name.
    pub key: Key,
    /// Its size in bytes.
    pub size: u64,
    /// What the driver holds of it.
    held: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Staged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Staged")
            .field("key", &self.key)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Staged {
    /// Makes one of what a driver holds.
    pub fn new(key: Key, size: u64, held: impl Any + Send + Sync) -> Self {
        Self {
            key,
            size,
            held: Box::new(held),
        }
    }

    /// Returns what the driver holds; nothing where it is another's.
    pub fn held<T: Any>(&self) -> Option<&T> {
        self.held.downcast_ref()
    }
}
