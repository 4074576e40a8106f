//! Files that grow over several requests: unfinished uploads.
//!
//! The file's length is the truth about how much is there. What whoever left
//! it noted counts only while the file still is what it was then: in memory,
//! and from some size on in a file beside it, until the machine restarts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use tokio::task::JoinHandle;

use super::disk::Disk;
use super::stamp::Stamp;
use super::sync_failures::Moment;
use crate::registry::storage::{Key, Prefix};

/// Bytes that are written before the disk is asked to begin.
const BEHIND: u64 = 16 << 20;
/// From this size on, reading a file again costs more than keeping its note.
const WORTH_KEEPING: u64 = 4 << 20;
/// Bytes of notes of one file, from which on those before are removed.
const MOST_NOTES: u64 = 64 << 10;
/// How long whoever writes to a file is waited for: a request that was cut
/// off ends its last piece.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a file is opened anew when another takes its name.
const TRIES: usize = 8;

/// Names this boot: what was written since is still in the page cache.
static BOOT: LazyLock<String> = LazyLock::new(crate::sys::process::boot_id);

/// What this process left of its unfinished files.
#[derive(Debug, Default)]
pub struct Unfinished(Mutex<BTreeMap<Key, Left>>);

#[derive(Debug)]
struct Left {
    /// When the first byte was written.
    since: Moment,
    /// Bytes that the disk was not asked for yet.
    unsynced: u64,
    /// What the disk takes up. Its failure must not be lost: the system tells
    /// it once.
    behind: Option<JoinHandle<io::Result<()>>>,
    /// What was noted of it, and what it was then.
    note: Option<(Stamp, Bytes)>,
}

impl Unfinished {
    fn left(&self) -> MutexGuard<'_, BTreeMap<Key, Left>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what somebody else has ended.
    pub fn keep_only(&self, there: impl Fn(&Key) -> bool) {
        self.left().retain(|key, _| there(key));
    }

    /// Forgets what is below a prefix.
    pub fn forget(&self, prefix: &Prefix) {
        let from = prefix.key("");
        let mut left = self.left();
        let gone: Vec<Key> = left
            .range(from.clone()..)
            .take_while(|(key, _)| key.as_str().starts_with(from.as_str()))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            left.remove(&key);
        }
    }
}

/// A file that grows, locked for this process.
#[derive(Debug)]
pub struct Growing {
    disk: Disk,
    unfinished: Arc<Unfinished>,
    key: Key,
    path: Utf8PathBuf,
    /// The file.
    pub file: File,
    start: u64,
    size: u64,
    left: Option<Left>,
    /// Whether it became something else.
    promoted: AtomicBool,
}

impl Growing {
    /// Opens a file, or makes it. Returns the note of whoever left it, too.
    /// `now` is when it is opened.
    ///
    /// # Errors
    /// When it cannot be opened, or another server writes to it.
    pub fn open(
        disk: &Disk,
        unfinished: &Arc<Unfinished>,
        key: Key,
        path: Utf8PathBuf,
        now: Moment,
    ) -> io::Result<(Self, Option<Bytes>)> {
        let (file, stamp) = alone(disk, &path)?;
        // Of one that is empty nothing was written before.
        let known = unfinished.left().remove(&key).filter(|_| stamp.size() > 0);
        let mut left = known.unwrap_or(Left {
            since: now,
            unsynced: 0,
            behind: None,
            note: None,
        });
        let note = match left.note.take() {
            Some((of, note)) if of == stamp => Some(note),
            _ => kept_note(&path, &stamp),
        };
        let growing = Self {
            disk: disk.clone(),
            unfinished: Arc::clone(unfinished),
            key,
            path,
            file,
            start: stamp.size(),
            size: stamp.size(),
            left: Some(left),
            promoted: AtomicBool::new(false),
        };
        Ok((growing, note))
    }

    /// Returns its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns its path.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Returns when its first byte was written, as far as this process knows.
    pub fn since(&self) -> Option<Moment> {
        self.left.as_ref().map(|left| left.since)
    }

    /// Notes that it has become something else.
    pub fn promoted(&self) {
        self.promoted.store(true, Ordering::Relaxed);
    }

    /// Writes after what is there. Now and then the disk begins to take up
    /// what was written, so that little is left to do in the end.
    ///
    /// # Errors
    /// When not all could be written, or the disk lost what was written before.
    pub fn write(&mut self, content: &[u8]) -> io::Result<()> {
        self.disk.write_at(&self.path, &self.file, self.size, content)?;
        self.size += content.len() as u64;
        let Some(left) = &mut self.left else { return Ok(()) };
        left.unsynced += content.len() as u64;
        if left.unsynced >= BEHIND && left.behind.as_ref().is_none_or(JoinHandle::is_finished) {
            if let Some(behind) = left.behind.take() {
                let synced = tokio::runtime::Handle::current().block_on(behind);
                if let Err(error) = synced.map_err(io::Error::other).flatten() {
                    // It is told once: nothing may become of this file.
                    left.since = Moment::LOST;
                    return Err(error);
                }
            }
            let (disk, path, file) = (self.disk.clone(), self.path.clone(), self.file.try_clone()?);
            left.behind = Some(crate::sys::task::blocking(move || disk.sync_bytes(&path, &file)));
            left.unsynced = 0;
        }
        Ok(())
    }

