//! Small files, sizes and directory listings in memory.
//!
//! Who writes to the tree alone is told of every change by its own work: an
//! entry that was seen to hold answers for five seconds without asking the system,
//! and one that this process changes meanwhile is gone at once. After that
//! time, and always where others may write, an entry counts only while the
//! file still has the identity, size and times that it was read with, and only
//! when it had not been changed shortly before it was read: within the
//! resolution of the clock, a second change would look like the first (git's
//! "racily clean" rule). So changes by hand are seen within the five seconds.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use camino::Utf8Path;

use super::stamp::Stamp;
use crate::registry::storage::Names;
use crate::sys::clock::monotonic;
use crate::sys::generations::Generations;

/// Bytes that each of the two generations holds at most.
const BUDGET: usize = 5 << 20;
/// What an entry costs besides its content.
const OVERHEAD: usize = 200;
/// Largest content that is kept: links are, manifests are kept elsewhere.
const LARGEST_CONTENT: usize = 256;
/// Listings that are larger than this are kept by themselves: one would drive
/// all else out.
const LARGE: usize = 1 << 20;
/// Bytes that each of the two generations of those holds at most.
const LARGE_BUDGET: usize = 16 << 20;
/// How long an entry answers without being looked at.
const TRUSTED: Duration = Duration::from_secs(5);
/// Paths share this many counts of changes.
const COUNTS: usize = 1024;

/// What is kept of a path.
#[derive(Clone, Debug)]
pub enum Kept {
    /// A file's content.
    Content(Bytes),
    /// The names in a directory, sorted.
    Names(Names),
    /// A file's size in bytes.
    Size(u64),
    /// Nothing is there.
    Absent,
}

impl Kept {
    fn size(&self) -> usize {
        match self {
            Self::Content(content) => content.len(),
            Self::Names(names) => names.size(),
            Self::Size(_) | Self::Absent => 0,
        }
    }

    fn is_too_large(&self) -> bool {
        let largest = match self {
            Self::Content(_) => LARGEST_CONTENT,
            _ => LARGE_BUDGET,
        };
        self.size() > largest
    }
}

/// What was known of a path before it was read.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    /// Changes of it by this process, and of whole trees.
    changes: [u64; 2],
    at: Instant,
}

#[derive(Clone, Debug)]
struct Entry {
    /// What the file was, where it had not just changed.
    stamp: Option<Stamp>,
    /// When it was last seen to hold.
    seen: Before,
    kept: Kept,
}

/// Entries by path.
#[derive(Debug)]
pub struct Cache {
    generations: Mutex<Generations<Key, Entry>>,
    /// Large listings.
    large: Mutex<Generations<Key, Entry>>,
    /// Two keyed hashes stand for a path: nobody can make two paths collide.
    keys: [RandomState; 2],
    /// Changes by this process, of paths that share a place.
    changes: Box<[AtomicU64]>,
    /// Changes of whole trees.
    trees: AtomicU64,
    /// Whether nobody else writes.
    alone: AtomicBool,
}

type Key = [u64; 2];

impl Default for Cache {
    fn default() -> Self {
        Self {
            generations: Mutex::new(Generations::new(BUDGET)),
            large: Mutex::new(Generations::new(LARGE_BUDGET)),
            keys: Default::default(),
            changes: (0..COUNTS).map(|_| AtomicU64::new(0)).collect(),
            trees: AtomicU64::new(0),
            alone: AtomicBool::new(false),
        }
    }
}

impl Cache {
    /// Says whether nobody but this process writes from now on.
    pub fn set_alone(&self, alone: bool) {
        // Until now others may have changed what was read.
        self.trees.fetch_add(1, Ordering::AcqRel);
        self.alone.store(alone, Ordering::Release);
    }

    /// Returns what is kept of a path, when it needs no look.
    pub fn fresh(&self, path: &Utf8Path) -> Option<Kept> {
        if !self.alone.load(Ordering::Acquire) {
            return None;
        }
        let key = self.key(path);
        let changes = self.changes_of(key);
        let judge = |entry: &mut Entry| {
            let holds = entry.seen.changes == changes && monotonic().duration_since(entry.seen.at) < TRUSTED;
            holds.then(|| entry.kept.clone())
        };
        let small = lock(&self.generations).get(&key).map(judge);
        small.or_else(|| lock(&self.large).get(&key).map(judge)).flatten()
    }

