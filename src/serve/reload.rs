//! Noticing that files changed.

use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;

use crate::sys::clock::monotonic;

/// Time between two looks at the files.
const PAUSE: Duration = Duration::from_secs(1);

/// Files that are looked at from time to time.
#[derive(Debug)]
pub struct Watched {
    paths: Vec<Utf8PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    looked: Instant,
    stamps: Vec<Stamp>,
}

/// Inode, size and time of the last change; nothing for a missing file.
type Stamp = Option<(u64, u64, i64, i64)>;

impl Watched {
    /// Starts watching files as they are now.
    pub fn new(paths: Vec<Utf8PathBuf>) -> Self {
        let stamps = stamps(&paths);
        Self {
            paths,
            state: Mutex::new(State {
                looked: monotonic(),
                stamps,
            }),
        }
    }

    /// Says whether a file changed since the last time that this said so. It
    /// looks once a second at most.
    pub fn has_changed(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() < PAUSE {
            return false;
        }
        state.looked = monotonic();
        let now = stamps(&self.paths);
        if now == state.stamps {
            return false;
        }
        state.stamps = now;
        true
    }
}

fn stamps(paths: &[Utf8PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &Utf8PathBuf| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
    };
    paths.iter().map(stamp).collect()
}
