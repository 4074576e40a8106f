//! Small files and directory listings in memory, never trusted blindly.
//!
//! An entry is used only while the file still has the identity, size and
//! times that it was read with, and only when it had not been changed shortly
//! before it was read: within the resolution of the clock, a second change
//! would look like the first (git's "racily clean" rule). So an answer is
//! right also when another process changes the store.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use camino::Utf8Path;

use super::stamp::Stamp;

/// Bytes that each of the two generations holds at most.
const BUDGET: usize = 5 << 20;
/// What an entry costs besides its content.
const OVERHEAD: usize = 200;
/// Largest content that is kept: links are, manifests are kept elsewhere.
const LARGEST_CONTENT: usize = 256;
/// Largest listing that is kept.
const LARGEST: usize = 4 << 20;

/// What is kept of a path.
#[derive(Clone, Debug)]
pub enum Kept {
    /// A file's content.
    Content(Bytes),
    /// The names in a directory, sorted.
    Names(Arc<[String]>),
    /// Only that it was looked up: doing so again will not wait for the disk.
    Known,
}

impl Kept {
    fn size(&self) -> usize {
        match self {
            Self::Content(content) => content.len(),
            Self::Names(names) => names.iter().map(|name| name.len() + size_of::<String>()).sum(),
            Self::Known => 0,
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    stamp: Option<Stamp>,
    kept: Kept,
}

/// Entries by path, in two generations: what is used moves to the young one,
/// and the old one goes when the young one is full.
#[derive(Debug, Default)]
pub struct Cache {
    generations: Mutex<Generations>,
    /// Two keyed hashes stand for a path: nobody can make two paths collide.
    keys: [RandomState; 2],
}

type Key = [u64; 2];

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Key, Entry>,
    old: HashMap<Key, Entry>,
    used: usize,
}

impl Generations {
    fn put(&mut self, key: Key, entry: Entry) {
        self.used += OVERHEAD + entry.kept.size();
        self.young.insert(key, entry);
        if self.used > BUDGET {
            self.old = std::mem::take(&mut self.young);
            self.used = 0;
        }
    }
}

impl Cache {
    /// Returns what is kept of a path while `look` finds it unchanged. `look`
    /// is called only for a path that was looked up before.
    pub fn get(&self, path: &Utf8Path, look: impl FnOnce() -> Option<Stamp>) -> Option<Kept> {
        let key = self.key(path);
        let entry = {
            let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(entry) = generations.young.get(&key) {
                entry.clone()
            } else {
                let entry = generations.old.remove(&key)?;
                generations.put(key, entry.clone());
                entry
            }
        };
        match (entry.stamp, &entry.kept) {
            (_, Kept::Known) => Some(Kept::Known),
            (Some(stamp), _) if look() == Some(stamp) => Some(entry.kept),
            _ => None,
        }
    }

    /// Keeps what was read from a file that had the settled stamp before the reading.
    pub fn put(&self, path: &Utf8Path, stamp: Option<Stamp>, kept: Kept) {
        let largest = match kept {
            Kept::Content(_) => LARGEST_CONTENT,
            _ => LARGEST,
        };
        let entry = if stamp.is_some() && kept.size() <= largest {
            Entry { stamp, kept }
        } else {
            Entry {
                stamp: None,
                kept: Kept::Known,
            }
        };
        let key = self.key(path);
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.put(key, entry);
    }

    fn key(&self, path: &Utf8Path) -> Key {
        // Paths that differ in writing only may have two entries; that does no harm.
        [0, 1].map(|number| self.keys[number].hash_one(path.as_str()))
    }
}
