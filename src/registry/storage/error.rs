//! What can go wrong with what is stored.

use std::io;

/// An operation of the storage that failed.
#[derive(Debug, thiserror::Error)]
#[error("storage: {operation} {name}")]
pub struct StorageError {
    /// What was tried.
    pub operation: &'static str,
    /// With which object, or with all that begin with it.
    pub name: String,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

impl StorageError {
    /// Makes an error of a reason.
    pub fn new(operation: &'static str, name: &(impl ToString + ?Sized), source: io::Error) -> Self {
        Self {
            operation,
            name: name.to_string(),
            source,
        }
    }

    /// Says whether something else was there than a change expected.
    pub fn is_conflict(&self) -> bool {
        matches!(self.source.get_ref(), Some(reason) if reason.is::<Conflict>())
    }
}

/// Something else is there than was expected.
#[derive(Debug, thiserror::Error)]
#[error("something else is there than was expected")]
pub(super) struct Conflict;

impl From<Conflict> for io::Error {
    fn from(conflict: Conflict) -> Self {
        Self::other(conflict)
    }
}
