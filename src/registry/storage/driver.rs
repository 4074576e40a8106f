//! What a place that keeps bytes can do.
//!
//! Paths are relative, `/`-separated, and come from [`super::layout`] alone.

use std::future::Future;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::drivers::filesystem::Moment;
use super::drivers::filesystem::disk::Appender;
use super::object::Object;

/// A storage operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("storage: {action} {path}")]
pub struct StorageError {
    /// What was tried.
    pub action: &'static str,
    /// On which path.
    pub path: String,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

/// What is known of a stored file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change.
    pub modified: Timestamp,
}

/// One part of a durable change.
#[derive(Clone, Debug)]
pub enum Change {
    /// A small file that proves itself: readers check it against its own
    /// name, so that it may be seen before it is durable. Links and manifests.
    Prove {
        /// Its path.
        path: String,
        /// Its content.
        content: Bytes,
    },
    /// A file that must be whole whenever it is there; it replaces what is.
    Store {
        /// Its path.
        path: String,
        /// Its content.
        content: Bytes,
    },
    /// The same, from an appended file, which goes.
    Adopt {
        /// The appended file.
        from: String,
        /// When its first byte was written, where that was since this process began.
        since: Option<Moment>,
        /// Its name to be.
        path: String,
    },
    /// A file that is kept and becomes young: that protects it from a garbage
    /// collection. It must be there.
    Touch {
        /// Its path.
        path: String,
    },
    /// A file that changes: readers see the old content, until everything
    /// else of the change is durable, and then the new.
    Replace {
        /// Its path.
        path: String,
        /// Its content.
        content: Bytes,
    },
}

impl Change {
    /// Returns the path that it is about.
    pub fn path(&self) -> &str {
        match self {
            Self::Prove { path, .. }
            | Self::Store { path, .. }
            | Self::Adopt { path, .. }
            | Self::Touch { path }
            | Self::Replace { path, .. } => path,
        }
    }
}

/// A place that keeps bytes.
///
/// When a change or removal returns, it is durable: it survives a power loss.
/// What is on its way to being durable is not seen: reading waits for it.
/// The exceptions are appending, whose bytes become durable when they are
/// adopted, and discarding.
pub trait Driver: Clone + Send + Sync + 'static {
    /// Reads a small file whole, or returns nothing when it does not exist.
    fn read(&self, path: &str) -> impl Future<Output = Result<Option<Bytes>, StorageError>> + Send;
    /// Returns what is known of a file, or nothing when it does not exist.
    fn stat(&self, path: &str) -> impl Future<Output = Result<Option<Stat>, StorageError>> + Send;
    /// Opens a file for reading, or returns nothing when it does not exist.
    fn open(&self, path: &str) -> impl Future<Output = Result<Option<Object>, StorageError>> + Send;
    /// Carries out changes that belong together, durably.
    fn apply(&self, changes: Vec<Change>) -> impl Future<Output = Result<(), StorageError>> + Send;
    /// Opens a file for writing at `offset`, making it and dropping what lies beyond.
    fn append(&self, path: &str, offset: u64) -> impl Future<Output = Result<Appender, StorageError>> + Send;
    /// Removes a file or a tree; says whether there was one.
    fn remove(&self, path: &str) -> impl Future<Output = Result<bool, StorageError>> + Send;
    /// Removes like `remove`, but durably only after `flush`, together with
    /// the directories above that become empty, up to `keep`.
    fn discard(&self, path: &str, keep: &str) -> impl Future<Output = Result<bool, StorageError>> + Send;
    /// Puts a file aside, outside the store, under a name.
    fn quarantine(&self, path: &str, name: &str) -> impl Future<Output = Result<(), StorageError>> + Send;
    /// Makes durable what was discarded.
    fn flush(&self) -> impl Future<Output = Result<(), StorageError>> + Send;
    /// Returns the names in a directory, sorted; nothing when it does not
    /// exist. The same listing again is the same allocation while nothing changed.
    fn list(&self, path: &str) -> impl Future<Output = Result<Option<Arc<[String]>>, StorageError>> + Send;
}
