//! The storage that everybody uses: one of the drivers, which nobody above
//! this module can tell apart.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use camino::Utf8Path;
use jiff::Timestamp;

use super::change::{Change, Durability, Target};
use super::driver::{Driver as _, LastUsed};
use super::drivers::filesystem::Filesystem;
use super::error::StorageError;
use super::key::{Key, Prefix};
use super::object::Object;
use super::writer::Resumed;

/// A place that keeps bytes; see [`super::Driver`] for what each call promises.
#[derive(Clone, Debug)]
pub enum Storage {
    /// Files on a local disk.
    Filesystem(Filesystem),
}

/// Passes a call on to the driver.
macro_rules! pass {
    ($self:ident.$call:ident($($argument:expr),*)) => {
        match $self {
            Self::Filesystem(driver) => driver.$call($($argument),*),
        }
    };
}

impl Storage {
    /// Opens a directory tree, making its top directory when it is missing.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn in_directory(root: &Utf8Path) -> io::Result<Self> {
        Filesystem::open(root).map(Self::Filesystem)
    }

    /// Returns the same storage with calls on the caller's thread and past the
    /// caches, for work that has threads of its own and looks at everything once.
    #[must_use]
    pub fn bulk(&self) -> Self {
        match self {
            Self::Filesystem(driver) => Self::Filesystem(driver.inline()),
        }
    }

    /// Makes everything durable that is there. After a process was killed,
    /// what it had not acknowledged may be seen without being durable.
    ///
    /// # Errors
    /// When the file system reports one.
    pub fn settle(&self) -> io::Result<()> {
        pass!(self.settle())
    }

    /// Reads a small object whole, or returns nothing when it does not exist.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn get(&self, key: &Key) -> Result<Option<Bytes>, StorageError> {
        pass!(self.get(key)).await
    }

    /// Returns an object's size in bytes, or nothing when it does not exist.
    ///
    /// # Errors
    /// When that cannot be told.
    pub async fn head(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        pass!(self.head(key)).await
    }

    /// Opens an object for reading, or returns nothing when it does not exist.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn open(&self, key: &Key) -> Result<Option<Object>, StorageError> {
        pass!(self.open(key)).await
    }

    /// Returns the names of the next part after a prefix, sorted bytewise;
    /// nothing when there is none. The same listing again may be the same
    /// allocation while nothing changed, and never is when something did.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn list(&self, prefix: &Prefix) -> Result<Option<Arc<[String]>>, StorageError> {
        pass!(self.list(prefix)).await
    }

    /// Returns when an object, also an unfinished one, was last used.
    ///
    /// # Errors
    /// When that cannot be told.
    pub async fn last_used(&self, key: &Key) -> Result<Option<LastUsed>, StorageError> {
        pass!(self.last_used(key)).await
    }

    /// Returns the size of an unfinished object, or nothing when it was not begun.
    ///
    /// # Errors
    /// When that cannot be told.
    pub async fn unfinished(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        pass!(self.unfinished(key)).await
    }

    /// Goes on with an unfinished object, or begins it.
    ///
    /// # Errors
    /// When it cannot be opened, or somebody else writes to it.
    pub async fn resume(&self, key: &Key) -> Result<Resumed, StorageError> {
        pass!(self.resume(key)).await
    }

    /// Carries out changes that belong together.
    ///
    /// # Errors
    /// When any of them fails; then nothing is seen of any that was not there before.
    pub async fn commit(&self, changes: Vec<Change>, durability: Durability) -> Result<(), StorageError> {
        pass!(self.commit(changes, durability)).await
    }

    /// Removes objects; says of how many targets there was something.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub async fn delete(&self, targets: Vec<Target>, durability: Durability) -> Result<usize, StorageError> {
        pass!(self.delete(targets, durability)).await
    }

    /// Makes durable all that was volatile.
    ///
    /// # Errors
    /// When anything of it was lost.
    pub async fn flush(&self) -> Result<(), StorageError> {
        pass!(self.flush()).await
    }

    /// Puts an object aside under a name, out of the layout.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub async fn quarantine(&self, key: &Key, name: &str) -> Result<(), StorageError> {
        pass!(self.quarantine(key, name)).await
    }

    /// Removes below a prefix what only the driver leaves behind, when it was
    /// left before a time; returns how much that was.
    ///
    /// # Errors
    /// When that cannot be found or removed.
    pub async fn tidy(&self, prefix: &Prefix, before: Timestamp) -> Result<usize, StorageError> {
        pass!(self.tidy(prefix, before)).await
    }

    /// Says whether the store answers. Writes nothing.
    ///
    /// # Errors
    /// When it does not.
    pub async fn probe(&self) -> Result<(), StorageError> {
        pass!(self.probe()).await
    }
}
