//! What a successor must know: which jobs should run, and as what.

use std::collections::BTreeMap;
use std::io;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::Paths;
use super::protocol::{JobSpec, VERSION};
use crate::sys::failpoint;
use crate::sys::fs::{PRIVATE, read_optional, write_atomic};
use crate::sys::process::Identity;

/// The daemon's memory on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Store {
    /// Version of the format.
    pub version: u32,
    /// Boot of the machine in which it was written.
    #[serde(default)]
    pub boot: String,
    /// The jobs by name.
    pub jobs: BTreeMap<String, Stored>,
}

/// One job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stored {
    /// As what it should run.
    pub spec: JobSpec,
    /// As what it was started, when that differs.
    #[serde(default)]
    pub running: Option<JobSpec>,
    /// Whether it should run.
    pub wanted: bool,
    /// The process, while it runs.
    pub process: Option<Identity>,
    /// When that process was started.
    pub started_at: Option<jiff::Timestamp>,
    /// How often it was restarted.
    pub restarts: u32,
}

impl Store {
    /// Loads the store. A damaged one, or one of another version, is as good
    /// as none: the jobs' own pid files still tell what runs.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn load(path: &Utf8Path) -> io::Result<Self> {
        let Some(text) = read_optional(path)? else {
            return Ok(Self::default());
        };
        Ok(serde_json::from_str(&text)
            .ok()
            .filter(|store: &Self| store.version == VERSION)
            .unwrap_or_default())
    }

    /// Forgets jobs of the root that this one is a copy of: they are that one's.
    #[must_use]
    pub fn of_root(mut self, paths: &Paths) -> Self {
        let root = paths.state.parent().unwrap_or(&paths.state);
        let state = paths.state.file_name().unwrap_or_default();
        let is_another = |place: &Utf8Path| place != root && place.join(state).is_dir();
        self.jobs.retain(|_, stored| !is_another(&stored.spec.cwd));
        self
    }

    /// Saves the store.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Utf8Path) -> io::Result<()> {
        let text = serde_json::to_string(self).map_err(io::Error::other)?;
        failpoint::pass("daemon");
        write_atomic(path, text.as_bytes(), PRIVATE)?;
        failpoint::pass("daemon");
        Ok(())
    }
}
