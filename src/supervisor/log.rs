//! Logs: lines with a stamp, in files that are rotated by size.
//!
//! A service writes into a named pipe that stays open for reading and
//! writing at both ends. So it does not die when the daemon that reads is
//! killed, and a successor reads on. Until then the pipe takes what it holds
//! (1 MiB on Linux); beyond that, kdk's own servers drop lines, and others
//! wait.
//!
//! What bounds the logs stands in a file, so that a change takes effect while
//! the services run.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use camino::{Utf8Path, Utf8PathBuf};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde::{Deserialize, Serialize};

use super::Paths;
use crate::sys::clock::{Clock, log_stamp};
use crate::sys::fs::{PRIVATE, append, create_dir, create_private_dir, write_atomic};

/// How many bytes are written to a log before its limits are looked up again.
const LOOK_EVERY: u64 = 64 << 10;
/// Permission bits of logs: they may hold what users would not tell everybody.
const MODE: u32 = 0o640;
/// Longest line in bytes; what is longer goes on in the next.
const LONGEST_LINE: u64 = 64 << 10;

/// Before what the daemon itself says in a service's log.
pub const NOTE: &str = "kdk: ";

/// What bounds a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes from which a log is put aside.
    pub max_size: u64,
    /// Old logs that are kept.
    pub keep: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_size: 10 << 20,
            keep: 5,
        }
    }
}

impl Limits {
    fn read(path: &Utf8Path) -> Self {
        let text = crate::sys::fs::read_optional(path).ok().flatten();
        text.and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default()
    }

    /// Writes them where the logs of a root look.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn save(self, paths: &Paths) -> io::Result<()> {
        let path = paths.log_limits();
        if Self::read(&path) == self {
            return Ok(());
        }
        create_private_dir(&paths.state)?;
        write_atomic(&path, serde_json::to_string(&self)?.as_bytes(), PRIVATE)
    }
}

/// Opens the pipe that a service writes to, making it when it is missing.
///
/// # Errors
/// Those of the file system.
pub fn open_pipe(path: &Utf8Path) -> io::Result<File> {
    match mkfifo(path.as_std_path(), Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let pipe = OpenOptions::new().read(true).write(true).open(path)?;
    #[cfg(target_os = "linux")]
    {
        // A smaller pipe serves as well, only not as long.
        let _ = nix::fcntl::fcntl(&pipe, nix::fcntl::FcntlArg::F_SETPIPE_SZ(1 << 20));
    }
    Ok(pipe)
}

/// Opens a pipe for a process to write to. Not a copy of the reader's handle:
/// what the process sets on its own must not change the reader's.
///
/// # Errors
/// Those of the file system.
pub fn writer(path: &Utf8Path) -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).write(true).open(path)?.into())
}

/// Copies lines from a pipe into a log, for as long as this process lives.
///
/// A log that cannot be written is tried again with every line; the service
/// is never held up by it.
pub fn copy(pipe: File, path: Utf8PathBuf, limits: Utf8PathBuf) {
    std::thread::spawn(move || {
        let mut input = BufReader::new(pipe);
        let mut log = Log::new(path, limits);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = io::Read::by_ref(&mut input)
                .take(LONGEST_LINE)
                .read_until(b'\n', &mut line);
            match read {
                Ok(0) | Err(_) => return,
                Ok(_) => drop(log.write(&line)),
            }
        }
    });
}

/// A log file that is rotated by size.
pub struct Log {
    path: Utf8PathBuf,
    file: Option<File>,
    size: u64,
    /// Where the limits stand, what they were, and how much may be written until they are looked up.
    limits_file: Utf8PathBuf,
    limits: Limits,
    unlooked: u64,
    clock: Clock,
}

/// How far a root is above its logs, `log/NAME/current`.
const ABOVE: usize = 3;
/// Whether the directory of all logs is gone.
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// Ends all logs of this process: what comes is written nowhere.
pub fn end_all() {
    IS_OVER.store(true, Ordering::Relaxed);
}

impl Log {
    /// Names a log; it is made when something is written.
    pub fn new(path: Utf8PathBuf, limits_file: Utf8PathBuf) -> Self {
        Self {
            path,
            file: None,
            size: 0,
            limits: Limits::read(&limits_file),
            limits_file,
            unlooked: LOOK_EVERY,
            clock: Clock::System,
        }
    }

    /// Writes a line with a stamp before it.
    ///
    /// # Errors
    /// Those of the file system; the line is lost then.
    pub fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if IS_OVER.load(Ordering::Relaxed) {
            return Ok(());
        }
        let now = self.clock.now();
        let mut stamped = log_stamp(now).into_bytes();
        stamped.push(b' ');
        stamped.extend_from_slice(line);
        if !stamped.ends_with(b"\n") {
            stamped.push(b'\n');
        }
        if self.unlooked == 0 {
            self.limits = Limits::read(&self.limits_file);
            self.unlooked = LOOK_EVERY;
        }
        self.unlooked = self.unlooked.saturating_sub(stamped.len() as u64);
        if self.size >= self.limits.max_size {
            self.rotate(&log_stamp(now))?;
        }
        if self.file.is_none() || !self.path.exists() {
            // Directories of its own are made again, and not the root that they were in.
            let root = self.path.ancestors().nth(ABOVE);
            if root.is_some_and(|root| !root.is_dir()) {
                return Ok(());
            }
            if let Some(parent) = self.path.parent() {
                create_dir(parent)?;
            }
            let file = append(&self.path, MODE)?;
            self.size = file.metadata()?.len();
            self.file = Some(file);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        if let Err(error) = file.write_all(&stamped) {
            self.file = None;
            return Err(error);
        }
        self.size += stamped.len() as u64;
        Ok(())
    }

    fn rotate(&mut self, stamp: &str) -> io::Result<()> {
        self.file = None;
        self.size = 0;
        std::fs::rename(&self.path, self.path.with_file_name(format!("@{stamp}.log")))?;
        let mut old = old_logs(&self.path);
        while old.len() > self.limits.keep {
            std::fs::remove_file(old.remove(0))?;
        }
        Ok(())
    }
}

/// Returns the logs that were put aside, oldest first.
pub fn old_logs(current: &Utf8Path) -> Vec<Utf8PathBuf> {
    let Some(entries) = current.parent().and_then(|parent| parent.read_dir_utf8().ok()) else {
        return Vec::new();
    };
    let mut old: Vec<Utf8PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_name().starts_with('@') && entry.file_name().ends_with(".log"))
        .map(|entry| entry.path().to_owned())
        .collect();
    old.sort();
    old
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_stamped_and_rotated() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = Utf8PathBuf::from_path_buf(directory.path().join("svc/current")).expect("UTF-8");
        let mut log = Log::new(path.clone(), path.with_file_name("limits"));
        for second in 0..8 {
            log.clock = Clock::Fixed(format!("2024-09-26T21:36:{second:02}.51052Z").parse().expect("valid"));
            log.write(b"hello\n").expect("written");
            log.size = Limits::default().max_size;
        }
        assert_eq!(
            crate::sys::fs::read(&path).expect("there"),
            "2024-09-26_21:36:07.51052 hello\n"
        );
        assert_eq!(old_logs(&path).len(), Limits::default().keep);
    }
}
