//! Events that wait, on disk, so that a restart loses none.
//!
//! One file of JSON lines, and a number: how many of them are done. When all
//! are, both start anew. Not synced: an event is worth less than a push.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};

use camino::Utf8Path;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::sys::fs::PRIVATE;

/// The journal of one endpoint.
#[derive(Debug)]
pub struct Journal {
    events: File,
    done: File,
    count: u64,
}

impl Journal {
    /// Opens the journal of an endpoint; returns the events that wait.
    ///
    /// # Errors
    /// When the files cannot be read or written.
    pub fn open(directory: &Utf8Path, endpoint: &str) -> io::Result<(Self, Vec<String>)> {
        crate::sys::fs::create_private_dir(directory)?;
        let name = HEXLOWER.encode(&Sha256::digest(endpoint.as_bytes())[..8]);
        let open = |suffix: &str| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(PRIVATE)
                .open(directory.join(format!("{name}.{suffix}")))
        };
        let mut journal = Self {
            events: open("events")?,
            done: open("done")?,
            count: 0,
        };
        let mut text = String::new();
        journal.done.read_to_string(&mut text)?;
        let done: usize = text.trim().parse().unwrap_or_default();
        let mut bytes = Vec::new();
        journal.events.read_to_end(&mut bytes)?;
        let waiting: Vec<String> = String::from_utf8_lossy(&bytes)
            .lines()
            .skip(done)
            // What a kill cut off is no event.
            .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
            .map(str::to_owned)
            .collect();
        journal.clear()?;
        for event in &waiting {
            journal.add(event)?;
        }
        Ok((journal, waiting))
    }

    /// Adds an event.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, event: &str) -> io::Result<()> {
        self.events.write_all(format!("{event}\n").as_bytes())
    }

    /// Notes that the oldest event is done; `left` says how many are not.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn done(&mut self, left: usize) -> io::Result<()> {
        if left == 0 {
            return self.clear();
        }
        self.count += 1;
        self.done.write_all_at(format!("{:020}", self.count).as_bytes(), 0)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.count = 0;
        // In this order: a kill in between loses nothing, for no event is left.
        self.events.set_len(0)?;
        self.events.rewind()?;
        self.done.set_len(0)
    }
}
