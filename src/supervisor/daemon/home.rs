//! Whether the root is still where it was.

use std::io;
use std::os::unix::fs::MetadataExt as _;

use camino::Utf8PathBuf;

use crate::supervisor::protocol::{Envelope, Request, VERSION};
use crate::supervisor::{Paths, log};

/// A root's directory, by more than its path.
pub struct Home {
    path: Utf8PathBuf,
    id: (u64, u64),
    is_lost: bool,
}

impl Home {
    /// Notes where a root is.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn of(paths: &Paths) -> io::Result<Self> {
        let path = paths.state.parent().unwrap_or(&paths.state).to_owned();
        let there = std::fs::metadata(&path)?;
        Ok(Self {
            path,
            id: (there.dev(), there.ino()),
            is_lost: false,
        })
    }

    /// Says whether it is where it was.
    pub fn is_there(&self) -> bool {
        let there = std::fs::metadata(&self.path).map(|there| (there.dev(), there.ino()));
        !self.is_lost && there.is_ok_and(|there| there == self.id)
    }

    /// Says whether it was removed or moved; then nothing is to be written any
    /// more, at its path there may be another.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Looks for it; returns what is to be done when it is lost, once.
    pub fn look(&mut self, build: &str) -> Option<Envelope> {
        if self.is_lost || self.is_there() {
            return None;
        }
        self.is_lost = true;
        log::end_all();
        Some(Envelope {
            version: VERSION,
            build: build.to_owned(),
            request: Request::Stop {
                names: None,
                kill: false,
            },
        })
    }
}
