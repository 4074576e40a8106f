//! Events that wait, on disk, so that a restart loses none.
//!
//! One file of JSON lines, and a number: how many of them are done. When all
//! are, both start anew; and what is done goes when that is more than a
//! mebibyte and half of the file. So the file is at most twice as large as
//! what waits, and a mebibyte. Not synced: an event is worth less than a push.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::sys::clock::wait_until;
use crate::sys::fs::{Lock, PRIVATE};

/// How long a server that is just ending may keep its journal.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes that are done, up to which they stay.
const MOST_DONE: u64 = 1 << 20;

/// The journal of one endpoint.
#[derive(Debug)]
pub struct Journal {
    _lock: Lock,
    path: Utf8PathBuf,
    events: File,
    done: File,
    /// Bytes of whole events.
    length: u64,
    /// Events that are done.
    count: u64,
    /// Their bytes.
    done_length: u64,
    /// Bytes of each event that waits, the oldest first.
    waiting: VecDeque<u64>,
    /// Whether the file could not be opened again.
    is_lost: bool,
}

impl Journal {
    /// Opens the journal of an endpoint; returns the events that wait.
    ///
    /// # Errors
    /// When the files cannot be read or written, or another server has them.
    pub fn open(directory: &Utf8Path, endpoint: &str) -> io::Result<(Self, Vec<String>)> {
        crate::sys::fs::create_private_dir(directory)?;
        let name = HEXLOWER.encode(&Sha256::digest(endpoint.as_bytes())[..8]);
        let [events, done, lock] = ["events", "done", "lock"].map(|suffix| directory.join(format!("{name}.{suffix}")));
        let lock = wait_until(PATIENCE, || Lock::try_take(&lock).transpose()).transpose()?;
        let lock = lock.ok_or_else(|| io::Error::other("another registry on this storage keeps its own there"))?;
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
        let journal = Self {
            _lock: lock,
            events: open_events(&events)?,
            done: OpenOptions::new().write(true).open(&done)?,
            length: text.len() as u64,
            count: 0,
            done_length: 0,
            waiting: waiting.iter().map(|event| event.len() as u64 + 1).collect(),
            path: events,
            is_lost: false,
        };
        Ok((journal, waiting))
    }

    /// Adds an event.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, event: &str) -> io::Result<()> {
        if self.is_lost {
            self.events = open_events(&self.path)?;
            self.length = self.events.metadata()?.len();
            self.is_lost = false;
        }
        let line = format!("{event}\n");
        if let Err(error) = self.events.write_all(line.as_bytes()) {
            // Half a line would spoil the next.
            let _ = self.events.set_len(self.length);
            return Err(error);
        }
        self.length += line.len() as u64;
        self.waiting.push_back(line.len() as u64);
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
        self.done_length += self.waiting.pop_front().unwrap_or_default();
        if self.done_length > MOST_DONE && self.done_length > self.length / 2 {
            return self.shorten();
        }
        self.done.write_all_at(format!("{:020}", self.count).as_bytes(), 0)
    }

    /// Leaves only what waits in the file.
    fn shorten(&mut self) -> io::Result<()> {
        let mut rest = vec![0; usize::try_from(self.length - self.done_length).map_err(io::Error::other)?];
        File::open(&self.path)?.read_exact_at(&mut rest, self.done_length)?;
        // In this order: a kill in between repeats events, and loses none.
        self.done.set_len(0)?;
        self.count = 0;
        crate::sys::fs::write_atomic(&self.path, &rest, PRIVATE)?;
        match open_events(&self.path) {
            Ok(events) => self.events = events,
            Err(error) => {
                // Nothing more comes into the one of before, which has no name.
                self.is_lost = true;
                return Err(error);
            }
        }
        self.length = rest.len() as u64;
        self.done_length = 0;
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.count = 0;
        self.length = 0;
        self.done_length = 0;
        self.waiting.clear();
        // In this order: a kill in between loses nothing, for no event is left.
        self.events.set_len(0)?;
        self.done.set_len(0)
    }
}

fn open_events(path: &Utf8Path) -> io::Result<File> {
    OpenOptions::new().append(true).open(path)
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

    #[test]
    fn what_is_done_does_not_pile_up() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = Utf8Path::from_path(directory.path()).expect("UTF-8");
        let (mut journal, _) = Journal::open(path, "a").expect("opened");
        let padding = "x".repeat(10_000);
        let event = |number: usize| format!("{{\"number\":{number},\"padding\":\"{padding}\"}}");
        let mut largest = 0;
        journal.add(&event(0)).expect("added");
        for number in 1..1000 {
            // One always waits.
            journal.add(&event(number)).expect("added");
            journal.done(1).expect("noted");
            largest = largest.max(journal.events.metadata().expect("there").len());
        }
        assert!(largest < MOST_DONE + 50_000, "{largest}");
        assert!(largest > MOST_DONE / 2, "{largest}: it was never written to");
        drop(journal);
        let (_, waiting) = Journal::open(path, "a").expect("opened");
        assert_eq!(waiting, [event(999)]);
    }
}