    /// Takes note of a path before it is looked at.
    pub fn before(&self, path: &Utf8Path) -> Before {
        Before {
            changes: self.changes_of(self.key(path)),
            at: monotonic(),
        }
    }

    /// Returns what is kept of a path that is found to be as it was.
    pub fn unchanged(&self, path: &Utf8Path, before: Before, found: Option<Stamp>) -> Option<Kept> {
        let found = found?;
        let key = self.key(path);
        let judge = |entry: &mut Entry| {
            if entry.stamp != Some(found) {
                return None;
            }
            entry.seen = before;
            Some(entry.kept.clone())
        };
        let small = lock(&self.generations).get(&key).and_then(judge);
        small.or_else(|| lock(&self.large).get(&key).and_then(judge))
    }

    /// Keeps what was read from a file, which had this settled stamp before the reading.
    pub fn put(&self, path: &Utf8Path, before: Before, stamp: Option<Stamp>, kept: Kept) {
        let useless = stamp.is_none() && !self.alone.load(Ordering::Acquire);
        if useless || kept.is_too_large() {
            return;
        }
        let cost = OVERHEAD + kept.size();
        let entry = Entry {
            stamp,
            seen: before,
            kept,
        };
        let place = if cost > LARGE { &self.large } else { &self.generations };
        lock(place).put(self.key(path), entry, cost);
    }

    /// Hears that this process has changed a path, or tried to.
    pub fn changed(&self, path: &Utf8Path) {
        // With what is there, what is listed above it has changed.
        for path in [path, path.parent().unwrap_or(path)] {
            let key = self.key(path);
            self.changes[place(key)].fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Hears that this process has removed a whole tree.
    pub fn tree_changed(&self, path: &Utf8Path) {
        self.changed(path);
        self.trees.fetch_add(1, Ordering::AcqRel);
    }

    fn changes_of(&self, key: Key) -> [u64; 2] {
        [
            self.changes[place(key)].load(Ordering::Acquire),
            self.trees.load(Ordering::Acquire),
        ]
    }

    fn key(&self, path: &Utf8Path) -> Key {
        // Paths that differ in writing only may have two entries; that does no harm.
        [0, 1].map(|number| self.keys[number].hash_one(path.as_str()))
    }
}

fn lock(entries: &Mutex<Generations<Key, Entry>>) -> MutexGuard<'_, Generations<Key, Entry>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

fn place(key: Key) -> usize {
    // The remainder is smaller than the count.
    usize::try_from(key[0] % COUNTS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(kept: Option<Kept>) -> Option<Vec<u8>> {
        match kept? {
            Kept::Content(content) => Some(content.to_vec()),
            _ => None,
        }
    }

    #[test]
    fn what_this_process_changes_is_gone_at_once() {
        let cache = Cache::default();
        cache.set_alone(true);
        let (path, other) = (Utf8Path::new("/a/b"), Utf8Path::new("/a/c"));
        let kept = || Kept::Content(Bytes::from_static(b"x"));
        cache.put(path, cache.before(path), None, kept());
        assert_eq!(content(cache.fresh(path)).as_deref(), Some(&b"x"[..]));
        cache.changed(path);
        assert!(cache.fresh(path).is_none());
        // Read before the change, put after it.
        let before = cache.before(path);
        cache.changed(path);
        cache.put(path, before, None, kept());
        assert!(cache.fresh(path).is_none());
        // What is removed above counts, and so does what comes beside.
        cache.put(path, cache.before(path), None, kept());
        cache.tree_changed(Utf8Path::new("/elsewhere"));
        assert!(cache.fresh(path).is_none());
        let above = Utf8Path::new("/a");
        cache.put(
            above,
            cache.before(above),
            None,
            Kept::Names(vec!["b".to_owned()].into()),
        );
        cache.changed(other);
        assert!(cache.fresh(above).is_none());
    }

    #[test]
    fn beside_others_nothing_is_trusted() {
        let cache = Cache::default();
        let path = Utf8Path::new("/a/b");
        cache.put(path, cache.before(path), None, Kept::Size(7));
        assert!(cache.fresh(path).is_none());
    }
}
