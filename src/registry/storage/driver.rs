//! What a place that keeps bytes can do.
//!
//! Paths are relative, `/`-separated, and come from [`super::layout`] alone.

use std::fs::File;
use std::future::Future;
use std::io;

use bytes::Bytes;
use jiff::Timestamp;

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

/// A stored file, open for reading.
#[derive(Debug)]
pub struct Content {
    /// The file.
    pub file: File,
    /// Its size in bytes.
    pub size: u64,
}

/// A place that keeps bytes.
///
/// When a write or removal returns, it is durable: it survives a power loss.
/// The exception is appending, whose bytes become durable with `commit`.
pub trait Driver: Clone + Send + Sync + 'static {
    /// Reads a small file whole, or returns nothing when it does not exist.
    fn read(&self, path: &str) -> impl Future<Output = Result<Option<Bytes>, StorageError>> + Send;
    /// Returns what is known of a file, or nothing when it does not exist.
    fn stat(&self, path: &str) -> impl Future<Output = Result<Option<Stat>, StorageError>> + Send;
    /// Opens a file for reading, or returns nothing when it does not exist.
    fn open(&self, path: &str) -> impl Future<Output = Result<Option<Content>, StorageError>> + Send;
    /// Writes a small file; readers see the old content or the new.
    fn write(&self, path: &str, content: Bytes) -> impl Future<Output = Result<(), StorageError>> + Send;
    /// Opens a file for writing at `offset`, making it and dropping what lies beyond.
    fn append(&self, path: &str, offset: u64) -> impl Future<Output = Result<File, StorageError>> + Send;
    /// Makes an appended file durable under another name. A file that is
    /// there already is kept: names are digests of their content.
    fn commit(&self, from: &str, to: &str) -> impl Future<Output = Result<(), StorageError>> + Send;
    /// Removes a file or a tree; says whether there was one.
    fn remove(&self, path: &str) -> impl Future<Output = Result<bool, StorageError>> + Send;
    /// Returns the names in a directory, sorted; nothing when it does not exist.
    fn list(&self, path: &str) -> impl Future<Output = Result<Option<Vec<String>>, StorageError>> + Send;
}
