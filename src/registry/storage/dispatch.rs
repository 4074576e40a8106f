//! The storage that everybody uses: one of the drivers, which nobody above
//! this module can tell apart.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use camino::Utf8Path;
use jiff::Timestamp;

use super::change::{Aside, Change, Durability, Target};
use super::driver::{Driver, LastUsed};
use super::drivers::filesystem::Filesystem;
use super::drivers::object::Objects;
use super::drivers::object::store::Store;
use super::drivers::{Drivers, pass};
use super::error::StorageError;
use super::faults::{Faults, Plan};
use super::key::{Key, Prefix};
use super::lease::{Holder, LeaseError};
use super::names::Names;
use super::object::{Object, PATIENCE};
use super::writer::Resumed;
use crate::sys::task;
use crate::sys::usage::Space;

/// A place that keeps bytes; see [`Driver`] for what each call promises.
#[derive(Clone, Debug)]
pub struct Storage {
    driver: Drivers,
    faults: Faults,
    /// Whether this process may write.
    is_leased: Arc<AtomicBool>,
}

/// Passes a call on to the driver, with a place for faults before and after.
macro_rules! call {
    ($self:ident.$call:ident($($argument:expr),*), $name:expr) => {{
        $self.faults.reach(stringify!($call), $name).await?;
        let outcome = pass!(&$self.driver, $call($($argument),*))?;
        $self.faults.reach(concat!(stringify!($call), ":done"), $name).await?;
        Ok(outcome)
    }};
}

/// Does so with a call that reads one thing. A disk that hangs fails it: who
/// asked is told, and others may ask in its place.
macro_rules! read {
    ($self:ident.$call:ident($($argument:expr),*), $name:expr) => {{
        let reading = async { call!($self.$call($($argument),*), $name) };
        let read = task::timeout(PATIENCE, reading).await;
        read.unwrap_or_else(|late| Err(StorageError::new(stringify!($call), $name, late.into())))
    }};
}

/// Does so with a call that writes.
macro_rules! write {
    ($self:ident.$call:ident($($argument:expr),*), $name:expr) => {{
        $self.may_write(stringify!($call), $name)?;
        call!($self.$call($($argument),*), $name)
    }};
}

impl Storage {
    /// Makes a storage of a driver.
    pub fn new(driver: Drivers) -> Self {
        Self {
            driver,
            faults: Faults::default(),
            is_leased: Arc::default(),
        }
    }

