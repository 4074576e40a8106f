//! The storage that everybody uses: one of the drivers, which nobody above
//! this module can tell apart.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use camino::Utf8Path;

use super::driver::{Change, Driver as _, Stat, StorageError};
use super::drivers::filesystem::Filesystem;
use super::drivers::filesystem::disk::Appender;
use super::object::Object;

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

    /// Reads a small file whole, or returns nothing when it does not exist.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn read(&self, path: &str) -> Result<Option<Bytes>, StorageError> {
        pass!(self.read(path)).await
    }

    /// Returns what is known of a file, or nothing when it does not exist.
    ///
    /// # Errors
    /// When that cannot be told.
    pub async fn stat(&self, path: &str) -> Result<Option<Stat>, StorageError> {
        pass!(self.stat(path)).await
    }

    /// Opens a file for reading, or returns nothing when it does not exist.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn open(&self, path: &str) -> Result<Option<Object>, StorageError> {
        pass!(self.open(path)).await
    }

    /// Carries out changes that belong together, durably.
    ///
    /// # Errors
    /// When any of them fails; what was done until then nobody sees.
    pub async fn apply(&self, changes: Vec<Change>) -> Result<(), StorageError> {
        pass!(self.apply(changes)).await
    }

    /// Opens a file for writing at `offset`, making it and dropping what lies beyond.
    ///
    /// # Errors
    /// When it cannot be opened, or another server writes to it.
    pub async fn append(&self, path: &str, offset: u64) -> Result<Appender, StorageError> {
        pass!(self.append(path, offset)).await
    }

    /// Removes a file or a tree; says whether there was one.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn remove(&self, path: &str) -> Result<bool, StorageError> {
        pass!(self.remove(path)).await
    }

    /// Removes like `remove`, but durably only after `flush`, together with
    /// the directories above that become empty, up to `keep`.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub async fn discard(&self, path: &str, keep: &str) -> Result<bool, StorageError> {
        pass!(self.discard(path, keep)).await
    }

    /// Puts a file aside, outside the layout, under a name.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub async fn quarantine(&self, path: &str, name: &str) -> Result<(), StorageError> {
        pass!(self.quarantine(path, name)).await
    }

    /// Makes durable what was discarded.
    ///
    /// # Errors
    /// When the file system reports one.
    pub async fn flush(&self) -> Result<(), StorageError> {
        pass!(self.flush()).await
    }

    /// Returns the names in a directory, sorted; nothing when it does not
    /// exist. The same listing again is the same allocation while nothing changed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn list(&self, path: &str) -> Result<Option<Arc<[String]>>, StorageError> {
        pass!(self.list(path)).await
    }
}
