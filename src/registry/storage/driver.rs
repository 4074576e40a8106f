//! What a place that keeps bytes can do: the port of the storage.
//!
//! Four verbs: reading, staging (writers), committing, and setting aside. What
//! a driver does for each (files and their names, when the disk is asked to
//! be done, retries) is its own affair.

use std::future::Future;

use bytes::Bytes;
use jiff::Timestamp;

use super::change::{Aside, Change, Durability, Target};
use super::error::StorageError;
use super::key::{Key, Prefix};
use super::lease::{Holder, LeaseError};
use super::names::Names;
use super::object::Object;
use super::writer::Resumed;
use crate::sys::usage::Space;

/// When an object was last used, as far as a collection asks: written anew,
/// or touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastUsed {
    /// When that was.
    pub at: Timestamp,
    /// Its size in bytes.
    pub size: u64,
}

/// A place that keeps bytes.
///
/// When a change returns, it outlives what its [`Durability`] says. What is on
/// its way is not seen: reading waits for it, or sees what was there before.
pub trait Driver: Clone + Send + Sync + 'static {
    /// Returns the same place for work that has threads of its own and looks
    /// at everything once: calls may hold up the caller, and pass caches by.
    #[must_use]
    fn bulk(&self) -> Self {
        self.clone()
    }
    /// Takes the right to write, where only one process at a time may; what
    /// one that was killed had only begun to delete comes back, and all that
    /// is there becomes durable.
    ///
    /// # Errors
    /// When another process has it, or the store reports something.
    fn lease(&self, _holder: &Holder) -> Result<(), LeaseError> {
        Ok(())
    }
    /// Lets others read something else of the holder of the lease.
    fn describe(&self, _holder: &Holder) {}
    /// Gives the lease back in good order. Without that, it ends with the
    /// process, which then counts as killed.
    fn release(&self) {}

    /// Reads a small object whole, or returns nothing when it does not exist.
    fn get(&self, key: &Key) -> impl Future<Output = Result<Option<Bytes>, StorageError>> + Send;
    /// Returns an object's size in bytes, or nothing when it does not exist.
    fn head(&self, key: &Key) -> impl Future<Output = Result<Option<u64>, StorageError>> + Send;
    /// Opens an object for reading, or returns nothing when it does not exist.
    fn open(&self, key: &Key) -> impl Future<Output = Result<Option<Object>, StorageError>> + Send;
    /// Returns the names of the next part after a prefix, sorted bytewise;
    /// nothing when there is none. The same listing again may be the same
    /// allocation while nothing changed, and never is when something did.
    fn list(&self, prefix: &Prefix) -> impl Future<Output = Result<Option<Names>, StorageError>> + Send;
    /// Returns when an object, also an unfinished one, was last used.
    fn last_used(&self, key: &Key) -> impl Future<Output = Result<Option<LastUsed>, StorageError>> + Send;

    /// Returns the size of an unfinished object, or nothing when it was not begun.
    fn unfinished(&self, key: &Key) -> impl Future<Output = Result<Option<u64>, StorageError>> + Send;
    /// Goes on with an unfinished object, or begins it. Its bytes are durable
    /// once it is promoted, not before.
    fn resume(&self, key: &Key) -> impl Future<Output = Result<Resumed, StorageError>> + Send;

    /// Carries out changes that belong together. When one fails, nothing is
    /// seen of any that was not there before.
    fn commit(
        &self,
        changes: Vec<Change>,
        durability: Durability,
    ) -> impl Future<Output = Result<(), StorageError>> + Send;
    /// Removes objects; says of how many targets there was something.
    fn delete(
        &self,
        targets: Vec<Target>,
        durability: Durability,
    ) -> impl Future<Output = Result<usize, StorageError>> + Send;
    /// Makes durable all that was volatile.
    fn flush(&self) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// First step of a deletion: out of sight where the store can do that at
    /// once, else only noted. What is not there is passed over.
    fn set_aside(&self, keys: Vec<Key>) -> impl Future<Output = Result<Aside, StorageError>> + Send;
    /// Takes the first step back, where nothing has come in its place.
    fn restore(&self, aside: &Aside) -> impl Future<Output = Result<(), StorageError>> + Send;
    /// Second step; says how many objects went. What has come in their place
    /// stays. Takes no effect after the deadline, whoever wakes up late.
    fn purge(&self, aside: &Aside, deadline: Timestamp) -> impl Future<Output = Result<usize, StorageError>> + Send;
    /// Second step for an object that may still be of use: it is kept under a
    /// name, out of the layout.
    fn quarantine(&self, aside: &Aside, name: &str) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Removes below a prefix what only this driver leaves behind, when it was
    /// left before a time; returns how much that was.
    fn tidy(&self, prefix: &Prefix, before: Timestamp) -> impl Future<Output = Result<usize, StorageError>> + Send;
    /// Says whether the store answers, and how much room it has, where that is
    /// known. Writes nothing.
    fn probe(&self) -> impl Future<Output = Result<Option<Space>, StorageError>> + Send;
}
