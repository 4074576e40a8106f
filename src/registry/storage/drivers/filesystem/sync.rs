//! When a change is durable: one by one, or many at once.
//!
//! A file or directory or two are synced for themselves. More, of one change
//! or of several at once, are synced by one call for the whole file system
//! (group commit): whoever comes first makes the call, those who come
//! meanwhile share the next one. Both end in the same promise: what was
//! changed before [`GroupSync::sync`] survives a power loss after it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::disk::Disk;
use super::sync_failures::{Moment, SyncFailures};
use crate::sys::clock::monotonic;

/// From how many files and directories on one call is cheaper.
const MANY: usize = 3;
/// A call that takes longer than this carries others' data; for a while each syncs for itself.
const SLOW: Duration = Duration::from_millis(40);
/// For how many changes.
const PAUSE: usize = 500;

/// What one change needs synced.
#[derive(Debug)]
pub struct Batch {
    /// When the first of it was written, or before.
    pub since: Moment,
    /// Files with new content, open.
    pub files: Vec<(Utf8PathBuf, File)>,
    /// Directories with new names.
    pub directories: BTreeSet<Utf8PathBuf>,
}

impl Batch {
    /// Makes an empty one, for what is written from a moment on.
    pub fn since(since: Moment) -> Self {
        Self {
            since,
            files: Vec::new(),
            directories: BTreeSet::new(),
        }
    }

    fn len(&self) -> usize {
        self.files.len() + self.directories.len()
    }
}

/// Makes changes durable.
#[derive(Debug)]
pub struct GroupSync {
    /// The tree's top, where the whole file system can be synced.
    top: Option<File>,
    waiting: AtomicUsize,
    pause: AtomicUsize,
    failures: SyncFailures,
    state: Mutex<State>,
    turn: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    /// Number of the last call that was started.
    started: u64,
    /// Number of the last call that has ended, and the last that failed.
    ended: u64,
    failed: Option<(u64, i32)>,
}

impl GroupSync {
    /// Makes changes below `root` durable, in groups where the file system
    /// reports errors of such a call reliably.
    pub fn new(root: &Utf8Path) -> Self {
        let top = (crate::sys::fs::can_sync_file_system(root) && is_one_file_system(root))
            .then(|| File::open(root).ok())
            .flatten();
        Self {
            top,
            waiting: AtomicUsize::new(0),
            pause: AtomicUsize::new(0),
            failures: SyncFailures::default(),
            state: Mutex::default(),
            turn: Condvar::new(),
        }
    }

    /// Returns the moment, for what is written from now on.
    pub fn now(&self) -> Moment {
        self.failures.now()
    }

    /// Returns when all that belongs to the batch is durable.
    ///
    /// # Errors
    /// When anything of it, or of the group it went with, could not be synced,
    /// or any sync has failed since the batch began.
    pub fn sync(&self, disk: &Disk, batch: &Batch) -> io::Result<()> {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed) + 1;
        let outcome = match &self.top {
            Some(top) if waiting * batch.len() >= MANY && disk.may_group() && self.may_group() => {
                self.together(disk, top)
            }
            _ => self.one_by_one(disk, batch),
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        if outcome.is_ok() && self.now() != batch.since {
            return Err(io::Error::other(
                "an earlier write did not reach the disk, so this change may not be durable",
            ));
        }
        outcome
    }

    /// Makes everything below the root durable that was changed before.
    ///
    /// # Errors
    /// When the file system reports one.
    pub fn sync_all(&self, disk: &Disk) -> io::Result<()> {
        if let Some(top) = &self.top {
            return self.together(disk, top);
        }
        crate::sys::fs::sync_everything();
        Ok(())
    }

    fn may_group(&self) -> bool {
        self.pause
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_err()
    }

    fn one_by_one(&self, disk: &Disk, batch: &Batch) -> io::Result<()> {
        // One that is gone, or a process with too many files, loses nothing.
        let directories = batch.directories.iter().map(|path| Ok((path, File::open(path)?)));
        let directories = directories.collect::<io::Result<Vec<_>>>()?;
        let sync = || {
            for (path, file) in &batch.files {
                disk.sync_file(path, file)?;
            }
            for (path, directory) in &directories {
                disk.sync_directory(path, directory)?;
            }
            Ok(())
        };
        sync().inspect_err(|_: &io::Error| self.failures.count())
    }

    /// Waits for a call that starts after this one, making it when nobody does.
    fn together(&self, disk: &Disk, top: &File) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = state.started + 1;
        loop {
            if state.ended >= mine {
                return match state.failed {
                    // Whose data failed is unknown: nobody of that call or since was served.
                    Some((call, code)) if call >= mine => Err(io::Error::from_raw_os_error(code)),
                    _ => Ok(()),
                };
            }
            if state.running {
                state = self.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.running = true;
            state.started += 1;
            let call = state.started;
            drop(state);
            let began = monotonic();
            let outcome = disk.sync_all(top);
            if began.elapsed() > SLOW {
                self.pause.store(PAUSE, Ordering::Relaxed);
            }
            state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.running = false;
            state.ended = call;
            if let Err(error) = outcome {
                // Before anybody else can ask.
                self.failures.count();
                state.failed = Some((call, error.raw_os_error().unwrap_or(nix::libc::EIO)));
            }
            self.turn.notify_all();
        }
    }
}

/// Says whether the tree's upper part lies on one file system.
fn is_one_file_system(root: &Utf8Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Utf8Path| std::fs::metadata(path).ok().map(|found| found.dev());
    let own = device(root);
    let mut path = root.to_owned();
    for part in ["docker", "registry", "v2"] {
        path.push(part);
        if device(&path).is_some_and(|other| Some(other) != own) {
            return false;
        }
    }
    ["blobs", "blobs/sha256", "blobs/sha512", "repositories"]
        .iter()
        .all(|part| device(&path.join(part)).is_none_or(|other| Some(other) == own))
}