    /// Opens a directory tree, making its top directory when it is missing.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn in_directory(root: &Utf8Path) -> io::Result<Self> {
        Filesystem::open(root).map(|driver| Self::new(Drivers::Filesystem(driver)))
    }

    /// Makes a storage that lasts as long as this process, which alone writes to it.
    pub fn in_memory() -> Self {
        let storage = Self::new(Drivers::Objects(Objects::on(Store::in_memory())));
        storage.is_leased.store(true, Ordering::Release);
        storage
    }

    /// Returns the same storage with faults that somebody plans.
    #[must_use]
    pub fn with_faults(self, plan: Arc<dyn Plan>) -> Self {
        let faults = Faults::planned(plan);
        Self { faults, ..self }
    }

    /// Returns the same storage with calls on the caller's thread and past the
    /// caches, for work that has threads of its own and looks at everything once.
    #[must_use]
    pub fn bulk(&self) -> Self {
        Self {
            driver: self.driver.bulk(),
            ..self.clone()
        }
    }

    /// Takes the right to write, without which everything that writes fails.
    /// What a process that was killed had only begun to delete comes back, and
    /// all that is there becomes durable: it may be seen, and be lost yet.
    ///
    /// # Errors
    /// When another process has it, or the file system reports something.
    pub fn lease(&self, holder: &Holder) -> Result<(), LeaseError> {
        self.driver.lease(holder)?;
        self.is_leased.store(true, Ordering::Release);
        Ok(())
    }

    /// Lets others read something else of this holder of the lease.
    pub fn describe(&self, holder: &Holder) {
        self.driver.describe(holder);
    }

    /// Gives the right to write back, in good order. A process that ends
    /// without counts as killed.
    pub fn release(&self) {
        self.is_leased.store(false, Ordering::Release);
        self.driver.release();
    }

    fn may_write(&self, operation: &'static str, name: &(impl ToString + ?Sized)) -> Result<(), StorageError> {
        if self.is_leased.load(Ordering::Acquire) {
            return Ok(());
        }
        let reason = io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "this process may only read");
        Err(StorageError::new(operation, name, reason))
    }

    /// Reads a small object whole, or returns nothing when it does not exist.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn get(&self, key: &Key) -> Result<Option<Bytes>, StorageError> {
        read!(self.get(key), key)
    }

    /// Returns an object's size in bytes, or nothing when it does not exist.
    ///
    /// # Errors
    /// When that cannot be told.
    pub async fn head(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        read!(self.head(key), key)
    }

    /// Opens an object for reading, or returns nothing when it does not exist.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn open(&self, key: &Key) -> Result<Option<Object>, StorageError> {
        read!(self.open(key), key)
    }

    /// Returns the names of the next part after a prefix, sorted bytewise;
    /// nothing when there is none. The same listing again may be the same
    /// allocation while nothing changed, and never is when something did.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn list(&self, prefix: &Prefix) -> Result<Option<Names>, StorageError> {
        read!(self.list(prefix), prefix)
    }

    /// Returns when an object, also an unfinished one, was last used.
    ///
    /// # Errors
    /// When that cannot be told.
    pub async fn last_used(&self, key: &Key) -> Result<Option<LastUsed>, StorageError> {
        call!(self.last_used(key), key)
    }

    /// Returns the size of an unfinished object, or nothing when it was not begun.
    ///
    /// # Errors
    /// When that cannot be told.
    pub async fn unfinished(&self, key: &Key) -> Result<Option<u64>, StorageError> {
        call!(self.unfinished(key), key)
    }

    /// Goes on with an unfinished object, or begins it.
    ///
    /// # Errors
    /// When it cannot be opened, or somebody else writes to it.
    pub async fn resume(&self, key: &Key) -> Result<Resumed, StorageError> {
        write!(self.resume(key), key)
    }

    /// Carries out changes that belong together.
    ///
    /// # Errors
    /// When any of them fails; then nothing is seen of any that was not there before.
    pub async fn commit(&self, changes: Vec<Change>, durability: Durability) -> Result<(), StorageError> {
        let about = changes.last().map(|change| change.key().to_string());
        let about = about.unwrap_or_default();
        write!(self.commit(changes, durability), &about)
    }

    /// Removes objects; says of how many targets there was something.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub async fn delete(&self, targets: Vec<Target>, durability: Durability) -> Result<usize, StorageError> {
        let about = targets.last().map(|target| target.name().to_owned());
        let about = about.unwrap_or_default();
        write!(self.delete(targets, durability), &about)
    }

    /// Makes durable all that was volatile.
    ///
    /// # Errors
    /// When anything of it was lost.
    pub async fn flush(&self) -> Result<(), StorageError> {
        write!(self.flush(), &"")
    }

    /// First step of a deletion: out of sight where the store can do that at
    /// once, else only noted. What is not there is passed over.
    ///
    /// # Errors
    /// When one cannot be moved.
    pub async fn set_aside(&self, keys: Vec<Key>) -> Result<Aside, StorageError> {
        let about = keys.last().map(ToString::to_string).unwrap_or_default();
        write!(self.set_aside(keys), &about)
    }

    /// Takes the first step back, where nothing has come in its place.
    ///
    /// # Errors
    /// When one cannot be moved back.
    pub async fn restore(&self, aside: &Aside) -> Result<(), StorageError> {
        write!(self.restore(aside), &aside.id)
    }

    /// Second step; says how many objects went. What has come in their place stays.
    ///
    /// # Errors
    /// When one cannot be removed, or the deadline has passed: then nothing went.
    pub async fn purge(&self, aside: &Aside, deadline: Timestamp) -> Result<usize, StorageError> {
        write!(self.purge(aside, deadline), &aside.id)
    }

    /// Second step for an object that may still be of use: it is kept under a
    /// name, out of the layout.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub async fn quarantine(&self, aside: &Aside, name: &str) -> Result<(), StorageError> {
        write!(self.quarantine(aside, name), &aside.id)
    }

    /// Removes below a prefix what only the driver leaves behind, when it was
    /// left before a time; returns how much that was.
    ///
    /// # Errors
    /// When that cannot be found or removed.
    pub async fn tidy(&self, prefix: &Prefix, before: Timestamp) -> Result<usize, StorageError> {
        write!(self.tidy(prefix, before), prefix)
    }

    /// Says whether the store answers, and how much room it has, where that is
    /// known. Writes nothing.
    ///
    /// # Errors
    /// When it does not.
    pub async fn probe(&self) -> Result<Option<Space>, StorageError> {
        call!(self.probe(), &"")
    }
}
