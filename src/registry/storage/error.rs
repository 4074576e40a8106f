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

/// What kind of failure it was, as far as anybody acts upon it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageErrorKind {
    /// There is no room left, or no more of it for this user.
    NoSpace,
    /// Nothing may be written, by whoever.
    ReadOnly,
    /// This user may not do it.
    Denied,
    /// Something else was there than a change expected.
    Conflict,
    /// It does not answer, or is busy: it may work the next time.
    Unavailable,
    /// Anything else.
    Other,
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

    /// Returns what kind of failure it was.
    pub fn kind(&self) -> StorageErrorKind {
        use io::ErrorKind;
        if self.is_conflict() {
            return StorageErrorKind::Conflict;
        }
        match self.source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StorageErrorKind::NoSpace,
            ErrorKind::ReadOnlyFilesystem => StorageErrorKind::ReadOnly,
            ErrorKind::PermissionDenied => StorageErrorKind::Denied,
            ErrorKind::TimedOut | ErrorKind::ResourceBusy => StorageErrorKind::Unavailable,
            _ => StorageErrorKind::Other,
        }
    }

    /// Says whether something else was there than a change expected.
    pub fn is_conflict(&self) -> bool {
        matches!(self.source.get_ref(), Some(reason) if reason.is::<Conflict>())
    }
}

/// Something else is there than was expected.
#[derive(Debug, thiserror::Error)]
#[error("its content is not what was expected")]
pub(super) struct Conflict;

impl From<Conflict> for io::Error {
    fn from(conflict: Conflict) -> Self {
        Self::other(conflict)
    }
}
