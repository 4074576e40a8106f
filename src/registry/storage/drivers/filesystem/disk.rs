//! The few ways in which the store changes a disk.
//!
//! Every change passes here, so that a test can watch it, refuse it, or
//! replay what a power loss would have left of it. In debug builds the real
//! server's are failpoints, too (`disk:rename` and so on, see
//! `sys::failpoint`), and `KDK_DISK_LOG` names a file that lists them.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::Arc;

use camino::Utf8Path;

use super::cache::Cache;

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
    /// What must hear of changes.
    cache: Option<Arc<Cache>>,
}

impl Disk {
    /// Makes a disk whose changes are observed.
    pub fn observed(observer: Arc<dyn Observer>) -> Self {
        Self {
            observer: Some(observer),
            cache: None,
        }
    }

    /// Returns the same disk, of whose changes a cache hears.
    #[must_use]
    pub(super) fn heard_by(self, cache: Arc<Cache>) -> Self {
        Self {
            cache: Some(cache),
            ..self
        }
    }

    /// Lets the cache hear of a change, whether it succeeded or not.
    fn changed(&self, path: &Utf8Path) {
        if let Some(cache) = &self.cache {
            cache.changed(path);
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
        let made = fs::create_dir(path);
        self.changed(path);
        match made {
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
        let written = file.write_all(content).inspect_err(|_| {
            // A part of it is nothing.
            let _ = fs::remove_file(path);
        });
        self.changed(path);
        written.map(|()| file)
    }

    /// Opens a file for writing; makes it where that may be.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open_growing(&self, path: &Utf8Path, may_make: bool) -> io::Result<File> {
        match OpenOptions::new().write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_make => {}
            other => return other,
        }
        self.tell(&Operation::Write {
            path,
            offset: 0,
            content: &[],
        })?;
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path);
        self.changed(path);
        opened
    }

    /// Writes at the end of an open file, which is at `offset`.
    ///
    /// # Errors
    /// When not all can be written.
    pub fn write_at(&self, path: &Utf8Path, file: &File, offset: u64, content: &[u8]) -> io::Result<()> {
        self.tell(&Operation::Write { path, offset, content })?;
        file.write_all_at(content, offset)
    }

    /// Drops what lies beyond the first bytes of an open file.
    ///
    /// # Errors
    /// When it cannot be cut.
    pub fn cut(&self, path: &Utf8Path, file: &File, offset: u64) -> io::Result<()> {
        self.tell(&Operation::Write {
            path,
            offset,
            content: &[],
        })?;
        file.set_len(offset)
    }

    /// Writes after what a file has, making it when it is missing.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&self, path: &Utf8Path, content: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).create(true).mode(0o644).open(path)?;
        let offset = file.metadata()?.len();
        self.tell(&Operation::Write { path, offset, content })?;
        file.write_all(content)
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// When that fails.
    pub fn rename(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
        self.tell(&Operation::Rename { from, to })?;
        let renamed = fs::rename(from, to);
        self.changed(from);
        self.changed(to);
        renamed
    }

    /// Removes a file.
    ///
    /// # Errors
    /// When that fails.
    pub fn remove_file(&self, path: &Utf8Path) -> io::Result<()> {
        self.tell(&Operation::Remove(path))?;
        let removed = fs::remove_file(path);
        self.changed(path);
        removed
    }

    /// Removes a directory and what is in it, also when somebody puts
    /// something into it meanwhile.
    ///
    /// # Errors
    /// When that fails.
    pub fn remove_tree(&self, path: &Utf8Path) -> io::Result<()> {
        let removed = self.remove_all(path);
        if let Some(cache) = &self.cache {
            if is_read_once(path) {
                cache.changed(path);
            } else {
                cache.tree_changed(path);
            }
        }
        removed
    }

    fn remove_all(&self, path: &Utf8Path) -> io::Result<()> {
        const TRIES: usize = 8;
        if self.observer.is_some() {
            for entry in path.read_dir_utf8()? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    self.remove_all(entry.path())?;
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
        let removed = fs::remove_dir(path);
        self.changed(path);
        match removed {
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

    /// Makes a file's bytes durable, in the background of what comes after them.
    ///
    /// # Errors
    /// When that fails.
    pub fn sync_bytes(&self, path: &Utf8Path, file: &File) -> io::Result<()> {
        self.tell(&Operation::SyncFile(path))?;
        file.sync_data()
    }

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// When that fails.
    pub fn sync_directory(&self, path: &Utf8Path, directory: &File) -> io::Result<()> {
        self.tell(&Operation::SyncDirectory(path))?;
        directory.sync_all()
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

/// Says whether what is in a tree is asked for under its names by nobody once
/// it is gone: an upload, or what was set aside.
fn is_read_once(path: &Utf8Path) -> bool {
    let above = path.parent().unwrap_or(path);
    above.file_name() == Some("_uploads") || above.ends_with(".kdk/trash")
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