    /// Notes what it is now; where that is worth it also for after this process.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn note(&mut self, note: Option<Bytes>, outlasts: bool) -> io::Result<()> {
        let stamp = Stamp::of(&self.file.metadata()?);
        if let Some(note) = &note
            && outlasts
            && self.size >= WORTH_KEEPING
            && self.size != self.start
        {
            // Without it the bytes are read again, which only takes longer.
            let _ = self.keep(&stamp, note);
        }
        if let Some(left) = &mut self.left {
            left.note = note.map(|note| (stamp, note));
        }
        Ok(())
    }

    /// Writes a note down, after those of before: cutting a file that was just
    /// written waits for the disk.
    fn keep(&self, stamp: &Stamp, note: &[u8]) -> io::Result<()> {
        let mut line = head(stamp);
        let _ = writeln!(line, "{}", note.len());
        let mut kept = line.into_bytes();
        kept.extend_from_slice(note);
        let path = note_path(&self.path);
        if fs::metadata(&path).is_ok_and(|found| found.len() >= MOST_NOTES) {
            // Only the last one counts.
            self.disk.remove_file(&path)?;
        }
        self.disk.add(&path, &kept)
    }

    /// Takes back what was written since it was opened; what was noted then holds again.
    ///
    /// # Errors
    /// When it cannot be cut.
    pub fn rollback(&mut self, note: Option<Bytes>) -> io::Result<()> {
        // What it is, not what is known to be written: a piece of which only a
        // part found room is there, too.
        if self.file.metadata()?.len() != self.start {
            self.disk.cut(&self.path, &self.file, self.start)?;
        }
        self.size = self.start;
        self.note(note, false)
    }

    /// Waits for what the disk takes up.
    ///
    /// # Errors
    /// When the disk lost something of it.
    pub async fn settle(&mut self) -> io::Result<()> {
        let Some(behind) = self.left.as_mut().and_then(|left| left.behind.take()) else {
            return Ok(());
        };
        let settled = behind.await.map_err(io::Error::other).flatten();
        if let (Err(_), Some(left)) = (&settled, &mut self.left) {
            // It is told once: nothing may become of this file.
            left.since = Moment::LOST;
        }
        settled
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        if let Some(left) = self.left.take()
            && !self.promoted.load(Ordering::Relaxed)
        {
            self.unfinished.left().insert(self.key.clone(), left);
        }
        // Closing is not enough while a child of this process is being
        // started: for a moment it holds the same file.
        let _ = self.file.unlock();
    }
}

/// Opens a file that nobody else writes to, or makes it.
fn alone(disk: &Disk, path: &Utf8Path) -> io::Result<(File, Stamp)> {
    for attempt in 0..TRIES {
        // One that ended meanwhile does not begin anew.
        let file = disk.open_growing(path, attempt == 0)?;
        let lock = || match file.try_lock() {
            Err(fs::TryLockError::WouldBlock) => None,
            // File systems without locks have one server.
            _ => Some(()),
        };
        if crate::sys::clock::wait_until(PATIENCE, lock).is_none() {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "another request or server is writing to it",
            ));
        }
        let stamp = Stamp::of(&file.metadata()?);
        // Before the lock was ours it may have become a blob, or been given up.
        if fs::metadata(path).is_ok_and(|there| Stamp::of(&there).is_same_file(&stamp)) {
            return Ok((file, stamp));
        }
        let _ = file.unlock();
    }
    Err(io::Error::new(
        io::ErrorKind::ResourceBusy,
        "it keeps being removed while it is opened",
    ))
}

fn note_path(path: &Utf8Path) -> Utf8PathBuf {
    path.with_file_name("digest-state")
}

fn head(stamp: &Stamp) -> String {
    format!("{} {stamp} ", *BOOT)
}

/// Finds the last note of a file that is still what it was then.
fn kept_note(path: &Utf8Path, stamp: &Stamp) -> Option<Bytes> {
    if stamp.size() < WORTH_KEEPING {
        return None;
    }
    let kept = fs::read(note_path(path)).ok()?;
    let head = head(stamp);
    let start = (0..kept.len())
        .rev()
        .find(|start| kept[*start..].starts_with(head.as_bytes()))?;
    let rest = &kept[start + head.len()..];
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let length: usize = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    let note = rest.get(end + 1..)?.get(..length)?;
    Some(Bytes::copy_from_slice(note))
}
