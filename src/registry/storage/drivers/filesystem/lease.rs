//! The lease of a directory tree: an exclusive lock on `.kdk/server.lock`,
//! which holds who has it.
//!
//! The record is written over what is there, with spaces to the same length:
//! so taking the lease needs no space, and works on a full disk.

use std::io;
use std::os::unix::fs::FileExt as _;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use crate::registry::storage::lease::{Holder, LeaseError};
use crate::sys::fs::{self, Lock};
use crate::sys::{clock, process};

/// Bytes of a record.
const LENGTH: usize = 1024;
/// How long a holder may take to write its record.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// What is written down of whoever holds, or held, the lease.
#[derive(Serialize, Deserialize)]
struct Record {
    /// Nothing once it was given back.
    holder: Option<Holder>,
}

/// The lease, until this is dropped.
#[derive(Debug)]
pub struct FileLease {
    lock: Lock,
    /// Whether the holder before did not give it back.
    pub is_after_kill: bool,
}

impl FileLease {
    /// Takes the lease of the tree below `root`.
    ///
    /// # Errors
    /// When another process has it, or the file that it is cannot be used.
    pub fn take(root: &Utf8Path, holder: &Holder) -> Result<Self, LeaseError> {
        let directory = root.join(".kdk");
        let path = directory.join("server.lock");
        let open = || {
            fs::create_private_dir(&directory)?;
            Lock::try_take(&path)
        };
        let taken = open().map_err(|error| match error {
            error if fs::is_unwritable(&error) => LeaseError::Unwritable(error),
            error => LeaseError::Io(error),
        })?;
        let Some(lock) = taken else {
            return Err(LeaseError::Held(holder_of(&path)));
        };
        let before = read(&path);
        let stale = forget_former(&directory)?;
        let lease = Self {
            is_after_kill: stale || before.is_some_and(|record| record.holder.is_some()),
            lock,
        };
        lease.describe(Some(holder));
        Ok(lease)
    }

    /// Writes down who holds it; nothing when it is given back in good order.
    pub fn describe(&self, holder: Option<&Holder>) {
        let record = Record {
            holder: holder.cloned(),
        };
        // The lock counts: without a record nobody knows whose it is.
        let Ok(mut text) = serde_json::to_vec(&record) else {
            return;
        };
        text.resize(LENGTH.max(text.len()), b' ');
        let _ = self.lock.file().write_all_at(&text, 0);
    }
}

/// Reads a record.
fn read(path: &Utf8Path) -> Option<Record> {
    serde_json::from_str(fs::read_optional(path).ok()??.trim_end()).ok()
}

/// Finds out who holds a lease: for a moment, its record may be of the one before.
fn holder_of(path: &Utf8Path) -> Option<Holder> {
    let look = || {
        let holder = read(path)?.holder?;
        let pid = i32::try_from(holder.pid).ok()?;
        process::exists(pid).then_some(holder)
    };
    clock::wait_until(PATIENCE, look).or_else(|| read(path)?.holder)
}

/// Removes what servers of earlier versions wrote down of themselves; says
/// whether one of them was killed. None of them lives: it would share the lock.
fn forget_former(directory: &Utf8Path) -> io::Result<bool> {
    let servers = directory.join("servers");
    let mut stale = false;
    for entry in servers.read_dir_utf8().into_iter().flatten() {
        stale |= fs::remove(entry?.path())?;
    }
    Ok(stale)
}
