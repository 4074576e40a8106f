//! What tells one state of a file from another.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

use crate::sys::clock::Clock;

/// How old a change must be, on a file system that tells fractions of a second.
const SETTLED_NS: i128 = 50_000_000;
/// How old a change must be where times are whole (or even) seconds.
const SETTLED_COARSE_NS: i128 = 2_100_000_000;

/// Identity, size and times of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Takes a file's stamp.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Returns the file's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Says whether it is of the same file, whatever became of that.
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Returns the stamp when the last change was clearly before this moment,
    /// which must come before the reading.
    pub fn settled(self) -> Option<Self> {
        let last = self.modified.max(self.changed);
        let margin = if last.1 == 0 { SETTLED_COARSE_NS } else { SETTLED_NS };
        let changed = i128::from(last.0) * 1_000_000_000 + i128::from(last.1);
        (Clock::System.now().as_nanosecond() - changed > margin).then_some(self)
    }
}

/// Without spaces.
impl fmt::Display for Stamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (modified, changed) = (self.modified, self.changed);
        write!(
            formatter,
            "{:x}.{:x}.{}.{}.{:09}.{}.{:09}",
            self.device, self.inode, self.size, modified.0, modified.1, changed.0, changed.1
        )
    }
}
