//! Events that wait, on disk, so that a restart loses none.
//!
//! One file of JSON lines, and a number: how many of them are done. When all
//! are, both start anew. Not synced: an event is worth less than a push.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;

use camino::Utf8Path;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::sys::fs::PRIVATE;

/// The journal of one endpoint.
#[derive(Debug)]
pub struct Journal {
    events: File,
    done: File,
    /// Bytes of whole events.
    length: u64,
    /// Events that are done.
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
        let [events, done] = ["events", "done"].map(|suffix| directory.join(format!("{name}.{suffix}")));
        let count: usize = crate::sys::fs::read_optional(&done)?
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or_default();
        let bytes = match std::fs::read(&events) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let waiting: Vec<String> = String::from_utf8_lossy(&bytes)
            .lines()
            .skip(count)
            // What a kill cut off is no event.
            .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
            .map(str::to_owned)
            .collect();
        // In this order: a kill in between repeats events, and loses none.
        crate::sys::fs::write_atomic(&done, b"", PRIVATE)?;
        let text: String = waiting.iter().map(|event| format!("{event}\n")).collect();
        crate::sys::fs::write_atomic(&events, text.as_bytes(), PRIVATE)?;
        let open = |path: &Utf8Path| OpenOptions::new().append(path == events).write(true).open(path);
        let journal = Self {
            events: open(&events)?,
            done: open(&done)?,
            length: text.len() as u64,
            count: 0,
        };
        Ok((journal, waiting))
    }

    /// Adds an event.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, event: &str) -> io::Result<()> {
        let line = format!("{event}\n");
        if let Err(error) = self.events.write_all(line.as_bytes()) {
            // Half a line would spoil the next.
            let _ = self.events.set_len(self.length);
            return Err(error);
        }
        self.length += line.len() as u64;
        Ok(())
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
        self.length = 0;
        // In this order: a kill in between loses nothing, for no event is left.
        self.events.set_len(0)?;
        self.done.set_len(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_done_waits() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = Utf8Path::from_path(directory.path()).expect("UTF-8");
        let open = |endpoint: &str| Journal::open(path, endpoint).expect("opened");
        let (mut journal, waiting) = open("a");
        assert!(waiting.is_empty());
        for number in 0..4 {
            journal.add(&number.to_string()).expect("added");
        }
        journal.done(3).expect("noted");
        drop(journal);
        // A kill in the middle of a line.
        let events = path.read_dir_utf8().expect("listed").flatten();
        let events = events
            .map(camino::Utf8DirEntry::into_path)
            .find(|path| path.extension() == Some("events"));
        let mut file = OpenOptions::new()
            .append(true)
            .open(events.expect("there"))
            .expect("opened");
        file.write_all(b"{\"cut").expect("written");
        let (mut journal, waiting) = open("a");
        assert_eq!(waiting, ["1", "2", "3"]);
        journal.done(2).expect("noted");
        journal.add("4").expect("added");
        drop(journal);
        let (mut journal, waiting) = open("a");
        assert_eq!(waiting, ["2", "3", "4"]);
        journal.done(0).expect("noted");
        journal.add("5").expect("added");
        drop(journal);
        assert_eq!(open("a").1, ["5"]);
        assert!(open("b").1.is_empty());
    }
}
