//! Noticing that files changed, and taking up what is in them.

use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};

use crate::sys::clock::{Clock, monotonic};

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

/// What guards something, as it stands in files now.
///
/// Files that become unusable (emptied, garbled, removed) guard like an empty
/// list: what was revoked that way must not go on being let in. So that a file
/// which is just being rewritten locks nobody out, it counts as unusable only
/// when it was left like that for a second.
#[derive(Debug)]
pub struct Guard<T> {
    /// What it is, for the log.
    what: &'static str,
    paths: Vec<Utf8PathBuf>,
    state: Mutex<Guarded<T>>,
}

#[derive(Debug)]
struct Guarded<T> {
    looked: Instant,
    stamps: Vec<Stamp>,
    /// Whether the last look found the files unusable, perhaps for a moment only.
    doubtful: bool,
    value: Option<Arc<T>>,
}

impl<T> Guard<T> {
    /// Keeps what was just loaded from the files.
    pub fn new(what: &'static str, paths: Vec<Utf8PathBuf>, value: T) -> Self {
        let stamps = stamps(&paths);
        Self {
            what,
            state: Mutex::new(Guarded {
                looked: monotonic(),
                stamps,
                doubtful: false,
                value: Some(Arc::new(value)),
            }),
            paths,
        }
    }

    /// Returns what is in the files now, or nothing while they are unusable.
    /// It looks at them once a second at most.
    pub fn current<E: std::fmt::Display>(&self, load: impl FnOnce() -> Result<T, E>) -> Option<Arc<T>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() < PAUSE {
            return state.value.clone();
        }
        state.looked = monotonic();
        let now = stamps(&self.paths);
        // While they are unusable they are tried again and again: what kept them
        // from being read may pass without a trace.
        if now == state.stamps && !state.doubtful && state.value.is_some() {
            return state.value.clone();
        }
        state.stamps = now;
        match load() {
            Ok(fresh) => {
                state.doubtful = false;
                state.value = Some(Arc::new(fresh));
                tracing::info!("{} loaded again", self.what);
            }
            Err(error) if state.doubtful || self.paths.iter().all(|path| is_settled(path)) => {
                state.doubtful = false;
                if state.value.take().is_some() {
                    tracing::error!(error = %error, "{} cannot be used any more: everybody is refused", self.what);
                }
            }
            Err(_) => state.doubtful = true,
        }
        state.value.clone()
    }
}

/// Says whether a file, or the directory that lacks it, was last changed some time ago.
fn is_settled(path: &Utf8Path) -> bool {
    let found = std::fs::metadata(path)
        .ok()
        .or_else(|| std::fs::metadata(path.parent()?).ok());
    let pause = i64::try_from(PAUSE.as_secs()).unwrap_or(i64::MAX);
    found.is_some_and(|found| Clock::System.now().as_second() - found.ctime() > pause)
}

fn stamps(paths: &[Utf8PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &Utf8PathBuf| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
    };
    paths.iter().map(stamp).collect()
}
