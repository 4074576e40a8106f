//! The few ways in which the store changes a disk.
//!
//! Every change passes here, so that a test can watch it, refuse it, or
//! replay what a power loss would have left of it. In debug builds the real
//! server's are failpoints, too (`disk:rename` and so on, see
//! `sys::failpoint`), and `KDK_DISK_LOG` names a file that lists them.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use tokio::task::JoinHandle;

use super::sync_failures::Moment;

/// One change of the disk, or a request to make changes durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// A directory is made.
    MakeDirectory(&'a Utf8Path),
    /// A file is cut to `offset` bytes, or made, and `content` follows.
    Write {
        /// The file.
        path: &'a Utf8Path,
        /// Where the content starts.
        offset: u64,
        /// What is written.
        content: &'a [u8],
    },
    /// A file gets another name, which may have been another file's.
    Rename {
        /// Its name before.
        from: &'a Utf8Path,
        /// Its name afterwards.
        to: &'a Utf8Path,
    },
    /// A file or an empty directory is removed.
    Remove(&'a Utf8Path),
    /// A file's content becomes durable.
    SyncFile(&'a Utf8Path),
    /// The names in a directory become durable.
    SyncDirectory(&'a Utf8Path),
    /// All that was changed before becomes durable.
    SyncAll,
}

/// Sees operations before they happen.
pub trait Observer: Debug + Send + Sync {
    /// Is told of an operation.
    ///
    /// # Errors
    /// With the error that the operation is to fail with.
    fn before(&self, operation: &Operation<'_>) -> io::Result<()>;

    /// Says whether the file system can be synced as a whole.
    fn may_group(&self) -> bool {
        true
    }
}

/// Changes the disk, under the eyes of an observer where there is one.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    observer: Option<Arc<dyn Observer>>,
}

impl Disk {
    /// Makes a disk whose changes are observed.
    pub fn observed(observer: Arc<dyn Observer>) -> Self {
        Self {
            observer: Some(observer),
        }
    }

    fn tell(&self, operation: &Operation<'_>) -> io::Result<()> {
        #[cfg(debug_assertions)]
        probe::tell(operation)?;
        self.observer
            .as_ref()
            .map_or(Ok(()), |observer| observer.before(operation))
    }

    /// Says whether the file system can be synced as a whole.
    pub fn may_group(&self) -> bool {
        self.observer.as_ref().is_none_or(|observer| observer.may_group())
    }

    /// Makes a directory; one that is there is fine. Says whether it was made.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_directory(&self, path: &Utf8Path) -> io::Result<bool> {
        if self.observer.is_some() && path.is_dir() {
            return Ok(false);
        }
        self.tell(&Operation::MakeDirectory(path))?;
        match fs::create_dir(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a new file with content.
    ///
    /// # Errors
    /// When there is one already, or it cannot be written.
    pub fn create(&self, path: &Utf8Path, content: &[u8]) -> io::Result<File> {
        self.tell(&Operation::Write {
            path,
            offset: 0,
            content,
        })?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
        file.write_all(content)?;
        Ok(file)
    }

    /// Opens a file for writing after its first `offset` bytes, making it and
    /// dropping what lies beyond. `since` is now.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn append(&self, path: &Utf8Path, offset: u64, since: Moment) -> io::Result<Appender> {
        use std::io::Seek as _;
        self.tell(&Operation::Write {
            path,
            offset,
            content: &[],
        })?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path)?;
        // Another server on the same storage may be writing to it.
        lock_alone(&file)?;
        // Cutting to the same length would wait for what the disk takes up.
        if file.metadata()?.len() != offset {
            file.set_len(offset)?;
        }
        file.seek(io::SeekFrom::Start(offset))?;
        Ok(Appender {
            disk: self.clone(),
            path: path.to_owned(),
            offset,
            file,
            since,
            unsynced: 0,
            behind: None,
        })
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// When that fails.
    pub fn rename(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
        self.tell(&Operation::Rename { from, to })?;
        fs::rename(from, to)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// When that fails.
    pub fn remove_file(&self, path: &Utf8Path) -> io::Result<()> {
        self.tell(&Operation::Remove(path))?;
        fs::remove_file(path)
    }

    /// Removes a directory and what is in it, also when somebody puts
    /// something into it meanwhile.
    ///
    /// # Errors
    /// When that fails.
    pub fn remove_tree(&self, path: &Utf8Path) -> io::Result<()> {
        const TRIES: usize = 8;
        if self.observer.is_some() {
            for entry in path.read_dir_utf8()? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    self.remove_tree(entry.path())?;
                } else {
                    self.remove_file(entry.path())?;
                }
            }
            self.tell(&Operation::Remove(path))?;
            return fs::remove_dir(path);
        }
        self.tell(&Operation::Remove(path))?;
        for _ in 1..TRIES {
            match fs::remove_dir_all(path) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                other => return other,
            }
        }
        fs::remove_dir_all(path)
    }

    /// Removes a directory when it is empty; says whether it was.
    ///
    /// # Errors
    /// When it cannot be removed for another reason.
    pub fn remove_empty(&self, path: &Utf8Path) -> io::Result<bool> {
        if self.observer.is_some() && path.read_dir_utf8().is_ok_and(|mut entries| entries.next().is_some()) {
            return Ok(false);
        }
        self.tell(&Operation::Remove(path))?;
        match fs::remove_dir(path) {
            Ok(()) => Ok(true),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes a file's content durable.
    ///
    /// # Errors
    /// When that fails.
    pub fn sync_file(&self, path: &Utf8Path, file: &File) -> io::Result<()> {
        self.tell(&Operation::SyncFile(path))?;
        file.sync_all()
    }

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// When that fails.
    pub fn sync_directory(&self, path: &Utf8Path) -> io::Result<()> {
        self.tell(&Operation::SyncDirectory(path))?;
        File::open(path)?.sync_all()
    }

    /// Makes all that was changed before durable.
    ///
    /// # Errors
    /// When anything of it failed.
    pub fn sync_all(&self, top: &File) -> io::Result<()> {
        self.tell(&Operation::SyncAll)?;
        crate::sys::fs::sync_file_system(top)
    }
}

/// What tests ask of the real server.
#[cfg(debug_assertions)]
mod probe {
    use std::fs::{File, OpenOptions};
    use std::io::{self, Write as _};
    use std::sync::LazyLock;

    use super::Operation;

    static LOG: LazyLock<Option<File>> = LazyLock::new(|| {
        let path = crate::sys::env::var("KDK_DISK_LOG")?;
        OpenOptions::new().append(true).create(true).open(path).ok()
    });

    pub fn tell(operation: &Operation<'_>) -> io::Result<()> {
        let (name, rest) = match operation {
            Operation::MakeDirectory(path) => ("make-directory", path.to_string()),
            Operation::Write { path, offset, content } => ("write", format!("{path} {offset}+{}", content.len())),
            Operation::Rename { from, to } => ("rename", format!("{from} {to}")),
            Operation::Remove(path) => ("remove", path.to_string()),
            Operation::SyncFile(path) => ("sync-file", path.to_string()),
            Operation::SyncDirectory(path) => ("sync-directory", path.to_string()),
            Operation::SyncAll => ("sync-all", String::new()),
        };
        if let Some(mut log) = LOG.as_ref() {
            // One call: lines of several threads do not mix.
            log.write_all(format!("{name} {rest}\n").as_bytes())?;
        }
        crate::sys::failpoint::reach(&format!("disk:{name}"))
    }
}

/// Locks a file for this process, until it is closed. File systems without
/// locks have one server.
///
/// # Errors
/// When another process holds it.
pub fn lock_alone(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Err(std::fs::TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another server is writing to it",
        )),
        _ => Ok(()),
    }
}

/// Bytes that are written before the disk is asked to begin.
const BEHIND: u64 = 16 << 20;

/// Bytes that are synced in the background, and those that are not yet.
#[derive(Debug, Default)]
pub struct Behind {
    /// When the first of them was written.
    pub since: Option<Moment>,
    unsynced: u64,
    task: Option<JoinHandle<io::Result<()>>>,
}

impl Behind {
    /// Waits for what is under way.
    ///
    /// # Errors
    /// When the disk lost something of it.
    pub async fn wait(self) -> io::Result<()> {
        match self.task {
            None => Ok(()),
            Some(task) => task.await.map_err(io::Error::other)?,
        }
    }
}

/// A file that grows.
#[derive(Debug)]
pub struct Appender {
    disk: Disk,
    path: Utf8PathBuf,
    offset: u64,
    file: File,
    since: Moment,
    unsynced: u64,
    behind: Option<JoinHandle<io::Result<()>>>,
}

impl Appender {
    /// Writes after what is there. Now and then the disk begins to take up
    /// what was written, so that little is left to do in the end.
    ///
    /// # Errors
    /// When not all could be written, or the disk lost what was written before.
    pub fn write_all(&mut self, content: &[u8]) -> io::Result<()> {
        self.disk.tell(&Operation::Write {
            path: &self.path,
            offset: self.offset,
            content,
        })?;
        self.file.write_all(content)?;
        self.offset += content.len() as u64;
        self.unsynced += content.len() as u64;
        if self.unsynced >= BEHIND && self.behind.as_ref().is_none_or(JoinHandle::is_finished) {
            if let Some(behind) = self.behind.take() {
                tokio::runtime::Handle::current()
                    .block_on(behind)
                    .map_err(io::Error::other)??;
            }
            let file = self.file.try_clone()?;
            self.behind = Some(tokio::task::spawn_blocking(move || file.sync_data()));
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Returns the file's size in bytes.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Goes on from what an appender to the same file left under way.
    pub fn resume(&mut self, behind: Behind) {
        self.since = behind.since.unwrap_or(self.since).min(self.since);
        self.unsynced = behind.unsynced;
        self.behind = behind.task;
    }

    /// Takes out what is still under way. Its failure must not be lost: the
    /// system tells it once.
    pub fn behind(&mut self) -> Behind {
        Behind {
            since: Some(self.since),
            unsynced: std::mem::take(&mut self.unsynced),
            task: self.behind.take(),
        }
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        // Closing is not enough while a child of this process is being
        // started: for a moment it holds the same file.
        let _ = self.file.unlock();
    }
}
